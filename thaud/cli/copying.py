"""Files of a version on their way out of a home: whole and the same, or not there.

A copy shares no bytes with the original that an editor could change (a reflink is copied on write, a hard link is not
made). Its digest is taken on the way, its name is given last. Refuses to decide what is copied.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from thaud.durable import fsync_folder, put_in_place
from thaud.errors import DiskFullError, StorageError
from thaud.failpoints import reach

FICLONE = 0x40049409  # linux/fs.h: share another file's blocks, copied when either is written
CHUNK_BYTES = 4 << 20

Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A file of a version, the name that its copy gets, and the digest that it has to have."""

    source: Path
    name: str
    sha256: str
    size_bytes: int


def copy_out(file: Outgoing, folder: Path, needed: int, advance: Advance) -> None:
    """Copy one file into a folder. `advance` gets the bytes that are done; `needed`: what this and the next ones take.

    Raises DiskFullError with the figures before the first byte, StorageError where the original is not what it was.
    """
    target = folder / file.name
    temporary = temporary_of(target)
    reach("file.export.before")
    try:
        with file.source.open("rb") as source, temporary.open("w+b") as sink:
            if cloned(source, sink):
                found = digest_of(sink, advance)
            else:
                check_room(folder, needed)
                found = copied(source, sink, advance)
            if found != file.sha256:
                raise StorageError(
                    f"{file.source} is damaged (SHA-256 {found}, it was accepted with {file.sha256}): nothing was"
                    " exported; restore it from a backup, or export another version (`thau versions`)"
                )
            sink.flush()
            os.fsync(sink.fileno())
        put_in_place(temporary, target, "export")
    finally:
        temporary.unlink(missing_ok=True)


def forget(path: Path) -> None:
    """Take away a text that an earlier export left; may be gone. Raises OSError, also where it is a folder."""
    reach("file.export.before")
    path.unlink(missing_ok=True)
    fsync_folder(path.parent)
    reach("file.export.after")


def take_back(folders: Iterable[Path]) -> None:
    """Remove folders that were made for nothing, the deepest first; one that holds something stays."""
    with suppress(OSError):
        for each in folders:
            each.rmdir()


def temporary_of(target: Path) -> Path:
    """The name of a copy while it is made, as durable.py names them."""
    return target.with_name(f".{target.name}.tmp")


def cloned(source: BinaryIO, sink: BinaryIO) -> bool:
    """Whether the file system could share the blocks: Btrfs and XFS can, within one of them."""
    try:
        fcntl.ioctl(sink.fileno(), FICLONE, source.fileno())
    except OSError:
        return False
    return True


def digest_of(file: BinaryIO, advance: Advance) -> str:
    """SHA-256 of a file, from its beginning."""
    digest = hashlib.sha256()
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
        advance(len(chunk))
    return digest.hexdigest()


def copied(source: BinaryIO, sink: BinaryIO, advance: Advance) -> str:
    """Copy a file; SHA-256 of what was written."""
    digest = hashlib.sha256()
    while chunk := source.read(CHUNK_BYTES):
        digest.update(chunk)
        sink.write(chunk)
        advance(len(chunk))
    return digest.hexdigest()


def check_room(folder: Path, needed: int) -> None:
    """Raises DiskFullError where a folder's file system has not that many bytes left."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DiskFullError(
            f"{folder} has {free / 1e6:,.0f} MB left and the export takes {needed / 1e6:,.0f} MB: make room, or choose"
            " a folder on another disk with --to"
        )
