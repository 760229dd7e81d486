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
from thaud.failpoints import FAILPOINTS
from thaud.home import Home
from thaud.intake import COMMIT_AFTER_S, COMMIT_LINES, Intake
from thaud.ledger import Ledger, NewFile


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


def test_small_files_share_a_transaction(home: Home, ledger: Ledger) -> None:
    """Hundreds of small files are a few commits, and each file has its own position and its own rejections."""
    for number in range(300):
        (home.queue / f"{number}.jsonl").write_text(lines(2, 2 * number) + f"{{bad {number}\n", encoding="utf-8")
    home.root.joinpath("trace").touch()
    FAILPOINTS.arm(f"trace={home.root / 'trace'}")
    try:
        take_in(home, ledger)
    finally:
        FAILPOINTS.trace, FAILPOINTS.on = None, False
    commits = (home.root / "trace").read_text(encoding="utf-8").split().count("ledger.take_in.before")
    assert commits < 30
    assert (taken(ledger), ledger.rejection_count()) == (600, 300)
    files = [ledger.file(f"{number}.jsonl") for number in range(300)]
    assert all(row is not None and row.finished for row in files)
    assert json.loads((home.rejected / "7.jsonl").read_text(encoding="utf-8"))["raw"] == "{bad 7"


def test_a_shared_transaction_is_all_or_nothing(home: Home, ledger: Ledger) -> None:
    """Where a transaction of several files is refused, no file is behind us; the next look takes all in, each once."""
    for number in range(20):
        (home.queue / f"{number}.jsonl").write_text(lines(50, 50 * number), encoding="utf-8")
    ledger.connection.execute(f"PRAGMA max_page_count={ledger.one('PRAGMA page_count')}")
    with pytest.raises(DiskFullError):
        take_in(home, ledger)
    assert (taken(ledger), ledger.file("0.jsonl")) == (0, None)
    ledger.connection.execute("PRAGMA max_page_count=1000000")
    assert take_in(home, ledger) == 1000
    assert taken(ledger) == 1000


def test_the_same_line_in_files_of_one_transaction(home: Home, ledger: Ledger) -> None:
    """Equal lines of files that are committed together are one example, of the first file, seen in each."""
    for name in "abc":
        (home.queue / f"{name}.jsonl").write_text(lines(3) + lines(3), encoding="utf-8")
    take_in(home, ledger)
    assert (taken(ledger), ledger.one("SELECT count(*) FROM sightings")) == (3, 18)
    ids = [each for side in Side for found in ledger.ids_by_age(side, 0).values() for each in found]
    assert {(each.file, each.line) for each in ledger.examples(ids)} == {("a.jsonl", line) for line in (1, 2, 3)}


def test_small_files_do_not_wait_for_the_large_one_after_them(home: Home, ledger: Ledger) -> None:
    """What was gathered half a second ago is committed, although a transaction could hold more."""
    (home.queue / "small.jsonl").write_text(lines(1), encoding="utf-8")
    (home.queue / "such_a_large_one.jsonl").write_text(lines(6_000, 1), encoding="utf-8")
    intake, had = Intake(home, Settings(), ledger), list[int]()

    def half_a_second_later() -> bool:
        had.append(taken(ledger))
        intake.gathered.since -= COMMIT_AFTER_S
        return False

    assert asyncio.run(intake.take_in(half_a_second_later)) == 6_001
    assert any(0 < each < 6_001 for each in had)


def test_a_long_file_gives_way(home: Home, ledger: Ledger) -> None:
    """What is dropped while a long file is read is taken in before its end, and of the long one no line is lost."""
    (home.queue / "long.jsonl").write_text(lines(40_000), encoding="utf-8")
    intake = Intake(home, Settings(), ledger)
    intake.called = lambda: True
    assert 0 < asyncio.run(intake.take_in()) < 40_000
    (home.queue / "short.jsonl").write_text(lines(1, 40_000), encoding="utf-8")
    intake.called = lambda: False
    asyncio.run(intake.take_in())
    last = {
        name: ledger.one("SELECT max(seq) FROM examples WHERE file = ?", name) for name in ("long.jsonl", "short.jsonl")
    }
    assert (taken(ledger), last["long.jsonl"]) == (40_001, 40_001)
    assert last["short.jsonl"] < 40_000


def test_a_transaction_is_bounded(home: Home, ledger: Ledger) -> None:
    """A large file is many commits: none holds more than 8,000 lines or 4 MiB of it."""
    (home.queue / "many.jsonl").write_text(lines(20_000), encoding="utf-8")
    wide = ("".join([json.dumps({"instruction": f"{n}?", "output": "a" * 500_000}), "\n"]) for n in range(20))
    (home.queue / "wide.jsonl").write_text("".join(wide), encoding="utf-8")
    sizes: list[tuple[int, int]] = []
    take_in(home, Counting.of(ledger, sizes))
    assert taken(ledger) == 20_020
    assert max(lines for lines, _ in sizes) <= COMMIT_LINES
    assert max(size for _, size in sizes) <= Settings().queue.batch_bytes


class Counting(Ledger):
    """A ledger that notes how many examples, of how many bytes, each commit of intake brings."""

    @classmethod
    def of(cls, ledger: Ledger, sizes: list[tuple[int, int]]) -> "Counting":
        made = cls(ledger.connection, ledger.path)
        made.sizes = sizes
        return made

    sizes: list[tuple[int, int]]

    def take_in(self, *batches: NewFile, known: dict[str, int] | None = None) -> None:
        new = [each for batch in batches for each in batch.examples]
        self.sizes.append((len(new), sum(len(each.text or "") for each in new)))
        super().take_in(*batches, known=known)


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
    (home.queue / "large.jsonl").write_text(lines(20_000), encoding="utf-8")
    (home.queue / "next.jsonl").write_text(lines(10, 20_000), encoding="utf-8")
    asyncio.run(Intake(home, Settings(), ledger).take_in(lambda: taken(ledger) > 0))
    assert 0 < taken(ledger) < 20_000
    take_in(home, ledger)
    assert taken(ledger) == 20_010


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
