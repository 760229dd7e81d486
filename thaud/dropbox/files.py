"""Which files of the drop-box are to be read. Owns names and kinds of files; refuses to open any."""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from thaud.errors import StorageError

# a.jsonl.1 and a.jsonl.1.gz are what logrotate makes
CANDIDATE = re.compile(r"\.(?:jsonl(?:\.[0-9]+)?(?:\.(?:gz|zst))?|json)\Z", re.IGNORECASE)
PACKED = (".gz", ".zst")
COMPRESSED = (*PACKED, ".bz2", ".xz", ".zip", ".7z", ".lz4", ".br")
NAME_BYTES = 255  # the longest name that Linux's file systems take
UNFINISHED_STARTS = (".", "#", "~$")
UNFINISHED_ENDS = ("~", "#", ".tmp", ".temp", ".swp", ".swx", ".part", ".partial", ".filepart", ".crdownload")


@dataclass(frozen=True, slots=True)
class QueueFile:
    """A file of the drop-box as a scan saw it. `name` is relative to the drop-box.

    `ctime_ns` is the kernel's own time of the last change, which no program can set back.
    """

    name: str
    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


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


def is_packed(name: str) -> bool:
    """Whether the file is compressed: it is unpacked while it is read, and counts as a whole."""
    return name.lower().endswith(PACKED)


def counts_as_whole(name: str) -> bool:
    """Whether nothing of the file counts before it is quiet."""
    return is_document(name) or is_packed(name)


def divided(name: str) -> tuple[str, str]:
    """A name as stem and suffix: `x` and `.jsonl.gz`."""
    found = CANDIDATE.search(name)
    suffix = found[0] if found else Path(name).suffix
    return name.removesuffix(suffix), suffix


def fitted(stem: str, ending: str) -> str:
    """Stem and ending as one name; the stem is cut where a name could not be so long."""
    room = NAME_BYTES - len(os.fsencode(ending))
    return os.fsencode(stem)[:room].decode(errors="ignore") + ending


def as_seen(name: str, status: os.stat_result) -> QueueFile:
    """A file's status under its name."""
    return QueueFile(name, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def judged(entry: os.DirEntry[str]) -> QueueFile | Ignored | None:
    """An entry as a file to read, as one that is not read, or None if it vanished under the scan."""
    try:
        seen = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    if (reason := refusal(entry.name, seen.st_mode)) is not None:
        return Ignored(os.fsencode(entry.name).decode("utf-8", "backslashreplace"), reason)
    return as_seen(entry.name, seen)


def refusal(name: str, mode: int) -> str | None:
    """Why an entry is not read, or None."""
    if stat.S_ISLNK(mode):
        return "it is a symbolic link: put the file itself into the drop-box"
    if stat.S_ISDIR(mode):
        return "it is a folder: put its files directly into the drop-box"
    if not stat.S_ISREG(mode):
        return "it is no regular file: remove it"
    return None if CANDIDATE.search(name) and is_text(name) else wrong_name(name)


def wrong_name(name: str) -> str:
    """Why a name is not read."""
    if not is_text(name):
        return "its name is not valid UTF-8: rename it"
    if name.lower().endswith(COMPRESSED):
        return "it is compressed: unpack it (only .jsonl.gz and .jsonl.zst are read as they are)"
    return "its name ends neither in .jsonl nor in .json: rename it"


def is_text(name: str) -> bool:
    """Whether a name can be stored and shown."""
    return name == os.fsencode(name).decode("utf-8", "replace")
