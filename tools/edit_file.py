"""Replace one passage of a text file inside the workspace. Owns that it is found once and exactly; refuses to guess.

Where the passage is not there, or there more than once, the error says where something like it is, so that a small
model can put its call right.
"""

import difflib
from typing import Annotated

from pydantic import Field

from thaud.errors import ToolError
from tools.base import Context, Risk, Values, Verbatim, path_of, tool
from tools.diffs import unified
from tools.read_file import split_lines
from tools.write_file import whole_text

MOST_COMPARED_LINES = 2000
MOST_COMPARED_CHARACTERS = 80  # comparing takes their square, and a person waits for the preview
MOST_SHOWN_CHARACTERS = 200
MOST_SHOWN_LINES = 12
MOST_PLACES = 5


def replaced(path: str, text: str, old: str, new: str) -> tuple[str, int]:
    """The text with one passage replaced, and the line where. Raises ToolError where it is not there just once.

    A file with CRLF is edited as one, though models write LF; in one with both a passage may be as it was written.
    """
    if "\r\n" in text and "\r" not in old and not ("\n" in old and old in text):
        old, new = old.replace("\n", "\r\n"), new.replace("\r\n", "\n").replace("\n", "\r\n")
    if old == new:
        raise ToolError("old_text and new_text are the same: nothing to do")
    first = text.find(old)
    if first < 0:
        raise ToolError(f"old_text is not in {path!r}: {hint(text, old)}")
    if text.find(old, first + 1) >= 0:
        raise ToolError(
            f"old_text is in {path!r} more than once, {places(text, old)}: give more of the lines around it"
        )
    return text[:first] + new + text[first + len(old) :], text.count("\n", 0, first) + 1


def places(text: str, old: str) -> str:
    """At which lines a passage begins: `at lines 3, 9`."""
    found: list[str] = []
    at = text.find(old)
    while at >= 0 and len(found) <= MOST_PLACES:
        found.append(str(text.count("\n", 0, at) + 1))
        at = text.find(old, at + 1)
    listed = ", ".join(found[:MOST_PLACES])
    return f"at lines {listed}{' and more' if len(found) > MOST_PLACES else ''}"


def hint(text: str, old: str) -> str:
    """What in the text is most like a passage that is not in it."""
    lines, wanted = split_lines(text), [line.strip() for line in split_lines(old.strip("\r\n"))]
    bare = [line.strip() for line in lines]
    for at in range(len(lines) - len(wanted) + 1 if wanted else 0):
        if bare[at] == wanted[0] and bare[at : at + len(wanted)] == wanted:
            shown = "\n".join(lines[at : at + len(wanted)][:MOST_SHOWN_LINES])
            return f"with other blanks it is at line {at + 1}; copy these lines exactly:\n{shown}"
    first = next(filter(None, wanted), "")[:MOST_COMPARED_CHARACTERS]
    candidates = [line[:MOST_COMPARED_CHARACTERS] for line in bare[:MOST_COMPARED_LINES]]
    if first and (near := difflib.get_close_matches(first, candidates, n=1)):
        at = candidates.index(near[0])
        return f"the nearest is line {at + 1}: {lines[at][:MOST_SHOWN_CHARACTERS]}"
    return "nothing in it is like that; read the file first and copy the lines exactly"


def show_edit(values: Values, context: Context) -> str:
    """The diff of the edit. Raises ToolError where it will fail."""
    path = str(values["path"])
    context.workspace.refuse(path)
    text = whole_text(context.workspace, path)
    new, _ = replaced(path, text, str(values["old_text"]), str(values["new_text"]))
    return unified(path, text, new)


def edit_file(
    context: Context,
    path: Annotated[str, Field(min_length=1)],
    old_text: Annotated[Verbatim, Field(min_length=1)],
    new_text: Verbatim,
) -> str:
    """Replace one passage of a text file of the user's workspace. The passage must be in it exactly once.

    Raises ToolError where it is not, and see Workspace.

    Args:
        path: file inside the workspace, e.g. notes/plan.txt
        old_text: the passage as it stands in the file, with its line breaks and blanks
        new_text: what to put in its place; empty to remove it
    """
    text, line = replaced(path, whole_text(context.workspace, path), old_text, new_text)
    context.workspace.write(path, text.encode())
    return f"edited {path} at line {line}"


TOOL = tool(edit_file, Risk.WRITES, subject=path_of, preview=show_edit, foreign=True)
