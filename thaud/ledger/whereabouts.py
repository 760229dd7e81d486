"""Questions about single examples (where they stand, which runs tried them), and all that one version was taught.

Memory does not grow with the examples: the ids that a run names are read a block at a time, and what they come to lies
in a temporary table, which is the connection's own and in a file of SQLite's. Refuses to change the ledger.
"""

import heapq
import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from thaud.domain import QueuedExample
from thaud.errors import StorageError
from thaud.ledger.arrivals import key_of
from thaud.ledger.lineages import ancestry
from thaud.ledger.quarantined import snapshot
from thaud.ledger.reader import LedgerReader
from thaud.ledger.rows import RunRow, read_example

BLOCK_BYTES = 1 << 16
QUOTED = re.compile(r'"([^"\\]+)"')
MOST_FOUND = 10
KEY_DIGITS = 32
# Asked for in the order of the index, and put down in the order of the table: a million in another order take a minute.
GATHER = """
    INSERT OR IGNORE INTO temp.gathered SELECT seq, ? FROM (
        SELECT examples.seq FROM (SELECT key FROM temp.named ORDER BY key LIMIT -1) AS sorted
        CROSS JOIN examples ON examples.key = sorted.key
    ) ORDER BY seq
"""


@dataclass(frozen=True, slots=True)
class Found:
    """An example with its number in the order of arrival, and when it came (ISO 8601, UTC)."""

    seq: int
    received_at: str
    row: QueuedExample


@dataclass(frozen=True, slots=True)
class Place:
    """A line where an example was seen. `retired_to`: the file's name in `data/trained/`, where it has moved there."""

    file: str
    line: int
    retired_to: str | None


@dataclass(frozen=True, slots=True)
class Part:
    """What a run did with an example: taught it, asked it as held out, asked it to see whether it is remembered."""

    run_id: str
    taught: bool
    asked: bool
    recalled: bool


class Lesson(NamedTuple):
    """An example that a version was taught, by which run of its line, and by which version of the family first.

    `places`: how many lines hold it. `cut`: why only a beginning of it was learned, None where all of it was.
    """

    id: str
    age: int
    file: str
    line: int
    places: int
    run_id: str
    first: int | None
    cut: str | None


class Omitted(NamedTuple):
    """An example that the version was to be taught and was not; file and line are None where nobody knows it now."""

    id: str
    reason: str
    run_id: str
    file: str | None
    line: int | None


# One example


def by_prefix(ledger: LedgerReader, digits: str) -> list[Found]:
    """The examples whose id begins with these hex digits, in order; one more than MOST_FOUND means many."""
    low, high = (bytes.fromhex(digits[:KEY_DIGITS].ljust(KEY_DIGITS, filler)) for filler in "0f")
    sql = "SELECT * FROM examples WHERE key BETWEEN ? AND ? AND substr(id, 1, ?) = ? ORDER BY key LIMIT ?"
    rows = ledger.connection.execute(sql, (low, high, len(digits), digits, MOST_FOUND + 1))
    return [read_found(row) for row in rows]


def by_place(ledger: LedgerReader, file: str, line: int) -> list[Found]:
    """The example on a line of a file, under the name it has in the drop-box; several where the file was rewritten."""
    sql = (
        "SELECT examples.* FROM sighted JOIN examples ON examples.seq = example_seq + ?2 - sighted.line"
        " WHERE sighted.file = ?1 AND sighted.line <= ?2 AND ?2 < sighted.line + count ORDER BY seq LIMIT ?3"
    )
    return [read_found(row) for row in ledger.connection.execute(sql, (file, line, MOST_FOUND + 1))]


def read_found(row: sqlite3.Row) -> Found:
    """A row of `examples`."""
    return Found(row["seq"], row["received_at"], read_example(row))


def places_of(ledger: LedgerReader, seq: int) -> Iterator[Place]:
    """Every line where an example was seen, by file and line."""
    sql = (
        "SELECT file, line + ?1 - example_seq AS line, retired_to FROM sighted LEFT JOIN files ON name = file"
        " WHERE ?1 BETWEEN example_seq AND example_seq + count - 1 ORDER BY file, 2"
    )
    return (Place(row["file"], row["line"], row["retired_to"]) for row in ledger.connection.execute(sql, (seq,)))


def parts_of(ledger: LedgerReader, example_id: str) -> list[Part]:
    """The runs that name an example, oldest first."""
    sql = "SELECT run_ids.rowid, runs.id FROM run_ids JOIN runs ON runs.id = run_id ORDER BY runs.seq"
    named = (
        Part(run_id, *(names(ledger, row, column, example_id) for column in ("example_ids", "exam_ids", "recall_ids")))
        for row, run_id in ledger.connection.execute(sql)
    )
    return [part for part in named if part.taught or part.asked or part.recalled]


def names(ledger: LedgerReader, row: int, column: str, example_id: str) -> bool:
    """Whether one of a run's lists has an id."""
    wanted, before = example_id.encode(), b""
    with ledger.connection.blobopen("run_ids", column, row, readonly=True) as text:
        while data := text.read(BLOCK_BYTES):
            if wanted in before + data:
                return True
            before = data[-len(wanted) :]
    return False


def first_taught(ledger: LedgerReader, seq: int) -> dict[str, str]:
    """The run that first taught an example with success, by family."""
    sql = (
        "SELECT family, taught_by FROM lessons WHERE example_seq = ? AND taught_by IS NOT NULL"
        " AND family IN (SELECT DISTINCT family FROM runs) ORDER BY family"
    )
    return {row["family"]: row["taught_by"] for row in ledger.connection.execute(sql, (seq,))}


def left_out(ledger: LedgerReader, run_id: str, what: str) -> dict[str, str]:
    """What a run's trainer left out: reasons by id. `what`: "set_aside", or "cut" where a beginning was learned."""
    receipt = ledger.receipt(run_id, "train") or {}
    return {each["id"]: each["reason"] for each in receipt.get(what, ())}


# All that a version was taught


@dataclass(frozen=True, slots=True)
class Lessons:
    """What the version of a run was taught, from `teaching`. `runs`: its line, the first one first."""

    ledger: LedgerReader
    family: str
    runs: Sequence[RunRow]
    count: int
    cut: Mapping[str, str]
    aside: Mapping[str, tuple[str, str]]

    def taught(self) -> Iterator[Lesson]:
        """Every example, in the order of arrival."""
        sql = (
            "SELECT gathered.seq, id, examples.age, file, line, chapter, versions.n FROM temp.gathered"
            " JOIN examples ON examples.seq = gathered.seq"
            " LEFT JOIN lessons ON lessons.family = ? AND lessons.example_seq = gathered.seq"
            " LEFT JOIN versions ON versions.run_id = lessons.taught_by ORDER BY gathered.seq"
        )
        counting = Counting(self.stretches())
        for seq, id_, age, file, line, chapter, n in self.ledger.connection.execute(sql, (self.family,)):
            places = counting.at(seq)
            yield Lesson(id_, age, file, line, places, self.runs[chapter].id, n, self.cut.get(id_))

    def ages(self) -> dict[int, int]:
        """How many there are of each age."""
        sql = "SELECT age, count(*) AS n FROM temp.gathered JOIN examples ON examples.seq = gathered.seq GROUP BY age"
        return {row["age"]: row["n"] for row in self.ledger.connection.execute(sql)}

    def stretches(self) -> Iterator[tuple[int, int]]:
        """(first, last) row number of each stretch of lines, by the first."""
        sql = "SELECT example_seq, example_seq + count - 1 FROM sighted ORDER BY example_seq"
        return ((first, last) for first, last in self.ledger.connection.execute(sql))

    def omitted(self) -> Iterator[Omitted]:
        """What the trainer set aside and no run of the line taught either."""
        sql = "SELECT seq, file, line, (SELECT 1 FROM temp.gathered WHERE gathered.seq = examples.seq) FROM examples"
        for id_, (reason, run_id) in self.aside.items():
            row = self.ledger.connection.execute(f"{sql} WHERE key = ?", (key_of(id_),)).fetchone()
            if row is None or row[3] is None:
                yield Omitted(id_, reason, run_id, *((row["file"], row["line"]) if row else (None, None)))


class Counting:
    """How many stretches hold a number, asked in ascending order."""

    def __init__(self, stretches: Iterator[tuple[int, int]]) -> None:
        self.coming = stretches
        self.next = next(stretches, None)
        self.ends: list[int] = []

    def at(self, number: int) -> int:
        """The count at a number."""
        while self.next is not None and self.next[0] <= number:
            heapq.heappush(self.ends, self.next[1])
            self.next = next(self.coming, None)
        while self.ends and self.ends[0] < number:
            heapq.heappop(self.ends)
        return len(self.ends)


@contextmanager
def teaching(ledger: LedgerReader, run_id: str) -> Iterator[Lessons]:
    """What the version of a run was taught by it and by the runs that it continues, as of one moment of the ledger.

    Raises StorageError where the ledger does not say which examples a run named.
    """
    runs = list(reversed(list(ancestry(ledger, run_id))))
    with snapshot(ledger):
        ledger.connection.execute("CREATE TEMP TABLE named (key BLOB NOT NULL)")
        ledger.connection.execute("CREATE TEMP TABLE gathered (seq INTEGER PRIMARY KEY, chapter INTEGER NOT NULL)")
        cut: dict[str, str] = {}
        aside: dict[str, tuple[str, str]] = {}
        for chapter, run in enumerate(runs):
            reasons = left_out(ledger, run.id, "set_aside")
            gather(ledger, chapter, run.id, reasons, cut)
            aside.update({id_: (reason, run.id) for id_, reason in reasons.items()})
        count = int(ledger.one("SELECT count(*) FROM temp.gathered"))
        yield Lessons(ledger, runs[-1].family if runs else "", runs, count, cut, aside)


def gather(ledger: LedgerReader, chapter: int, run_id: str, aside: Mapping[str, str], cut: dict[str, str]) -> None:
    """Put down what one run taught that no earlier one did. `cut` is what is so far known by its beginning alone."""
    shortened = left_out(ledger, run_id, "cut")
    ledger.connection.execute("DELETE FROM temp.named")
    for block in blocks_of_ids(ledger, run_id):
        ids = [each for each in block if each not in aside]
        ledger.connection.executemany("INSERT INTO temp.named VALUES (?)", ((key_of(each),) for each in ids))
        for each in ids:
            cut.pop(each, None)
    ledger.connection.execute(GATHER, (chapter,))
    cut.update({id_: reason for id_, reason in shortened.items() if id_ not in aside})


def blocks_of_ids(ledger: LedgerReader, run_id: str) -> Iterator[list[str]]:
    """The ids of the examples that a run names, in training order, some thousand at a time."""
    row = ledger.one("SELECT rowid FROM run_ids WHERE run_id = ?", run_id)
    if row is None:
        raise StorageError(f"the ledger {ledger.path} does not say what {run_id} was taught: see `thau doctor`")
    with ledger.connection.blobopen("run_ids", "example_ids", row, readonly=True) as text:
        rest = ""
        while data := text.read(BLOCK_BYTES):
            rest += data.decode("ascii", "replace")
            found = list(QUOTED.finditer(rest))
            yield [each[1] for each in found]
            rest = rest[found[-1].end() :] if found else rest


def texts_of(ledger: LedgerReader, ids: Iterable[str]) -> Iterator[list[Mapping[str, Any]]]:
    """The turns of examples, as JSON objects, of those that the ledger knows."""
    for each in ids:
        content = ledger.one("SELECT content FROM examples WHERE key = ?", key_of(each))
        if content:
            yield json.loads(content)["messages"]
