"""How far a file is committed, and whether it still holds what was committed.

Owns a file's identity. What is not told by the file system is told by content: a position holds digests of the bytes
that it stands on, and whatever does not match is read again from the start, which the examples' content addresses make
harmless. Refuses to know lines.
"""

import hashlib
import json
import os
from dataclasses import dataclass

from thaud.dropbox.files import QueueFile, as_seen, counts_as_whole

DIGESTED_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Position:
    """How far a file has been committed. `device` to `mtime_ns` and `ctime_ns`: the file as it was then.

    `line` counts the line ends before `offset`; `skipping`: the offset is inside a line already rejected as too long.
    The digests are of the first and of the last min(offset, 4096) bytes before the offset. A file that counts as a
    whole stands at offset 0 until all of it is committed, and its digests are of its own ends; `unpacked` counts the
    bytes of its content that are committed. `ctime_ns` is None in what an earlier release wrote.
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
    ctime_ns: int | None = None
    unpacked: int = 0

    def covers(self, file: QueueFile) -> bool:
        """Whether all of the file as a scan saw it has been read: nothing to open."""
        return self.offset == self.size and self.saw(file)

    def saw(self, file: QueueFile) -> bool:
        """Whether the file looks as it did at this position."""
        seen = (file.device, file.inode, file.size, file.mtime_ns)
        return (self.device, self.inode, self.size, self.mtime_ns) == seen and self.ctime_ns in {None, file.ctime_ns}

    def to_json(self) -> str:
        """For the ledger."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def from_json(cls, text: str) -> "Position":
        """Read back what `to_json` wrote."""
        return cls(**json.loads(text))


@dataclass(slots=True)
class Cursor:
    """Where a reading stands in the lines of a file. `head` and `tail`: the first and last 4096 bytes before it."""

    offset: int = 0
    line: int = 0
    skipping: bool = False
    head: bytes = b""
    tail: bytes = b""

    def pass_over(self, data: bytes, consumed: int, lines: int, *, skipping: bool = False) -> None:
        """Move on by so many bytes of `data`, in which so many lines end."""
        if len(self.head) < DIGESTED_BYTES:
            self.head += data[: min(consumed, DIGESTED_BYTES - len(self.head))]
        last = data[max(0, consumed - DIGESTED_BYTES) : consumed]
        self.tail = (self.tail + last)[-DIGESTED_BYTES:]
        self.offset += consumed
        self.line += lines
        self.skipping = skipping

    def position(self, now: QueueFile) -> Position:
        """For the ledger, in a file of lines as it was when these bytes were read."""
        digests = (digest(self.head), digest(self.tail))
        return Position(*identity(now), self.offset, self.line, self.skipping, *digests, now.ctime_ns)


def cursor_at(descriptor: int, position: Position) -> Cursor:
    """A cursor in a file of lines."""
    return Cursor(position.offset, position.line, position.skipping, *ends(descriptor, position.offset))


def position_at(descriptor: int, now: QueueFile, offset: int, line: int, unpacked: int = 0) -> Position:
    """A position in a file that counts as a whole, or that is refused as a whole."""
    head, tail = ends(descriptor, now.size)
    return Position(*identity(now), offset, line, False, digest(head), digest(tail), now.ctime_ns, unpacked)


def identity(now: QueueFile) -> tuple[int, int, int, int]:
    """What `Position` begins with."""
    return now.device, now.inode, now.size, now.mtime_ns


def seen(descriptor: int, name: str) -> QueueFile:
    """An open file as a scan would see it."""
    return as_seen(name, os.fstat(descriptor))


def still_there(descriptor: int, now: QueueFile, position: Position) -> bool:
    """Whether the committed bytes are unchanged, as far as can be told without reading them all.

    A file that was touched without growing was rewritten in place, for all we know.
    """
    if (position.device, position.inode) != (now.device, now.inode) or now.size < position.offset:
        return False
    whole = counts_as_whole(now.name)
    if (whole or now.size == position.size) and not position.saw(now):
        return False
    return digests_at(descriptor, now.size if whole else position.offset) == (
        position.head_digest,
        position.tail_digest,
    )


def digests_at(descriptor: int, offset: int) -> tuple[str, str]:
    """Of the first and of the last 4096 bytes before the offset (fewer where there are fewer)."""
    head, tail = ends(descriptor, offset)
    return digest(head), digest(tail)


def ends(descriptor: int, offset: int) -> tuple[bytes, bytes]:
    """The first and the last 4096 bytes before the offset."""
    length = min(offset, DIGESTED_BYTES)
    return os.pread(descriptor, length, 0), os.pread(descriptor, length, offset - length)


def digest(data: bytes) -> str:
    """16 bytes of BLAKE2b, in hex."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()
