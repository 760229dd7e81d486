"""The one jail of the file tools: a folder, and nothing outside it. Owns path safety; refuses to follow any symbolic
link.

A path is walked from the folder's own descriptor, one name at a time, with O_NOFOLLOW at each (the discipline of
openat(2)), so that no link planted before or during the walk leads out. Only regular files are opened, and never so
that opening could block (a FIFO). Hard links into the folder cannot be told from files; making one takes write access
to it.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from thaud.errors import ToolError

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
REASONS = {
    errno.ENOENT: "there is no such file",
    errno.ELOOP: "it is a symbolic link, and those are not followed",
    errno.ENOTDIR: "a part of it is no folder, or is a symbolic link",
    errno.EACCES: "permission denied",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ENXIO: "it is no regular file",
    errno.EISDIR: "it is a folder",
}


class Descriptor(int):
    """A file descriptor that `contextlib.closing` can close."""

    def close(self) -> None:
        """Close it."""
        os.close(self)


@dataclass(frozen=True, slots=True)
class Workspace:
    """The folder that file tools may look into."""

    root: Path

    def parts(self, path: str) -> tuple[str, ...]:
        """The names from the root down to a file; an absolute path counts if it lies below the root.

        Raises ToolError for a path that leads out, or names no file.
        """
        asked = PurePosixPath(path)
        if asked.is_absolute() and asked.is_relative_to(self.root):
            asked = asked.relative_to(self.root)
        if asked.is_absolute() or ".." in asked.parts:
            raise ToolError(f"{path!r} is outside the workspace: name a file inside it, without '..'")
        if not asked.parts or "\0" in path:
            raise ToolError(f"{path!r} names no file")
        return asked.parts

    @contextmanager
    def open(self, path: str) -> Iterator[BinaryIO]:
        """Open a regular file inside the workspace for reading. Raises ToolError naming the path and why not."""
        *folders, name = self.parts(path)
        with ExitStack() as opened:
            try:
                stream = self.descend(opened, folders, name)
            except (OSError, ValueError) as error:
                raise ToolError(f"cannot read {path!r}: {explain(error)}") from error
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise ToolError(f"cannot read {path!r}: it is no regular file")
            yield stream

    def descend(self, opened: ExitStack, folders: list[str], name: str) -> BinaryIO:
        """Walk down and open the last name; every descriptor is closed with `opened`. Raises OSError and ValueError."""
        at = opened.enter_context(closing(Descriptor(os.open(self.root.resolve(strict=True), FOLDER_FLAGS))))
        for folder in folders:
            at = opened.enter_context(closing(Descriptor(os.open(folder, FOLDER_FLAGS, dir_fd=at))))
        descriptor = os.open(name, FILE_FLAGS, dir_fd=at)
        return opened.enter_context(os.fdopen(descriptor, "rb", closefd=True))


def explain(error: OSError | ValueError) -> str:
    """Why a file could not be opened."""
    if isinstance(error, OSError) and error.errno is not None:
        return REASONS.get(error.errno, os.strerror(error.errno).lower())
    return "that is no name of a file"
