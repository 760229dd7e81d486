"""Questions about rejected lines, one by one: which are known, which are corrected. Owns how a line is named without
its text; refuses to change anything.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thaud.ledger.reader import LedgerReader

if TYPE_CHECKING:
    from thaud.ledger.arrivals import NewRejection


@dataclass(frozen=True, slots=True)
class Rejected:
    """A quarantined line by its place and the SHA-256 of its raw text."""

    file: str
    line: int
    digest: str


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A quarantined line as the ledger holds it. `at`: ISO 8601, UTC."""

    file: str
    line: int
    reason: str
    raw: str
    at: str
    resolved: bool

    @property
    def key(self) -> Rejected:
        """Its name."""
        return Rejected(self.file, self.line, digest_of(self.raw))


def digest_of(raw: str) -> str:
    """Hex SHA-256 of a raw text."""
    return hashlib.sha256(raw.encode("utf-8", "surrogatepass")).hexdigest()


@contextmanager
def snapshot(ledger: LedgerReader) -> Iterator[None]:
    """Let a reader see the ledger as it is now, whatever is committed while the block runs."""
    ledger.connection.execute("BEGIN")
    ledger.connection.execute("SELECT count(*) FROM meta").fetchone()  # the first look takes the snapshot
    try:
        yield
    finally:
        ledger.connection.execute("ROLLBACK")


def rows_at(ledger: LedgerReader, file: str, line: int) -> list[RejectedRow]:
    """Everything that was ever rejected at this place: a file that was rewritten may have been refused there twice."""
    sql = "SELECT * FROM rejections WHERE file = ? AND line = ? ORDER BY seq"
    return [read_row(row) for row in ledger.connection.execute(sql, (file, line))]


def unresolved(ledger: LedgerReader, file: str) -> Iterator[RejectedRow]:
    """What is rejected of a file and not corrected, oldest first."""
    sql = "SELECT * FROM rejections WHERE file = ? AND resolved_at IS NULL ORDER BY seq"
    return (read_row(row) for row in ledger.connection.execute(sql, (file,)))


def rejected_files(ledger: LedgerReader) -> list[str]:
    """Names of the files of which something was ever rejected."""
    return [row["file"] for row in ledger.connection.execute("SELECT DISTINCT file FROM rejections ORDER BY file")]


def found_by_digest(ledger: LedgerReader, named: Iterable[Rejected]) -> list[RejectedRow]:
    """Those of the named lines that the ledger knows."""
    return [row for each in named for row in rows_at(ledger, each.file, each.line) if row.key == each]


def without_resolved(ledger: LedgerReader, file: str, new: Sequence["NewRejection"]) -> list["NewRejection"]:
    """Lines on their way into quarantine, less those that were corrected and are read again."""
    if not new:
        return []
    lines = [each.line for each in new]
    sql = "SELECT line, raw FROM rejections WHERE file = ? AND line BETWEEN ? AND ? AND resolved_at IS NOT NULL"
    known = {(row["line"], row["raw"]) for row in ledger.connection.execute(sql, (file, min(lines), max(lines)))}
    return [each for each in new if (each.line, each.raw) not in known]


def read_row(row: Any) -> RejectedRow:
    """A row of `rejections`."""
    resolved = row["resolved_at"] is not None
    return RejectedRow(row["file"], row["line"], row["reason"], row["raw"], row["at"], resolved)
