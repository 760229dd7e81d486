"""Named points before and after each effect, where a test can crash the process, break the disk or hold it still.

    THAU_FAILPOINTS="ledger.take_in.before=crash@3,file.progress.between=enospc,file.result.before=wait:/tmp/go"

crash      SIGKILL to itself, as a power cut would come: no `finally`, no flush
enospc     OSError, no space left on device
eio        OSError, input/output error
wait:PATH  make PATH.reached, then go on when PATH exists
@N         the N-th time that the process comes by (default: the first); the point then rests
trace=PATH not a point: every point that is passed is appended to PATH, one name a line, and POINT=ACTION as it goes off

Owns the names and the actions. Off, a point costs a look at one attribute; nothing is armed unless a door (the CLI, a
step) hands the setting over, and importing this module arms nothing.
"""

import errno
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from thaud.errors import ConfigError

COMMITS = (
    "take_in",
    "retire_file",
    "resolve",
    "freeze_run",
    "intend",
    "receive",
    "keep_answers",
    "end_run",
    "accept",
    "promote",
    "move_alias",
    "give_up",
    "set_age",
    "register",
    "note",
    "set_meta",
    "migrate",
)
FILES = (
    "config",
    "queue",
    "import",
    "export",
    "request",
    "state",
    "quarantine",
    "spec",
    "rows",
    "tokens",
    "checkpoint",
    "adapter",
    "gguf",
    "certificate",
    "answers",
    "result",
    "card",
    "progress",
    "trained_examples",
    "proposal",
)
ACTS = (
    "append.quarantine",
    "append.progress",
    "append.metrics",
    "move.trained",
    "move.back",
    "move.gguf",
    "move.stranger",
    "discard.gguf",
    "prune.gguf",
    "remove.request",
    "remove.result",
    "remove.quarantine",
    "remove.checkpoint",
    "remove.proposal",
    "clear.workdir",
    "sweep.leftover",
    "spawn.step",
    "end.step",
    "ollama.push",
    "ollama.create",
    "ollama.copy",
    "ollama.delete",
    "ollama.unload",
)
POINTS: tuple[str, ...] = (
    *(f"ledger.{name}.{when}" for name in COMMITS for when in ("before", "after")),  # before, after COMMIT
    *(f"file.{name}.{when}" for name in FILES for when in ("before", "between", "after")),  # between fsync and rename
    *(f"{name}.{when}" for name in ACTS for when in ("before", "after")),
)
SETTING = "THAU_FAILPOINTS"
POLL_S = 0.01


@dataclass(slots=True)
class Charge:
    """What happens at a point, when it is passed for the `nth` time from now."""

    action: str
    nth: int
    gate: Path | None = None


@dataclass(slots=True)
class Failpoints:
    """The points that are armed in this process."""

    charges: dict[str, Charge] = field(default_factory=dict)
    trace: Path | None = None
    on: bool = False

    def arm(self, setting: str) -> None:
        """Arm what a setting names. Raises ConfigError for one that names nothing."""
        for entry in filter(None, (part.strip() for part in setting.split(","))):
            point, _, what = entry.partition("=")
            if point == "trace":
                self.trace = Path(what)
            else:
                self.charges[checked(point)] = charge(entry, what)
        self.on = bool(self.charges or self.trace)

    def pass_by(self, point: str) -> None:
        """A point is reached while something is armed. Raises OSError where that is what is asked for."""
        if self.trace is not None:
            append_line(self.trace, point)
        due = self.charges.get(point)
        if due is None:
            return
        due.nth -= 1
        if due.nth == 0:
            del self.charges[point]
            if self.trace is not None:
                append_line(self.trace, f"{point}={due.action}")
            set_off(point, due)


FAILPOINTS = Failpoints()  # of this process, as signal handlers are


def reach(point: str) -> None:
    """Pass a point. Raises OSError where it is armed so; as a rule does nothing."""
    if FAILPOINTS.on:
        FAILPOINTS.pass_by(point)


def checked(point: str) -> str:
    """A name that is one. Raises ConfigError."""
    if point not in POINTS:
        raise ConfigError(f"THAU_FAILPOINTS names {point!r}: there is no such point (thaud/failpoints.py lists them)")
    return point


def charge(entry: str, what: str) -> Charge:
    """`crash`, `enospc@2`, `wait:/tmp/go`. Raises ConfigError."""
    action, _, nth = what.partition("@")
    action, _, gate = action.partition(":")
    times = int(nth) if nth.isdecimal() else 0 if nth else 1
    if action not in {"crash", "enospc", "eio", "wait"} or times < 1 or (action == "wait") != bool(gate):
        raise ConfigError(f"THAU_FAILPOINTS has {entry!r}: use POINT=crash, enospc, eio or wait:PATH, and @N for later")
    return Charge(action, times, Path(gate) if gate else None)


def set_off(point: str, due: Charge) -> None:
    """Do what the point is armed for."""
    if due.action == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    elif due.gate is not None:
        due.gate.with_name(f"{due.gate.name}.reached").touch()
        while not due.gate.exists():
            time.sleep(POLL_S)
    else:
        number = errno.ENOSPC if due.action == "enospc" else errno.EIO
        raise OSError(number, os.strerror(number), point)


def append_line(path: Path, line: str) -> None:
    """One short write, so that lines of several processes stay whole."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)
