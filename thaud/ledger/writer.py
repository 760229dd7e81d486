"""Every change to the ledger, each in one transaction. One process holds the one writer: the daemon."""

import errno
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from thaud.domain import Answer, Example, RunSpec, RunState, Side, Version
from thaud.errors import DiskFullError, StorageError
from thaud.failpoints import reach
from thaud.ledger.reader import LedgerReader
from thaud.ledger.schema import migrate

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class NewExample:
    """An example on its way in, with what intake decided on it."""

    example: Example
    id: str
    age: int
    side: Side
    group_key: str
    line: int


@dataclass(frozen=True, slots=True)
class NewRejection:
    """A line on its way into quarantine."""

    line: int
    reason: str
    raw: str


@dataclass(frozen=True, slots=True)
class NewFile:
    """What one transaction commits of a file. `sightings` are (line, id) of everything valid, duplicates included."""

    name: str
    position: str
    finished: bool
    examples: Sequence[NewExample]
    sightings: Sequence[tuple[int, str]]
    rejections: Sequence[NewRejection]
    restarted: bool = False


def utc_now() -> datetime:
    """The clock of production."""
    return datetime.now(UTC)


class Ledger(LedgerReader):
    """The writer: a reader that also commits."""

    def __init__(self, connection: sqlite3.Connection, path: Path, clock: Clock = utc_now) -> None:
        super().__init__(connection, path)
        self.clock = clock

    @classmethod
    def open(cls, path: Path, clock: Clock = utc_now) -> Self:
        """Open or make the ledger and bring its schema up to date.

        Raises HomeTooNewError for one from a newer THAU, StorageError where SQLite refuses.
        """
        try:
            connection = sqlite3.connect(path, timeout=10, isolation_level=None)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")
        except sqlite3.Error as error:
            raise StorageError(f"cannot open {path}: {error} (permission, or a disk that is full?)") from error
        migrate(connection, path)
        return cls(connection, path, clock)

    @contextmanager
    def transaction(self, effect: str) -> Iterator[sqlite3.Connection]:
        """All of it or nothing; `effect` (one of failpoints.COMMITS) names its fail-points.

        Raises DiskFullError, and StorageError where SQLite refuses otherwise (I/O error).
        """
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                reach(f"ledger.{effect}.before")
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:  # SQLite has ended it itself where the disk is full
                    self.connection.execute("ROLLBACK")
                raise
        except (sqlite3.Error, OSError) as error:
            raise self.refusal(error) from error
        reach(f"ledger.{effect}.after")

    def refusal(self, error: sqlite3.Error | OSError) -> StorageError:
        """What kept a transaction from being written, in our words."""
        by_sqlite = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        by_system = getattr(error, "errno", None) == errno.ENOSPC
        kind = DiskFullError if by_sqlite or by_system else StorageError
        return kind(f"the ledger {self.path} could not be written: {error}")

    def now(self) -> str:
        """ISO 8601 in UTC."""
        return self.clock().isoformat(timespec="milliseconds")

    def note(self, kind: str, **detail: Any) -> None:
        """Add an event."""
        with self.transaction("note"):
            self._note(kind, **detail)

    def set_meta(self, key: str, value: str) -> None:
        """Remember a value."""
        with self.transaction("set_meta"):
            self._set_meta(key, value)

    def _note(self, kind: str, **detail: Any) -> None:
        self.connection.execute(
            "INSERT INTO events (at, kind, detail) VALUES (?, ?, ?)", (self.now(), kind, json.dumps(detail))
        )

    def _set_meta(self, key: str, value: str) -> None:
        self.connection.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (key, value)
        )

    # Intake

    def take_in(self, batch: NewFile) -> None:
        """Commit one batch of a file: examples, sightings, quarantined lines and the new position, together."""
        with self.transaction("take_in") as sql:
            if batch.restarted:
                sql.execute("DELETE FROM sightings WHERE file = ?", (batch.name,))
            sql.executemany(
                "INSERT INTO examples"
                " (id, age, side, group_key, grader, content, metadata, file, line, received_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
                (self.example_values(batch.name, each) for each in batch.examples),
            )
            sql.executemany(
                "INSERT OR REPLACE INTO sightings SELECT ?, ?, seq FROM examples WHERE id = ?",
                ((batch.name, line, each) for line, each in batch.sightings),
            )
            sql.executemany(
                "INSERT INTO rejections (file, line, reason, raw, at) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (file, line, raw) DO NOTHING",
                ((batch.name, each.line, each.reason, each.raw, self.now()) for each in batch.rejections),
            )
            sql.execute(
                "INSERT INTO files VALUES (?, ?, ?, NULL, ?) ON CONFLICT (name) DO UPDATE SET"
                " position = excluded.position, finished = excluded.finished, retired_to = NULL,"
                " seen_at = excluded.seen_at",
                (batch.name, batch.position, batch.finished, self.now()),
            )

    def example_values(self, file: str, new: NewExample) -> tuple[Any, ...]:
        """One row of `examples`."""
        example = new.example
        return (
            new.id,
            new.age,
            new.side,
            new.group_key,
            example.grader,
            json.dumps(example.content, ensure_ascii=False),  # in the order of its keys, as templates print tools
            json.dumps(dict(example.metadata), ensure_ascii=False),
            file,
            new.line,
            self.now(),
        )

    def retire_file(self, name: str, moved_to: str) -> None:
        """A file left the queue, all its examples being trained."""
        with self.transaction("retire_file") as sql:
            sql.execute("UPDATE files SET retired_to = ? WHERE name = ?", (moved_to, name))

    # Runs

    def freeze_run(self, spec: RunSpec) -> None:
        """Commit a new run and mark its examples as tried."""
        with self.transaction("freeze_run") as sql:
            sql.execute(
                "INSERT INTO runs (id, family, age, state, trigger, spec, created_at, changed_at)"
                " VALUES (?, ?, ?, 'frozen', ?, ?, ?, ?)",
                (spec.id, spec.family, spec.age, spec.trigger, json.dumps(asdict(spec)), self.now(), self.now()),
            )
            sql.executemany(
                "INSERT INTO lessons (family, example_seq, tried_by) SELECT ?, seq, ? FROM examples WHERE id = ?"
                " ON CONFLICT (family, example_seq) DO UPDATE SET tried_by = excluded.tried_by",
                ((spec.family, spec.id, each) for each in spec.example_ids),
            )

    def intend(self, run_id: str, step: str) -> None:
        """Commit the intent of a step."""
        with self.transaction("intend") as sql:
            sql.execute(
                "INSERT INTO journal (run_id, step, intent_at) VALUES (?, ?, ?)"
                " ON CONFLICT (run_id, step) DO UPDATE SET intent_at = excluded.intent_at",
                (run_id, step, self.now()),
            )

    def receive(self, run_id: str, step: str, receipt: dict[str, Any], state: RunState) -> None:
        """Commit the receipt of a step together with the state it leads to."""
        with self.transaction("receive") as sql:
            sql.execute(
                "UPDATE journal SET receipt_at = ?, receipt = ? WHERE run_id = ? AND step = ?",
                (self.now(), json.dumps(receipt), run_id, step),
            )
            self.move(sql, run_id, state)

    def keep_answers(self, gguf_sha256: str, answers: Sequence[Answer]) -> None:
        """Keep exam answers, so that a champion is not asked the same item twice."""
        with self.transaction("keep_answers") as sql:
            sql.executemany(
                "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?)",
                ((gguf_sha256, a.example_id, a.age, a.answer, a.score, a.correct) for a in answers),
            )

    def move(self, sql: sqlite3.Connection, run_id: str, state: RunState) -> None:
        """Set a run's state, inside a transaction."""
        sql.execute("UPDATE runs SET state = ?, changed_at = ? WHERE id = ?", (state, self.now(), run_id))

    def end_run(
        self, run_id: str, state: RunState, reasons: Sequence[str], report: dict[str, Any] | None = None
    ) -> None:
        """Commit that a run was rejected or failed, and why."""
        with self.transaction("end_run") as sql:
            self.move(sql, run_id, state)
            sql.execute(
                "UPDATE runs SET reasons = ?, report = coalesce(?, report) WHERE id = ?",
                (json.dumps(list(reasons)), json.dumps(report) if report else None, run_id),
            )
            self._note(f"run_{state}", run=run_id, reasons=list(reasons))

    def accept(self, version: Version, reasons: Sequence[str], report: dict[str, Any]) -> None:
        """Commit acceptance: the run has its number."""
        with self.transaction("accept") as sql:
            sql.execute(
                "INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    version.family,
                    version.n,
                    version.run_id,
                    version.age,
                    version.gguf,
                    version.gguf_sha256,
                    version.size_bytes,
                    version.accuracy.n,
                    version.accuracy.right,
                    version.examples,
                    version.accepted_at,
                ),
            )
            sql.execute(
                "UPDATE runs SET reasons = ?, report = ? WHERE id = ?",
                (json.dumps(list(reasons)), json.dumps(report), version.run_id),
            )
            self.move(sql, version.run_id, RunState.ACCEPTED)
            self._note("version_accepted", version=version.name, run=version.run_id)

    def promote(self, version: Version, advance_to: int | None, set_aside: Sequence[str] = ()) -> None:
        """Commit promotion: the alias, what was taught, and the age, together. `set_aside` was tried and not taught."""
        with self.transaction("promote") as sql:
            sql.execute(
                "INSERT INTO aliases VALUES (?, ?, ?) ON CONFLICT (family) DO UPDATE SET"
                " n = excluded.n, moved_at = excluded.moved_at",
                (version.family, version.n, self.now()),
            )
            sql.execute(
                "UPDATE lessons SET set_aside_by = ? WHERE family = ? AND example_seq IN"
                " (SELECT seq FROM examples WHERE id IN (SELECT value FROM json_each(?)))",
                (version.run_id, version.family, json.dumps(list(set_aside))),
            )
            sql.execute(
                "UPDATE lessons SET taught_by = ?1, set_aside_by = NULL WHERE family = ?2 AND tried_by = ?1"
                " AND taught_by IS NULL AND set_aside_by IS NOT ?1",
                (version.run_id, version.family),
            )
            self.move(sql, version.run_id, RunState.PROMOTED)
            self._note("version_promoted", version=version.name)
            if advance_to is not None:
                self._set_age(advance_to, "age_advanced")

    def set_age(self, age: int, kind: str, **why: Any) -> None:
        """Change the current age; examples and versions stay. `kind` names the event."""
        with self.transaction("set_age"):
            self._set_age(age, kind, **why)

    def _set_age(self, age: int, kind: str, **why: Any) -> None:
        self._note(kind, before=self.age, after=age, **why)
        self._set_meta("age", str(age))

    def reset_age(self, why: str) -> None:
        """Back to age 0."""
        self.set_age(0, "reset", why=why)

    def register(self, host: str, name: str, state: str, detail: str) -> None:
        """Remember what an Ollama server holds, or why it does not."""
        with self.transaction("register") as sql:
            sql.execute(
                "INSERT INTO registrations VALUES (?, ?, ?, ?, ?) ON CONFLICT (host, name) DO UPDATE SET"
                " state = excluded.state, detail = excluded.detail, at = excluded.at",
                (host, name, state, detail, self.now()),
            )
