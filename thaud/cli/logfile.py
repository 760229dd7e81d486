"""The service log as `thau logs` reads it: the lines that are there, then those that come, through rotations."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Self

POLL_S = 0.25


class LogFile:
    """A log that may not be there yet. A context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: BinaryIO | None = path.open("rb") if path.exists() else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self.file is not None:
            self.file.close()

    def lines(self) -> Iterator[bytes]:
        """What is there, from where the last reading ended."""
        yield from self.file or ()

    def grow(self) -> Iterator[bytes]:
        """Whole lines as they are appended. Never ends by itself."""
        while True:
            line = self.file.readline() if self.file else b""
            if line.endswith(b"\n"):
                yield line
            elif self.file and line:
                self.file.seek(-len(line), os.SEEK_CUR)
                time.sleep(POLL_S)
            elif self.was_rotated():
                self.close()
                self.file = self.path.open("rb")
            else:
                time.sleep(POLL_S)

    def was_rotated(self) -> bool:
        """Whether the name stands for another file than the one that is open."""
        if not self.path.exists():
            return False
        return self.file is None or not os.path.samestat(os.fstat(self.file.fileno()), self.path.stat())
