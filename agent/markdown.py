"""Markdown while it is still coming: which of its blocks are whole, and how a block looks on a terminal.

Owns the cut between what can be printed for good and what may still change. The cut is markdown-it's, so that fences,
lists and tables are what the renderer takes them for. Refuses to print, and to make links of addresses that their text
would hide.
"""

from functools import cache

from markdown_it import MarkdownIt
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import Heading, Markdown
from rich.segment import Segment, Segments

CODE_THEME = "ansi_dark"


class PlainHeading(Heading):
    """A heading where the text begins, instead of a box in the middle of the window."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The text, bold; that of the first two levels underlined too."""
        text = self.text.copy()
        text.stylize("bold underline" if self.tag in {"h1", "h2"} else "bold")
        yield text


class Block(Markdown):
    """Some Markdown as rich shows it, with headings of our own."""

    elements = {**Markdown.elements, "heading_open": PlainHeading}  # noqa: RUF012 - rich's way

    def __init__(self, text: str) -> None:
        super().__init__(text, code_theme=CODE_THEME, hyperlinks=False)


@cache
def parser() -> MarkdownIt:
    """The parser that rich uses, with the same extensions."""
    return MarkdownIt().enable("strikethrough").enable("table")


def settle(text: str) -> tuple[str, str]:
    """(blocks that no further text can change, the rest): the last block and what follows it are the rest.

    Joined they are the text.
    """
    starts = [token.map[0] for token in parser().parse(text) if token.map and token.level == 0 and token.nesting >= 0]
    if len(starts) < 2:
        return "", text
    lines = text.splitlines(keepends=True)
    return "".join(lines[: starts[-1]]), "".join(lines[starts[-1] :])


def lines_of(console: Console, text: str, width: int) -> list[list[Segment]]:
    """A text's lines as they will be printed, without blank ones around."""
    options = console.options.update(width=max(1, width))
    lines = console.render_lines(Block(text), options, pad=False)
    while lines and is_blank(lines[-1]):
        lines.pop()
    while lines and is_blank(lines[0]):
        lines.pop(0)
    return lines


def is_blank(line: list[Segment]) -> bool:
    """Whether nothing of a line can be seen."""
    return not "".join(segment.text for segment in line).strip()


def tail(lines: list[list[Segment]], most: int) -> Segments:
    """The last lines, as one thing to print; each ends its line."""
    kept = lines[-most:] if most > 0 else []
    return Segments([segment for line in kept for segment in (*line, Segment.line())])
