"""The short form of `make crash`: points of every kind, random moments, and proof that the oracle looks."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.crash.__main__ import carry_out, plan
from tests.crash.arena import Arena, ViolationError
from tests.crash.cycles import Cycles, Tally
from tests.crash.oracle import Oracle
from tests.crash.workload import text
from thaud.failpoints import POINTS
from thaud.ledger import Ledger

KINDS = (
    "ledger.take_in.after",
    "ledger.promote.before",
    "file.progress.between",
    "file.gguf.between",
    "file.queue.between",
    "move.trained.after",
    "move.gguf.after",
    "spawn.step.after",
    "end.step.before",
    "ollama.create.after",
    "remove.request.before",
)
ERRORS = ("ledger.take_in.before", "file.spec.before")
RANDOM, SEED, SECONDS = 15, 3, 200.0


def test_nothing_is_lost_and_nothing_is_doubled(tmp_path: Path) -> None:
    """Killed at points of every kind and at random, and told that the disk is full or broken: no violation."""
    planned = plan(KINDS, 1, RANDOM, SEED, errors=False) + plan(ERRORS, 0, 0, SEED, errors=True)
    outcome = carry_out(planned, SEED, tmp_path, time.monotonic() + SECONDS, lambda _: None)
    assert outcome.violations == []
    assert outcome.left_out == 0
    assert outcome.tally.cycles == len(planned) == len(KINDS) + 2 * len(ERRORS) + RANDOM
    assert outcome.tally.hit == {*KINDS, *ERRORS}


@pytest.fixture
def cycles(tmp_path: Path) -> Iterator[Cycles]:
    """A home in which one version was promoted, and its daemon dead."""
    with Arena(tmp_path / "home", SEED) as arena:
        made = Cycles(arena, Oracle(arena), Tally())
        made.begin()
        arena.writer.drop_taught(12)
        arena.writer.drop_bad()
        made.oracle.look()
        arena.until(lambda: arena.passed("ledger.promote.after"), "a promotion")
        made.oracle.look(rest=True)
        arena.kill()
        yield made


def execute(cycles: Cycles, sql: str) -> None:
    """Change the ledger behind the daemon's back."""
    with Ledger.open(cycles.arena.home.ledger) as ledger:
        ledger.connection.execute("PRAGMA foreign_keys=OFF")
        ledger.connection.execute(sql)
        ledger.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


WRONG = {
    "UPDATE examples SET side = 'held_out' WHERE seq = 1": "held out and was tried|changed sides",
    "UPDATE lessons SET taught_by = NULL": "count as not taught",
    "UPDATE versions SET n = 7": "numbers of versions have a hole",
    "UPDATE versions SET gguf_sha256 = 'x'": "is not what it was",
    "UPDATE runs SET state = 'rejected'": "was not taught by its run",
    "UPDATE runs SET seq = seq + 1": "runs have a hole",
    "UPDATE aliases SET n = 9": "the alias",
    "DELETE FROM examples WHERE seq = 1": "foreign_key_check",
    "INSERT INTO journal VALUES ('run-9999', 'train', 'now', NULL, NULL)": "foreign_key_check",
}


def test_the_oracle_sees_a_ledger_that_is_wrong(cycles: Cycles) -> None:
    """Each promise about the ledger is looked at: broken on purpose, it is a violation; mended, it is none."""
    path = cycles.arena.home.ledger
    execute(cycles, "PRAGMA user_version")
    sound = path.read_bytes()
    for sql, complaint in WRONG.items():
        execute(cycles, sql)
        with pytest.raises(ViolationError, match=complaint):
            cycles.oracle.look_at_ledger()
        path.write_bytes(sound)
        cycles.oracle.look_at_ledger()


def test_the_oracle_sees_what_does_not_belong(cycles: Cycles) -> None:
    """An example nobody wrote, a folder nobody made, a line twice in quarantine: each is a violation."""
    arena, oracle = cycles.arena, cycles.oracle
    arena.start()
    (arena.home.queue / "stranger.jsonl").write_text('{"instruction": "¿Y?", "output": "no"}\n')
    arena.until(lambda: oracle.ids() - arena.writer.finished, "the stranger")
    with pytest.raises(ViolationError, match="nobody finished"):
        oracle.look()
    arena.writer.finish(['{"instruction": "¿Y?", "output": "no"}'])
    (doubled,) = arena.home.rejected.iterdir()
    doubled.write_bytes(doubled.read_bytes() * 2)
    with pytest.raises(ViolationError, match="twice"):
        oracle.look()
    doubled.write_bytes(doubled.read_bytes()[: doubled.stat().st_size // 2])
    (arena.home.versions / "nobodys").mkdir()
    assert oracle.left_over(rest=True) == ["nobodys"]
    shutil.rmtree(arena.home.versions / "nobodys")
    assert oracle.left_over(rest=True) == []


def test_every_point_has_a_way_to_it() -> None:
    """The plan of the long form names every point, each with a crash and with both errors."""
    names = {each.name.split("@")[0] for each in plan(POINTS, 3, 0, SEED, errors=True)}
    assert {f"{point}={action}" for point in POINTS for action in ("crash", "enospc", "eio")} == names


def append(path: Path, data: bytes) -> None:
    """As a shell's `>>`."""
    with path.open("ab") as file:
        file.write(data)


def put_another(path: Path, data: bytes) -> None:
    """As `mv`."""
    part = path.with_name("part.part")
    part.write_bytes(path.read_bytes() + data)
    part.replace(path)


@pytest.mark.parametrize("change", [append, put_another])
def test_who_writes_while_a_file_is_moved_loses_nothing(tmp_path: Path, change: Callable[[Path, bytes], None]) -> None:
    """Between the last look at a trained file and its move somebody adds a line: it is found and taken in."""
    gate = tmp_path / "gate"
    with Arena(tmp_path / "home", SEED) as arena:
        oracle = Oracle(arena)
        arena.start()
        oracle.look()
        arena.arm(f"move.trained.before=wait:{gate}")
        arena.writer.drop_taught(12)
        arena.until(gate.with_name("gate.reached").exists, "a file about to be moved")
        (name,) = arena.writer.there()
        line = arena.writer.valid()
        change(arena.home.queue / name, text([line]))
        arena.writer.finish([line])
        gate.touch()
        oracle.look(rest=True)
