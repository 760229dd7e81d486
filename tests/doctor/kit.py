"""What the tests of the doctor share: looking, mending, and changing a home behind THAU's back."""

import os
import sqlite3
from pathlib import Path
from typing import Any

from thaud.config import Settings
from thaud.control import only_daemon
from thaud.doctor import Finding, Level, examine, mend
from thaud.home import Home

FAMILY = "thau-nano"
OFF: dict[str, Any] = {"serving": {"ollama_enabled": False}}
SETTINGS = Settings(**OFF)
HOUR_S = 3600


def found(home: Home, *, served: bool = False, quick: bool = False) -> dict[str, Finding]:
    """What is found, but for notes, by name."""
    examined = examine(home, SETTINGS, served=served, quick=quick)
    return {each.name: each for one in examined for each in one.findings if each.level is not Level.NOTE}


def fixed(home: Home) -> dict[str, Finding]:
    """What is left after the repairs, none of which may fail."""
    with only_daemon(home):
        done = mend(home, SETTINGS, examine(home, SETTINGS, served=False))
        assert [each for each in done if each.failure] == []
        return found(home)


def spoil(home: Home, sql: str, *values: Any) -> None:
    """Change the ledger behind THAU's back, references and all."""
    connection = sqlite3.connect(home.ledger)
    with connection:
        connection.execute(sql, values)
    connection.close()


def aged(path: Path, seconds: float = 2 * HOUR_S) -> Path:
    """A file that was last written to a while ago."""
    at = path.stat().st_mtime - seconds
    os.utime(path, (at, at))
    return path


def write(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def snapshot_of(home: Home) -> dict[str, bytes]:
    """Every file of a home but the lock and SQLite's own."""
    skip = ("daemon.lock", "-wal", "-shm")
    files = (path for path in home.root.rglob("*") if path.is_file() and not path.name.endswith(skip))
    return {str(path.relative_to(home.root)): path.read_bytes() for path in files}
