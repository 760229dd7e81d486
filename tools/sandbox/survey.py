"""What lies in a workspace: how much it takes, and which names in it a program may not touch.

Owns the walk, before, during and after a run; follows no link and opens no file. What cannot be looked into is counted
(`unseen`), since it could hold anything.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

from tools.guarded import GUARDED, SECRET, why_guarded, why_secret

OWN = ".thau"  # what THAU itself puts into a workspace
REFUSED = "refused"
MOST_ENTRIES = 500_000
DEEPEST = 64
BLOCK_BYTES = 512
ENTRY_BYTES = 512  # about what a name and its inode take
NOT_PLAIN = set("~:\\")
NAMED = frozenset(name for name in (*GUARDED, *SECRET, "head") if not name.startswith("."))

Identity = tuple[int, int]


class Hold(StrEnum):
    """What a program may do with a name that it may not write: read it, or not even that."""

    KEPT = "kept"
    HIDDEN = "hidden"


@dataclass(frozen=True, slots=True)
class Held:
    """A name that is held back. `target` is a link's."""

    hold: Hold
    identity: Identity
    folder: bool
    target: str | None = None


@dataclass(slots=True)
class Survey:
    """What was found: bytes on disk, entries, the held paths, and the folders that could not be looked into.

    absent: paths that must not come to be.
    """

    size: int = 0
    entries: int = 0
    unseen: set[Path] = field(default_factory=set)
    held: dict[Path, Held] = field(default_factory=dict)
    absent: list[Path] = field(default_factory=list)

    def add(self, found: os.stat_result) -> None:
        """Count an entry."""
        self.entries += 1
        self.size += found.st_blocks * BLOCK_BYTES + ENTRY_BYTES


def survey(root: Path, *, names: bool = True) -> Survey:
    """Look at everything below a folder; with `names`, at what is held too. What vanishes meanwhile is left out."""
    found = Survey()
    waiting = [(str(root), 0, not names)]
    while waiting and found.entries <= MOST_ENTRIES:
        folder, depth, inside = waiting.pop()
        for entry, status in entries_of(folder, found):
            found.add(status)
            held = None if inside else hold_of(entry, status, folder)
            if held is not None:
                found.held[Path(entry.path)] = held
            if not stat.S_ISDIR(status.st_mode):
                continue
            if depth == DEEPEST:
                found.unseen.add(Path(entry.path))
                continue
            refused = entry.name == REFUSED and Path(folder) == root / OWN
            waiting.append((entry.path, depth + 1, inside or held is not None or refused))
    return found


def entries_of(folder: str, found: Survey) -> Iterator[tuple[os.DirEntry[str], os.stat_result]]:
    """What is in a folder, each with its status."""
    try:
        with os.scandir(folder) as listed:
            for entry in listed:
                try:
                    yield entry, entry.stat(follow_symlinks=False)
                except OSError:
                    continue
    except FileNotFoundError:
        return
    except OSError:
        found.unseen.add(Path(folder))


def hold_of(entry: os.DirEntry[str], status: os.stat_result, folder: str) -> Held | None:
    """Whether a name is held back, and how."""
    hold = hold_by_name(entry.name, folder.rpartition("/")[2])
    if hold is None:
        return None
    target = str(Path(entry.path).readlink()) if stat.S_ISLNK(status.st_mode) else None
    return Held(hold, (status.st_dev, status.st_ino), stat.S_ISDIR(status.st_mode), target)


def hold_by_name(name: str, folder: str) -> Hold | None:
    """What the lists of guarded.py say of a name in a folder; quick for the many names that are nothing special."""
    plain = name.isascii() and name.isprintable() and name[0] != "." and NOT_PLAIN.isdisjoint(name)
    if plain and folder != ".config" and name.lower().rstrip(". ") not in NAMED:
        return None
    return hold_by_lists(name, folder)


@lru_cache(maxsize=4096)
def hold_by_lists(name: str, folder: str) -> Hold | None:
    """The whole comparison. A folder's own name counts only as `.config`, being walked into shows that it is free."""
    names = (folder, name) if folder == ".config" else (name,)
    if why_secret(names):
        return Hold.HIDDEN
    return Hold.KEPT if why_guarded(names) else None
