"""List a folder inside the workspace. Owns how much is listed; refuses to follow links."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import islice
from time import monotonic
from typing import Annotated

from pydantic import Field

from tools.base import Context, Risk, Values, path_of, tool
from tools.sanitise import spelled_out
from tools.workspace import Entry

MOST_LISTED = 300
MOST_DEPTH = 16
UNWANTED = frozenset({".git", ".hg", ".svn", "node_modules", "__pycache__", ".venv", ".tox", ".mypy_cache"})

Pattern = Annotated[str, Field(min_length=1, max_length=200)]


def folder_of(values: Values) -> str:
    """The subject: which folder."""
    return path_of({"path": values.get("path", ".")})


def chosen(entries: Iterator[Entry], pattern: str | None, end: float) -> Iterator[Entry]:
    """Those whose name, or path, is like the pattern; folders too where there is none. Stops when time is up."""
    for entry in entries:
        if monotonic() > end:
            return
        if pattern is None or entry.kind == "rest" or (entry.kind != "folder" and is_like(entry.path, pattern)):
            yield entry


def is_like(path: str, pattern: str) -> bool:
    """Whether a path, or its last name, is like `*.py`."""
    return fnmatchcase(path, pattern) or fnmatchcase(path.rpartition("/")[2], pattern)


def tell(entry: Entry) -> str:
    """An entry on a line: `notes/`, `plan.txt 120 bytes`, `door (link)`."""
    name = spelled_out(entry.path)
    if entry.kind == "rest":
        return f"[{name} holds more than {entry.size:,} names: only so many are looked at]"
    shown = {"folder": f"{name}/", "file": f"{name} {entry.size} bytes"}
    return shown.get(entry.kind, f"{name} ({'link' if entry.kind == 'link' else 'no file'})")


def list_files(context: Context, path: str = ".", pattern: Pattern | None = None, recursive: bool = False) -> str:  # noqa: FBT001, FBT002 - an argument by name, a model's
    """List files and folders of the user's workspace.

    Raises ToolError (see Workspace).

    Args:
        path: folder inside the workspace; leave it out for the whole of it
        pattern: only files whose name is like this, e.g. *.py
        recursive: look into the folders below too
    """
    end = monotonic() + context.timeout_s
    entries = context.workspace.walk(path, MOST_DEPTH if recursive else 1, UNWANTED)
    found = list(islice(chosen(entries, pattern, end), MOST_LISTED + 1))
    lines = [tell(entry) for entry in found[:MOST_LISTED]]
    if len(found) > MOST_LISTED:
        lines.append(f"[more than {MOST_LISTED}: name a folder or a pattern]")
    if monotonic() > end:
        lines.append(f"[stopped after {context.timeout_s:g} s: there is more; name a folder]")
    return "\n".join(lines) or "[nothing there]"


TOOL = tool(list_files, Risk.READS, subject=folder_of, foreign=True)
