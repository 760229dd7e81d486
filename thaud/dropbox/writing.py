"""What is written around the drop-box: new files into it, rejected lines beside it, trained files out of it.

Owns temporary names, fsync and rename; refuses to write into, or shorten, a file that a user made.
"""

import fcntl
import hashlib
import json
import os
import re
import secrets
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from thaud.dropbox.reading import Position, opened, seen, still_there
from thaud.durable import fsync_folder
from thaud.errors import StorageError
from thaud.failpoints import reach

MAX_QUARANTINE_BYTES = 16 << 20
STEM_BYTES = 200  # of the 255 that a name may have


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A rejected line as people read it in `data/rejected/`. `at`: ISO 8601, UTC."""

    file: str
    line: int
    reason: str
    raw: str
    at: str

    def to_line(self) -> str:
        """One JSON object; `at` comes last, so that all before it tells whether the line is there already."""
        row = {"file": self.file, "line": self.line, "reason": self.reason, "raw": self.raw, "at": self.at}
        return json.dumps(row, ensure_ascii=False) + "\n"


@contextmanager
def storage(what: str) -> Iterator[None]:
    """Translate what the file system refuses into a StorageError that says what was being done."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot {what}: {error.strerror or error}; nothing was lost, try again") from error


def write_examples(queue: Path, lines: Iterable[str], stem: str) -> Path:
    """Put lines into the drop-box as one new file, whole or not at all, and durably. Returns its path.

    `stem` begins the name, so that an `age_3_toddler` in it keeps its meaning. Raises StorageError.
    """
    clean = re.sub(r"[^\w.-]+", "-", stem).strip(".-").encode()[:STEM_BYTES].decode(errors="ignore")
    name = f"{clean or 'examples'}-{secrets.token_hex(8)}.jsonl"
    target, temporary = queue / name, queue / f".{name}.tmp"
    with storage(f"write into the drop-box {queue}"):
        reach("file.queue.before")
        try:
            with temporary.open("x", encoding="utf-8", newline="\n") as file:
                file.writelines(f"{line}\n" for line in lines)
                file.flush()
                os.fsync(file.fileno())
            reach("file.queue.between")
            temporary.rename(target)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        fsync_folder(queue)
        reach("file.queue.after")
    return target


def quarantine_path(rejected: Path, file: str) -> Path:
    """Where the rejected lines of a file are."""
    return rejected / (file if file.lower().endswith(".jsonl") else f"{file}.jsonl")


def append_rejections(rejected: Path, rows: Iterable[Quarantined]) -> None:
    """Add rejected lines to their files in quarantine; one that is there already, by file, line and raw, is left out.

    A file stops growing at 16 MiB: the ledger holds every line, this is the copy for people. Raises StorageError.
    """
    by_file: dict[str, dict[bytes, str]] = {}
    for row in rows:
        line = row.to_line()
        by_file.setdefault(row.file, {})[line_key(line.encode())] = line
    with storage(f"write into {rejected}"):
        reach("append.quarantine.before")
        for file, lines in by_file.items():
            append_missing(quarantine_path(rejected, file), lines)
        reach("append.quarantine.after")


def line_key(line: bytes) -> bytes:
    """What tells quarantined lines apart: all but the time."""
    return hashlib.blake2b(line[: line.rfind(b', "at": ')], digest_size=16).digest()


def append_missing(path: Path, lines: dict[bytes, str]) -> None:
    """Append those lines whose key is not in the file. Half a line, left by a crash, is ended and passed over."""
    with path.open("a+b") as file:
        file.seek(0)
        last = b"\n"
        for last in file:
            lines.pop(line_key(last), None)
        if file.tell() >= MAX_QUARANTINE_BYTES or not lines:
            return
        if not last.endswith(b"\n"):
            file.write(b"\n")
        file.writelines(line.encode() for line in lines.values())


def retire(queue: Path, trained: Path, name: str, position: Position) -> Path | None:
    """Move a file whose examples are all trained out of the drop-box. Returns where it is now.

    None, and the file stays, if it is gone, has changed since `position`, or a program holds it open for writing.
    Raises StorageError where the move itself is refused.
    """
    with storage(f"move {name} from {queue} to {trained}"):
        try:
            with opened(queue / name) as descriptor:
                now = seen(descriptor, name)
                if not position.covers(now) or not still_there(descriptor, now, position) or in_hand(descriptor):
                    return None
                target = free_name(trained, name)
                reach("move.trained.before")
                (queue / name).rename(target)
        except FileNotFoundError:
            if not trained.is_dir():
                raise
            return None
        fsync_folder(trained)
        fsync_folder(queue)
        reach("move.trained.after")
    return target


def in_hand(descriptor: int) -> bool:
    """Whether some program has the file open for writing, as far as the kernel will tell (fcntl(2), leases).

    The signal for a writer who comes while the lease is held is set to one that is ignored by default.
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def free_name(folder: Path, name: str) -> Path:
    """The name in a folder, or where it is taken the first free one of a-2.jsonl, a-3.jsonl, ..."""
    path, number = folder / name, 1
    while os.path.lexists(path):
        number += 1
        path = folder / f"{Path(name).stem}-{number}{Path(name).suffix}"
    return path
