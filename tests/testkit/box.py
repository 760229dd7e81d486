"""A drop-box with the real intake and the real ledger behind it, for tests that play the writers."""

import asyncio
import json
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Self

from thaud.config import Queue, Settings
from thaud.domain import QueuedExample, Side
from thaud.home import Home
from thaud.intake import Intake
from thaud.ledger import Ledger

NEVER_S = 1e9


def line(answer: int | str, end: str = "\n") -> str:
    """A valid line of its own."""
    return json.dumps({"instruction": f"¿Qué es {answer}?", "output": str(answer)}, ensure_ascii=False) + end


def lines(*answers: int | str) -> str:
    """Valid lines."""
    return "".join(map(line, answers))


def append(path: Path, text: str | bytes) -> None:
    """Append as a writer would."""
    with path.open("ab") as file:
        file.write(text.encode() if isinstance(text, str) else text)


@dataclass
class Box:
    """One THAU without a daemon: `look` is what the daemon does after an event."""

    root: Path
    limits: Queue = field(default_factory=Queue)

    def __post_init__(self) -> None:
        self.home = Home(self.root)
        for folder in self.home.folders():
            folder.mkdir(parents=True, exist_ok=True)
        self.queue = self.home.queue
        self.reopen()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.ledger.close()

    def reopen(self) -> None:
        """A new life: nothing is known but what is on the disk."""
        if hasattr(self, "ledger"):
            self.ledger.close()
        self.ledger = Ledger.open(self.home.ledger)
        self.intake = Intake(self.home, self.settings(settled=True), self.ledger)

    def settings(self, *, settled: bool) -> Settings:
        """Ours, with files that are quiet at once, or never."""
        return Settings(queue=self.limits.model_copy(update={"settle_s": 0.0 if settled else NEVER_S}))

    def look(self, *, settled: bool = True) -> None:
        """Scan, and take in what there is. `settled`: every file has been quiet for long enough."""
        self.intake.settings = self.settings(settled=settled)
        asyncio.run(self.intake.take_in())

    @property
    def examples(self) -> list[tuple[QueuedExample, Side]]:
        """All that the ledger has, in the order in which they came, with their sides."""
        found = []
        for side in Side:
            ids = chain(*self.ledger.ids_by_age(side, 150).values())
            found += [(self.ledger.row_numbers([each])[each], each, side) for each in ids]
        return [(next(self.ledger.examples([each])), side) for _, each, side in sorted(found)]

    @property
    def answers(self) -> list[str]:
        """What they say."""
        return [queued.example.completion.content for queued, _ in self.examples]

    @property
    def rejected(self) -> list[tuple[str, int, str]]:
        """(file, line, raw) of what the ledger has as refused, in order."""
        rows = self.ledger.connection.execute("SELECT file, line, raw FROM rejections ORDER BY seq")
        return [(row["file"], row["line"], row["raw"]) for row in rows]

    @property
    def reasons(self) -> list[str]:
        """Why, in the same order."""
        return [row["reason"] for row in self.ledger.connection.execute("SELECT reason FROM rejections ORDER BY seq")]

    @property
    def quarantined(self) -> list[tuple[str, int, str]]:
        """(file, line, raw) of all rows in data/rejected, whichever file they are in."""
        files = sorted(self.home.rejected.iterdir())
        rows = [json.loads(row) for file in files for row in file.read_bytes().splitlines()]
        return [(row["file"], row["line"], row["raw"]) for row in rows]

    @property
    def not_read(self) -> dict[str, str]:
        """What intake said that it does not read, and why."""
        return dict(self.intake.complained)
