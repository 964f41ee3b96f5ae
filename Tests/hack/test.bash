#!/usr/bin/env bash
# Tests of hack/test, on a copy of it whose steps are other programs.

# A tree with hack/test and programs in the places of those that it calls. Each notes when it began
# and ended; one that is named in $scratch/tree/fails fails.
make_tree() {
    local tree=$scratch/tree name
    mkdir -p "$tree"/{hack,Tests/hack,Tests/kill,.build-test/release,bin}
    touch "$tree/fails"
    cp hack/test "$tree/hack/test"
    for name in hack/{setup,check,build,fuzz,testbed} Tests/hack/run Tests/kill/run bin/swift \
        .build-test/release/apusPackageTests.xctest; do
        cat > "$tree/$name" << END
#!/bin/bash
echo "begin $name" >> "$tree/notes"
sleep 0.2
echo "end $name" >> "$tree/notes"
! grep -qx "$name" "$tree/fails"
END
        chmod 755 "$tree/$name"
    done
}

test_test_knows_its_steps() {
    try hack/test --only no-such-step
    equal "$status" 2 "status"
    contains "$err" "no step no-such-step" "message"
    try hack/test --fuzz lots
    equal "$status" 2 "status of a bad number"
}

test_test_runs_what_is_asked_and_what_a_step_needs_first() {
    [ "$(id -u)" = 0 ] || skip "hack/test needs root"
    make_tree
    try env PATH="$scratch/tree/bin:$PATH" "$scratch/tree/hack/test" --only setup,check,build
    equal "$status" 0 "status ($err)"
    contains "$out" "3 passed, 0 failed, 0 skipped" "counts"
    equal "$(head -n 2 "$scratch/tree/notes" | tr '\n' ' ')" "begin hack/setup end hack/setup " \
        "what comes first"
    # Side by side: both begin before one ends.
    [ "$(nproc)" -gt 1 ] || return 0
    equal "$(sed -n 3,4p "$scratch/tree/notes" | sort | tr '\n' ' ')" \
        "begin hack/build begin hack/check " "what runs side by side"
}

test_test_leaves_out_what_cannot_be_built() {
    [ "$(id -u)" = 0 ] || skip "hack/test needs root"
    make_tree
    echo hack/build > "$scratch/tree/fails"
    try env PATH="$scratch/tree/bin:$PATH" "$scratch/tree/hack/test" --only setup,build,hack
    equal "$status" 1 "status"
    contains "$out" "1 passed, 2 failed, 0 skipped" "counts"
    contains "$out" "not run: step build failed" "reason"
    ! grep -q "begin Tests/hack/run" "$scratch/tree/notes" ||
        fail "a step ran without what it needs"
}
