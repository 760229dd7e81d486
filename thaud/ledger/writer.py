"""Every change to the ledger, each in one transaction. One process holds the one writer: the daemon."""

import errno
import json
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from thaud.domain import Answer, RunSpec, RunState, Version
from thaud.errors import DiskFullError, StorageError
from thaud.failpoints import reach
from thaud.ledger import arrivals
from thaud.ledger.arrivals import NewFile, seqs_of
from thaud.ledger.quarantined import Rejected, found_by_digest
from thaud.ledger.reader import LedgerReader
from thaud.ledger.schema import cannot_open, migrate

TRAIN_REQUESTED = "train_requested"  # since when a run is asked for that is not frozen yet
Clock = Callable[[], datetime]
CACHE_KIB = 32 << 10  # an intake's transaction touches most pages of two indexes
CHECKPOINT_PAGES = 4096  # 16 MiB of log: the next transaction touches the same pages again


def in_folder(path: str, folder: Path) -> str:
    """A path from a folder on, where it lies in there: what moves with its folder is found again."""
    return str(Path(path).relative_to(folder)) if Path(path).is_relative_to(folder) else path


def utc_now() -> datetime:
    """The clock of production."""
    return datetime.now(UTC)


class Ledger(LedgerReader):
    """The writer: a reader that also commits."""

    def __init__(self, connection: sqlite3.Connection, path: Path, clock: Clock = utc_now) -> None:
        super().__init__(connection, path)
        self.clock = clock
        names = (path, path.with_name(f"{path.name}-wal"))
        self.opened = {name: name.stat() for name in names if name.exists()}

    @classmethod
    def open(cls, path: Path, clock: Clock = utc_now) -> Self:
        """Open or make the ledger and bring its schema up to date.

        Raises HomeTooNewError for one from a newer THAU, StorageError where SQLite refuses.
        """
        try:
            connection = sqlite3.connect(path, timeout=10, isolation_level=None)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
            connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
        except sqlite3.Error as error:
            raise cannot_open(path, error) from error
        migrate(connection, path)
        connection.execute("PRAGMA foreign_keys=ON")
        return cls(connection, path, clock)

    @contextmanager
    def transaction(self, effect: str) -> Iterator[sqlite3.Connection]:
        """All of it or nothing; `effect` (one of failpoints.COMMITS) names its fail-points.

        Raises DiskFullError, and StorageError where SQLite refuses otherwise (I/O error) or the file is another one.
        """
        self.refuse_another()
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

    def refuse_another(self) -> None:
        """Raise StorageError where a name stands for no file or another one: what is written now nobody would read."""
        for name, opened in self.opened.items():
            try:
                same = os.path.samestat(name.stat(), opened)
            except OSError:
                same = False
            if not same:
                raise StorageError(
                    f"{name} was removed or replaced since the service opened it: stop the service, put the ledger back"
                    " (or a backup) where it is gone, and start it again"
                )

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

    def forget_request(self, kind: str, **why: Any) -> None:
        """Answer a request for a run, where none will come of it, by an event."""
        with self.transaction("note") as sql:
            sql.execute("DELETE FROM meta WHERE key = ?", (TRAIN_REQUESTED,))
            self._note(kind, **why)

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

    def take_in(self, *batches: NewFile, known: dict[str, int] | None = None) -> None:
        """Commit what was read of some files: examples, sightings, quarantined lines and new positions, together.

        `known`: what `row_numbers` has just said of all that was sighted, where the caller had to ask anyway.
        """
        with self.transaction("take_in") as sql:
            arrivals.take_in(sql, batches, known, self.now())

    def resolve(self, rejections: Sequence[Rejected]) -> int:
        """Mark quarantined lines as corrected; returns how many were not so before. The unknown is passed over."""
        with self.transaction("resolve") as sql:
            marked = [
                sql.execute(
                    "UPDATE rejections SET resolved_at = ? WHERE file = ? AND line = ? AND raw = ?"
                    " AND resolved_at IS NULL",
                    (self.now(), row.file, row.line, row.raw),
                ).rowcount
                for row in found_by_digest(self, rejections)
            ]
        return sum(marked)

    def retire_file(self, name: str, moved_to: str) -> None:
        """A file left the queue, all its examples being trained."""
        with self.transaction("retire_file") as sql:
            sql.execute("UPDATE files SET retired_to = ? WHERE name = ?", (moved_to, name))

    # Runs

    def freeze_run(self, spec: RunSpec, seqs: Sequence[int] | None = None) -> None:
        """Commit a new run, which is what was asked for, and mark its examples as tried.

        `seqs`: their row numbers in order, where the caller has looked them up already.
        """
        if seqs is None:
            seqs = sorted(self.row_numbers(spec.example_ids).values())
        rest = {each.name: getattr(spec, each.name) for each in fields(spec)}
        ids = [json.dumps(rest.pop(name)) for name in ("example_ids", "exam_ids", "recall_ids")]
        with self.transaction("freeze_run") as sql:
            sql.execute("DELETE FROM meta WHERE key = ?", (TRAIN_REQUESTED,))
            sql.execute(
                "INSERT INTO runs (id, family, age, state, trigger, spec, created_at, changed_at)"
                " VALUES (?, ?, ?, 'frozen', ?, ?, ?, ?)",
                (spec.id, spec.family, spec.age, spec.trigger, json.dumps(rest), self.now(), self.now()),
            )
            sql.execute("INSERT INTO run_ids VALUES (?, ?, ?, ?)", (spec.id, *ids))
            sql.executemany(
                "INSERT INTO lessons (family, example_seq, tried_by) VALUES (?, ?, ?)"
                " ON CONFLICT (family, example_seq) DO UPDATE SET tried_by = excluded.tried_by",
                ((spec.family, seq, spec.id) for seq in seqs),
            )
            self._count_lessons(spec.family)

    def _count_lessons(self, family: str) -> None:
        self.connection.execute("DELETE FROM lesson_counts WHERE family = ?", (family,))
        self.connection.execute(
            "INSERT INTO lesson_counts SELECT family, age, count(*), count(taught_by),"
            " count(coalesce(taught_by, set_aside_by)) FROM lessons JOIN examples ON examples.seq = lessons.example_seq"
            " WHERE family = ? AND side = 'taught' GROUP BY family, age",
            (family,),
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
                "INSERT INTO versions (family, n, run_id, age, gguf, gguf_sha256, size_bytes, asked, correct, examples,"
                " accepted_at, kind, base_gguf, base_sha256) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    version.family,
                    version.n,
                    version.run_id,
                    version.age,
                    in_folder(version.gguf, self.path.parent),
                    version.gguf_sha256,
                    version.size_bytes,
                    version.accuracy.n,
                    version.accuracy.right,
                    version.examples,
                    version.accepted_at,
                    version.kind,
                    in_folder(version.base_gguf, self.path.parent) if version.base_gguf else None,
                    version.base_sha256,
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
            sql.executemany(
                "UPDATE lessons SET set_aside_by = ? WHERE family = ? AND example_seq = ?",
                ((version.run_id, version.family, seq) for seq in seqs_of(sql, set_aside).values()),
            )
            sql.execute(
                "UPDATE lessons SET taught_by = ?1, set_aside_by = NULL WHERE family = ?2 AND tried_by = ?1"
                " AND taught_by IS NULL AND set_aside_by IS NOT ?1",
                (version.run_id, version.family),
            )
            self._count_lessons(version.family)
            self.move(sql, version.run_id, RunState.PROMOTED)
            self._note("version_promoted", version=version.name)
            if advance_to is not None:
                self._set_age(advance_to, "age_advanced")

    def move_alias(self, version: Version, why: str) -> None:
        """Commit that another version of the family answers from now on (`thau rollback`)."""
        with self.transaction("move_alias") as sql:
            before = self.champion(version.family)
            sql.execute(
                "UPDATE aliases SET n = ?, moved_at = ? WHERE family = ?", (version.n, self.now(), version.family)
            )
            self._note("rolled_back", before=before.name if before else None, after=version.name, why=why)

    def give_up(self, versions: Sequence[Version]) -> None:
        """Commit that the files of versions are given up for the room (`thau prune`); removing them comes after."""
        with self.transaction("give_up") as sql:
            sql.executemany(
                "UPDATE versions SET pruned_at = ? WHERE family = ? AND n = ? AND pruned_at IS NULL",
                ((self.now(), version.family, version.n) for version in versions),
            )
            self._note("versions_pruned", versions=[version.name for version in versions])

    def home_id(self) -> str:
        """What tells this home from others on a server they share; made the first time."""
        if (known := self.meta("home_id")) is None:
            self.set_meta("home_id", known := secrets.token_hex(8))
        return known

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

    def register(self, host: str, name: str, state: str, detail: str, report: dict[str, Any] | None = None) -> None:
        """Remember what an Ollama server holds, or why it does not. `report`: what it showed, where it was asked."""
        with self.transaction("register") as sql:
            sql.execute(
                "INSERT INTO registrations VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (host, name) DO UPDATE SET"
                " state = excluded.state, detail = excluded.detail, at = excluded.at,"
                " report = coalesce(excluded.report, report)",
                (host, name, state, detail, self.now(), json.dumps(report) if report else None),
            )

    def unregister(self, host: str, name: str) -> None:
        """Forget a name that a server no longer holds, because it was to be deleted."""
        with self.transaction("register") as sql:
            sql.execute("DELETE FROM registrations WHERE host = ? AND name = ?", (host, name))
