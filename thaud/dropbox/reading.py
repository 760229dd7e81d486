"""One file of the drop-box, read in bounded pieces. Owns positions and lines; refuses to change a user's file.

What is not told by the file system is told by content: a position holds digests of the bytes that it stands on, and
whatever does not match is read again from the start, which the examples' content addresses make harmless.
"""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from thaud.config import Queue
from thaud.domain import Example, Rejection
from thaud.dropbox.files import QueueFile, is_document
from thaud.formats import decode_document, is_object, judge, parse_line, to_raw

DIGESTED_BYTES = 4096
BATCH_LINES = 2_000  # a batch is a transaction: this bounds how long it keeps the loop where lines are short
RAW_BYTES = 1024  # what is kept of a line or a file that is too long to keep
BLANK = b" \t\r\v\f\xef\xbb\xbf"  # a byte order mark alone is a blank line
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
Item = tuple[int, Example | Rejection]


@dataclass(frozen=True, slots=True)
class Position:
    """How far a file has been committed. `device`, `inode`, `size`, `mtime_ns`: the file as it was then.

    `line` counts the line ends before `offset`; `skipping`: the offset is inside a line already rejected as too long.
    The digests are of the first and of the last min(offset, 4096) bytes before the offset.
    """

    device: int
    inode: int
    size: int
    mtime_ns: int
    offset: int = 0
    line: int = 0
    skipping: bool = False
    head_digest: str = ""
    tail_digest: str = ""

    def covers(self, file: QueueFile) -> bool:
        """Whether all of the file as a scan saw it has been read: nothing to open."""
        return self.offset == self.size and self.saw(file)

    def saw(self, file: QueueFile) -> bool:
        """Whether the file looks as it did at this position."""
        seen = (file.device, file.inode, file.size, file.mtime_ns)
        return (self.device, self.inode, self.size, self.mtime_ns) == seen

    def to_json(self) -> str:
        """For the ledger."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Position":
        """Read back what `to_json` wrote."""
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class Batch:
    """What one reading found: commit `items` and `position` in one transaction.

    Line 0 stands for the file as a whole. `waiting_bytes`: the length of an unterminated last line, or of a .json file
    that is not quiet yet. `restarted`: the file no longer held what was committed, so this batch is its first again;
    rejections then repeat, and (file, line, raw) tells them apart.
    """

    items: tuple[Item, ...]
    position: Position
    waiting_bytes: int = 0
    restarted: bool = False

    @property
    def finished(self) -> bool:
        """Whether every byte of the file has been read."""
        return self.position.offset == self.position.size

    @property
    def more(self) -> bool:
        """Whether reading again at once finds more."""
        return not self.finished and not self.waiting_bytes

    @property
    def examples(self) -> tuple[tuple[int, Example], ...]:
        """The items that are examples."""
        return tuple((line, item) for line, item in self.items if isinstance(item, Example))

    @property
    def rejections(self) -> tuple[tuple[int, Rejection], ...]:
        """The items that are not."""
        return tuple((line, item) for line, item in self.items if isinstance(item, Rejection))


@dataclass(frozen=True, slots=True)
class Unread:
    """A file that could not be read now; try it again at the next scan. `gone`: it is no longer there."""

    name: str
    reason: str
    gone: bool = False


def read_batch(
    queue: Path, file: QueueFile, position: Position | None, limits: Queue, *, quiet: bool
) -> Batch | Unread:
    """Read on from a position, at most `limits.batch_bytes` (or one longer line) and 2,000 lines. Never raises.

    `quiet` says that the file was unchanged for `limits.settle_s` when the scan saw it; it holds only while the file
    still looks as it did then. `position` is None where the ledger knows nothing about the file.
    """
    try:
        with opened(queue / file.name) as descriptor:
            now = seen(descriptor, file.name)
            start = resumed(descriptor, now, position)
            read = read_document if is_document(file.name) else read_lines
            batch = read(descriptor, now, start, limits, quiet=quiet and now == file)
            return replace(batch, restarted=position is not None and start is not position)
    except FileNotFoundError:
        return Unread(file.name, "it was removed or renamed before it was read", gone=True)
    except OSError as error:
        why = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        return Unread(file.name, f"cannot read it: {why}; it is tried again at every scan")


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """A regular file's descriptor. Neither follows a link nor waits for a FIFO's writer. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        yield descriptor
    finally:
        os.close(descriptor)


def seen(descriptor: int, name: str) -> QueueFile:
    """An open file as a scan would see it."""
    now = os.fstat(descriptor)
    return QueueFile(name, now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns)


def resumed(descriptor: int, now: QueueFile, position: Position | None) -> Position:
    """The position, if the file still holds what was committed; else the start of the file."""
    if position is None or not still_there(descriptor, now, position):
        return Position(now.device, now.inode, now.size, now.mtime_ns)
    if is_document(now.name) and not position.saw(now):
        return Position(now.device, now.inode, now.size, now.mtime_ns)
    return position


def still_there(descriptor: int, now: QueueFile, position: Position) -> bool:
    """Whether the committed bytes are unchanged, as far as can be told without reading them all.

    A file that was touched without growing was rewritten in place, for all we know.
    """
    if (position.device, position.inode) != (now.device, now.inode) or now.size < position.offset:
        return False
    if now.size == position.size and now.mtime_ns != position.mtime_ns:
        return False
    return digests(descriptor, position.offset) == (position.head_digest, position.tail_digest)


def digests(descriptor: int, offset: int) -> tuple[str, str]:
    """Of the first and of the last 4096 bytes before the offset (fewer where there are fewer)."""
    length = min(offset, DIGESTED_BYTES)
    head, tail = (os.pread(descriptor, length, start) for start in (0, offset - length))
    return (
        hashlib.blake2b(head, digest_size=16).hexdigest(),
        hashlib.blake2b(tail, digest_size=16).hexdigest(),
    )


def position_at(descriptor: int, now: QueueFile, offset: int, line: int, *, skipping: bool = False) -> Position:
    """A position in a file as it is now."""
    identity = (now.device, now.inode, now.size, now.mtime_ns)
    return Position(*identity, offset, line, skipping, *digests(descriptor, offset))


def read_document(descriptor: int, now: QueueFile, start: Position, limits: Queue, *, quiet: bool) -> Batch:
    """A .json file once it is quiet: it is decoded as a whole or not at all. Items are numbered from 1.

    While there are rows left the offset stays 0, and `line` counts the rows that are committed.
    """
    if start.offset == now.size:
        return Batch((), position_at(descriptor, now, now.size, start.line))
    if now.size > limits.batch_bytes:
        reason = f"a .json file of {now.size} bytes is over the limit of {limits.batch_bytes}: write it as .jsonl"
        return refused(descriptor, now, reason)
    if not quiet:
        return Batch((), position_at(descriptor, now, 0, 0), now.size)
    rows = decode_document(os.pread(descriptor, now.size, 0), max_depth=limits.max_depth)
    if isinstance(rows, Rejection):
        return refused(descriptor, now, rows.reason)
    done = start.line
    items = tuple((done + number, judge(row)) for number, row in enumerate(rows[done : done + BATCH_LINES], 1))
    done += len(items)
    return Batch(items, position_at(descriptor, now, now.size if done == len(rows) else 0, done))


def refused(descriptor: int, now: QueueFile, reason: str) -> Batch:
    """A file that is rejected as a whole."""
    raw = to_raw(os.pread(descriptor, RAW_BYTES, 0))
    return Batch(((0, Rejection(reason, raw)),), position_at(descriptor, now, now.size, 0))


def read_lines(descriptor: int, now: QueueFile, start: Position, limits: Queue, *, quiet: bool) -> Batch:
    """The next whole lines of a .jsonl file; the unterminated rest only if the file is quiet and it is an object."""
    if now.size > limits.max_file_bytes and start.offset < now.size:
        return refused(descriptor, now, f"the file is over the limit of {limits.max_file_bytes} bytes: split it")
    want = min(max(limits.batch_bytes, limits.max_line_bytes + 1), now.size - start.offset)
    data = os.pread(descriptor, want, start.offset)
    if start.offset == 0 and data.startswith(UTF16_MARKS):
        return refused(descriptor, now, "the file is UTF-16: save it as UTF-8")
    *lines, rest = data.split(b"\n", BATCH_LINES)
    items, line, consumed = read_whole(lines, start, limits), start.line + len(lines), len(data) - len(rest)
    if b"\n" in rest:
        return Batch(tuple(items), position_at(descriptor, now, start.offset + consumed, line))
    at_end, skipping = start.offset + len(data) == now.size, start.skipping and not lines
    if skipping or len(rest) > limits.max_line_bytes:
        items += [] if skipping else judged(line + 1, rest, limits)
        consumed, skipping = len(data), True
    elif at_end and quiet and counts(rest, limits):
        items += judged(line + 1, rest, limits)
        consumed = len(data)
    after = position_at(descriptor, now, start.offset + consumed, line, skipping=skipping)
    return Batch(tuple(items), after, len(data) - consumed if at_end else 0)


def read_whole(lines: list[bytes], start: Position, limits: Queue) -> list[Item]:
    """Terminated lines; the first may be the end of one that was rejected as too long."""
    first = 1 if start.skipping else 0
    items: list[Item] = []
    for number, raw in enumerate(lines[first:], start.line + first + 1):
        items += judged(number, raw, limits)
    return items


def counts(rest: bytes, limits: Queue) -> bool:
    """Whether an unterminated last line may be taken: a whole object, or nothing but space."""
    return bool(rest) and (not rest.strip(BLANK) or is_object(rest, max_depth=limits.max_depth))


def judged(number: int, raw: bytes, limits: Queue) -> list[Item]:
    """One line as no item (blank) or one."""
    if len(raw) > limits.max_line_bytes:
        reason = f"the line is over the limit of {limits.max_line_bytes} bytes: shorten it or split it"
        return [(number, Rejection(reason, to_raw(raw[:RAW_BYTES])))]
    return [(number, parse_line(raw, max_depth=limits.max_depth))] if raw.strip(BLANK) else []
