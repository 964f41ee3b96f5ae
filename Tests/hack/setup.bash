#!/usr/bin/env bash
# Tests of hack/setup.

test_setup_is_quiet_and_quick_when_all_is_there() {
    hack/setup --check || skip "packages are missing; run hack/setup"
    local began
    began=$(date +%s%N)
    try hack/setup
    equal "$status/$out/$err" "0//" "status and output"
    ((($(date +%s%N) - began) / 1000000 < 1000)) || fail "slower than a second"
}

# A PATH whose $1 is a script of ours.
replace_command() {
    mkdir -p "$scratch/bin"
    cat > "$scratch/bin/$1"
    chmod 755 "$scratch/bin/$1"
    PATH=$scratch/bin:$PATH
}

test_setup_names_missing_packages() {
    replace_command dpkg-query << 'END'
#!/bin/sh
/usr/bin/dpkg-query "$@" | grep -v '^flex '
END
    try hack/setup --check
    equal "$status" 1 "status"
    contains "$err" "missing packages: flex" "message"
}

test_setup_reports_what_apt_says() {
    [ "$(id -u)" = 0 ] || skip "installing needs root"
    replace_command dpkg-query << 'END'
#!/bin/sh
/usr/bin/dpkg-query "$@" | grep -v '^flex '
END
    replace_command apt-get << 'END'
#!/bin/sh
case "$*" in
    *" update"*) exit 0 ;;
    *) echo "E: no such thing" >&2; exit 100 ;;
esac
END
    try hack/setup
    equal "$status" 1 "status"
    contains "$err" "E: no such thing" "message"
    contains "$err" "flex" "message"
}

test_setup_names_a_missing_or_wrong_swift() {
    replace_command swift << 'END'
#!/bin/sh
echo "Swift version 5.10 (swift-5.10-RELEASE)"
END
    try hack/setup --check
    equal "$status" 1 "status"
    contains "$err" "Swift 6.3 is needed" "message"
    rm "$scratch/bin/swift"
    PATH=/usr/bin:/bin try hack/setup --check
    if PATH=/usr/bin:/bin command -v swift > /dev/null; then return 0; fi
    contains "$err" "swift is not in PATH; install Swift 6.3" "message"
}

test_setup_lists_every_package_with_a_reason() {
    try hack/setup --list
    equal "$status" 0 "status"
    ! grep -vE '^[a-z0-9.+-]+ +[^ ].+' <<< "$out" || fail "a line without a reason"
}
