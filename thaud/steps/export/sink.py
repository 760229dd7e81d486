"""A file that is written once, front to back, hashed on the way, and on its way to the disk while it is written."""

import ctypes
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from thaud.durable import remove

WRITE_BACK = 32 << 20  # bytes after which the disk is to begin, so that little is left for the end
SYNC_FILE_RANGE_WRITE = 2  # linux/fs.h: begin, and do not wait


class Sink:
    """`take_in` and `write` each see every byte in order, and may be called from a thread each."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.digest = hashlib.sha256()
        self.size = 0
        self._on_its_way = 0

    def append(self, data: bytes) -> None:
        """Hash and write."""
        self.take_in(memoryview(data))
        self.write(memoryview(data))

    def take_in(self, data: memoryview) -> None:
        """Hash."""
        self.digest.update(data)

    def write(self, data: memoryview) -> None:
        """Write. Raises OSError."""
        while data:
            count = os.write(self.descriptor, data)
            data, self.size = data[count:], self.size + count
        if self.size - self._on_its_way >= WRITE_BACK:
            begin_write_back(self.descriptor, self._on_its_way, self.size - self._on_its_way)
            self._on_its_way = self.size


@contextmanager
def open_sink(path: Path) -> Iterator[Sink]:
    """A new file, durable afterwards; removed where anything fails."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        yield Sink(descriptor)
        os.fsync(descriptor)
    except BaseException:
        remove(path)
        raise
    finally:
        os.close(descriptor)


def begin_write_back(descriptor: int, start: int, size: int) -> None:
    """Ask for it where the system can be asked; a hint, so that failing does not matter. See sync_file_range(2)."""
    if call := sync_file_range():
        call(descriptor, start, size, SYNC_FILE_RANGE_WRITE)


@cache
def sync_file_range() -> Any:
    """The C library's, None where it has none."""
    found = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if found is not None:
        found.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    return found
