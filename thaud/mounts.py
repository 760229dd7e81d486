"""Which file system a folder lies on, as /proc/self/mountinfo says, and whether another machine may write behind it.

Owns the reading of mount tables; refuses to touch the folders. A table is a parameter, so that any can be handed in.
The format is in proc(5): `36 35 98:0 / /mnt/share rw,noatime master:1 - nfs4 server:/share rw`.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from thaud.errors import StorageError

TABLE = Path("/proc/self/mountinfo")
UNKNOWN = "unknown"
NETWORK = re.compile(
    "nfs4?|cifs|smb3|smbfs|ncpfs|9p|drvfs|virtiofs|vboxsf|vmhgfs|prl_fs|afs|coda|ceph|lustre|glusterfs|beegfs|gpfs|gfs2"
    "|ocfs2|orangefs|pvfs2|panfs|davfs|fuse[.](sshfs|s3fs|rclone|gcsfuse|goofys|mountpoint-s3|glusterfs|ceph|ceph-fuse"
    "|davfs2?|curlftpfs|smbnetfs|httpfs|juicefs|seaweedfs|moosefs|mfs|lizardfs|blobfuse2?|vmhgfs-fuse|onedriver?|nfs"
    "|google-drive-ocamlfuse|gvfsd-fuse|quobyte|weka|cvmfs2)"
)


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of the table: where, what, and on which other mount."""

    number: int
    parent: int
    point: str
    kind: str


def file_system_of(folder: Path, table: str) -> str:
    """The type of the file system that a resolved, absolute path lies on; UNKNOWN where the table does not say.

    Follows the path as the kernel does, from mount to mount: of two at one place the last counts, and one that a later
    mount hides does not, however long its name.
    """
    covering = [mount for mount in mounts_in(table) if is_below(str(folder), mount.point)]
    numbers = {mount.number for mount in covering}
    at = first_of([mount for mount in covering if mount.parent not in numbers or mount.parent == mount.number])
    kind = UNKNOWN
    while at is not None:
        kind, here = at.kind, at.number
        at = first_of([mount for mount in covering if mount.parent == here != mount.number])
    return kind


def first_of(mounts: list[Mount]) -> Mount | None:
    """The mount that a walk down the path meets first; of several at one place the last."""
    return min(reversed(mounts), key=lambda mount: len(mount.point), default=None)


def mounts_in(table: str) -> Iterator[Mount]:
    """Every line that is one."""
    for line in table.splitlines():
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(" "), after.split(" ")
        if len(fields) >= 6 and kinds[0] and fields[0].isdecimal() and fields[1].isdecimal():
            yield Mount(int(fields[0]), int(fields[1]), unescaped(fields[4]), kinds[0])


def unescaped(text: str) -> str:
    """A field of the table with its blanks: the kernel writes them, and backslashes, as three octal digits."""
    raw = re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8) & 0xFF]), os.fsencode(text))
    return os.fsdecode(raw)


def is_below(path: str, point: str) -> bool:
    """Whether a path is a mount point or lies under it."""
    return path == point or path.startswith(f"{point.rstrip('/')}/")


def is_network(kind: str) -> bool:
    """Whether files of this type may change without this kernel knowing, and its locks may not hold."""
    return NETWORK.fullmatch(kind) is not None


def mount_table() -> str:
    """The table of this process; empty where there is none."""
    try:
        return TABLE.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def kind_at(folder: Path, table: str | None = None) -> str:
    """The file system of a folder that need not exist yet. Links are followed, and an automount is woken first."""
    resolved = Path(os.path.realpath(folder))
    resolved.exists()
    return file_system_of(resolved, mount_table() if table is None else table)


def refuse_network(folder: Path, table: str | None = None) -> None:
    """Raise StorageError where a folder that is to hold the ledger lies on a network file system."""
    kind = kind_at(folder, table)
    if is_network(kind):
        raise StorageError(
            f"{folder} lies on a network file system ({kind}), where SQLite's locks and its log do not hold: put the"
            " home on a local disk; only data/training_queue may be a link to the share, or its mount point"
        )
