"""Pauses: work that the disk or the ledger refuses is tried again, by the clock or as soon as there is room.

Owns what is paused, since when, when it is tried next, and the telling of it; refuses to do the work (the daemon's).
"""

import asyncio
import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import structlog

from thaud.config import Settings, systemd_environment
from thaud.daemon_state import DaemonState, Pause, StateFile
from thaud.errors import DiskFullError, StorageError
from thaud.home import Home
from thaud.ledger import Ledger, is_older
from thaud.systemd import notify

LOOK_FOR_ROOM_S = 1.0
ROOM_BYTES = 1 << 20
MIGRATION_S = 3600  # systemd would end a start of more than a minute, and the next one would begin again
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Held:
    """A pause with what decides its end: a time of the monotonic clock, or more free bytes than there were."""

    said: Pause
    until: float
    free: int


class Pauses:
    """What is paused now, by name. `on_change` hears of every change."""

    def __init__(self, folder: Path, on_change: Callable[[tuple[Pause, ...]], object]) -> None:
        self.folder = folder
        self.on_change = on_change
        self.held: dict[str, Held] = {}

    @contextmanager
    def around(self, what: str, again_s: float) -> Iterator[None]:
        """Do work that may be refused: a StorageError pauses it for a while, success ends its pause."""
        try:
            yield
        except StorageError as error:
            self.begin(what, error, again_s)
        else:
            self.end(what)

    def begin(self, what: str, error: StorageError, again_s: float) -> None:
        """Hold work back for `again_s` seconds, less where room comes. Logged once for each reason."""
        before, now = self.held.get(what), datetime.now(UTC)
        if before is None or before.said.reason != str(error):
            log.error("paused", what=what, reason=str(error))
        pause = Pause(
            what=what,
            reason=str(error),
            since=before.said.since if before else iso(now),
            next_try=iso(now + timedelta(seconds=again_s)),
            no_room=is_full(error),
        )
        self.held[what] = Held(pause, time.monotonic() + again_s, free_bytes(self.folder))
        self.tell()

    def end(self, what: str) -> None:
        """Let work go on."""
        if (held := self.held.pop(what, None)) is not None:
            log.info("resumed", what=what, paused_since=held.said.since)
            self.tell()

    def tell(self) -> None:
        """Say what is paused."""
        self.on_change(tuple(each.said for each in self.held.values()))

    def due(self, what: str) -> bool:
        """Whether work may be tried: it is not paused, or its time has come, or there is more room than before."""
        held = self.held.get(what)
        if held is None or time.monotonic() >= held.until:
            return True
        return held.said.no_room and free_bytes(self.folder) >= held.free + ROOM_BYTES

    def next_s(self) -> float | None:
        """Seconds until something may be due, None where nothing is paused."""
        if not self.held:
            return None
        at = min(each.until for each in self.held.values()) - time.monotonic()
        looks = any(each.said.no_room for each in self.held.values())
        return max(0.0, min(at, LOOK_FOR_ROOM_S) if looks else at)


def is_full(error: StorageError) -> bool:
    """Whether it was room that was missing, as the system said."""
    cause = error.__cause__
    return isinstance(error, DiskFullError) or (isinstance(cause, OSError) and cause.errno in NO_ROOM)


def free_bytes(folder: Path) -> int:
    """Room for this user; 0 where the file system does not say."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0


def iso(at: datetime) -> str:
    """ISO 8601."""
    return at.isoformat(timespec="seconds")


class Voice:
    """What the daemon says of itself, kept in its state file. One that cannot be written is tried again each time."""

    def __init__(self, home: Home, settings: Settings) -> None:
        now, automatic = iso(datetime.now(UTC)), settings.training.auto_train_enabled
        self.file = StateFile(home.state)
        self.state = DaemonState(os.getpid(), now, auto_train_enabled=automatic)
        self.pauses = Pauses(home.data, lambda paused: self.say(paused=paused))
        self.written = self.file.write(self.state)
        if not self.written:
            log.warning("state_not_written", path=str(home.state))

    def say(self, **changes: Any) -> None:
        """Change fields of the state, and write it where something is new."""
        state = replace(self.state, **changes)
        if state != self.state or not self.written:
            self.state, self.written = state, self.file.write(state)

    def close(self) -> None:
        """Nothing more will be said."""
        self.file.close()


async def open_ledger(home: Home, voice: Voice) -> Ledger:
    """The ledger; where there is no room to open it, as soon as there is. Raises StorageError, HomeTooNewError."""
    if home.ledger.exists() and not os.access(home.ledger, os.W_OK):
        raise StorageError(f"cannot write {home.ledger}: its owner or mode forbids it; chown or chmod it")
    if is_older(home.ledger):
        log.warning("migrating", ledger=str(home.ledger), megabytes=home.ledger.stat().st_size >> 20)
        notify(systemd_environment()[0], f"EXTEND_TIMEOUT_USEC={MIGRATION_S * 10**6}")
    while True:
        try:
            ledger = Ledger.open(home.ledger)
        except StorageError as error:
            if free_bytes(home.data) >= ROOM_BYTES:
                raise
            voice.pauses.begin("intake", DiskFullError(str(error)), LOOK_FOR_ROOM_S)
            notify(systemd_environment()[0], "READY=1")
            await asyncio.sleep(LOOK_FOR_ROOM_S)
        else:
            voice.pauses.end("intake")
            return ledger
