"""The record of a conversation: one JSON object a line, written as it happens. Owns the file; refuses to change a line.

Each line has `at` (UTC, ISO 8601) and `event`; further fields belong to the event. A conversation in which nothing
happens leaves no file.
"""

import json
import os
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from thaud.errors import StorageError


class Transcript:
    """An append-only transcript in a folder, which is made where it is missing. `clock` gives an aware time."""

    def __init__(self, folder: Path, clock: Callable[[], datetime]) -> None:
        started = clock().astimezone(UTC)
        self.path = folder / f"{started:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}.jsonl"
        self._clock = clock
        self._stream: TextIO | None = None

    def add(self, event: str, **fields: Any) -> None:
        """Append a line and hand it to the system. Raises StorageError."""
        row = {"at": self._clock().astimezone(UTC).isoformat(timespec="milliseconds"), "event": event, **fields}
        try:
            stream = self._opened()
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
            stream.flush()
        except OSError as error:
            raise StorageError(f"cannot write the transcript {self.path}: {error.strerror}") from error

    def save(self) -> None:
        """See that what was written survives a power cut, and let go of the file. Raises StorageError."""
        stream, self._stream = self._stream, None
        if stream is None:
            return
        try:
            with stream:
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise StorageError(f"cannot write the transcript {self.path}: {error.strerror}") from error

    def _opened(self) -> TextIO:
        if self._stream is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self._stream = os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace")
        return self._stream
