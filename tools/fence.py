"""Which files and folders are closed to tools, told by what they are and not by what they are called. Owns the walk's
knowledge of where it is; refuses to open anything.

A place is closed from a protected one on downwards, and open again from a spared one on. Files and folders are known by
device and inode, so that neither case, mounts nor links give them another name; one that is not there yet is known by
its folder and its name, as the most forgiving file system would compare it.
"""

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from tools.guarded import same_name

Identity = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Fence:
    """What is closed (`protected`, and `missing` as folder and name) and what is open below it (`spared`)."""

    protected: frozenset[Identity]
    missing: frozenset[tuple[Identity, str]]
    spared: frozenset[Identity]

    @classmethod
    def of(cls, protected: tuple[Path, ...], spared: tuple[Path, ...]) -> "Fence":
        """The fence around these paths, as they are now."""
        closed = {path: identity_of(path) for path in protected}
        folders = {path: identity_of(path.parent) for path, found in closed.items() if found is None}
        return cls(
            frozenset(found for found in closed.values() if found),
            frozenset((folder, same_name(path.name)) for path, folder in folders.items() if folder),
            frozenset(found for path in spared if (found := identity_of(path))),
        )

    def at(self, root: Path, descriptor: int) -> "Place":
        """Where a walk begins: an open folder, by its resolved path and its descriptor. Raises OSError."""
        place = Place(self, None, closed=False)
        for folder in reversed((root, *root.parents)):
            place = place.enter(folder.name, folder.stat(), descriptor)
        return place


@dataclass(frozen=True, slots=True)
class Place:
    """A step of a walk: what was entered, its descriptor where it is an open folder, and whether it is closed."""

    fence: Fence
    identity: Identity | None
    closed: bool
    descriptor: int = -1

    def enter(self, name: str, found: os.stat_result | None, descriptor: int = -1) -> "Place":
        """The place of a name in this one; None of what is not there yet."""
        identity = (found.st_dev, found.st_ino) if found else None
        shut = identity in self.fence.protected or (self.identity, same_name(name)) in self.fence.missing
        closed = (self.closed or shut) and identity not in self.fence.spared
        return Place(self.fence, identity, closed, descriptor)

    def admit(self) -> None:
        """Raise PermissionError where it is closed."""
        if self.closed:
            raise PermissionError(errno.EPERM, "protected")


def identity_of(path: Path) -> Identity | None:
    """A file's device and inode, links followed; None where it cannot be looked at."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
