"""Files from elsewhere on their way into the drop-box: judged as the intake will judge them, then copied whole.

The bytes are not changed, so that quarantine names the line that the user sees in an editor.
"""

import errno
import os
import re
import secrets
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from thaud.config import Queue
from thaud.domain import Example
from thaud.dropbox import Unread, batches
from thaud.dropbox.files import CANDIDATE, COMPRESSED, as_seen, divided, fitted
from thaud.dropbox.writing import storage
from thaud.durable import fsync_folder
from thaud.errors import RejectedInputError, StorageError
from thaud.failpoints import reach

KEPT_REJECTIONS = 1000
UNFINISHED = "the last line has no line end and is no whole JSON object: was the file cut off?"
STEM_CHARS = 100
ATTEMPTS = 1000


@dataclass(frozen=True, slots=True)
class Checked:
    """What a file holds. `rejections`: (line, reason) of the first thousand bad lines; line 0 is the whole file."""

    path: Path
    good: int
    bad: int
    rejections: tuple[tuple[int, str], ...]


def check_file(path: Path, limits: Queue) -> Checked:
    """Read all of a file as the intake would. Raises StorageError where it cannot be read."""
    source = resolve_file(path)
    if path.name.lower().endswith(COMPRESSED) and not CANDIDATE.search(path.name):
        remedy = "unpack it, or name it .jsonl.gz or .jsonl.zst if it is that"
        raise RejectedInputError(f"{path} is compressed: {remedy}; nothing was queued")
    good, bad, rejections = 0, 0, list[tuple[int, str]]()
    for batch in batches(source.parent, as_seen(source.name, source.stat()), None, limits, quiet=lambda _: True):
        if isinstance(batch, Unread):
            raise StorageError(f"cannot read {path}: {batch.reason}")
        refused = [(line, item.reason) for line, item in batch.items if not isinstance(item, Example)]
        if batch.waiting_bytes:
            refused.append((batch.position.line + 1, UNFINISHED))
        good, bad = good + len(batch.examples), bad + len(refused)
        rejections += refused[: KEPT_REJECTIONS - len(rejections)]
    return Checked(path, good, bad, tuple(rejections))


def resolve_file(path: Path) -> Path:
    """A regular, readable file, links followed. Raises StorageError with the way out."""
    source = path.expanduser().absolute()
    try:
        source = source.resolve(strict=True)
        if source.is_dir():
            raise StorageError(f"{path} is a folder: name the files in it, e.g. {path}/*.jsonl")
        with source.open("rb"):
            pass
    except OSError as error:
        remedy = "check the name" if error.errno == errno.ENOENT else "check its owner and mode"
        raise StorageError(f"cannot read {path}: {error.strerror}; {remedy}") from error
    return source


def copy_in(queue: Path, path: Path, age: int | None) -> Path:
    """Copy a file into the drop-box under its own name, or the next free one; an age goes into the name.

    Whole or not at all, and durably. Raises StorageError.
    """
    temporary = queue / f".import-{secrets.token_hex(8)}.tmp"
    with storage(f"copy {path} into the drop-box {queue}"):
        reach("file.import.before")
        try:
            with path.expanduser().open("rb") as source, temporary.open("xb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
                sink.flush()
                os.fsync(sink.fileno())
            reach("file.import.between")
            target = settle(temporary, queue, queue_name(path.name, age))
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        fsync_folder(queue)
        reach("file.import.after")
    return target


def queue_name(name: str, age: int | None) -> str:
    """A name that the drop-box reads, with the age in front where there is one."""
    stem, suffix = divided(name)
    if not CANDIDATE.search(name):
        stem, suffix = name, ".jsonl"
    clean = re.sub(r"[^\w.-]+", "-", stem).strip(".-")[:STEM_CHARS] or "examples"
    return f"{clean}{suffix}" if age is None else f"age_{age}_{clean}{suffix}"


def settle(temporary: Path, queue: Path, name: str) -> Path:
    """Give a finished copy its name, or the next free one; never the name of another file. Raises OSError."""
    stem, suffix = divided(name)
    for number in range(1, ATTEMPTS):
        target = queue / (name if number == 1 else fitted(stem, f"-{number}{suffix}"))
        with suppress(FileExistsError):
            target.hardlink_to(temporary)
            return target
    raise OSError(errno.EEXIST, f"{ATTEMPTS} files named {stem}-N{suffix} are there already")
