"""What is written around the drop-box: new files into it, rejected lines beside it.

Owns temporary names, fsync and rename; refuses to write into, or shorten, a file that a user made.
"""

import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from thaud.dropbox.files import NAME_BYTES, fitted
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
    """Where the rejected lines of a file are: `a.jsonl`, `a.jsonl.gz.jsonl`. A name that is too long for that is cut,
    and a digest of it keeps it apart.
    """
    name = file if file.lower().endswith(".jsonl") else f"{file}.jsonl"
    if len(os.fsencode(name)) > NAME_BYTES:
        name = fitted(file, f"-{hashlib.blake2b(os.fsencode(file), digest_size=8).hexdigest()}.jsonl")
    return rejected / name


def append_rejections(rejected: Path, rows: Iterable[Quarantined]) -> None:
    """Add rejected lines to their files in quarantine; one that is there already, by file, line and raw, is left out.

    A file stops growing at 16 MiB: the ledger holds every line, this is the copy for people. Raises StorageError.
    """
    by_file: dict[str, dict[bytes, str]] = {}
    for row in rows:
        line = row.to_line()
        by_file.setdefault(row.file, {})[line_key(line.encode())] = line
    with storage(f"write into {rejected}"):
        rejected.mkdir(exist_ok=True)  # whoever has read it may have removed it whole
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
            if last.rstrip().endswith(b'"}'):  # what a crash cut off within its time is not there
                lines.pop(line_key(last), None)
        if file.tell() >= MAX_QUARANTINE_BYTES or not lines:
            return
        if not last.endswith(b"\n"):
            file.write(b"\n")
        file.writelines(line.encode() for line in lines.values())
