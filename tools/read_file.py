"""Read lines of a text file inside the workspace. Owns how much is read; refuses everything that the jail refuses."""

from typing import Annotated

from pydantic import Field

from tools.base import Context, Risk, path_of, tool
from tools.workspace import Workspace

MAX_BYTES = 256 * 1024
Line = Annotated[int, Field(ge=1)]


def read_capped(workspace: Workspace, path: str) -> tuple[str, bool]:
    """A file's text, bad UTF-8 replaced, and whether it was longer than MAX_BYTES."""
    with workspace.open(path) as stream:
        raw = stream.read(MAX_BYTES + 1)
    return raw[:MAX_BYTES].decode("utf-8", errors="replace"), len(raw) > MAX_BYTES


def split_lines(text: str) -> list[str]:
    """Lines as an editor counts them: a final newline begins no further line."""
    lines = text.replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def read_file(
    context: Context,
    path: Annotated[str, Field(min_length=1)],
    first_line: Line = 1,
    last_line: Line | None = None,
) -> str:
    """Read a text file of the user's workspace, whole or from one line to another.

    A last line in brackets says where there is more. Raises ToolError (see Workspace).

    Args:
        path: file inside the workspace, e.g. notes/plan.txt
        first_line: first line to read, from 1
        last_line: last line to read; leave it out for the end
    """
    text, cut = read_capped(context.workspace, path)
    lines = split_lines(text)
    chosen = lines[first_line - 1 : last_line]
    notes = []
    if not chosen:
        notes.append(f"[no such lines: the file has {len(lines)}]")
    elif len(chosen) < len(lines):
        notes.append(f"[lines {first_line}-{first_line + len(chosen) - 1} of {len(lines)}]")
    if cut:
        notes.append(f"[the file is longer: only its first {MAX_BYTES // 1024} KiB were read]")
    return "\n".join([*chosen, *notes])


TOOL = tool(read_file, Risk.READS, subject=path_of, foreign=True)
