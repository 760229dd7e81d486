import io

import pytest
from rich.console import Console

from agent.approval import Request
from agent.chat_words import ENGLISH as CHAT
from agent.commands import COMMANDS, find, overview, resemble
from agent.markdown import settle
from agent.screen import Screen
from agent.state import Ending, Outcome, Usage
from agent.toolbox import Result
from agent.words import ENGLISH
from thaud.domain import ToolCall
from tools.base import Risk
from tools.sanitise import strip_controls

DOCUMENT = "# T\n\npara **x**\n\n```py\na=1\n\nb\n```\n1. a\n\n   more\n2. b\n\ndone"


class Terminal(io.StringIO):
    """A stream with an encoding, as a terminal has one."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding


def sit(width: int = 80, encoding: str = "utf-8", **more: object) -> tuple[Screen, Terminal]:
    shown = Terminal(encoding)
    console = Console(file=shown, width=width, height=24, force_terminal=True, **more)  # type: ignore[arg-type]
    return Screen(console, ENGLISH, CHAT), shown


def lines(shown: Terminal) -> list[str]:
    """What stays, without what was drawn and erased."""
    kept = (strip_controls(line).rstrip() for line in shown.getvalue().replace("\r", "\n").split("\n"))
    return [line for line in kept if line]


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_markdown_is_cut_between_blocks(size: int) -> None:
    """However it comes in pieces, each block is settled once, whole, and nothing is lost."""
    settled, rest = [], ""
    for at in range(0, len(DOCUMENT), size):
        whole, rest = settle(rest + DOCUMENT[at : at + size])
        settled.append(whole)
    assert "".join(settled) + rest == DOCUMENT
    blocks = [block.strip() for block in settled if block.strip()]
    assert not any(block.count("```") % 2 for block in blocks)


@pytest.mark.parametrize("width", [80, 24])
def test_an_answer_is_rendered_within_the_window(width: int) -> None:
    """Markdown is shown as what it means, and no line is wider than the window, whatever is drawn again."""
    screen, shown = sit(width)
    with screen:
        for piece in DOCUMENT:
            screen.text(piece)
        screen.end(Outcome(DOCUMENT, Ending.ANSWERED))
    assert "**" not in strip_controls(shown.getvalue())
    assert lines(shown)[-1] == "done"
    assert max(map(len, lines(shown))) <= width


def test_thoughts_and_results_are_folded_and_unfold() -> None:
    """A thought is one line with a number, a long result too; the number shows it whole."""
    screen, shown = sit()
    with screen:
        screen.thinking("First this, ")
        screen.thinking("then that.")
        screen.called(ToolCall("list_files", {}))
        screen.returned(ToolCall("list_files", {}), Result("a\nb\nc", ok=True))
        screen.end(Outcome("", Ending.EMPTY))
    kept = lines(shown)
    assert any("thought for 0 s" in line and "[1]" in line for line in kept)
    assert any("list_files" in line and "+2 lines  [2]" in line for line in kept)
    before = len(shown.getvalue())
    screen.unfold(1)
    screen.unfold()
    screen.unfold(9)
    told = strip_controls(shown.getvalue()[before:])
    assert "First this, then that." in told
    assert "a\nb\nc" in told
    assert "1 to 2" in told


def test_a_request_shows_subject_and_diff() -> None:
    """What is to be approved is shown whole."""
    screen, shown = sit()
    with screen:
        screen.called(ToolCall("write_file", {"path": "a"}))
        screen.show_request(Request("write_file", Risk.WRITES, "a", "write_file({})", "--- a\n+++ a\n-old\n+new"))
        screen.go_on()
    told = strip_controls(shown.getvalue())
    assert all(text in told for text in ("write_file · writes", "-old", "+new"))


def test_a_terminal_without_unicode_gets_ascii() -> None:
    """Nothing of ours is outside of what the terminal can show."""
    screen, shown = sit(encoding="latin-1")
    with screen:
        screen.thinking("x")
        screen.called(ToolCall("list_files", {}))
        screen.returned(ToolCall("list_files", {}), Result("a\nb", ok=False))
        screen.end(Outcome("", Ending.ANSWERED))
    assert shown.getvalue().isascii()


def test_without_colour_nothing_is_coloured() -> None:
    """NO_COLOR is kept: no colour is chosen, whatever moves."""
    screen, shown = sit(no_color=True)
    with screen:
        screen.text("**bold** `code`\n\nmore")
        screen.end(Outcome("", Ending.ANSWERED))
    assert not any(f"[{code}m" in shown.getvalue() for code in range(30, 48))


def test_speed_is_that_of_the_reply() -> None:
    """Tokens after the first, by the time after the first; nothing where that says nothing."""
    screen, _ = sit()
    assert screen.speed() is None
    screen.spent(Usage(10, 11, 4096, 3.0, 1.0))
    assert screen.speed() == pytest.approx(5.0)
    screen.spent(Usage(10, 1, 4096, 1.0, 1.0))
    assert screen.speed() is None


def test_every_command_has_names_in_both_languages() -> None:
    """No name stands for two commands, and help lists each."""
    names = [name for each in COMMANDS for described in (each.en, each.es) for name in described.names]
    assert len(names) == len(set(names))
    assert len(overview("en")) == len(overview("es")) == len(COMMANDS)
    assert find("/AYUDA") is find("/help")
    assert resemble("/hepl", "es") == "/ayuda"
    assert resemble("/xyzzy", "en") is None
