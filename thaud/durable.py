"""Files that survive a crash: whole or not there. Owns the order of write, fsync, rename and fsync of the folder."""

import os
from pathlib import Path


def write_durably(path: Path, data: bytes) -> None:
    """Temporary name in the same folder, fsync, rename, fsync the folder: afterwards the file is whole or not there."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as sink:
        sink.write(data)
        sink.flush()
        os.fsync(sink.fileno())
    temporary.replace(path)
    fsync_folder(path.parent)


def fsync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
