"""What makes a daemon pass a point. Refuses to kill anything: that is the cycles'."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.crash.answering import go_back, prune
from tests.crash.arena import Arena, ViolationError
from tests.crash.workload import text
from tests.testkit.daemon import look
from thaud.control import Request


@dataclass(frozen=True)
class Leads:
    """The ways of one arena."""

    arena: Arena

    def to(self, point: str, over: Callable[[], object]) -> Callable[[], None]:
        """What makes a daemon pass a point. `over`: whether it has, or has died, so that nothing more will come."""
        arena, writer = self.arena, self.arena.writer
        effect = point.rpartition(".")[0]
        ways: dict[str, Callable[[], None]] = {
            "ledger.take_in": writer.drop,
            "append.quarantine": writer.drop_bad,
            "ledger.set_age": lambda: arena.request(Request.RESET),
            "remove.request": lambda: arena.request(arena.random.choice((Request.TRAIN, Request.RESET))),
            "ledger.set_meta": lambda: arena.request(Request.TRAIN),
            "ledger.move_alias": partial(self.over_versions, go_back),
            "ledger.give_up": partial(self.over_versions, prune),
            "prune.gguf": partial(self.over_versions, prune),
            "ledger.resolve": self.correct_one,
            "file.quarantine": self.correct_one,
            "remove.quarantine": self.correct_all,
            "clear.workdir": partial(self.with_strangers, over),
            "move.stranger": partial(self.with_strangers, over),
        }
        if effect in {"ledger.end_run", "discard.gguf", "ledger.note"}:
            arena.until(arena.idle, "a run's end")
            refusal = arena.random.choice(("wrong", "uncertified"))
            arena.mood("bases" if effect == "ledger.note" else refusal)

        def train() -> None:
            writer.drop_taught(8)
            if effect == "ledger.note":
                arena.request(Request.TRAIN)

        return ways.get(effect, train)

    def over_versions(self, ask: Callable[[Arena], bool]) -> None:
        """Ask for what takes several versions, or where there are too few, train another."""
        if not ask(self.arena):
            self.arena.writer.drop_taught(8)

    def correct_one(self) -> None:
        """Of two bad lines one, so that its file in quarantine is written again."""
        self.correct(1)

    def correct_all(self) -> None:
        """Both, so that it goes."""
        self.correct(2)

    def correct(self, how_many: int) -> None:
        """Two bad lines in one file; then so many of them corrected by `thau retry`."""
        arena, writer = self.arena, self.arena.writer
        name, bad = writer.name(), [f"{{bad {writer.count}-{number}" for number in (1, 2)]
        writer.put(name, text(bad))
        writer.finish(bad)
        quarantined = arena.home.rejected / name
        arena.until(lambda: arena.dead() or (quarantined.exists() and lines_of(quarantined) == 2), "two bad lines")
        if arena.dead():
            return
        rows = [json.loads(line) for line in quarantined.read_text(encoding="utf-8").splitlines()]
        mended = [writer.valid() for _ in rows[:how_many]]
        corrected = arena.notes / f"corrected-{name}"
        corrected.write_bytes(text(json.dumps({**row, "raw": raw}) for row, raw in zip(rows, mended, strict=False)))
        if (status := arena.command("retry", str(corrected))) != 0:
            raise ViolationError(f"thau retry ended with {status}: {arena.said}")
        writer.finish(mended)

    def with_strangers(self, over: Callable[[], object]) -> None:
        """Leftovers of a ledger that somebody deleted, in the way of the next run; nothing where all is `over`."""
        arena = self.arena
        arena.until(lambda: over() or arena.idle(), "a run's end")
        if over():
            return
        next_run = look(arena.home, lambda ledger: ledger.next_run_id())
        number = look(arena.home, lambda ledger: len(ledger.versions())) + 1
        old = arena.home.runs / next_run / "train" / "adapter"
        old.mkdir(parents=True, exist_ok=True)
        (old / "adapter_model.safetensors").write_text("of another ledger")
        place = arena.home.versions / f"thau-nano-v{number}"
        place.mkdir(exist_ok=True)
        (place / "model.gguf").write_text("of another ledger")
        arena.writer.drop_taught(8)


def lines_of(path: Path) -> int:
    """How many lines a file has."""
    return path.read_bytes().count(b"\n")
