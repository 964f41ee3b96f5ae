#!/usr/bin/env bash
# Tests of hack/check.

test_check_finds_every_kind_of_violation() {
    hack/check --self-test
}

# By the time that it computes: the machine may have other work.
test_check_is_quick() {
    local took TIMEFORMAT=%U
    took=$({ time hack/check --quick > /dev/null 2>&1 || true; } 2>&1)
    ((${took%.*} < 20)) || fail "it took $took s"
}

# A repository of a few files, with the check in it: the others would only be looked at.
copy_check() {
    mkdir -p "$scratch/copy"
    git ls-files -- hack .swift-format docs Sources/linux | cpio -pdm --quiet "$scratch/copy"
    rm "$scratch/copy/hack/protos"
    git -C "$scratch/copy" init -q
}

findings_of() { # text of a Swift file in Linux
    cat > "$scratch/copy/Sources/linux/Linux/Planted.swift"
    "$scratch/copy/hack/check.py" "$scratch/copy" 2>&1 | grep Planted.swift || true
}

test_check_reads_swift_and_not_its_strings_and_comments() {
    copy_check
    chmod +x "$scratch/copy/hack/check.py"
    sed -i '1i #!/usr/bin/env python3' "$scratch/copy/hack/check.py"
    equal "$(findings_of << 'END'
/* import Foundation /* nested */ unsafe */
// await
let a = "unsafe \(1 + 1) await"
let b = #"unsafe "quoted" \(await) "#
let c = """
    import Foundation
    unsafe
    """
END
    )" "" "findings in strings and comments"
    contains "$(findings_of <<< 'let a = "\(unsafe b)"')" "SAFETY" "unsafe in an interpolation"
    contains "$(findings_of <<< 'let a = #"\#(await b)"#')" "concurrency" "raw interpolation"
}

test_check_knows_the_scope_of_a_reason() {
    copy_check
    sed -i '1i #!/usr/bin/env python3' "$scratch/copy/hack/check.py"
    chmod +x "$scratch/copy/hack/check.py"
    equal "$(findings_of << 'END'
func a() {
    // SAFETY: it holds.
    unsafe b {
        unsafe c()
    }
}
END
    )" "" "findings under a reason"
    contains "$(findings_of << 'END'
func a() {
    if b {
        // SAFETY: it holds there.
        unsafe c()
    }
    unsafe d()
}
END
    )" "Planted.swift:6: safety" "findings behind a reason's scope"
}

test_check_fix_makes_summaries() {
    copy_check
    cat > "$scratch/copy/Sources/linux/Linux/Planted.swift" << 'END'
/// Makes a thing of `count` parts. There are at most 3, e.g. 2.
/// No more.
public   func planted(count: Int) {}
END
    "$scratch/copy/hack/check" --fix > /dev/null 2>&1 || true
    equal "$(< "$scratch/copy/Sources/linux/Linux/Planted.swift")" \
        "/// Makes a thing of \`count\` parts.
///
/// There are at most 3, e.g. 2.
/// No more.
public func planted(count: Int) {}" "the mended file"
}
