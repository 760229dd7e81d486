"""What the daemon says of itself while it lives: how it watches, what is paused and why, which settings are its own.

A file of fixed size, allocated at the start and overwritten in place, so that it can be written on a disk that is full.
Whether its daemon lives is the lock's to say (control.py); what is paused, the daemon's.
"""

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from thaud.durable import write_durably
from thaud.errors import StorageError

SIZE = 4096
REASON_BYTES = 450
READS = 3


@dataclass(frozen=True, slots=True)
class Pause:
    """Work that the disk or the ledger refuses. `what`: intake, projections, requests, watching or runs.

    `since` and `next_try` are ISO 8601, UTC; with `no_room` it goes on as soon as there is some.
    """

    what: str
    reason: str
    since: str
    next_try: str
    no_room: bool


@dataclass(frozen=True, slots=True)
class Watching:
    """How the drop-box is watched: `by` events or poll; `every_s` between two scans, `why` it is polled."""

    by: str
    every_s: float
    why: str | None = None


@dataclass(frozen=True, slots=True)
class DaemonState:
    """Everything in the file. `reading` is the file that intake is at, where that takes long."""

    pid: int
    since: str
    auto_train_enabled: bool
    watching: Watching | None = None
    paused: tuple[Pause, ...] = ()
    reading: str | None = None

    def to_bytes(self) -> bytes:
        """JSON, padded to SIZE. Reasons are cut so that it fits."""
        paused = [{**asdict(each), "reason": shortened(each.reason)} for each in self.paused]
        value = {**asdict(self), "paused": paused, "reading": shortened(self.reading or "") or None}
        data = json.dumps(value, ensure_ascii=False, indent=1).encode("utf-8", "replace")
        assert len(data) < SIZE
        return data.ljust(SIZE - 1) + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> "DaemonState":
        """The state in a file. Raises ValueError for anything else."""
        try:
            value: dict[str, Any] = json.loads(data)
            watching = Watching(**value["watching"]) if value["watching"] else None
            paused = tuple(Pause(**each) for each in value["paused"])
            return cls(**{**value, "watching": watching, "paused": paused})
        except (TypeError, KeyError, RecursionError) as error:
            raise ValueError(str(error)) from error


def shortened(text: str) -> str:
    """At most REASON_BYTES of a text as JSON, cut at a character."""
    kept = text
    while len(json.dumps(kept, ensure_ascii=False).encode("utf-8", "replace")) > REASON_BYTES:
        kept = kept[: len(kept) * 3 // 4]
    return kept if kept == text else f"{kept} ..."


class StateFile:
    """The file of a daemon that holds the lock. Never raises: a daemon that cannot say how it is works all the same."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor: int | None = None

    def write(self, state: DaemonState) -> bool:
        """Say something, in one write over what was said before. Returns whether it can be read."""
        data = state.to_bytes()
        try:
            if self.descriptor is None or not self.in_place(self.descriptor):
                self.allocate(data)
            assert self.descriptor is not None
            return os.pwrite(self.descriptor, data, 0) == SIZE
        except OSError:
            return False

    def in_place(self, descriptor: int) -> bool:
        """Whether the file that is open is still the one of that name."""
        with suppress(OSError):
            return os.path.samestat(os.fstat(descriptor), self.path.stat(follow_symlinks=False))
        return False

    def allocate(self, data: bytes) -> None:
        """Open the file of an earlier life, which needs no room, else make one. Raises OSError."""
        self.close()
        if not (self.path.is_file() and not self.path.is_symlink() and self.path.stat().st_size >= SIZE):
            write_durably(self.path, data, "state")
        self.descriptor = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)

    def close(self) -> None:
        """Give the file back; it stays, for the next life."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None


def read_state(path: Path) -> DaemonState | None:
    """What was last said, by a daemon that may be gone. None where nothing can be read.

    Raises StorageError where the file may not be opened.
    """
    for _ in range(READS):  # one that is being overwritten in this very moment
        try:
            return DaemonState.from_bytes(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror}; check its owner and mode") from error
        except ValueError:
            continue
    return None
