"""Questions about the ledger itself, and the few repairs that lose nothing. For the doctor."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from thaud.domain import RunState
from thaud.ledger.quarantined import snapshot
from thaud.ledger.reader import LedgerReader
from thaud.ledger.schema import add_functions
from thaud.ledger.writer import Ledger

OF_INDEXES = ("missing from index", "wrong # of entries in index", "non-unique entry in index")
COMPLAINTS = 20
EXAMPLES_COUNTED = "SELECT age, side, count(*), min(received_at) FROM examples GROUP BY age, side"
GROUPS_COUNTED = (
    "SELECT group_hash(group_key) AS hash, count(*) FILTER (WHERE side = 'taught'),"
    " count(*) FILTER (WHERE side = 'held_out') FROM examples GROUP BY hash ORDER BY hash"
)
LESSONS_COUNTED = (
    "SELECT family, age, count(*), count(taught_by), count(coalesce(taught_by, set_aside_by)) FROM lessons"
    " JOIN examples ON examples.seq = lessons.example_seq WHERE side = 'taught' GROUP BY family, age"
)


def complaints(ledger: LedgerReader) -> list[str]:
    """What SQLite says against its own file; empty where it is whole. Raises sqlite3.Error where it cannot say."""
    rows = [str(row[0]) for row in ledger.connection.execute(f"PRAGMA integrity_check({COMPLAINTS})")]
    return [row for row in rows if row != "ok"]


def of_indexes_alone(found: list[str]) -> bool:
    """Whether all complaints are about what REINDEX makes anew."""
    return all(any(words in line for words in OF_INDEXES) for line in found)


def broken_references(ledger: LedgerReader) -> dict[tuple[str, str], int]:
    """(table, table that it points to) -> rows that point to nothing."""
    found: dict[tuple[str, str], int] = {}
    for row in ledger.connection.execute("PRAGMA foreign_key_check"):
        found[row["table"], row["parent"]] = found.get((row["table"], row["parent"]), 0) + 1
    return found


def positions(ledger: LedgerReader) -> Iterator[tuple[str, str]]:
    """(file, position) of every file of the drop-box."""
    return ((row["name"], row["position"]) for row in ledger.connection.execute("SELECT name, position FROM files"))


def retired_names(ledger: LedgerReader) -> set[str]:
    """Under which names the files lie that left the drop-box."""
    sql = "SELECT retired_to FROM files WHERE retired_to IS NOT NULL"
    return {row["retired_to"] for row in ledger.connection.execute(sql)}


def aliases(ledger: LedgerReader) -> dict[str, int]:
    """Family -> number of its champion."""
    return {row["family"]: row["n"] for row in ledger.connection.execute("SELECT family, n FROM aliases")}


def unfinished_runs(ledger: LedgerReader) -> list[str]:
    """Ids of the runs that have not ended."""
    sql = "SELECT id FROM runs WHERE state NOT IN ('promoted', 'rejected', 'failed') ORDER BY seq"
    return [row["id"] for row in ledger.connection.execute(sql)]


def promoted_without_version(ledger: LedgerReader) -> list[str]:
    """Runs that ended with a version which is not there."""
    sql = "SELECT id FROM runs WHERE state IN ('accepted', 'promoted') AND id NOT IN (SELECT run_id FROM versions)"
    return [row["id"] for row in ledger.connection.execute(sql)]


def unknown_examples(ledger: LedgerReader, run_id: str) -> int:
    """How many of the examples that a run was frozen with are not in the ledger."""
    ids = ledger.run_ids(run_id)
    named = {*ids.example_ids, *ids.exam_ids, *ids.recall_ids}
    return len(named - ledger.known_ids(named))


def miscounted(ledger: LedgerReader) -> list[str]:
    """What is kept counted (examples, groups, lessons) and does not add up."""
    add_functions(ledger.connection)
    kept = {
        "examples": (EXAMPLES_COUNTED, "SELECT age, side, n, first_at FROM example_counts WHERE n > 0"),
        "groups": (GROUPS_COUNTED, "SELECT hash, taught, held_out FROM groups"),
        "lessons": (LESSONS_COUNTED, "SELECT family, age, tried, taught, settled FROM lesson_counts WHERE tried > 0"),
    }
    with snapshot(ledger):
        return [
            name
            for name, (truth, count) in kept.items()
            if {tuple(row) for row in ledger.connection.execute(truth)}
            != {tuple(row) for row in ledger.connection.execute(count)}
        ]


def wal_bytes(path: Path) -> int:
    """Size of the write-ahead log beside a ledger."""
    wal = path.with_name(f"{path.name}-wal")
    return wal.stat().st_size if wal.exists() else 0


# Repairs, for whoever holds the writer


def reindex(ledger: Ledger) -> None:
    """Make all indexes anew from their tables. Raises sqlite3.Error."""
    ledger.connection.execute("REINDEX")


def checkpoint(ledger: Ledger) -> None:
    """Move the write-ahead log into the ledger and empty it. Raises sqlite3.Error where somebody reads."""
    (busy, _, _) = ledger.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise sqlite3.OperationalError("another process reads the ledger")


def forget_position(ledger: Ledger, file: str, start: str) -> None:
    """Let a file be read from its start; what is known of it is not stored twice."""
    with ledger.transaction("take_in") as sql:
        sql.execute("UPDATE files SET position = ?, finished = 0 WHERE name = ?", (start, file))


def take_back(ledger: Ledger, run_id: str, state: RunState) -> None:
    """Let a run go on from an earlier state."""
    with ledger.transaction("receive") as sql:
        ledger.move(sql, run_id, state)


def deregister(ledger: Ledger, host: str, name: str) -> None:
    """Forget what a server was known to hold."""
    with ledger.transaction("register") as sql:
        sql.execute("DELETE FROM registrations WHERE host = ? AND name = ?", (host, name))


def recount(ledger: Ledger) -> None:
    """Count examples, groups and lessons anew."""
    add_functions(ledger.connection)
    with ledger.transaction("take_in") as sql:
        sql.execute("DELETE FROM example_counts")
        sql.execute(f"INSERT INTO example_counts (age, side, n, first_at) {EXAMPLES_COUNTED}")
        sql.execute("DELETE FROM groups")
        sql.execute(f"INSERT INTO groups (hash, taught, held_out) {GROUPS_COUNTED}")
        sql.execute("DELETE FROM lesson_counts")
        sql.execute(f"INSERT INTO lesson_counts (family, age, tried, taught, settled) {LESSONS_COUNTED}")
