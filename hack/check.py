"""The rules of the repository that no compiler holds. hack/check runs this; see docs/style.md.

Usage: check.py ROOT [--update]. Prints one line per finding, "FILE:LINE: RULE: text", and ends with
status 1 when there is any.
"""

import fnmatch
import os
import re
import subprocess
import sys

# --- the tables ---------------------------------------------------------------------------------

# What each target may import: the arrows between the modules. A new arrow is a decision, so it
# comes with a line in docs/architecture.md or an ADR.
ARROWS = {
    "Linux": "CLinux Glibc",
    "GuestMemory": "Linux CLinux",
    "KVM": "Linux CKVM",
    "Virtio": "GuestMemory Linux",
    "VMControl": "Linux",
    "VMM": "Virtio KVM GuestMemory VMControl Linux CSeccomp",
    "QEMU": "Virtio GuestMemory VMControl Linux CLibvirt",
    "TTRPC": "Linux",
    "ContainerdAPI": "SwiftProtobuf",
    "AgentAPI": "SwiftProtobuf",
    "OCI": "",
    "Shim": "TTRPC ContainerdAPI AgentAPI VMControl OCI Linux SwiftProtobuf TOMLKit",
    "Host": "TTRPC ContainerdAPI OCI Linux CArchive SwiftProtobuf Crypto TOMLKit"
    " FoundationEssentials",
    "Agent": "TTRPC Linux CAgentAPI CProtobufC CSeccomp",
    "apus": "Host Linux ArgumentParser FoundationEssentials",
    "containerd-shim-apus-v2": "Shim",
    "apus-vmm": "VMM Linux",
    "apus-qemu": "QEMU Linux",
    "apus-agent": "Agent",
}
# What every target may import.
EVERYWHERE = {"Synchronization"}
# Never, and instead of what.
REFUSED = {
    "Foundation": "FoundationEssentials, and that only in Host and apus",
    "Dispatch": "Linux.Thread",
    "XCTest": "Swift Testing",
    "Darwin": "Linux",
    "SystemPackage": "Linux",
}

# Modules that run where tasks must not: the VMM's threads, and PID 1 in Embedded mode.
NO_CONCURRENCY = set(
    "Linux GuestMemory KVM Virtio VMControl VMM QEMU TTRPC Agent".split())

# Where `unsafe` may be written: whole modules, or the files of a module that wrap a C library.
UNSAFE_ALLOWED = {
    "Linux": "*",
    "KVM": "*",
    "GuestMemory": "*",
    "VMM": "*/Seccomp*.swift",  # libseccomp
    "QEMU": "*/Libvirt.swift",  # libvirt
    "Host": "*/Archive*.swift",  # libarchive
    "Agent": "*/Exec*.swift */Messages*.swift",  # between fork and exec; protobuf-c
}

NAME_ADVICE = {
    "Util": "what it does",
    "Utils": "what it does",
    "Utility": "what it does",
    "Utilities": "what it does",
    "Helper": "what it does",
    "Helpers": "what it does",
    "Common": "what is common, or move it to its only user",
    "Manager": "what it owns or does",
    "Managers": "what it owns or does",
    "Extras": "what it holds",
    "Misc": "what it holds",
    "Support": "what it does",
    "Base": "what it is",
}
# Written in two parts so that this file does not hold them.
LATER = ["TO" + "DO", "FIX" + "ME", "XX" + "X"]
FOREIGN_PATH = re.compile("/wo" + r"rk/(shared|wt|main|brief|\.library|\.mirror)\b")

LINES_REFUSED = 1000
FUNCTION_LINES = 70
COLUMNS = 100
SAFETY_WITHIN = 25
COUNTS = "hack/unsafe-counts.txt"

# --- files --------------------------------------------------------------------------------------

findings = []


def find(rule, path, line, text):
    """Notes one finding."""
    findings.append((path, line, rule, text))


def listed_files(root):
    """The files that belong to the repository: tracked, or new and not ignored."""
    out = subprocess.run(
        ["git", "-C", root, "ls-files", "-coz", "--exclude-standard"],
        check=True, stdout=subprocess.PIPE,
    ).stdout.decode()
    return sorted(p for p in out.split("\0") if p and os.path.isfile(os.path.join(root, p)))


def is_generated(path):
    """Whether a program wrote the file."""
    return (
        "/Generated/" in path
        or re.search(r"\.(pb|pb-c|grpc)\.(swift|c|h)$", path) is not None
        or path == "Package.resolved"
    )


def target_of(path):
    """The SwiftPM target that a source file is part of, or None."""
    parts = path.split("/")
    if parts[0] == "Sources" and len(parts) > 3:
        return parts[2]
    if parts[:2] == ["guest-agent", "Sources"] and len(parts) > 3:
        return parts[2]
    if parts[0] == "Tests" and len(parts) > 2:
        return parts[2] if parts[1] == "Fuzz" and len(parts) > 3 else parts[1]
    return None


# --- Swift without its comments and strings -----------------------------------------------------

OPENING = re.compile(r'(#*)("""|")')


def blank(text):
    """The same number of characters and lines, all of them spaces."""
    return re.sub(r"[^\n]", " ", text)


def code_of(text):
    """Swift source with comments and the contents of string literals blanked; what is
    interpolated into a string stays, for it is code."""
    out = []
    at = 0
    # Each level is ("code", open parentheses) or ("string", number of #, delimiter).
    levels = [["code", 0]]
    while at < len(text):
        level = levels[-1]
        if level[0] == "code":
            if text.startswith("//", at):
                end = text.find("\n", at)
                end = len(text) if end < 0 else end
            elif text.startswith("/*", at):
                end = end_of_block_comment(text, at)
            else:
                end = None
            if end is not None:
                out.append(blank(text[at:end]))
                at = end
                continue
            opening = OPENING.match(text, at)
            if opening:
                levels.append(["string", len(opening[1]), opening[2]])
                out.append(blank(opening[0]))
                at = opening.end()
                continue
            if text[at] == "(":
                level[1] += 1
            elif text[at] == ")":
                level[1] -= 1
                if level[1] < 0 and len(levels) > 1:
                    levels.pop()
            out.append(text[at])
            at += 1
            continue
        hashes, delimiter = "#" * level[1], level[2]
        if text.startswith(delimiter + hashes, at):
            levels.pop()
            out.append(blank(delimiter + hashes))
            at += len(delimiter + hashes)
        elif text.startswith("\\" + hashes + "(", at):
            levels.append(["code", 0])
            out.append(" " * (1 + len(hashes)) + "(")
            at += 2 + len(hashes)
        elif text.startswith("\\" + hashes, at):
            out.append(blank(text[at:at + 2 + len(hashes)]))
            at += 2 + len(hashes)
        elif text[at] == "\n" and delimiter == '"':
            levels.pop()  # not Swift; go on with the next line
            out.append("\n")
            at += 1
        else:
            out.append(blank(text[at]))
            at += 1
    return "".join(out)


def end_of_block_comment(text, at):
    """Where a comment that begins at `at` ends; they nest."""
    depth = 0
    for mark in re.finditer(r"/\*|\*/", text[at:]):
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return at + mark.end()
    return len(text)


def line_at(text, offset):
    """The line number of an offset."""
    return text.count("\n", 0, offset) + 1


# --- rules for Swift ----------------------------------------------------------------------------

IMPORT = re.compile(
    r"^[ \t]*(?P<attributes>(?:@\w+(?:\([^)]*\))?[ \t]+)*)"
    r"(?P<access>(?:private|fileprivate|internal|package|public)[ \t]+)?"
    r"import[ \t]+(?:(?:struct|class|enum|protocol|typealias|func|let|var)[ \t]+)?(?P<name>\w+)",
    re.M,
)


def check_imports(path, code):
    """Arrows between modules, refused modules, and an access level on every import."""
    target = target_of(path)
    is_test = path.startswith("Tests/")
    for found in IMPORT.finditer(code):
        name, line = found["name"], line_at(code, found.start("name"))
        if name in REFUSED:
            find("import", path, line, f"{name} is not used here; use {REFUSED[name]}")
        elif is_test:
            if name == "FoundationEssentials" or name == "Glibc":
                find("import", path, line, f"a test does without {name}; Linux and OCI have it")
        elif target in ARROWS:
            if name not in EVERYWHERE and name not in ARROWS[target].split():
                find(
                    "import", path, line,
                    f"{target} may not import {name}: it may import {ARROWS[target]} (the table is"
                    " in hack/check.py, the picture in docs/architecture.md)",
                )
        elif target is not None:
            find("import", path, line, f"target {target} has no line in ARROWS of hack/check.py")
        if not is_test and target is not None and not found["access"]:
            find("import", path, line, f"write its access level: internal import {name}")


CONCURRENCY = re.compile(r"\b(async|await|actor|Task|TaskGroup|withTaskGroup|MainActor)\b")


def check_concurrency(path, code):
    """No tasks where threads are ours."""
    if target_of(path) not in NO_CONCURRENCY or path.startswith("Tests/"):
        return
    for found in CONCURRENCY.finditer(code):
        if code[:found.start()].rstrip().endswith((".", "case")):
            continue
        find(
            "concurrency", path, line_at(code, found.start()),
            f"{found[0]}: {target_of(path)} runs on its own threads, without Swift concurrency",
        )


FUNCTION = re.compile(r"(?<![.\w`])(func\b|init\b[?!]?(?=\s*[(<])|deinit\b|subscript\b(?=\s*[(<]))")
NEXT_DECLARATION = re.compile(
    r"(?:func|init|deinit|subscript|var|let|case|struct|class|enum|protocol|extension|actor"
    r"|typealias|import|return|#if|#endif|#else|@\w+)\b"
)


def body_of(code, at):
    """Where the body of a function declared at `at` begins and ends, or None: a requirement."""
    depth = 0
    fresh = False
    while at < len(code):
        char = code[at]
        if char in "([":
            depth += 1
        elif char in ")]":
            depth -= 1
            if depth < 0:
                return None
        elif depth == 0 and char == "{":
            return at, end_of_braces(code, at)
        elif depth == 0 and char == "}":
            return None
        elif char == "\n":
            fresh = True
        elif not char.isspace():
            if fresh and depth == 0 and NEXT_DECLARATION.match(code, at):
                return None
            fresh = False
        at += 1
    return None


def end_of_braces(code, at):
    """The offset of the brace that closes the one at `at`."""
    depth = 0
    for mark in re.finditer(r"[{}]", code[at:]):
        depth += 1 if mark[0] == "{" else -1
        if depth == 0:
            return at + mark.start()
    return len(code) - 1


def check_functions(path, code):
    """Length of functions, from the declaration to the closing brace."""
    for found in FUNCTION.finditer(code):
        body = body_of(code, found.end())
        if body is None:
            continue
        first, last = line_at(code, found.start()), line_at(code, body[1])
        if last - first + 1 > FUNCTION_LINES:
            find(
                "function", path, first,
                f"{last - first + 1} lines; {FUNCTION_LINES} is the most. Give its steps names",
            )


TYPE = re.compile(r"\b(?:struct|class|enum|protocol|actor|typealias)[ \t]+([A-Z]\w*)")
UNSAFE = re.compile(r"\bunsafe\b")
UNCHECKED = re.compile(r"@unchecked\s+Sendable|nonisolated\(\s*unsafe\s*\)")


def check_type_names(path, code):
    """Types say what they are."""
    for found in TYPE.finditer(code):
        check_name(path, line_at(code, found.start()), found[1])


def check_name(path, line, name):
    """One name of a file or a type, by its words."""
    for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z]*|[a-z]+|\d+", name):
        advice = NAME_ADVICE.get(word[:1].upper() + word[1:].lower())
        if advice:
            find("name", path, line, f"{name}: {word} says nothing; name {advice}")


def check_unsafe(path, text, code, counts):
    """Where `unsafe` may stand, how often, and that each has its reason."""
    target = target_of(path)
    uses = [m.start() for m in UNSAFE.finditer(code)]
    if target is not None and uses:
        counts[target] = counts.get(target, 0) + len(uses)
    if path.startswith("Tests/") or target is None:
        return
    if target != "Linux":
        for found in UNCHECKED.finditer(code):
            find("unsafe", path, line_at(code, found.start()), f"{found[0]} only in Linux")
    patterns = UNSAFE_ALLOWED.get(target, "").split()
    if uses and not any(fnmatch.fnmatch(path, pattern) for pattern in patterns):
        find(
            "unsafe", path, line_at(code, uses[0]),
            f"unsafe may not be written in {target}"
            + (f" outside {' '.join(patterns)}" if patterns else "")
            + "; put it behind a safe interface in Linux, KVM or GuestMemory",
        )
    lines = text.split("\n")
    for number in sorted({line_at(code, offset) for offset in uses}):
        if not has_reason(lines, number - 1):
            find("safety", path, number, "no // SAFETY: reason above this unsafe, in its scope")


def has_reason(lines, index):
    """Whether a reason stands above a line, in its scope or one around it and not far away."""
    least = len(lines[index])
    for line in reversed(lines[max(0, index - SAFETY_WITHIN):index + 1]):
        if not line.strip():
            continue
        indent = len(line) - len(line.lstrip())
        least = min(least, indent)
        if "// SAFETY:" in line and indent <= least:
            return True
    return False


def check_counts(root, counts, update):
    """`unsafe` per module against the committed numbers: it only goes down."""
    path = os.path.join(root, COUNTS)
    if update:
        with open(path, "w", encoding="utf-8") as file:
            for target in sorted(counts):
                file.write(f"{target} {counts[target]}\n")
        return
    known = {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            for target, count in map(str.split, filter(str.strip, file)):
                # .gitattributes merges by keeping both sides' lines.
                known[target] = max(int(count), known.get(target, 0))
    for target in sorted(set(counts) | set(known)):
        now, was = counts.get(target, 0), known.get(target, 0)
        if now > was:
            find(
                "unsafe-count", COUNTS, 0,
                f"{target} has {now} uses of unsafe, {was} are committed. If each is needed, run"
                " hack/check --update and commit the file",
            )
        elif now < was:
            print(f"note: {target} has {now} uses of unsafe, {was} are committed:"
                  " hack/check --update lowers it")


# --- rules for all text -------------------------------------------------------------------------

CODE_SUFFIXES = (".swift", ".c", ".h", ".py", ".sh")


def is_script(text):
    """Whether a file without a suffix is a program for a shell."""
    return text.startswith("#!") and "sh" in text.split("\n", 1)[0]


def check_text(path, text):
    """Size, columns, notes for later, paths of somebody's machine."""
    lines = text.split("\n")
    is_code = path.endswith(CODE_SUFFIXES) or is_script(text)
    if is_code and len(lines) - 1 > LINES_REFUSED:
        find("size", path, 0, f"{len(lines) - 1} lines; {LINES_REFUSED} is the most, 100 to 400"
                              " is the aim. Split it by what it does")
    for number, line in enumerate(lines, 1):
        if is_code and len(line) > COLUMNS:
            find("columns", path, number, f"{len(line)} columns; {COLUMNS} is the most")
        for word in LATER:
            if re.search(r"\b" + word + r"\b", line):
                find("later", path, number, f"{word}: do it now, or write an issue")
        if FOREIGN_PATH.search(line):
            find("path", path, number, "a path of one machine")


LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)|!\[[^\]\n]*\]\(([^)\s]+)\)")


def anchors_of(text):
    """The anchors that a Markdown file's headings make."""
    found = set()
    for heading in re.findall(r"^#+\s+(.*)$", text, re.M):
        plain = re.sub(r"[^\w\- ]", "", heading.strip().lower())
        found.add(plain.replace(" ", "-"))
    return found


def check_links(root, path, text):
    """Links of documents lead somewhere."""
    prose = re.sub(r"^```.*?^```", lambda m: blank(m[0]), text, flags=re.M | re.S)
    prose = re.sub(r"`[^`\n]*`", lambda m: blank(m[0]), prose)
    for found in LINK.finditer(prose):
        link, line = found[1] or found[2], line_at(prose, found.start())
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = os.path.normpath(os.path.join(os.path.dirname(path), name)) if name else path
        if not os.path.exists(os.path.join(root, target)):
            find("link", path, line, f"{link} leads nowhere")
        elif anchor and target.endswith(".md"):
            with open(os.path.join(root, target), encoding="utf-8") as file:
                if anchor not in anchors_of(file.read()):
                    find("link", path, line, f"{target} has no heading #{anchor}")


# --- all of it ----------------------------------------------------------------------------------


def check_file(root, path, counts):
    """Every rule that looks at one file."""
    with open(os.path.join(root, path), "rb") as file:
        raw = file.read()
    if b"\0" in raw:
        return
    text = raw.decode("utf-8", "replace")
    name = os.path.splitext(os.path.basename(path))[0]
    for part in [name] + [p for p in path.split("/")[:-1] if p != "Sources"]:
        check_name(path, 0, part)
    if is_generated(path) or path == "LICENSE":
        return
    check_text(path, text)
    if path.endswith(".md"):
        check_links(root, path, text)
    if path.endswith(".swift"):
        code = code_of(text)
        check_imports(path, code)
        check_concurrency(path, code)
        check_functions(path, code)
        check_type_names(path, code)
        check_unsafe(path, text, code, counts)


def main():
    root = sys.argv[1]
    counts = {}
    for path in listed_files(root):
        check_file(root, path, counts)
    check_counts(root, counts, "--update" in sys.argv[2:])
    for path, line, rule, text in sorted(set(findings)):
        print(f"{path}:{line}: {rule}: {text}" if line else f"{path}: {rule}: {text}")
    sys.exit(1 if findings else 0)


main()
