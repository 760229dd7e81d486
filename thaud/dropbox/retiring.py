"""Trained files out of the drop-box, with a rename, or where that is another file system with a copy.

Owns the order of copy, fsync, rename and unlink, so that a crash leaves the original, or both, never neither, and the
next sweep ends it; refuses to move what changed since it was read, and to judge what is trained.
"""

import errno
import fcntl
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path

from thaud.dropbox.files import QueueFile, as_seen, counts_as_whole, divided, fitted
from thaud.dropbox.position import Position, digests_at, seen, still_there
from thaud.dropbox.reading import opened
from thaud.dropbox.writing import storage
from thaud.durable import fsync_folder
from thaud.failpoints import reach

PIECE_BYTES = 1 << 20
TEMPORARY = ".retire.tmp"


def retire(queue: Path, trained: Path, name: str, position: Position) -> Path | None:
    """Move a file whose examples are all trained out of the drop-box. Returns where it is now.

    A file that an earlier life moved, without the ledger hearing of it, is found where it is. None, and the file stays,
    if it is gone otherwise, has changed since `position`, or a program holds it open for writing.
    Raises StorageError where the move itself is refused.
    """
    with storage(f"move {name} from {queue} to {trained}"):
        try:
            with opened(queue / name) as descriptor:
                now = seen(descriptor, name)
                if not position.covers(now) or not still_there(descriptor, now, position) or in_hand(descriptor):
                    return None
                reach("move.trained.before")
                target = moved(queue / name, descriptor, now, trained)
        except FileNotFoundError:
            if not trained.is_dir():
                raise
            return whereabouts(trained, name, position)
        if target is not None:
            fsync_folder(trained)
            fsync_folder(queue)
            reach("move.trained.after")
    return target


def moved(path: Path, descriptor: int, now: QueueFile, trained: Path) -> Path | None:
    """Rename, or copy to another file system; None where the file changed meanwhile. Raises OSError."""
    target = next(each for each in names_in(trained, now.name) if not os.path.lexists(each))
    try:
        path.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return copied(path, descriptor, now, trained)
    if is_what_was_read(target, now) and not in_hand(descriptor):
        return target
    put_back(target, path)
    return None


def is_what_was_read(moved_to: Path, now: QueueFile) -> bool:
    """Whether nobody wrote to a file, or put another in its place, between the last look and its move."""
    return replace(as_seen(now.name, moved_to.lstat()), ctime_ns=now.ctime_ns) == now


def put_back(moved_to: Path, path: Path) -> Path:
    """Back into the drop-box, under its name, or the next free one where somebody has it by now. Raises OSError."""
    for back in names_in(path.parent, path.name):
        with suppress(FileExistsError):
            back.hardlink_to(moved_to)
            break
    fsync_folder(path.parent)
    moved_to.unlink()
    return back


def written_since(trained: Path, since_ns: int) -> list[str]:
    """Names of trained files that were written since a time of the system's clock. Raises StorageError."""
    with storage(f"look into {trained}"), os.scandir(trained) as entries:
        return [each.name for each in entries if each.stat(follow_symlinks=False).st_mtime_ns >= since_ns]


def reclaim(queue: Path, trained: Path, name: str, moved_to: str, position: Position) -> Path | None:
    """Bring a trained file back into the drop-box that some program went on appending to. Returns where it is now.

    The kernel does not tell us of a program of another user that holds a file open, and a crash may come between a move
    and the look after it. None, and it stays, where it did not grow, is another file, or holds something else.
    Raises StorageError.
    """
    with storage(f"move {moved_to} back from {trained} to {queue}"):
        try:
            with opened(trained / moved_to) as descriptor:
                now = seen(descriptor, name)
                known = (now.device, now.inode) == (position.device, position.inode) and not counts_as_whole(name)
                ends = (position.head_digest, position.tail_digest)
                if not known or now.size <= position.size or digests_at(descriptor, position.offset) != ends:
                    return None
                reach("move.back.before")
                back = put_back(trained / moved_to, queue / name)
                reach("move.back.after")
        except FileNotFoundError:
            return None
    return back


def copied(path: Path, descriptor: int, now: QueueFile, trained: Path) -> Path | None:
    """A whole copy in the folder, durably, then no original. A copy that an earlier life made is not made again."""
    target = next(each for each in names_in(trained, now.name) if not os.path.lexists(each) or same(each, descriptor))
    made = not os.path.lexists(target)
    if made:
        put_copy(descriptor, now, target)
        fsync_folder(trained)
    if is_still(path, now) and not in_hand(descriptor):
        path.unlink()
        return target
    if made:
        target.unlink()
    return None


def put_copy(descriptor: int, now: QueueFile, target: Path) -> None:
    """Copy an open file to a name that is free: temporary name, fsync, rename. Raises OSError."""
    temporary = target.with_name(TEMPORARY)
    try:
        with temporary.open("wb") as sink, os.fdopen(os.dup(descriptor), "rb") as source:
            source.seek(0)
            shutil.copyfileobj(source, sink, PIECE_BYTES)
            sink.flush()
            os.fchmod(sink.fileno(), os.fstat(descriptor).st_mode & 0o777)
            os.utime(sink.fileno(), ns=(now.mtime_ns, now.mtime_ns))
            os.fsync(sink.fileno())
        temporary.rename(target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def same(path: Path, descriptor: int) -> bool:
    """Whether a file holds the same bytes as an open one."""
    try:
        with opened(path) as other:
            if os.fstat(other).st_size != (size := os.fstat(descriptor).st_size):
                return False
            offsets = range(0, size, PIECE_BYTES)
            return all(os.pread(other, PIECE_BYTES, at) == os.pread(descriptor, PIECE_BYTES, at) for at in offsets)
    except OSError:
        return False


def is_still(path: Path, now: QueueFile) -> bool:
    """Whether the name still stands for that file, unchanged."""
    return as_seen(now.name, path.lstat()) == now


def whereabouts(trained: Path, name: str, position: Position) -> Path | None:
    """Where a file is that left the drop-box: the same inode, or (from another file system) the same size and ends."""
    for path in names_in(trained, name):
        if not os.path.lexists(path):
            return None
        with suppress(OSError), opened(path) as descriptor:
            now = os.fstat(descriptor)
            same_inode = (now.st_dev, now.st_ino) == (position.device, position.inode)
            offset = now.st_size if counts_as_whole(name) else position.offset
            known = now.st_size == position.size and (same_inode or now.st_dev != position.device)
            if known and digests_at(descriptor, offset) == (position.head_digest, position.tail_digest):
                return path
    return None


def names_in(folder: Path, name: str) -> Iterator[Path]:
    """The name in a folder, and those after it where it is taken: a-2.jsonl, a-3.jsonl, ..."""
    stem, suffix = divided(name)
    yield folder / name
    yield from (folder / fitted(stem, f"-{number}{suffix}") for number in count(2))


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
