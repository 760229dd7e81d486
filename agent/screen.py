"""A conversation on a terminal. Owns how it looks; whatever it prints is stripped of control sequences first."""

from rich.console import Console
from rich.text import Text

from agent.approval import spell
from agent.state import Ending, Notice, Outcome
from agent.toolbox import Result
from agent.words import Words
from thaud.domain import ToolCall
from tools.sanitise import strip_controls

MOST_RESULT_LINES = 6
MOST_RESULT_CHARACTERS = 600


class Screen:
    """A listener that prints: answers as they come, calls and results dimmed."""

    def __init__(self, console: Console, words: Words) -> None:
        self.console = console
        self.words = words
        self._midline = False

    def text(self, piece: str) -> None:
        """Print a piece of the answer where the last one ended."""
        shown = strip_controls(piece)
        if shown:
            self.console.print(Text(shown), end="", soft_wrap=True)
            self._midline = not shown.endswith("\n")

    def line(self, text: str, style: str = "") -> None:
        """Print a line of its own: broken between words on a terminal, never where a program reads it."""
        if self._midline:
            self.console.print()
        self.console.print(Text(strip_controls(text), style=style), soft_wrap=not self.console.is_terminal)
        self._midline = False

    def called(self, call: ToolCall) -> None:
        """Print the whole call."""
        self.line(f"→ {spell(call)}", "dim")

    def returned(self, call: ToolCall, result: Result) -> None:  # noqa: ARG002 - the interface's
        """Print the result, folded where it is long."""
        self.line(f"← {fold(result.text)}", "dim" if result.ok else "dim red")

    def notice(self, notice: Notice, detail: str = "") -> None:  # noqa: ARG002 - detail is for the transcript
        """Say what happened."""
        self.line(self.words.notices[notice], "dim italic")

    def end(self, outcome: Outcome) -> None:
        """Close the answer's line, and say so where it is not whole."""
        if self._midline:
            self.console.print()
            self._midline = False
        if outcome.ending is not Ending.ANSWERED:
            self.line(self.words.endings[outcome.ending], "yellow")


def fold(text: str) -> str:
    """The beginning of a text, with an ellipsis where there is more."""
    lines = text[:MOST_RESULT_CHARACTERS].splitlines()[:MOST_RESULT_LINES]
    folded = "\n  ".join(lines)
    return folded if len("\n".join(lines)) >= len(text.rstrip("\n")) else f"{folded} …"
