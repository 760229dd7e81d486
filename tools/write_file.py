"""Write a text file inside the workspace. Owns what a person sees of it first; refuses everything that the jail
refuses.
"""

from typing import Annotated

from pydantic import Field

from thaud.errors import ToolError
from tools.base import Context, Risk, Values, Verbatim, path_of, tool
from tools.diffs import unified
from tools.read_file import split_lines
from tools.workspace import MOST_WRITTEN_BYTES, Workspace


def whole_text(workspace: Workspace, path: str) -> str:
    """A file's whole text. Raises ToolError where there is none, and where it is no text or too long."""
    with workspace.open(path) as stream:
        raw = stream.read(MOST_WRITTEN_BYTES + 1)
    if len(raw) > MOST_WRITTEN_BYTES:
        raise ToolError(f"{path!r} is longer than {MOST_WRITTEN_BYTES:,} bytes: it is not changed by tools")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ToolError(f"{path!r} is no text in UTF-8") from error


def present_text(workspace: Workspace, path: str) -> str | None:
    """The same, or None where there is no file yet."""
    try:
        return whole_text(workspace, path)
    except ToolError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise


def show_writing(values: Values, context: Context) -> str:
    """The diff to what is there now; what replaces no text is shown whole. Raises ToolError where it will fail."""
    path, content = str(values["path"]), str(values["content"])
    context.workspace.refuse(path, len(content.encode()))
    try:
        return unified(path, present_text(context.workspace, path), content) or "(the file holds just that already)"
    except ToolError as error:
        if isinstance(error.__cause__, OSError):
            raise
        return f"[{error}; all of it is replaced]\n{unified(path, None, content)}"


def write_file(context: Context, path: Annotated[str, Field(min_length=1)], content: Verbatim) -> str:
    """Write a text file of the user's workspace; a file that is there is replaced. Folders are made.

    Raises ToolError (see Workspace).

    Args:
        path: file inside the workspace, e.g. notes/plan.txt
        content: the whole text of the file
    """
    data = content.encode()
    made = context.workspace.write(path, data)
    return f"{'made' if made else 'replaced'} {path}: {len(split_lines(content))} lines, {len(data)} bytes"


TOOL = tool(write_file, Risk.WRITES, subject=path_of, preview=show_writing)
