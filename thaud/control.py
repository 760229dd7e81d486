"""How other processes reach the daemon: a lock that says whether it is there, and a folder of requests.

A request is a JSON file renamed into `data/control/`, so it survives a restart and needs no second protocol. Owns the
lock and the folder; refuses to act on requests (the daemon's).
"""

import fcntl
import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import IO

from thaud.durable import write_durably
from thaud.errors import HomeBusyError, StorageError
from thaud.failpoints import reach
from thaud.home import Home

LOCK_ATTEMPTS, LOCK_PAUSE_S = 5, 0.05


class Request(StrEnum):
    """What can be asked of the daemon."""

    TRAIN = "train"
    RESET = "reset"


@contextmanager
def only_daemon(home: Home) -> Iterator[None]:
    """Be the one daemon of a home while the block runs. Raises HomeBusyError where there is another."""
    with open_lock(home) as handle:
        if not lock(handle):
            handle.seek(0)
            holder = handle.read().strip() or "unknown"
            raise HomeBusyError(
                f"another daemon (process {holder}) works on {home.root}: stop it, or use another --home"
            )
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield


def lock(handle: IO[str]) -> bool:
    """Take the lock, with patience for a `daemon_runs` that looks at it in this very moment."""
    for attempt in range(LOCK_ATTEMPTS):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if attempt + 1 < LOCK_ATTEMPTS:
                time.sleep(LOCK_PAUSE_S)
        else:
            return True
    return False


def open_lock(home: Home) -> IO[str]:
    """The lock file, made where it is missing. Raises StorageError where the folder refuses."""
    try:
        home.data.mkdir(parents=True, exist_ok=True)
        handle = home.lock.open("a+", encoding="ascii")
    except OSError as error:
        raise StorageError(f"cannot write {error.filename}: {error.strerror}; check its owner and mode") from error
    return handle


def daemon_runs(home: Home) -> bool:
    """Whether a daemon holds the home's lock."""
    if not home.lock.exists():
        return False
    with home.lock.open("rb") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def send(home: Home, request: Request) -> Path:
    """Leave a request; it is acted upon now, or when a daemon starts. Raises StorageError where the folder refuses."""
    path = home.control / f"{request}-{uuid.uuid4().hex}.json"
    try:
        home.control.mkdir(parents=True, exist_ok=True)
        write_durably(path, json.dumps({"request": request}).encode(), "request")
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}; check its owner and mode") from error
    return path


def take(home: Home) -> Iterator[Request]:
    """Requests in the folder, each removed after the consumer has acted on it; unknown files are left alone."""
    for path in sorted(home.control.glob("*.json")):
        try:
            request = Request(json.loads(path.read_bytes())["request"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        yield request
        reach("remove.request.before")
        path.unlink(missing_ok=True)
        reach("remove.request.after")
