"""The live view of a run: a bar for each step on a terminal, with the figures under it; plain lines elsewhere.

Tails `progress.ndjson` in the run's folder and asks the ledger how the run ended; refuses to change anything.
`follow` is what `thau watch`, `thau train --wait` and the demo use.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from thaud.certificate_words import check_in_words, outcome
from thaud.control import daemon_runs
from thaud.curriculum import STAGES, stage_at
from thaud.domain import FINAL_STATES, RunState
from thaud.errors import DaemonNotRunningError
from thaud.home import Home
from thaud.ledger import LedgerReader, RunRow
from thaud.training_words import figures, notices
from thaud.words import Words, reasons_in

PROGRESS_FILE = "progress.ndjson"
BLOCK_BYTES = 1 << 20
POLL_S = 0.25
RECENT_RUNS = 20

Event = Mapping[str, Any]
Until = Callable[[LedgerReader], bool]


@dataclass
class Tail:
    """A file of JSON lines that grows. Lines that are not whole yet wait; what is no object is passed over."""

    path: Path
    offset: int = 0

    def read(self) -> Iterator[dict[str, Any]]:
        """What was appended since the last time. A night's worth is read a block at a time."""
        while whole := self.block():
            self.offset += len(whole)
            for line in whole.splitlines():
                try:
                    event = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                if isinstance(event, dict):
                    yield event

    def block(self) -> bytes:
        """The next whole lines, about BLOCK_BYTES of them; nothing where there is none."""
        if not self.path.exists():
            return b""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            data = file.read(BLOCK_BYTES)
            if data and b"\n" not in data:
                data += file.readline()
        return data[: data.rfind(b"\n") + 1]


@dataclass
class Follower:
    """What happens to the runs of a home after a certain one, in order, each thing once."""

    home: Home
    after: int
    tails: dict[str, Tail] = field(default_factory=dict)
    begun: set[str] = field(default_factory=set)

    def poll(self, ledger: LedgerReader) -> Iterator[tuple[str, Event]]:
        """(run id, event) since the last poll. The ledger's own events are "began" and "ended"."""
        runs = [run for run in reversed(ledger.runs(RECENT_RUNS)) if run.seq > self.after]
        for run in runs:
            if run.id not in self.begun:
                self.begun.add(run.id)
                yield run.id, began(run, ledger.example_count(run.id))
            yield from self.news(run.id)
            if run.state in FINAL_STATES:
                self.after = run.seq
                yield run.id, ended(run, ledger)
        if ledger.unfinished_run() is None:
            yield from self.news(ledger.next_run_id())

    def news(self, run_id: str) -> Iterator[tuple[str, Event]]:
        """What a run's steps said."""
        tail = self.tails.setdefault(run_id, Tail(self.home.runs / run_id / PROGRESS_FILE))
        return ((run_id, event) for event in tail.read())


def began(run: RunRow, examples: int) -> Event:
    """A run was frozen."""
    stage = stage_at(STAGES, run.age).name
    return {"event": "began", "age": run.age, "stage": stage, "examples": examples}


def ended(run: RunRow, ledger: LedgerReader) -> Event:
    """A run came to its end."""
    version = next((each.name for each in ledger.versions(run.family) if each.run_id == run.id), None)
    return {"event": "ended", "state": run.state, "reasons": run.reasons, "version": version}


def step_of(event: Event) -> str:
    """The step that speaks."""
    return str(event["step"])


def amounts(event: Event) -> tuple[int, int] | None:
    """How much is done of how much, where an event says so."""
    done, total = event.get("done"), event.get("total")
    return (done, total) if isinstance(done, int) and isinstance(total, int) and total else None


def note_of(event: Event, words: Words) -> str:
    """The figures of an event in words: the check, loss, speed, memory, what is left, right answers."""
    check = check_in_words(event, words)
    parts = [*([check] if check else []), *figures(event, words)]
    if isinstance(eta := event.get("eta_s"), int | float):
        parts.append(words.eta.format(eta=duration(eta)))
    if isinstance(right := event.get("right"), int) and (found := amounts(event)):
        parts.append(words.right.format(right=right, done=found[0]))
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Seconds as 42 s, 3:05 or 2:03:05."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{rest:02}"
    return f"{minutes}:{rest:02}" if minutes else f"{rest} s"


def step_name(step: str, words: Words) -> str:
    """A step in the user's language."""
    names = {
        "bases": words.step_base,
        "base": words.step_base,
        "train": words.step_train,
        "export": words.step_export,
        "certify": words.step_certify,
        "exam": words.step_exam,
        "gate": words.step_gate,
        "promote": words.step_promote,
    }
    return names.get(step, step)


def lasting(run_id: str, event: Event, words: Words) -> list[tuple[str, str]]:
    """The lines, with their styles, that stay on the screen: the beginning and the end of a run, what a training has to
    say beside its figures, and what a certificate found; none for the rest.
    """
    if event["event"] in {"began", "ended"}:
        return [headline(run_id, event, words)]
    if event["event"] == "certificate":
        return [(f"  {outcome(event, words)}", "" if event.get("passed") else "yellow")]
    if step_of(event) != "train":
        return []
    return [(f"  {words.step_train}: {text}", style) for text, style in notices(event, words)]


def headline(run_id: str, event: Event, words: Words) -> tuple[str, str]:
    """The beginning or the end of a run."""
    if event["event"] == "began":
        stage = words.stages[event["stage"]].name
        text = words.run_began.format(id=run_id, age=event["age"], stage=stage, examples=event["examples"])
        return text, "bold"
    reasons = reasons_in(words, event["reasons"])
    if event["state"] == RunState.PROMOTED:
        return f"{words.accepted.format(version=event['version'])}: {reasons}", "green"
    return f"{words.failed if event['state'] == RunState.FAILED else words.refused}: {reasons}", "red"


class View(Protocol):
    """Where events are shown."""

    def show(self, run_id: str, event: Event) -> None:
        """Show one event."""
        ...


@dataclass
class PlainView:
    """A line for each step's beginning, each tenth of it, and each end: for pipes and logs."""

    console: Console
    words: Words
    said: dict[tuple[str, str, str], int] = field(default_factory=dict)

    def show(self, run_id: str, event: Event) -> None:
        """Print the event, unless too little has happened since the last line."""
        if lines := lasting(run_id, event, self.words):
            for text, style in lines:
                self.console.print(Text(text, style=style), soft_wrap=True)
        elif self.is_due(run_id, event):
            self.console.print(Text(f"  {progress_text(event, self.words)}"), soft_wrap=True)

    def is_due(self, run_id: str, event: Event) -> bool:
        """Whether a step begins, or is a tenth further. Of what consists of several parts, each one's begin and end."""
        key, found = (run_id, step_of(event), str(event.get("what", ""))), amounts(event)
        tenth = found[0] * 10 // found[1] if found else 0
        if "what" in event:
            tenth -= tenth % 10
        if event["event"] == "verdict" or self.said.get(key, -1) >= tenth:
            return False
        self.said[key] = tenth
        return True


def progress_text(event: Event, words: Words) -> str:
    """A step's progress on one line."""
    found = amounts(event)
    count = f"{found[0]}/{found[1]}" if found else ""
    return " ".join(part for part in (step_name(step_of(event), words), count, note_of(event, words)) if part)


@dataclass
class LiveView:
    """A bar for each step of the run under way, and the figures of the last; the lines of finished runs stay above."""

    bars: "Bars"
    words: Words
    tasks: dict[str, TaskID] = field(default_factory=dict)

    def show(self, run_id: str, event: Event) -> None:
        """Move a bar, or print a line above the bars."""
        lines = lasting(run_id, event, self.words)
        for text, style in lines:
            self.bars.console.print(indented(text, style))
        if event["event"] == "ended":
            self.clear()
        elif event["event"] not in {"began", "verdict"}:
            self.move(event)

    def move(self, event: Event) -> None:
        """Show how far a step is."""
        step, found = step_of(event), amounts(event)
        if step not in self.tasks:
            for earlier in self.tasks.values():
                self.bars.update(earlier, total=1, completed=1)
            self.tasks[step] = self.bars.add_task(step_name(step, self.words), total=None)
            self.bars.note = ""
        if found or check_in_words(event, self.words):
            self.bars.note = note_of(event, self.words)
        if found:
            self.bars.update(self.tasks[step], completed=found[0], total=found[1])

    def clear(self) -> None:
        """Make room for the next run."""
        for task in self.tasks.values():
            self.bars.remove_task(task)
        self.tasks.clear()
        self.bars.note = ""


class Bars(Progress):
    """Rich's bars, with `note` under them: figures beside a bar would break it on a narrow terminal."""

    note = ""

    def get_renderables(self) -> Iterator[RenderableType]:
        """The bars, and the note as wide as the terminal is."""
        yield self.make_tasks_table(self.tasks)
        if self.note:
            yield indented(f"  {self.note}", "cyan")


def indented(text: str, style: str) -> RenderableType:
    """A line for a terminal: where it is folded, what follows is as far from the edge as its beginning."""
    whole = text.lstrip()
    return Padding(Text(whole, style=style), (0, 0, 0, len(text) - len(whole)))


@contextmanager
def open_view(console: Console, words: Words) -> Iterator[View]:
    """The view that suits the console, for as long as the block runs."""
    if console.is_terminal:
        with make_bars(console) as bars:
            yield LiveView(bars, words)
    else:
        yield PlainView(console, words)


def make_bars(console: Console) -> Bars:
    """Bars with our columns: 57 characters wide."""
    return Bars(
        TextColumn("  {task.description:<10}"),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        console=console,
    )


def follow(home: Home, view: View, until: Until, *, after: int, deadline_s: float | None = None) -> bool:
    """Show the runs after number `after` until the ledger says it is enough. False where the deadline came first.

    Raises DaemonNotRunningError where the daemon is gone, because then nothing will happen any more.
    """
    follower = Follower(home, after)
    began_at = time.monotonic()
    while True:
        alive = daemon_runs(home)
        with LedgerReader.open(home.ledger) as ledger:
            for run_id, event in follower.poll(ledger):
                view.show(run_id, event)
            if until(ledger):
                return True
        if not alive:
            raise DaemonNotRunningError(
                "the service stopped: start it again with `thau start`; it goes on where it was"
            )
        if deadline_s is not None and time.monotonic() - began_at > deadline_s:
            return False
        time.sleep(POLL_S)


def last_run(ledger: LedgerReader) -> int:
    """Number of the newest run, 0 where there is none."""
    runs = ledger.runs(1)
    return runs[0].seq if runs else 0
