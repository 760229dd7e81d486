"""One file of the drop-box, read in bounded pieces. Owns the order of looking and reading; refuses to change a user's
file.

A file is looked at (fstat) before each piece is read, so that whatever changes later looks changed at the next scan.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from thaud.config import Queue
from thaud.domain import Example, Rejection
from thaud.dropbox.compressed import UTF16_MARKS, DamagedError, content
from thaud.dropbox.files import QueueFile, is_document, is_packed
from thaud.dropbox.lines import BATCH_LINES, RAW_BYTES, Item, cut
from thaud.dropbox.position import Cursor, Position, cursor_at, position_at, seen, still_there
from thaud.formats import decode_document, judge, to_raw

RAW_PACKED_BYTES = 32  # of a compressed file, in hex
Quiet = Callable[[QueueFile], bool]


@dataclass(frozen=True, slots=True)
class Batch:
    """What one reading found: commit `items` and `position` in one transaction.

    Line 0 stands for the file as a whole. `waiting_bytes`: the length of an unterminated last line, or of a file that
    counts as a whole and is not quiet yet. `unsettled`: they are to be looked at again once the file is quiet.
    `restarted`: the file no longer held what was committed, so this batch is its first again; rejections then repeat,
    and (file, line, raw) tells them apart. A batch without items gives the caller a chance to let others have a turn.
    """

    items: tuple[Item, ...]
    position: Position
    waiting_bytes: int = 0
    unsettled: bool = False
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


@dataclass(frozen=True, slots=True)
class Source:
    """An open file as it is now."""

    descriptor: int
    now: QueueFile
    limits: Queue
    quiet: bool

    def changed(self) -> bool:
        """Whether it is another one than when it was looked at."""
        return seen(self.descriptor, self.now.name) != self.now


def batches(
    queue: Path, file: QueueFile, position: Position | None, limits: Queue, *, quiet: Quiet
) -> Iterator[Batch | Unread]:
    """Read on from a position to the end, in batches of at most 2,000 items (and one piece of a file). Never raises.

    The file stays open between batches; the caller commits each before it asks for the next. `quiet` says whether a
    file that looks so has been unchanged for `limits.settle_s`. `position` is None where the ledger knows nothing.
    """
    try:
        with opened(queue / file.name) as descriptor:
            yield from read_on(descriptor, file.name, position, limits, quiet)
    except FileNotFoundError:
        yield Unread(file.name, "it was removed or renamed before it was read", gone=True)
    except OSError as error:
        why = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        yield Unread(file.name, f"cannot read it: {why}; it is tried again at every scan")


def read_on(descriptor: int, name: str, position: Position | None, limits: Queue, quiet: Quiet) -> Iterator[Batch]:
    """Look, read a piece, and again, until there is nothing more for now."""
    read = read_document if is_document(name) else read_packed if is_packed(name) else read_lines
    while True:
        now = seen(descriptor, name)
        start = resumed(descriptor, now, position)
        restarted = position is not None and start is not position
        if position is not None and restarted and being_rewritten(now, position) and not quiet(now):
            yield Batch((), position, max(now.size, 1), unsettled=True)
            return
        for batch in read(Source(descriptor, now, limits, quiet(now)), start):
            yield replace(batch, restarted=True) if restarted else batch
            position, restarted, more = batch.position, False, batch.more
        if not more:
            return


def being_rewritten(now: QueueFile, position: Position) -> bool:
    """Whether a file that no longer holds what was committed was overwritten in place, not truncated or replaced.

    Until its writer is done, a line of it may be the beginning of a new one and the end of an old one.
    """
    return (now.device, now.inode) == (position.device, position.inode) and now.size >= position.offset


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


def resumed(descriptor: int, now: QueueFile, position: Position | None) -> Position:
    """The position, if the file still holds what was committed; else the start of the file."""
    if position is not None and still_there(descriptor, now, position):
        return position
    return Position(now.device, now.inode, now.size, now.mtime_ns, ctime_ns=now.ctime_ns)


def read_document(source: Source, start: Position) -> Iterator[Batch]:
    """A .json file once it is quiet: it is decoded as a whole or not at all. Items are numbered from 1.

    While there are rows left, `line` counts those that are committed.
    """
    now, limits = source.now, source.limits
    if now.size > limits.batch_bytes:
        reason = f"a .json file of {now.size} bytes is over the limit of {limits.batch_bytes}: write it as .jsonl"
        yield refused(source, start, reason)
        return
    if start.offset == now.size or not source.quiet:
        yield as_it_is(source, start)
        return
    rows = decode_document(os.pread(source.descriptor, now.size, 0), max_depth=limits.max_depth)
    if isinstance(rows, Rejection):
        yield refused(source, start, rows.reason)
        return
    for done in range(start.line, max(len(rows), start.line + 1), BATCH_LINES):
        some = rows[done : done + BATCH_LINES]
        items = tuple((done + number, judge(row)) for number, row in enumerate(some, 1))
        end = done + len(some)
        yield Batch(items, position_at(source.descriptor, now, now.size if end == len(rows) else 0, end))


def as_it_is(source: Source, start: Position) -> Batch:
    """A file that counts as a whole, and that is done with or waits: nothing of it is taken now."""
    now = source.now
    if start.offset == now.size:
        return Batch((), position_at(source.descriptor, now, now.size, start.line, start.unpacked))
    return Batch((), position_at(source.descriptor, now, 0, 0), now.size, unsettled=True)


def refused(source: Source, start: Position, reason: str) -> Batch:
    """A file that is rejected as a whole, or has been."""
    now, whole = source.now, position_at(source.descriptor, source.now, source.now.size, 0)
    if start.offset == now.size:
        return Batch((), whole)
    raw = to_raw(os.pread(source.descriptor, RAW_BYTES, 0))
    if is_packed(now.name):
        raw = os.pread(source.descriptor, RAW_PACKED_BYTES, 0).hex(" ")
    return Batch(((0, Rejection(reason, raw)),), whole)


def read_packed(source: Source, start: Position) -> Iterator[Batch]:
    """A compressed file once it is quiet: all of it is unpacked once to see that it is sound, then line by line."""
    now, limits = source.now, source.limits
    if now.size > limits.max_file_bytes:
        yield refused(source, start, f"the file is over the limit of {limits.max_file_bytes} bytes: split it")
        return
    if start.offset == now.size or not source.quiet:
        yield as_it_is(source, start)
        return
    try:
        if not start.unpacked:
            for _ in content(source.descriptor, now.name, now.size, limits):
                yield Batch((), position_at(source.descriptor, now, 0, 0))
        yield from read_content(source, start)
    except DamagedError as error:
        yield waits(source) if source.changed() else refused(source, start, str(error))


def waits(source: Source) -> Batch:
    """A compressed file that changed while it was unpacked: it is begun again when it is quiet."""
    now = seen(source.descriptor, source.now.name)
    return Batch((), position_at(source.descriptor, now, 0, 0), max(now.size, 1), unsettled=True)


def read_content(source: Source, start: Position) -> Iterator[Batch]:
    """The lines of a sound compressed file, from those that are not committed. Raises DamagedError."""
    now, limits = source.now, source.limits
    cursor, skip, rest = Cursor(start.unpacked, start.line, start.skipping), start.unpacked, b""
    for piece in content(source.descriptor, now.name, now.size, limits):
        if source.changed():
            yield waits(source)
            return
        rest += piece[skip:]
        skip = max(0, skip - len(piece))
        before = cursor.offset
        for items in cut(cursor, rest, limits, ends=False):
            yield Batch(tuple(items), packed_position(source, cursor))
        rest = rest[cursor.offset - before :]
    last = chain(*cut(cursor, rest + b"\n", limits, ends=True)) if rest else ()
    yield Batch(tuple(last), position_at(source.descriptor, now, now.size, cursor.line, cursor.offset))


def packed_position(source: Source, cursor: Cursor) -> Position:
    """Inside the content of a compressed file."""
    within = position_at(source.descriptor, source.now, 0, cursor.line, cursor.offset)
    return replace(within, skipping=cursor.skipping)


def read_lines(source: Source, start: Position) -> Iterator[Batch]:
    """The next whole lines of a .jsonl file; the unterminated rest only if the file is quiet and it is an object."""
    now, limits = source.now, source.limits
    if now.size > limits.max_file_bytes and start.offset < now.size:
        yield refused(source, start, f"the file is over the limit of {limits.max_file_bytes} bytes: split it")
        return
    want = min(max(limits.batch_bytes, limits.max_line_bytes + 1), now.size - start.offset)
    cursor = cursor_at(source.descriptor, start)
    data = os.pread(source.descriptor, want, start.offset)
    if start.offset == 0 and data.startswith(UTF16_MARKS):
        yield refused(source, start, "the file is UTF-16: save it as UTF-8")
        return
    at_end = start.offset + len(data) == now.size
    for items in cut(cursor, data, limits, ends=at_end and source.quiet):
        used = cursor.offset - start.offset
        left = len(data) - used if at_end and data.find(b"\n", used) < 0 else 0
        yield Batch(tuple(items), cursor.position(now), left, unsettled=left > 0 and not source.quiet)
