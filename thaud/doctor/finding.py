"""What a check is given, and what it yields."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from thaud.config import Settings
from thaud.home import Home
from thaud.ledger import LedgerReader

OnDigest = Callable[[str, int, int], None]  # name of a file, bytes read, all its bytes


class Level(StrEnum):
    """How bad it is. A note asks for nothing; a warning may wait; a problem makes the exit code."""

    NOTE = "note"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found. `name` is its sentence's, `subject` what it is about, `detail` and `n` fill it in.

    `path` is what a repair works on.
    """

    level: Level
    name: str
    subject: str = ""
    detail: str = ""
    n: int = 0
    path: Path | None = None

    @property
    def identity(self) -> tuple[str, str]:
        """What makes two findings the same one, looked at twice."""
        return self.name, self.subject


@dataclass(frozen=True, slots=True)
class Case:
    """What a check looks at. `served`: a daemon works there now; `quick`: take no digests of models."""

    home: Home
    settings: Settings
    ledger: LedgerReader
    served: bool
    quick: bool = False
    on_digest: OnDigest = lambda *_: None


Check = Callable[[Case], Iterator[Finding]]


def note(name: str, subject: str = "", detail: str = "", n: int = 0) -> Finding:
    """Something to know."""
    return Finding(Level.NOTE, name, subject, detail, n)


def warning(name: str, subject: str = "", detail: str = "", n: int = 0, path: Path | None = None) -> Finding:
    """Something that may wait."""
    return Finding(Level.WARNING, name, subject, detail, n, path)


def problem(name: str, subject: str = "", detail: str = "", n: int = 0, path: Path | None = None) -> Finding:
    """Something that is wrong."""
    return Finding(Level.PROBLEM, name, subject, detail, n, path)
