"""Every question asked of the ledger. Opens read-only; refuses to change anything."""

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from thaud.curriculum import Members
from thaud.domain import Answer, QueuedExample, Side, Version
from thaud.errors import HomeError, StorageError
from thaud.ledger.arrivals import group_hash, key_of, seqs_of
from thaud.ledger.rows import (
    FileRow,
    RunIds,
    RunRow,
    read_answer,
    read_example,
    read_file,
    read_ids,
    read_run,
    read_version,
)
from thaud.ledger.schema import cannot_open, refuse_newer, refuse_older


class LedgerReader:
    """Queries over one connection. Use `open`, and close it (it is a context manager)."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.connection = connection
        self.path = path
        connection.row_factory = sqlite3.Row

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open read-only. Raises HomeError where there is no ledger, HomeTooNewError for a newer one."""
        if not path.exists():
            raise HomeError(f"no ledger at {path}: run `thau init`; where there was one, see `thau doctor`")
        try:
            connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=10, check_same_thread=False)
            (found,) = connection.execute("PRAGMA user_version").fetchone()
        except sqlite3.Error as error:
            raise cannot_open(path, error) from error
        refuse_newer(found, path)
        refuse_older(found, path)
        return cls(connection, path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def one(self, sql: str, *values: Any) -> Any:
        """First column of the first row, or None."""
        row = self.connection.execute(sql, values).fetchone()
        return row[0] if row else None

    # What THAU is

    def meta(self, key: str) -> str | None:
        """A value set by `set_meta`."""
        value: str | None = self.one("SELECT value FROM meta WHERE key = ?", key)
        return value

    @property
    def age(self) -> int:
        """The current cognitive age, in the age of its stage."""
        return int(self.meta("age") or 0)

    def events(self, limit: int = 50, kinds: Sequence[str] = ()) -> list[dict[str, Any]]:
        """The newest events, newest first, of some kinds or of all."""
        sql = (
            "SELECT at, kind, detail FROM events WHERE ?1 = '[]' OR kind IN (SELECT value FROM json_each(?1))"
            " ORDER BY seq DESC LIMIT ?2"
        )
        rows = self.connection.execute(sql, (json.dumps(list(kinds)), limit))
        return [{"at": row["at"], "kind": row["kind"], **json.loads(row["detail"])} for row in rows]

    # Files and examples

    def file(self, name: str) -> FileRow | None:
        """What is known of a file of the drop-box."""
        row = self.connection.execute("SELECT * FROM files WHERE name = ?", (name,)).fetchone()
        return read_file(row) if row else None

    def retired_as(self, names: Iterable[str]) -> list[FileRow]:
        """The files that left the drop-box under one of these names."""
        sql = "SELECT * FROM files WHERE retired_to IN (SELECT value FROM json_each(?))"
        return [read_file(row) for row in self.connection.execute(sql, (json.dumps(list(names)),))]

    def members(self, keys: Iterable[str]) -> dict[str, Members]:
        """How many examples of each group are on each side."""
        hashes = {group_hash(key): key for key in keys}
        sql = "SELECT hash, taught, held_out FROM groups WHERE hash IN (SELECT value FROM json_each(?))"
        rows = self.connection.execute(sql, (json.dumps(sorted(hashes)),))
        return {hashes[row["hash"]]: Members(row["taught"], row["held_out"]) for row in rows}

    def row_numbers(self, ids: Iterable[str]) -> dict[str, int]:
        """Those of the ids that are examples already, each with its number in the order of arrival."""
        return seqs_of(self.connection, ids)

    def scan_numbers(self, ids: Collection[str], up_to_age: int) -> list[int]:
        """The same, in order, of ids of the taught side, for many of them: one pass over all examples of these ages."""
        sql = "SELECT seq, id FROM examples WHERE side = 'taught' AND age <= ? ORDER BY seq"
        wanted = set(ids)
        return [seq for seq, found in self.connection.execute(sql, (up_to_age,)) if found in wanted]

    def known_ids(self, ids: Iterable[str]) -> set[str]:
        """Those of the ids that are examples already."""
        return set(self.row_numbers(ids))

    def examples(self, ids: Sequence[str]) -> Iterator[QueuedExample]:
        """The examples with these ids, in this order. Raises StorageError where one is missing."""
        for each in ids:
            row = self.connection.execute("SELECT * FROM examples WHERE key = ?", (key_of(each),)).fetchone()
            if row is None:
                raise StorageError(
                    f"the ledger {self.path} names example {each} but does not hold it: see `thau doctor`"
                )
            yield read_example(row)

    def neighbours(self, seq: int, limit: int, *, newer: bool) -> list[tuple[int, str, QueuedExample]]:
        """(number, when it came, example) of those after a number in the order of arrival, or of those up to it, newest
        first.
        """
        after = "SELECT * FROM examples WHERE seq > ? ORDER BY seq LIMIT ?"
        up_to = "SELECT * FROM examples WHERE seq <= ? ORDER BY seq DESC LIMIT ?"
        rows = self.connection.execute(after if newer else up_to, (seq, limit))
        return [(row["seq"], row["received_at"], read_example(row)) for row in rows]

    def last_number(self) -> int:
        """The number of the newest example in the order of arrival, 0 where there is none."""
        return int(self.one("SELECT coalesce(max(seq), 0) FROM examples"))

    def count_of_age(self, ids: Iterable[str], age: int) -> int:
        """How many of these examples are of an age."""
        sql = "SELECT count(*) FROM examples WHERE age = ? AND seq IN (SELECT value FROM json_each(?))"
        return int(self.one(sql, age, json.dumps(list(self.row_numbers(ids).values()))))

    def ids_by_age(self, side: Side, up_to_age: int) -> dict[int, list[str]]:
        """Ids of one side by age, in the order of arrival, up to and including an age."""
        rows = self.connection.execute(
            "SELECT age, id FROM examples WHERE side = ? AND age <= ? ORDER BY seq", (side, up_to_age)
        )
        ids: dict[int, list[str]] = {}
        for row in rows:
            ids.setdefault(row["age"], []).append(row["id"])
        return ids

    def counts_by_age(self) -> dict[int, dict[str, int]]:
        """How many examples of each age are on each side."""
        counts: dict[int, dict[str, int]] = {}
        for row in self.connection.execute("SELECT age, side, n FROM example_counts ORDER BY age, side"):
            counts.setdefault(row["age"], {})[row["side"]] = row["n"]
        return counts

    def pending(self, family: str, up_to_age: int) -> tuple[int, int]:
        """(pending, unseen): taught examples that no promoted version of the family knows, and those no run tried.

        What a promoted version's run had to set aside does not call for another run; a later stage takes it along.
        """
        sql = (
            "SELECT coalesce(sum(settled), 0), coalesce(sum(tried), 0) FROM lesson_counts WHERE family = ? AND age <= ?"
        )
        settled, tried = self.connection.execute(sql, (family, up_to_age)).fetchone()
        trainable = self.trainable(up_to_age)
        return trainable - settled, trainable - tried

    def waiting_since(self, family: str, up_to_age: int) -> str | None:
        """When the family's last run ended, or, before its first, when the oldest pending example came."""
        sql = (
            "SELECT coalesce((SELECT max(changed_at) FROM runs WHERE family = ?),"
            " (SELECT min(first_at) FROM example_counts WHERE side = 'taught' AND age <= ?))"
        )
        since: str | None = self.one(sql, family, up_to_age)
        return since

    def trainable(self, up_to_age: int) -> int:
        """How many examples a fresh run at this age would be taught."""
        sql = "SELECT coalesce(sum(n), 0) FROM example_counts WHERE side = 'taught' AND age <= ?"
        return int(self.one(sql, up_to_age))

    def pending_examples(self, family: str, limit: int) -> list[QueuedExample]:
        """Examples that still wait to be taught, oldest first, later stages included."""
        if not self.waiting_by_age(family):
            return []
        sql = (
            "SELECT examples.* FROM examples LEFT JOIN lessons ON lessons.family = ?"
            " AND lessons.example_seq = examples.seq WHERE side = 'taught' AND lessons.taught_by IS NULL"
            " ORDER BY examples.seq LIMIT ?"
        )
        return [read_example(row) for row in self.connection.execute(sql, (family, limit))]

    def waiting_by_age(self, family: str) -> dict[int, int]:
        """How many taught examples of each age no promoted version knows yet."""
        sql = (
            "SELECT example_counts.age AS age, n - coalesce(taught, 0) AS n FROM example_counts LEFT JOIN lesson_counts"
            " ON lesson_counts.family = ? AND lesson_counts.age = example_counts.age WHERE side = 'taught'"
        )
        return {row["age"]: row["n"] for row in self.connection.execute(sql, (family,)) if row["n"]}

    def trained_count(self, family: str, age: int | None = None) -> int:
        """How many examples the family's promoted versions were taught, of one age or of all."""
        sql = "SELECT coalesce(sum(taught), 0) FROM lesson_counts WHERE family = ?1 AND (?2 IS NULL OR age = ?2)"
        return int(self.one(sql, family, age))

    def trained_examples(self, family: str) -> Iterator[dict[str, Any]]:
        """One row for each example that a promoted version was taught, by run and arrival."""
        sql = (
            "SELECT examples.id, examples.age, examples.file, examples.line, versions.n, lessons.taught_by"
            " FROM lessons JOIN examples ON examples.seq = lessons.example_seq"
            " JOIN versions ON versions.run_id = lessons.taught_by"
            " WHERE lessons.family = ? ORDER BY versions.n, examples.seq"
        )
        for row in self.connection.execute(sql, (family,)):
            yield {
                "id": row["id"],
                "age": row["age"],
                "file": row["file"],
                "line": row["line"],
                "version": f"{family}-v{row['n']}",
                "run": row["taught_by"],
            }

    def finished_files(self, family: str, names: Iterable[str] | None = None) -> list[str]:
        """Files of the queue that are read to their end and whose taught examples are all in a promoted version.

        `names`: only these are looked at; without it all are. What keeps a long file is found at its end, as a rule.
        """
        sql = (
            "SELECT name FROM files WHERE finished AND retired_to IS NULL"
            " AND (?2 IS NULL OR name IN (SELECT value FROM json_each(?2)))"
            " AND EXISTS (SELECT 1 FROM sighted WHERE sighted.file = files.name)"
            " AND (SELECT 1 FROM sighted"
            "   JOIN examples ON examples.seq BETWEEN sighted.example_seq AND sighted.example_seq + sighted.count - 1"
            "   LEFT JOIN lessons ON lessons.family = ?1 AND lessons.example_seq = examples.seq"
            "   WHERE sighted.file = files.name AND examples.side = 'taught' AND lessons.taught_by IS NULL"
            "   ORDER BY sighted.line DESC LIMIT 1) IS NULL"
        )
        asked = None if names is None else json.dumps(sorted(names))
        return [row["name"] for row in self.connection.execute(sql, (family, asked))]

    def examples_per_day(self, now: datetime) -> float:
        """Examples taken in a day since the first."""
        row = self.connection.execute("SELECT sum(n) AS n, min(first_at) AS first FROM example_counts").fetchone()
        if not row["n"]:
            return 0.0
        age_s = (now - datetime.fromisoformat(row["first"])).total_seconds()
        return float(row["n"] / max(age_s / 86_400, 1.0))

    def rejections(self, limit: int = 100, file: str | None = None) -> list[dict[str, Any]]:
        """The newest quarantined lines that nobody corrected, newest first, of one file or of all."""
        sql = (
            "SELECT file, line, reason, raw, at FROM rejections WHERE resolved_at IS NULL AND (?1 IS NULL OR file = ?1)"
            " ORDER BY seq DESC LIMIT ?2"
        )
        return [dict(row) for row in self.connection.execute(sql, (file, limit))]

    def rejection_count(self, file: str | None = None) -> int:
        """How many lines are quarantined and not corrected."""
        sql = "SELECT count(*) FROM rejections WHERE resolved_at IS NULL AND (?1 IS NULL OR file = ?1)"
        count: int = self.one(sql, file)
        return count

    # Runs and versions

    def run(self, run_id: str) -> RunRow | None:
        """One run."""
        row = self.connection.execute("SELECT * FROM runs WHERE id = ?", (run_id,)).fetchone()
        return read_run(row) if row else None

    def runs(self, limit: int = 20) -> list[RunRow]:
        """The newest runs, newest first."""
        rows = self.connection.execute("SELECT * FROM runs ORDER BY seq DESC LIMIT ?", (limit,))
        return [read_run(row) for row in rows]

    def run_ids(self, run_id: str) -> RunIds:
        """The examples that a run names. Raises LookupError where nobody knows."""
        row = self.connection.execute("SELECT * FROM run_ids WHERE run_id = ?", (run_id,)).fetchone()
        if row is None:
            raise LookupError(f"the ledger {self.path} has no examples of {run_id}")
        return read_ids(row)

    def example_count(self, run_id: str) -> int:
        """On how many examples a run is trained."""
        return int(self.one("SELECT json_array_length(example_ids) FROM run_ids WHERE run_id = ?", run_id) or 0)

    def run_count(self) -> int:
        """How many runs there were."""
        return int(self.one("SELECT count(*) FROM runs"))

    def rejected_run_count(self) -> int:
        """How many runs the gate refused."""
        return int(self.one("SELECT count(*) FROM runs WHERE state = 'rejected'"))

    def next_run_id(self) -> str:
        """The id that the next run will have: `run-0007`."""
        return f"run-{self.run_count() + 1:04d}"

    def failures(self) -> int:
        """How many runs have failed since the last one that did not."""
        sql = (
            "SELECT count(*) FROM runs WHERE state = 'failed'"
            " AND seq > (SELECT coalesce(max(seq), 0) FROM runs WHERE state != 'failed')"
        )
        count: int = self.one(sql)
        return count

    def unfinished_run(self) -> RunRow | None:
        """The run that is under way, if any."""
        sql = "SELECT * FROM runs WHERE state NOT IN ('promoted', 'rejected', 'failed') ORDER BY seq LIMIT 1"
        row = self.connection.execute(sql).fetchone()
        return read_run(row) if row else None

    def receipt(self, run_id: str, step: str) -> dict[str, Any] | None:
        """What a finished step handed in, or None."""
        text = self.one("SELECT receipt FROM journal WHERE run_id = ? AND step = ?", run_id, step)
        return json.loads(text) if text else None

    def answers(self, gguf_sha256: str, ids: Iterable[str]) -> dict[str, Answer]:
        """Kept exam answers of one GGUF, by example id."""
        sql = "SELECT * FROM answers WHERE gguf_sha256 = ? AND example_id IN (SELECT value FROM json_each(?))"
        rows = self.connection.execute(sql, (gguf_sha256, json.dumps(list(ids))))
        return {row["example_id"]: read_answer(row) for row in rows}

    def versions(self, family: str | None = None) -> list[Version]:
        """Accepted versions, oldest first, of one family or of all."""
        sql = "SELECT * FROM versions WHERE ? IS NULL OR family = ? ORDER BY accepted_at, family, n"
        return [read_version(row, self.path.parent) for row in self.connection.execute(sql, (family, family))]

    def promoted_versions(self, family: str) -> list[Version]:
        """Versions whose promotion is committed, oldest first."""
        sql = (
            "SELECT versions.* FROM versions JOIN runs ON runs.id = versions.run_id"
            " WHERE versions.family = ? AND runs.state = 'promoted' ORDER BY versions.n"
        )
        return [read_version(row, self.path.parent) for row in self.connection.execute(sql, (family,))]

    def champion(self, family: str) -> Version | None:
        """The version that the family's alias points to."""
        sql = (
            "SELECT versions.* FROM aliases JOIN versions"
            " ON versions.family = aliases.family AND versions.n = aliases.n WHERE aliases.family = ?"
        )
        row = self.connection.execute(sql, (family,)).fetchone()
        return read_version(row, self.path.parent) if row else None

    def registrations(self) -> list[dict[str, Any]]:
        """What Ollama servers are known to hold, and what they showed of it."""
        rows = self.connection.execute("SELECT * FROM registrations ORDER BY host, name")
        return [{**row, "report": json.loads(row["report"] or "null")} for row in map(dict, rows)]
