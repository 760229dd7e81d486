"""What intake commits: examples, where they were seen, quarantined lines, positions; and the counts that go with them.

Owns the statements of that one transaction, and the two short keys that its indexes are made of: 16 bytes of an
example's id, 8 bytes of a group's digest. Random keys cost a page each, and short ones share pages. Refuses to begin or
to end a transaction (writer.py) and to decide anything about an example (intake, curriculum).
"""

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from thaud.domain import Example, Side

LOOKUP = 500  # keys asked for by one statement


class NewExample(NamedTuple):
    """An example on its way in, with what intake decided on it. `text`: its content as JSON, where that is at hand."""

    example: Example
    id: str
    age: int
    side: Side
    group_key: str
    line: int
    text: str | None = None


@dataclass(frozen=True, slots=True)
class NewRejection:
    """A line on its way into quarantine."""

    line: int
    reason: str
    raw: str


@dataclass(frozen=True, slots=True)
class NewFile:
    """What a transaction commits of a file. `sightings` are (line, id) of everything valid, duplicates included."""

    name: str
    position: str
    finished: bool
    examples: Sequence[NewExample]
    sightings: Sequence[tuple[int, str]]
    rejections: Sequence[NewRejection]
    restarted: bool = False


def key_of(example_id: str) -> bytes:
    """The first 16 bytes of an id, which the ledger finds it by; of what is no id, nothing that any example has."""
    try:
        return bytes.fromhex(example_id[:32])
    except ValueError:
        return b""


def group_hash(key: str) -> int:
    """64 bits of a group's digest. Two groups that shared them would be on the same side: nothing is lost by it."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big", signed=True)


def seqs_of(sql: sqlite3.Connection, ids: Iterable[str]) -> dict[str, int]:
    """Row numbers of those of the ids that are examples already."""
    found: dict[str, int] = {}
    by_key = sorted((key_of(each), each) for each in ids)
    for start in range(0, len(by_key), LOOKUP):
        some = by_key[start : start + LOOKUP]
        marks = ",".join("?" * len(some))
        rows = sql.execute(f"SELECT id, seq FROM examples WHERE key IN ({marks})", [key for key, _ in some])  # noqa: S608 - question marks
        found.update(row[:2] for row in rows)
    return found


def take_in(sql: sqlite3.Connection, batches: Sequence[NewFile], known: dict[str, int] | None, at: str) -> None:
    """All rows of one transaction. `known`: `seqs_of` all that was sighted, if asked already. `at`: ISO 8601, UTC."""
    seqs = dict(known) if known is not None else seqs_of(sql, {id_ for each in batches for _, id_ in each.sightings})
    fresh = list(numbered(sql, batches, seqs))
    sql.executemany(
        "INSERT INTO examples (seq, id, key, age, side, group_key, grader, content, metadata, file, line, received_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (example_values(seq, file, new, at) for seq, file, new in fresh),
    )
    count(sql, [new for _, _, new in fresh], at)
    sight(sql, batches, seqs)
    quarantine(sql, batches, at)
    sql.executemany(
        "INSERT INTO files VALUES (?, ?, ?, NULL, ?) ON CONFLICT (name) DO UPDATE SET"
        " position = excluded.position, finished = excluded.finished, retired_to = NULL,"
        " seen_at = excluded.seen_at",
        ((batch.name, batch.position, batch.finished, at) for batch in batches),
    )


def numbered(
    sql: sqlite3.Connection, batches: Sequence[NewFile], seqs: dict[str, int]
) -> Iterator[tuple[int, str, NewExample]]:
    """Those examples that are new, each with the row number that it gets; `seqs` learns them."""
    (last,) = sql.execute("SELECT coalesce(max(seq), 0) FROM examples").fetchone()
    for batch in batches:
        for new in batch.examples:
            if new.id not in seqs:
                last += 1
                seqs[new.id] = last
                yield last, batch.name, new


def example_values(seq: int, file: str, new: NewExample, at: str) -> tuple[Any, ...]:
    """One row of `examples`."""
    example = new.example
    return (
        seq,
        new.id,
        key_of(new.id),
        new.age,
        new.side.value,
        new.group_key,
        example.grader,
        # in the order of its keys, as templates print tools
        new.text or json.dumps(example.content, ensure_ascii=False),
        json.dumps(dict(example.metadata), ensure_ascii=False) if example.metadata else "{}",
        file,
        new.line,
        at,
    )


def count(sql: sqlite3.Connection, fresh: Collection[NewExample], at: str) -> None:
    """Keep the counts of sides by age and by group in step with the new rows."""
    by_age = Counter((new.age, new.side.value) for new in fresh)
    taught = Counter(new.group_key for new in fresh if new.side is Side.TAUGHT)
    held_out = Counter(new.group_key for new in fresh if new.side is Side.HELD_OUT)
    sql.executemany(
        "INSERT INTO example_counts (age, side, n, first_at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (age, side) DO UPDATE SET n = n + excluded.n, first_at = min(first_at, excluded.first_at)",
        ((*place, n, at) for place, n in by_age.items()),
    )
    sql.executemany(
        "INSERT INTO groups (hash, taught, held_out) VALUES (?, ?, ?) ON CONFLICT (hash) DO UPDATE SET"
        " taught = taught + excluded.taught, held_out = held_out + excluded.held_out",
        sorted(
            [(group_hash(key), n, 0) for key, n in taught.items()]
            + [(group_hash(key), 0, n) for key, n in held_out.items()]
        ),
    )


def sight(sql: sqlite3.Connection, batches: Sequence[NewFile], seqs: Mapping[str, int]) -> None:
    """Where examples were seen; a file that was begun again forgets what was seen in it before."""
    seen: list[tuple[str, int, int, int]] = []
    for batch in batches:
        if batch.restarted:
            seen = [row for row in seen if row[0] != batch.name]
            sql.execute("DELETE FROM sighted WHERE file = ?", (batch.name,))
        seen += [(batch.name, *run) for run in runs(batch.sightings, seqs)]
    sql.executemany("INSERT OR REPLACE INTO sighted (file, line, example_seq, count) VALUES (?, ?, ?, ?)", seen)


def runs(sightings: Iterable[tuple[int, str]], seqs: Mapping[str, int]) -> Iterator[tuple[int, int, int]]:
    """(first line, first row number, count) of each stretch of lines whose examples follow one another."""
    first_line = first_seq = n = 0
    for line, example_id in sightings:
        seq = seqs[example_id]
        if n and line == first_line + n and seq == first_seq + n:
            n += 1
            continue
        if n:
            yield first_line, first_seq, n
        first_line, first_seq, n = line, seq, 1
    if n:
        yield first_line, first_seq, n


def quarantine(sql: sqlite3.Connection, batches: Iterable[NewFile], at: str) -> None:
    """The rejected lines, each once."""
    sql.executemany(
        "INSERT INTO rejections (file, line, reason, raw, at) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (file, line, raw) DO NOTHING",
        ((batch.name, each.line, each.reason, each.raw, at) for batch in batches for each in batch.rejections),
    )
