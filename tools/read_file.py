"""Read lines of a text file inside the workspace. Owns how much is read; refuses everything that the jail refuses."""

from typing import Annotated

from pydantic import Field

from tools.base import Arguments, Context, Risk, Tool
from tools.workspace import Workspace

MAX_BYTES = 256 * 1024


class ReadFileArguments(Arguments):
    """What the model may ask."""

    path: Annotated[str, Field(description="file inside the workspace, e.g. notes/plan.txt", min_length=1)]
    first_line: Annotated[int, Field(description="first line to read, from 1", ge=1)] = 1
    last_line: Annotated[int | None, Field(description="last line to read; leave it out for the end", ge=1)] = None


def read_capped(workspace: Workspace, path: str) -> tuple[str, bool]:
    """A file's text, bad UTF-8 replaced, and whether it was longer than MAX_BYTES."""
    with workspace.open(path) as stream:
        raw = stream.read(MAX_BYTES + 1)
    return raw[:MAX_BYTES].decode("utf-8", errors="replace"), len(raw) > MAX_BYTES


def split_lines(text: str) -> list[str]:
    """Lines as an editor counts them: a final newline begins no further line."""
    lines = text.replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def read_file(arguments: ReadFileArguments, context: Context) -> str:
    """The asked-for lines, with a last line in brackets where there is more. Raises ToolError (see Workspace)."""
    text, cut = read_capped(context.workspace, arguments.path)
    lines = split_lines(text)
    chosen = lines[arguments.first_line - 1 : arguments.last_line]
    notes = []
    if not chosen:
        notes.append(f"[no such lines: the file has {len(lines)}]")
    elif len(chosen) < len(lines):
        notes.append(f"[lines {arguments.first_line}-{arguments.first_line + len(chosen) - 1} of {len(lines)}]")
    if cut:
        notes.append(f"[the file is longer: only its first {MAX_BYTES // 1024} KiB were read]")
    return "\n".join([*chosen, *notes])


TOOL = Tool(
    name="read_file",
    description="Read a text file of the user's workspace, whole or from one line to another.",
    arguments=ReadFileArguments,
    risk=Risk.READS,
    action=read_file,
)
