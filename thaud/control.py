"""How other processes reach the daemon: a lock that says whether it is there, and a folder of requests.

A request is a JSON file renamed into `data/control/`, so it survives a restart and needs no second protocol. Owns the
lock and the folder; refuses to act on requests (the daemon's).
"""

import fcntl
import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

from thaud.daemon_state import DaemonState, read_state
from thaud.durable import write_durably
from thaud.errors import HomeBusyError, StorageError
from thaud.failpoints import reach
from thaud.home import Home
from thaud.quarantine import Resolution

LOCK_ATTEMPTS, LOCK_PAUSE_S = 5, 0.05
PID_BYTES = 20


class Request(StrEnum):
    """What can be asked of the daemon."""

    TRAIN = "train"
    RESET = "reset"
    RESOLVE = "resolve"
    SYNC = "sync"
    ROLLBACK = "rollback"
    PRUNE = "prune"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request; RESOLVE names what was corrected, `values` are those that were sent with others: ROLLBACK's `n`, and
    PRUNE's `names`, of the versions that were agreed to.
    """

    request: Request
    resolution: Resolution | None = None
    values: Mapping[str, Any] = field(default_factory=dict)


@contextmanager
def only_daemon(home: Home) -> Iterator[None]:
    """Be the one daemon of a home while the block runs. Raises HomeBusyError where there is another."""
    with open_lock(home) as handle, held_folder(home) as free:
        if not (lock(handle) and free):
            holder = handle.read().strip().decode(errors="replace") or "unknown"
            raise HomeBusyError(
                f"another daemon (process {holder}) works on {home.root}: stop it, or use another --home"
            )
        with suppress(OSError):  # on a full disk the lock holds without a name, and over an old one it is written
            os.pwrite(handle.fileno(), f"{os.getpid()}".ljust(PID_BYTES).encode(), 0)
        yield


@contextmanager
def held_folder(home: Home) -> Iterator[bool]:
    """Lock the data folder as well, because people delete lock files; False where somebody else holds it."""
    descriptor = os.open(home.data, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield lock(descriptor)
    finally:
        os.close(descriptor)


def lock(handle: IO[bytes] | int) -> bool:
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


def open_lock(home: Home) -> IO[bytes]:
    """The lock file, made where it is missing. Raises StorageError where the folder refuses."""
    try:
        home.data.mkdir(parents=True, exist_ok=True)
        return os.fdopen(os.open(home.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+b", buffering=0)
    except OSError as error:
        raise StorageError(f"cannot write {error.filename}: {error.strerror}; check its owner and mode") from error


def make_folders(home: Home) -> None:
    """Make what is missing of a home. Raises StorageError naming a folder that this user cannot make or write into.

    The drop-box may be one that others write and that is only read here.
    """
    for folder in home.folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot make {folder}: {why_not(folder, error)}") from error
        if folder != home.queue and not os.access(folder, os.W_OK | os.X_OK):
            raise StorageError(
                f"cannot write into {folder}: its owner or mode forbids it; see ls -ld {folder}, and chown or chmod it"
            )


def refuse_lost_ledger(home: Home) -> None:
    """Raise StorageError where the ledger is gone and what it knew is there: a new one would begin again, over it."""
    if has_lost_ledger(home):
        raise StorageError(
            f"{home.ledger} is gone or empty, but {home.runs} or {home.versions} is not: restore it from a backup, or"
            " move those two folders away to begin from nothing"
        )


def has_lost_ledger(home: Home) -> bool:
    """Whether there are runs or versions, and no ledger that could know of them."""
    kept = any(folder.is_dir() and any(folder.iterdir()) for folder in (home.runs, home.versions))
    return kept and not (home.ledger.exists() and home.ledger.stat().st_size)


def why_not(folder: Path, error: OSError) -> str:
    """What keeps a folder from being made, and what to do."""
    if folder.is_symlink():
        return f"it is a link to {folder.readlink()}, which is not there; correct the link, or remove it"
    if isinstance(error, FileExistsError):
        return "something that is no folder has its name; move it away"
    return f"{error.strerror}; see df, and check the owner of its parent"


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


def living_state(home: Home) -> DaemonState | None:
    """What the daemon of a home says of itself; None where none runs, or none that has said anything yet.

    One that was killed leaves its last words behind: only those of the process that holds the lock are believed.
    """
    if not daemon_runs(home):
        return None
    state = read_state(home.state)
    return state if state and str(state.pid) == home.lock.read_text("ascii", "replace").strip() else None


def send(home: Home, request: Request, **values: Any) -> Path:
    """Leave a request with its values (JSON); it is acted upon now, or when a daemon starts.

    Raises StorageError where the folder refuses.
    """
    path = home.control / f"{request}-{uuid.uuid4().hex}.json"
    try:
        home.control.mkdir(parents=True, exist_ok=True)
        write_durably(path, json.dumps({"request": request, **values}).encode(), "request")
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}; see df and ls -ld {home.control}") from error
    return path


def read_request(path: Path) -> Asked | None:
    """The request in a file, None where it holds none that this release knows."""
    try:
        if not path.is_file():  # a pipe would be waited for, for ever
            return None
        values = json.loads(path.read_bytes())
        request = Request(values["request"])
        refuse_incomplete(request, values)
        return Asked(request, Resolution.from_json(values) if request is Request.RESOLVE else None, values)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def refuse_incomplete(request: Request, values: Mapping[str, Any]) -> None:
    """Raise LookupError or TypeError where a request lacks what it is about."""
    if request is Request.ROLLBACK and type(values["n"]) is not int:
        raise TypeError(f"{values['n']} is no number of a version")
    if request is Request.PRUNE and not all(isinstance(each, str) for each in list(values["names"])):
        raise TypeError(f"{values['names']} are no names of versions")


def take(home: Home) -> Iterator[Asked]:
    """Requests in the folder, each removed after the consumer has acted on it; unknown files are left alone."""
    for path in oldest_first(home.control):
        if (asked := read_request(path)) is None:
            continue
        yield asked
        withdraw(path)


def withdraw(path: Path) -> None:
    """Remove a request that was acted on, or that is to be acted on no more. Raises StorageError."""
    reach("remove.request.before")
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"cannot remove {path}: {error.strerror}; check the owner of its folder") from error
    reach("remove.request.after")


def oldest_first(folder: Path) -> list[Path]:
    """Requests in the order in which they were asked; one that is withdrawn meanwhile is passed over."""
    asked = []
    for path in folder.glob("*.json"):
        with suppress(OSError):
            asked.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(asked)]


def unreadable(home: Home) -> list[str]:
    """Names of the files in the folder of requests that are none, or none that may be read."""
    return [path.name for path in sorted(home.control.glob("*.json")) if path.exists() and read_request(path) is None]
