"""Splits documentation comments after their first sentence, where the formatter asks for it.

Usage: fix-summaries.py, with the output of `swift format lint` on stdin, in the repository's root.
The formatter finds these but cannot mend them itself.
"""

import re
import sys

FINDING = re.compile(
    r"(?P<path>.+?):(?P<line>\d+):\d+: error: \[BeginDocumentationCommentWithOneLineSummary\] "
    r"(?P<what>add a blank comment line after|terminate) this sentence(?: with a period)?: "
    r'"(?P<sentence>.*)"$'
)
COMMENT = re.compile(r"^(\s*)/// ?(.*)$")


def plain(text):
    """What the formatter quotes: without code, with single spaces."""
    return re.sub(r"\s+", " ", re.sub(r"`[^`]*`", "", text)).strip()


def squeezed(text):
    """For comparing: no spaces at all, since the formatter drops some around code."""
    return re.sub(r"\s+", "", plain(text))


def paragraph(lines, start):
    """The index after the comment's first paragraph."""
    end = start
    while end < len(lines):
        found = COMMENT.match(lines[end])
        if not found or not found[2].strip():
            break
        end += 1
    return end


def first_line(lines, declaration):
    """Where the comment above a declaration begins."""
    start = declaration
    while start > 0 and COMMENT.match(lines[start - 1]):
        start -= 1
    return start


def split(lines, start, sentence):
    """Puts an empty comment line after the sentence that begins at `start`."""
    before = ""
    for index in range(start, paragraph(lines, start)):
        indent, text = COMMENT.match(lines[index]).groups()
        for stop in re.finditer(r"[.!?:;]+[)\"'`]*(?=\s|$)", text):
            if squeezed(before + text[:stop.end()]) != squeezed(sentence):
                continue
            rest = text[stop.end():].strip()
            replacement = [f"{indent}/// {text[:stop.end()].strip()}", f"{indent}///"]
            if rest:
                replacement.append(f"{indent}/// {rest}")
            lines[index:index + 1] = replacement
            return True
        before += text + " "
    return False


def terminate(lines, start):
    """Ends the first paragraph with a period."""
    last = paragraph(lines, start) - 1
    lines[last] = lines[last].rstrip() + "."
    return True


def main():
    files = {}
    for text in sys.stdin:
        found = FINDING.match(text.rstrip("\n"))
        if found:
            files.setdefault(found["path"], set()).add(
                (int(found["line"]), found["what"], found["sentence"])
            )
    for path, findings in files.items():
        with open(path, encoding="utf-8") as file:
            lines = file.read().split("\n")
        # From the end, so that line numbers above stay right.
        for line, what, sentence in sorted(findings, reverse=True):
            start = first_line(lines, line - 1)
            done = (
                terminate(lines, start) if what == "terminate" else split(lines, start, sentence)
            )
            if not done:
                print(f"{path}:{line}: split it by hand after: {sentence}")
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(lines))


main()
