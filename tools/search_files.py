"""Search the texts of the workspace for a literal or a regular expression. Owns the bounds: on files, bytes, lines and
time; refuses to run a regular expression in this process, because one that backtracks cannot be ended from inside.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from time import monotonic
from typing import Annotated

from pydantic import Field

from thaud.errors import ToolError
from tools.apart import ask_apart
from tools.base import Context, Risk, Values, tool
from tools.list_files import MOST_DEPTH, UNWANTED, Pattern, is_like
from tools.matching import answer
from tools.sanitise import spelled_out
from tools.workspace import Entry

MOST_FILES = 5000
MOST_FILE_BYTES = 1 << 20
MOST_BYTES = 16 << 20
MOST_FOUND = 100
MOST_SHOWN_CHARACTERS = 240
MOST_LINE_CHARACTERS = 4000  # that an expression is tried on: some take the square of a line's length
LEAST_TIME_S = 0.5


@dataclass(slots=True)
class Search:
    """A search under way: until when it may take, what it has read, and why it left something out."""

    context: Context
    end: float
    read_bytes: int = 0
    files: int = 0
    left_out: dict[str, int] = field(default_factory=dict)

    def texts(self, path: str, pattern: str | None) -> Iterator[tuple[str, str]]:
        """The path and text of each file that is searched, until a bound is met."""
        for entry in self.entries(path):
            if entry.kind == "rest":
                self.leave("or more in a folder with too many")
            if entry.kind != "file" or not (pattern is None or is_like(entry.path, pattern)):
                continue
            if monotonic() > self.end or self.read_bytes > MOST_BYTES or self.files >= MOST_FILES:
                self.leave("that were not reached: name a folder or a pattern")
                return
            if (text := self.text(entry)) is not None:
                yield entry.path, text

    def entries(self, path: str) -> Iterator[Entry]:
        """What is below a folder; a file is looked at alone."""
        try:
            yield from self.context.workspace.walk(path, MOST_DEPTH, UNWANTED)
        except ToolError as error:
            if not isinstance(error.__cause__, NotADirectoryError):
                raise
            with self.context.workspace.open(path):  # what is no file either says so
                pass
            yield Entry("/".join(self.context.workspace.parts(path)), "file")

    def text(self, entry: Entry) -> str | None:
        """A file's text; None, and counted, where it is none, too large or may not be read."""
        if entry.size > MOST_FILE_BYTES:
            self.leave("that are too large")
            return None
        try:
            with self.context.workspace.open(entry.path) as stream:
                raw = stream.read(MOST_FILE_BYTES)
        except ToolError:
            self.leave("that may not be read")
            return None
        self.read_bytes += len(raw)
        self.files += 1
        if b"\0" in raw[:8192]:
            self.leave("that are no text")
            return None
        return raw.decode("utf-8", errors="replace")

    def leave(self, why: str) -> None:
        """Count a file that is left out."""
        self.left_out[why] = self.left_out.get(why, 0) + 1


def literally(search: Search, text: str, path: str, name: str | None, ignore_case: bool) -> Iterator[str]:  # noqa: FBT001 - the tool's argument
    """The lines with a text, file by file."""
    bounds = {"most": MOST_FOUND + 1, "reach": MOST_FILE_BYTES}
    question = {"pattern": re.escape(text), "ignore_case": ignore_case, **bounds}
    for where, content in search.texts(path, name):
        for _, line in answer({**question, "texts": [content]})["found"]:
            yield tell(where, content, line)


def by_expression(search: Search, pattern: str, path: str, name: str | None, ignore_case: bool) -> Iterator[str]:  # noqa: FBT001 - the tool's argument
    """The lines that meet a regular expression, found in a child. Raises ToolError."""
    files = list(search.texts(path, name))
    texts = [content for _, content in files]
    bounds = {"most": MOST_FOUND + 1, "reach": MOST_LINE_CHARACTERS}
    question = {"texts": texts, "pattern": pattern, "ignore_case": ignore_case, **bounds}
    try:
        answered = ask_apart("tools.matching", question, max(LEAST_TIME_S, search.end - monotonic()))
    except TimeoutError as error:
        raise ToolError(
            f"the regular expression {pattern!r} takes too long: search for a plain text instead"
        ) from error
    if wrong := answered.get("wrong"):
        raise ToolError(f"{pattern!r} is no regular expression: {wrong}")
    for number, line in answered["found"]:
        where, content = files[number]
        yield tell(where, content, line)


def tell(path: str, content: str, number: int) -> str:
    """A found line as `path:12: text`, cut where it is long."""
    line = content.split("\n")[number - 1].strip()
    shown = line if len(line) <= MOST_SHOWN_CHARACTERS else f"{line[:MOST_SHOWN_CHARACTERS]}…"
    return f"{spelled_out(path)}:{number}: {shown}"


def subject_of(values: Values) -> str:
    """What is searched for."""
    return str(values["text"])


def search_files(
    context: Context,
    text: Annotated[str, Field(min_length=1, max_length=500)],
    path: str = ".",
    pattern: Pattern | None = None,
    regex: bool = False,  # noqa: FBT001, FBT002 - an argument by name, a model's
    ignore_case: bool = True,  # noqa: FBT001, FBT002 - see above
) -> str:
    """Search the text files of the user's workspace. Gives file, line number and line.

    Raises ToolError where an expression is wrong or takes too long, and see Workspace.

    Args:
        text: what to search for
        path: folder or file inside the workspace; leave it out for the whole of it
        pattern: only files whose name is like this, e.g. *.py
        regex: whether text is a regular expression
        ignore_case: whether capital and small letters are the same
    """
    search = Search(context, monotonic() + context.timeout_s)
    seek = by_expression if regex else literally
    lines: list[str] = []
    for line in seek(search, text, path, pattern, ignore_case):
        if len(lines) == MOST_FOUND:
            lines.append(f"[more than {MOST_FOUND} lines: search for something rarer]")
            break
        lines.append(line)
    left = [f"[{count} file{'s' if count > 1 else ''} {why}]" for why, count in search.left_out.items()]
    return "\n".join([*(lines or ["[nothing found]"]), *left])


TOOL = tool(search_files, Risk.READS, subject=subject_of, foreign=True)
