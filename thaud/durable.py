"""Files that survive a crash: whole or not there. Owns the order of write, fsync, rename and fsync of the folder."""

import os
import shutil
from pathlib import Path

from thaud.failpoints import reach


def write_durably(path: Path, data: bytes, effect: str, *, mode: int | None = None) -> None:
    """Temporary name in the same folder, fsync, rename, fsync the folder: afterwards the file is whole or not there.

    `effect` names its fail-points: one of failpoints.FILES. `mode`: whose it is to read, where the umask does not
    say.
    """
    reach(f"file.{effect}.before")
    temporary = path.with_name(f".{path.name}.tmp")
    if mode is not None:
        temporary.touch(mode)  # while there is nothing in it to be read
    with temporary.open("wb") as sink:
        sink.write(data)
        sink.flush()
        os.fsync(sink.fileno())
    put_in_place(temporary, path, effect)


def put_in_place(temporary: Path, path: Path, effect: str) -> None:
    """Give a file that is written and fsynced its name, and make the name durable."""
    reach(f"file.{effect}.between")
    temporary.replace(path)
    fsync_folder(path.parent)
    reach(f"file.{effect}.after")


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it that are missing, and make their names durable."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        fsync_folder(each.parent)


def fsync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """A file, or a folder with all that is in it; never what a link leads to. May be gone. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
