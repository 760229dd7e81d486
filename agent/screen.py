"""A conversation on a terminal or in a pipe. Owns how it looks; what it prints is stripped of control sequences first.

On a terminal, what is still coming lives in a region at the bottom that is drawn again; what is whole is printed above
it for good, so that scrollback holds each line once. Elsewhere, and on a terminal without a cursor, text goes out as it
comes.
"""

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from agent.approval import Request, spell
from agent.chat_words import ChatWords
from agent.folding import Fold, Folds, brief, fold
from agent.markdown import lines_of, settle, tail
from agent.state import Ending, Notice, Outcome, Repair, Usage
from agent.toolbox import Result
from agent.words import Words
from thaud.domain import ToolCall
from tools.sanitise import strip_controls

WIDEST = 100
THOUGHT_LINES = 4
REFRESHES_PER_S = 10
"""Results of more lines are folded on a terminal."""


class Screen:
    """A listener that prints. `clock` gives seconds. As a context manager it is a turn: what moves, moves inside."""

    def __init__(
        self, console: Console, words: Words, chat: ChatWords, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.console = console
        self.words = words
        self.chat = chat
        self.folds = Folds()
        self.usage: Usage | None = None
        self._clock = clock
        self._live: Live | None = None
        self._midline = False
        self._text, self._thought = "", ""
        self._blocks = 0
        self._began = 0.0
        self._running: ToolCall | None = None
        self._asked: ToolCall | None = None

    @property
    def moves(self) -> bool:
        """Whether lines can be drawn again."""
        return self.console.is_terminal and not self.console.is_dumb_terminal

    @property
    def fancy(self) -> bool:
        """Whether the terminal's encoding has more than ASCII."""
        return self.console.encoding.lower().startswith("utf")

    def __enter__(self) -> Self:
        self._blocks, self._began = 0, self._clock()
        self._text = self._thought = ""
        self._running = None
        self._go()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._settle_all()
        self._halt()
        self._break_line()

    def _go(self) -> None:
        if self.moves and self._live is None:
            self._live = Live(
                console=self.console,
                transient=True,
                refresh_per_second=REFRESHES_PER_S,
                get_renderable=self._moving,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()

    def _halt(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    # What moves.

    def _moving(self) -> Any:
        """What is drawn again and again below what is printed."""
        if self._live is None:
            return Text()
        seconds = f"{self._clock() - self._began:.0f} s"
        if self._running is not None:
            return self._spinner(f"{self.chat.running} {brief(self._running)}", seconds)
        if self._text:
            return Group(*([Text()] if self._blocks else []), self._tail(self._text))
        if self._thought:
            lines = Text(self._thought.strip(), style="dim italic").wrap(self.console, self._width - 2)
            return Group(
                self._spinner(self.chat.thinking, seconds), *(Text("  ") + line for line in lines[-THOUGHT_LINES:])
            )
        return self._spinner(self.chat.working, seconds)

    def _tail(self, text: str) -> Any:
        return tail(lines_of(self.console, text, self._width), self.console.height - 3)

    def _spinner(self, label: str, seconds: str) -> Spinner:
        line = Text(f"{label}  {seconds}", style="dim", no_wrap=True)
        line.truncate(max(1, self.console.width - 4), overflow="ellipsis")
        return Spinner("dots" if self.fancy else "line", text=line, style="cyan")

    @property
    def _width(self) -> int:
        return min(self.console.width, WIDEST)

    # What is printed for good.

    def text(self, piece: str) -> None:
        """A piece of the answer, where the last one ended."""
        shown = strip_controls(piece)
        if not shown:
            return
        if not self.moves:
            self.console.print(Text(shown), end="", soft_wrap=True)
            self._midline = not shown.endswith("\n")
            return
        self._fold_thought()
        self._text += shown
        if "\n" in shown:
            whole, self._text = settle(self._text)
            self._print_block(whole)

    def _print_block(self, text: str) -> None:
        """Whole blocks, with a blank line between."""
        if not text.strip():
            return
        lines = lines_of(self.console, text, self._width)
        if self._blocks:
            self.console.print()
        self._blocks += 1
        self.console.print(tail(lines, len(lines)))

    def _settle_all(self) -> None:
        """Print what is left of the answer, and fold what is left of a thought."""
        self._fold_thought()
        self._running = None
        rest, self._text = self._text, ""
        self._print_block(rest)

    def _break_line(self) -> None:
        if self._midline:
            self.console.print()
            self._midline = False

    def line(self, text: str, style: str = "") -> None:
        """A line of its own: broken between words on a terminal, never where a program reads it."""
        self._break_line()
        self.console.print(Text(strip_controls(text), style=style), soft_wrap=not self.console.is_terminal)

    def rows(self, rows: Sequence[tuple[str, str]]) -> None:
        """Two columns: on a terminal the second is broken within itself."""
        widest = max(len(word) for word, _ in rows)
        if not self.console.is_terminal:
            for word, meaning in rows:
                self.line(f"{word:{widest}}  {meaning}")
            return
        self._break_line()
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True, style="bold")
        table.add_column()
        for word, meaning in rows:
            table.add_row(Text(strip_controls(word)), Text(strip_controls(meaning)))
        self.console.print(table)

    def prose(self, text: str) -> None:
        """An answer that was given before."""
        if self.moves:
            self._blocks = 0
            self._print_block(strip_controls(text))
        else:
            self.line(text)

    def failed(self, message: str, exit_code: int) -> None:  # noqa: ARG002 - the shell's
        """What was refused or failed, in one line."""
        self.line(self.chat.error.format(message=message), "red")

    def ready(self, model: str, context_tokens: int) -> None:
        """The toolbar says so."""

    def thinking(self, piece: str) -> None:
        """What the model says to itself: shown while it does, then folded. Nothing of it goes into a pipe."""
        if not self._thought:
            self._began = self._clock()
        self._thought += strip_controls(piece)

    def _fold_thought(self) -> None:
        thought, self._thought = self._thought.strip(), ""
        if not thought:
            return
        told = self.chat.thought.format(seconds=self._clock() - self._began)
        folded = self.folds.keep(told, thought)
        self._began = self._clock()
        if self.console.is_terminal:
            self._one_line(self._mark("✻", "*"), "dim", told, "", folded)

    def called(self, call: ToolCall) -> None:
        """A call is about to run."""
        if not self.moves:
            self.line(f"→ {spell(call)}" if self.fancy else f"> {spell(call)}", "dim")
            return
        self._settle_all()
        self._running, self._began = call, self._clock()

    def returned(self, call: ToolCall, result: Result) -> None:
        """What came of it: one line on a terminal, the rest folded."""
        text = strip_controls(result.text)
        folded = self.folds.keep(spell(call), text)
        self._running, self._began = None, self._clock()
        if not self.moves:
            self.line(f"{self._mark('←', '<')} {fold(text)}", "dim" if result.ok else "dim red")
            return
        lines = text.strip().splitlines() or [""]
        more = len(lines) > 1 or len(lines[0]) > self._width // 2
        mark = self._mark("●", "*") if result.ok else self._mark("✗", "x")
        hidden = f"  {self.chat.more_lines.format(n=len(lines) - 1)}" if len(lines) > 1 else ""
        said = f"{brief(call)} {self._mark('→', '->')} {lines[0]}"
        self._one_line(mark, "green" if result.ok else "red", said, hidden, folded if more else None)
        self._blocks = 0

    def _one_line(self, mark: str, style: str, said: str, hidden: str, folded: Fold | None) -> None:
        """A mark, what was said as far as there is room, and the number that unfolds it."""
        number = f"{hidden}  [{folded.number}]" if folded else ""
        shown = Text(said, style="dim", no_wrap=True)
        shown.truncate(max(8, self.console.width - len(number) - len(mark) - 2), overflow="ellipsis")
        line = Text.assemble((mark, style), " ", shown, (number, "dim cyan"))
        self.console.print(line, no_wrap=True, overflow="crop")

    def _mark(self, fancy: str, bare: str) -> str:
        return fancy if self.fancy else bare

    def unfold(self, number: int | None = None) -> None:
        """Show something folded as a whole: the last one, or that of a number."""
        found = self.folds.find(number)
        if found is None and self.folds.kept:
            first, last = self.folds.kept[0].number, self.folds.kept[-1].number
            self.line(self.chat.no_such_fold.format(n=number, first=first, last=last), "yellow")
        elif found is None:
            self.line(self.chat.nothing_folded, "yellow")
        else:
            self.line(f"[{found.number}] {found.title}", "bold cyan")
            self.line(found.text or "∅", "")

    def notice(self, notice: Notice, detail: str = "") -> None:  # noqa: ARG002 - detail is for the transcript
        """Say what happened."""
        if self.moves:
            self._settle_all()
        self.line(self.words.notices[notice], "dim italic")

    def spent(self, usage: Usage) -> None:
        """Remember it for the toolbar."""
        self.usage = usage

    def repaired(self, repair: Repair) -> None:
        """The notice said so."""

    def end(self, outcome: Outcome) -> None:
        """Close the answer's line, and say so where it is not whole."""
        self._settle_all()
        self._halt()
        self._break_line()
        if outcome.ending is not Ending.ANSWERED:
            self.line(self.words.endings[outcome.ending], "yellow")

    def pause(self) -> None:
        """Nothing moves until `go_on`: somebody is asked something."""
        self._asked = self._running
        self._settle_all()
        self._halt()

    def show_request(self, request: Request) -> None:
        """A call that somebody has to decide on, whole. Nothing moves until `go_on`."""
        self.pause()
        self.line(f"{self._mark('◆', '?')} {request.tool} · {request.risk.value}", "bold yellow")
        self.line(f"  {request.subject}", "bold")
        if not request.preview:
            if request.subject not in request.spelled:
                self.line(f"  {request.spelled}", "dim")
            return
        for each in request.preview.splitlines():
            self.line(f"  {each}", diff_style(each))

    def go_on(self) -> None:
        """After a decision: what moves may move again."""
        self._running, self._began = self._asked, self._clock()
        self._go()

    def speed(self) -> float | None:
        """Tokens a second of the last reply, once it had begun."""
        usage = self.usage
        if usage is None or usage.completion_tokens < 2 or usage.seconds <= usage.first_s:
            return None
        return (usage.completion_tokens - 1) / (usage.seconds - usage.first_s)


def diff_style(line: str) -> str:
    """The colour of a line of a diff; none for other lines."""
    if line.startswith(("+++", "---")):
        return "bold"
    return {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
