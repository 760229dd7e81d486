"""What a change to a file would do, as a unified diff. Owns how it is shown; refuses to take long over it.

Only what lies between the first and the last change is compared line by line, and only where that is short: comparing
long texts takes the square of their length.
"""

import difflib
from itertools import takewhile

CONTEXT_LINES = 3
MOST_COMPARED_LINES = 600
NO_NEWLINE = "\\ No newline at end of file"


def unified(path: str, old: str | None, new: str) -> str:
    """The diff from an old text, None where there is no file yet, to a new one; empty where they are equal."""
    before, after = lines_of(old or ""), lines_of(new)
    head = common(before, after)
    tail = common(before[head:][::-1], after[head:][::-1])
    gone, come = before[head : len(before) - tail], after[head : len(after) - tail]
    if not (gone or come):
        return "" if old is not None else f"--- /dev/null\n+++ {path}\n(empty)"
    above = before[max(0, head - CONTEXT_LINES) : head]
    below = before[len(before) - tail :][:CONTEXT_LINES]
    body = [f" {line}" for line in above] + changed(gone, come) + [f" {line}" for line in below]
    where = f"@@ -{span(head, above, gone, below)} +{span(head, above, come, below)} @@"
    return "\n".join([f"--- {path if old is not None else '/dev/null'}", f"+++ {path}", where, *body])


def lines_of(text: str) -> list[str]:
    """The lines; a last one without a newline says so, so that it differs from one with it."""
    lines = text.split("\n")
    last = lines.pop()
    return [*lines, f"{last}\n{NO_NEWLINE}"] if last else lines


def common(left: list[str], right: list[str]) -> int:
    """How many lines two lists begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False)))


def changed(gone: list[str], come: list[str]) -> list[str]:
    """Lines that go and come, those that stay between them unmarked."""
    if max(len(gone), len(come)) > MOST_COMPARED_LINES:
        return [f"-{line}" for line in gone] + [f"+{line}" for line in come]
    shown: list[str] = []
    for tag, left, left_end, right, right_end in difflib.SequenceMatcher(None, gone, come).get_opcodes():
        if tag == "equal":
            shown += [f" {line}" for line in gone[left:left_end]]
        else:
            shown += [f"-{line}" for line in gone[left:left_end]] + [f"+{line}" for line in come[right:right_end]]
    return shown


def span(head: int, above: list[str], middle: list[str], below: list[str]) -> str:
    """`first,count` of a hunk's side."""
    count = len(above) + len(middle) + len(below)
    return f"{head - len(above) + (1 if count else 0)},{count}"
