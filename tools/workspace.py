"""The one jail of the file tools: a folder, and nothing outside it. Owns path safety; refuses to follow any symbolic
link.

A path is walked from the folder's own descriptor, one name at a time, with O_NOFOLLOW at each (the discipline of
openat(2)), so that no link planted before or during the walk leads out. Only regular files are opened, and never so
that opening could block (a FIFO). Protected places (THAU's own home) are told by device and inode, whatever they are
called here, and are neither read nor written; guarded names (guarded.py) are not written.

A file is written under another name, synced and renamed: it is whole or as it was, and a hard link elsewhere keeps what
it had. For reading, hard links cannot be told from files; making one takes write access to the folder.
"""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from thaud.errors import ToolError
from tools.fence import Fence, Place
from tools.guarded import why_guarded, why_secret

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
NEW_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
REASONS = {
    errno.ENOENT: "there is no such file",
    errno.ELOOP: "it is a symbolic link, and those are not followed",
    errno.ENOTDIR: "a part of it is no folder, or is a symbolic link",
    errno.EACCES: "permission denied",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ENXIO: "it is no regular file",
    errno.EISDIR: "it is a folder",
    errno.EPERM: "it is protected",
}
MOST_WRITTEN_BYTES = 1 << 20
MOST_DEPTH = 64
PERMISSIONS = 0o777


class Descriptor(int):
    """A file descriptor that `contextlib.closing` can close."""

    def close(self) -> None:
        """Close it."""
        os.close(self)


@dataclass(frozen=True, slots=True)
class Entry:
    """Something in a folder. `path` is from the workspace on; `kind`: file, folder, link, other, or rest: its folder
    has more names. `size`: bytes of a file, names told beside a rest.
    """

    path: str
    kind: str
    size: int = 0


@dataclass(frozen=True, slots=True)
class Workspace:
    """The folder that file tools may look into and write to.

    protected: files and folders that they leave alone, wherever the root is: THAU's thau.toml and data.
    spared: folders below those that they do not: the home's own workspace.
    most_entries: how many names of one folder are looked at.
    """

    root: Path
    protected: tuple[Path, ...] = ()
    spared: tuple[Path, ...] = ()
    most_entries: int = 10_000

    def parts(self, path: str) -> tuple[str, ...]:
        """The names from the root down to a file; an absolute path counts if it lies below the root.

        Raises ToolError for a path that leads out, or names no file.
        """
        parts = self.folder_parts(path)
        if not parts:
            raise ToolError(f"{path!r} names no file")
        return parts

    def folder_parts(self, path: str) -> tuple[str, ...]:
        """The same for a folder: none for the root itself."""
        asked = PurePosixPath(path)
        if asked.is_absolute() and asked.is_relative_to(self.root):
            asked = asked.relative_to(self.root)
        if asked.is_absolute() or ".." in asked.parts:
            raise ToolError(f"{path!r} is outside the workspace: name a file inside it, without '..'")
        if "\0" in path:
            raise ToolError(f"{path!r} names no file")
        if len(asked.parts) > MOST_DEPTH:
            raise ToolError(f"{path!r} is deeper than {MOST_DEPTH} folders")
        return asked.parts

    @contextmanager
    def open(self, path: str) -> Iterator[BinaryIO]:
        """Open a regular file inside the workspace for reading. Raises ToolError naming the path and why not."""
        *folders, name = self.parts(path)
        if secret := why_secret([*folders, name]):
            raise ToolError(f"cannot read {path!r}: {secret}")
        with ExitStack() as opened:
            with told(f"cannot read {path!r}"):
                place = self._descend(opened, folders)
                descriptor = os.open(name, FILE_FLAGS, dir_fd=place.descriptor)
                stream = opened.enter_context(os.fdopen(descriptor, "rb", closefd=True))
                place.enter(name, os.fstat(descriptor)).admit()
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise ToolError(f"cannot read {path!r}: it is no regular file")
            yield stream

    def write(self, path: str, data: bytes) -> bool:
        """Make or replace a file, and the folders to it; says whether it is new. The mode of an old one is kept.

        Raises ToolError naming the path and why not: guarded or protected, a link, read-only, too long.
        """
        *folders, name = self.parts(path)
        self.refuse(path, len(data))
        with ExitStack() as opened, told(f"cannot write {path!r}"):
            place = self._descend(opened, folders, make=True)
            found = look(name, place.descriptor)
            place.enter(name, found).admit()
            refuse_kind(found)
            replace(place.descriptor, name, data, found)
        return found is None

    def refuse(self, path: str, size: int = 0) -> None:
        """Raise ToolError where a path may not be written, as far as its name and size tell."""
        if guarded := why_guarded(self.parts(path)):
            raise ToolError(f"cannot write {path!r}: {guarded}")
        if size > MOST_WRITTEN_BYTES:
            raise ToolError(f"cannot write {path!r}: {size:,} bytes are more than {MOST_WRITTEN_BYTES:,}")

    def walk(self, path: str = ".", depth: int = 1, unwanted: frozenset[str] = frozenset()) -> Iterator[Entry]:
        """What is in a folder, by name, folders before what is in them; at most `most_entries` of one folder.

        `unwanted` folders, links and protected places are named but not entered. Raises ToolError.
        """
        with ExitStack() as opened:
            names = self.folder_parts(path)
            if secret := why_secret(names):
                raise ToolError(f"cannot list {path!r}: {secret}")
            with told(f"cannot list {path!r}"):
                place = self._descend(opened, list(names))
            yield from walk_from(place, names, depth, unwanted, self.most_entries)

    def _descend(self, opened: ExitStack, folders: list[str], *, make: bool = False) -> Place:
        """Walk down to the last folder; every descriptor is closed with `opened`. Raises OSError and ValueError."""
        root = self.root.resolve(strict=True)
        at = opened.enter_context(closing(Descriptor(os.open(root, FOLDER_FLAGS))))
        place = Fence.of(self.protected, self.spared).at(root, at)
        for folder in folders:
            if make and look(folder, place.descriptor) is None:
                place.enter(folder, None).admit()
                make_folder(folder, place.descriptor)
            at = opened.enter_context(closing(Descriptor(os.open(folder, FOLDER_FLAGS, dir_fd=place.descriptor))))
            place = place.enter(folder, os.fstat(at), at)
        place.admit()
        return place


@contextmanager
def told(attempt: str) -> Iterator[None]:
    """Turn what the system says into a ToolError that says what could not be done."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise ToolError(f"{attempt}: {explain(error)}") from error


def explain(error: OSError | ValueError) -> str:
    """Why a file could not be opened."""
    if isinstance(error, OSError) and error.errno is not None:
        return REASONS.get(error.errno, os.strerror(error.errno).lower())
    return "that is no name of a file"


def look(name: str, folder: int) -> os.stat_result | None:
    """What is there by a name, links not followed; None where there is nothing. Raises OSError."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def refuse_kind(found: os.stat_result | None) -> None:
    """Raise OSError where what is there is no file, or is not to be changed."""
    if found is None:
        return
    if stat.S_ISLNK(found.st_mode):
        raise OSError(errno.ELOOP, "link")
    if stat.S_ISDIR(found.st_mode):
        raise OSError(errno.EISDIR, "folder")
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.ENXIO, "no file")
    if not found.st_mode & 0o222:
        raise OSError(errno.EACCES, "read-only")


def make_folder(name: str, parent: int) -> None:
    """Make a folder and its name durable. Raises OSError; another may have made it meanwhile."""
    with suppress(FileExistsError):
        os.mkdir(name, PERMISSIONS, dir_fd=parent)
        os.fsync(parent)


def replace(folder: int, name: str, data: bytes, found: os.stat_result | None) -> None:
    """Write beside, sync, rename, sync the folder. Raises OSError, and leaves nothing behind then."""
    beside = f".{secrets.token_hex(8)}.tmp"
    descriptor = os.open(beside, NEW_FILE_FLAGS, 0o600 if found else 0o666, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            if found and (found.st_uid, found.st_gid) != (os.geteuid(), os.getegid()):
                with suppress(PermissionError):
                    os.fchown(descriptor, found.st_uid, found.st_gid)
            if found:
                os.fchmod(descriptor, PERMISSIONS & found.st_mode)
            os.fsync(descriptor)
        os.rename(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside, dir_fd=folder)
        raise
    os.fsync(folder)


def walk_from(place: Place, names: tuple[str, ...], depth: int, unwanted: frozenset[str], most: int) -> Iterator[Entry]:
    """The entries below an open folder."""
    with os.scandir(place.descriptor) as found:
        entries = sorted(islice(found, most), key=attrgetter("name"))
        more = next(found, None)
    if more:
        yield Entry("/".join(names) or ".", "rest", most)
    for each in entries:
        entry = describe(each, "/".join((*names, each.name)))
        yield entry
        within = (*names, each.name)
        enters = depth > 1 and entry.kind == "folder" and each.name not in unwanted and not why_secret(within)
        if enters and (below := step_down(place, each.name)):
            with closing(Descriptor(below.descriptor)):
                yield from walk_from(below, (*names, each.name), depth - 1, unwanted, most)


def describe(found: os.DirEntry[str], path: str) -> Entry:
    """What an entry is, without following it; what vanished meanwhile is something other."""
    try:
        if found.is_symlink():
            return Entry(path, "link")
        if found.is_dir(follow_symlinks=False):
            return Entry(path, "folder")
        if found.is_file(follow_symlinks=False):
            return Entry(path, "file", found.stat(follow_symlinks=False).st_size)
    except OSError:
        pass
    return Entry(path, "other")


def step_down(place: Place, name: str) -> Place | None:
    """A folder in an open one, opened; None where it is closed or cannot be entered."""
    try:
        descriptor = os.open(name, FOLDER_FLAGS, dir_fd=place.descriptor)
    except OSError:
        return None
    below = place.enter(name, os.fstat(descriptor), descriptor)
    if below.closed:
        os.close(descriptor)
        return None
    return below
