"""Which files of the drop-box are to be read. Owns names and kinds of files; refuses to open any."""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from thaud.errors import StorageError

CANDIDATE = re.compile(r"\.(?:jsonl(?:\.[0-9]+)?|json)\Z", re.IGNORECASE)  # a.jsonl.1 is what logrotate makes
UNFINISHED_STARTS = (".", "#", "~$")
UNFINISHED_ENDS = ("~", "#", ".tmp", ".temp", ".swp", ".swx", ".part", ".partial", ".filepart", ".crdownload")


@dataclass(frozen=True, slots=True)
class QueueFile:
    """A file of the drop-box as a scan saw it. `name` is relative to the drop-box."""

    name: str
    device: int
    inode: int
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Ignored:
    """Something in the drop-box that will not be read, and the way out. `name` is printable."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Scan:
    """What is in the drop-box now, by name. Unfinished files (dotfiles, `x~`, `x.tmp`, ...) are in neither list."""

    files: tuple[QueueFile, ...]
    ignored: tuple[Ignored, ...]


def scan(queue: Path) -> Scan:
    """List the drop-box. Raises StorageError where the folder itself cannot be listed."""
    found = sorted(looked_at(queue), key=lambda item: item.name)
    return Scan(
        tuple(item for item in found if isinstance(item, QueueFile)),
        tuple(item for item in found if isinstance(item, Ignored)),
    )


def looked_at(queue: Path) -> Iterator[QueueFile | Ignored]:
    """Each finished entry of the drop-box, judged."""
    try:
        with os.scandir(queue) as entries:
            for entry in entries:
                if not is_unfinished(entry.name) and (item := judged(entry)) is not None:
                    yield item
    except FileNotFoundError as error:
        raise StorageError(f"the drop-box {queue} is gone: make the folder again (mkdir -p {queue})") from error
    except OSError as error:
        raise StorageError(f"cannot list the drop-box {queue}: {error.strerror}; see ls -ld {queue}") from error


def is_unfinished(name: str) -> bool:
    """Whether the name is one that editors and copying programs use while they write."""
    return name.startswith(UNFINISHED_STARTS) or name.lower().endswith(UNFINISHED_ENDS)


def is_document(name: str) -> bool:
    """Whether the file counts as a whole (.json) and not line by line."""
    return name.lower().endswith(".json")


def judged(entry: os.DirEntry[str]) -> QueueFile | Ignored | None:
    """An entry as a file to read, as one that is not read, or None if it vanished under the scan."""
    try:
        seen = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    if (reason := refusal(entry.name, seen.st_mode)) is not None:
        return Ignored(os.fsencode(entry.name).decode("utf-8", "backslashreplace"), reason)
    return QueueFile(entry.name, seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns)


def refusal(name: str, mode: int) -> str | None:
    """Why an entry is not read, or None."""
    if stat.S_ISLNK(mode):
        return "it is a symbolic link: put the file itself into the drop-box"
    if stat.S_ISDIR(mode):
        return "it is a folder: put its files directly into the drop-box"
    if not stat.S_ISREG(mode):
        return "it is no regular file: remove it"
    if name != os.fsencode(name).decode("utf-8", "replace"):
        return "its name is not valid UTF-8: rename it"
    if name.lower().endswith((".gz", ".zst", ".bz2", ".xz", ".zip")):
        return "it is compressed: unpack it"
    return None if CANDIDATE.search(name) else "its name ends neither in .jsonl nor in .json: rename it"
