"""Whether there is room for what is to be written: on the disk, and in memory. Asked before the first byte."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from thaud.errors import ModelError, StorageError
from thaud.steps.train.capacity import ROOT, machine_capacity

HEADERS = 256 << 20  # tokens and merges as Python's objects


def free_bytes(folder: Path) -> int:
    """Of the disk under a folder."""
    return shutil.disk_usage(folder).free


def check_room(files: Sequence[tuple[Path, int]], free_of: Callable[[Path], int] = free_bytes) -> None:
    """Raises StorageError, with the figures, where files of so many bytes would not fit. Their folders are there."""
    disks: dict[int, list[tuple[Path, int]]] = {}
    for path, size in files:
        disks.setdefault(path.parent.stat().st_dev, []).append((path, size))
    for written in disks.values():
        needed, free = sum(size for _, size in written), free_of(written[0][0].parent)
        if needed > free:
            raise StorageError(
                f"no room for {' and '.join(str(path) for path, _ in written)}: it needs {needed / 1e6:,.0f} MB and "
                f"{free / 1e6:,.0f} MB are free there; free {(needed - free) / 1e6:,.0f} MB and start again"
            )


def check_memory(needed: int, root: Path = ROOT) -> None:
    """Raises ModelError, with the figures, where the machine (its files under `root`) has not so many bytes free."""
    free = machine_capacity(root).free
    if needed + HEADERS > free:
        raise ModelError(
            f"the export needs {(needed + HEADERS) / 1e6:,.0f} MB of memory and {free / 1e6:,.0f} MB are free: end "
            "other programs, or set training.threads lower, and start the training again"
        )
