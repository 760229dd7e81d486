"""Intake on a real folder and a real ledger: what it owes the loop, the clock and the disk."""

import asyncio
import json
import os
import time
from pathlib import Path

import pytest

from tests.seeded import freeze, promote
from thaud.config import Settings
from thaud.domain import Score, Side
from thaud.errors import DiskFullError, StorageError
from thaud.home import Home
from thaud.intake import Intake
from thaud.ledger import Ledger


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path)
    for folder in made.folders():
        folder.mkdir(parents=True)
    return made


@pytest.fixture
def ledger(home: Home):  # noqa: ANN201
    with Ledger.open(home.ledger) as opened:
        yield opened


def lines(count: int, start_at: int = 0) -> str:
    rows = ({"instruction": f"¿{n}?", "output": str(n)} for n in range(start_at, start_at + count))
    return "".join(json.dumps(row) + "\n" for row in rows)


def taken(ledger: Ledger) -> int:
    return int(ledger.one("SELECT count(*) FROM examples"))


def take_in(home: Home, ledger: Ledger) -> int:
    return asyncio.run(Intake(home, Settings(), ledger).take_in())


def test_many_small_files_do_not_keep_the_loop(home: Home, ledger: Ledger) -> None:
    """While hundreds of files are taken in, others on the loop (HTTP, signals, a run) have their turn."""
    for number in range(400):
        (home.queue / f"{number}.jsonl").write_text(lines(1, number), encoding="utf-8")

    async def beside() -> int:
        intake, turns = asyncio.create_task(Intake(home, Settings(), ledger).take_in()), 0
        while not intake.done():
            turns += 1
            await asyncio.sleep(0)
        return turns

    assert asyncio.run(beside()) > 2
    assert taken(ledger) == 400


def test_a_trained_file_that_a_crash_left_is_moved_at_the_next_start(home: Home, ledger: Ledger) -> None:
    """Killed between a promotion and the move, the next life moves the file without waiting for new examples."""
    (home.queue / "a.jsonl").write_text(lines(10), encoding="utf-8")
    take_in(home, ledger)
    promote(ledger, freeze(ledger, ledger.ids_by_age(Side.TAUGHT, 0)[0], 0, "thau-nano"), 1, Score(2, 2), None)
    take_in(home, ledger)
    assert [each.name for each in home.trained.iterdir()] == ["a.jsonl"]
    assert list(home.queue.iterdir()) == []


def test_it_stops_between_two_batches(home: Home, ledger: Ledger) -> None:
    """Asked to stop in a large file, it commits what it has, reads no further, and goes on there the next time."""
    (home.queue / "large.jsonl").write_text(lines(5000), encoding="utf-8")
    (home.queue / "next.jsonl").write_text(lines(10, 5000), encoding="utf-8")
    asyncio.run(Intake(home, Settings(), ledger).take_in(lambda: taken(ledger) > 0))
    assert 0 < taken(ledger) < 5000
    take_in(home, ledger)
    assert taken(ledger) == 5010


def test_a_time_from_the_future_does_not_keep_a_file_waiting(home: Home, ledger: Ledger) -> None:
    """A file whose clock is ahead of ours, or from before ours went back, is quiet like any other."""
    for name, text in (("a.jsonl", lines(1).rstrip()), ("b.json", lines(1, 1))):
        (home.queue / name).write_text(text, encoding="utf-8")
        os.utime(home.queue / name, (time.time() + 86_400,) * 2)
    take_in(home, ledger)
    assert taken(ledger) == 2


def test_a_line_is_in_quarantine_before_it_is_behind_us(home: Home, ledger: Ledger) -> None:
    """Where quarantine refuses, nothing is committed; where the ledger refuses, the line is there once in the end."""
    (home.queue / "a.jsonl").write_text("{oops\n" + lines(500), encoding="utf-8")
    home.rejected.rmdir()
    home.rejected.touch()
    with pytest.raises(StorageError, match="rejected"):
        take_in(home, ledger)
    assert ledger.file("a.jsonl") is None
    home.rejected.unlink()
    home.rejected.mkdir()
    ledger.connection.execute(f"PRAGMA max_page_count={ledger.one('PRAGMA page_count')}")
    with pytest.raises(DiskFullError):
        take_in(home, ledger)
    ledger.connection.execute("PRAGMA max_page_count=1000000")
    take_in(home, ledger)
    assert (taken(ledger), ledger.rejection_count()) == (500, 1)
    assert len((home.rejected / "a.jsonl").read_text(encoding="utf-8").splitlines()) == 1
