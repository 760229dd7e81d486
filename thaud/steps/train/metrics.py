"""What a training says of itself while it runs, and keeps: loss, speed, memory, what is left.

Owns the running figures, which a checkpoint keeps too, and metrics.jsonl: a JSON line for each optimiser step and a
last one for the end. The file is a record and nothing rests on it: what the disk refuses is said once, and the training
goes on. Refuses to know what is trained.
"""

import errno
import json
import math
import os
import resource
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from thaud.failpoints import reach
from thaud.steps.contract import Emit

if TYPE_CHECKING:
    from thaud.steps.train.loop import Step

FILE = "metrics.jsonl"
RECENT = 50  # steps that speed and what is left are taken from: the first ones compile kernels
SMOOTH = 0.1  # what a step's loss counts in the smoothed one, once there are ten


class Moment(NamedTuple):
    """When a step ended, and what it had."""

    at: float
    tokens: int
    supervised: int


class Tally:
    """What was done so far, by the processes before this one too. `clock`: seconds that only grow."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.steps = self.tokens = self.supervised = 0
        self.first_loss = self.last_loss = self.smoothed_loss = math.nan
        self.clock, self.began, self.earlier, self.earlier_peak = clock, clock(), 0.0, 0
        self.recent: deque[Moment] = deque(maxlen=RECENT + 1)

    def count(self, step: "Step") -> dict[str, Any]:
        """Add a step; returns it as progress for people, with the speed of the last RECENT steps."""
        self.recent.append(Moment(self.clock(), step.tokens, step.supervised))
        self.steps += 1
        self.tokens += step.tokens
        self.supervised += step.supervised
        self.last_loss = step.loss
        self.first_loss = step.loss if self.steps == 1 else self.first_loss
        before = step.loss if self.steps == 1 else self.smoothed_loss
        self.smoothed_loss = before + max(SMOOTH, 1 / self.steps) * (step.loss - before)
        steps, seconds, tokens, supervised = self.lately(step)
        return {
            "done": step.number,
            "total": step.steps,
            "epoch": step.epoch + 1,
            "loss": round(step.loss, 4),
            "smoothed_loss": round(self.smoothed_loss, 4),
            "tokens_per_s": round(tokens / seconds),
            "supervised_tokens_per_s": round(supervised / seconds),
            **self.memory(),
            "eta_s": round(seconds / steps * (step.steps - step.number), 1),
        }

    def lately(self, step: "Step") -> tuple[int, float, int, int]:
        """Steps, seconds, tokens, supervised tokens from the end of the oldest recent step to that of the last one."""
        if len(self.recent) == 1:
            return 1, max(step.seconds, 1e-9), step.tokens, step.supervised
        first, *others = self.recent
        seconds = max(others[-1].at - first.at, 1e-9)
        return len(others), seconds, sum(each.tokens for each in others), sum(each.supervised for each in others)

    def ended(self) -> dict[str, Any]:
        """The figures of the whole training."""
        return {
            "steps": self.steps,
            "tokens": self.tokens,
            "supervised_tokens": self.supervised,
            "seconds": round(self.seconds, 3),
            "first_loss": self.first_loss,
            "last_loss": self.last_loss,
            "tokens_per_s": round(self.tokens / self.seconds),
            "supervised_tokens_per_s": round(self.supervised / self.seconds),
            **self.memory(),
        }

    def memory(self) -> dict[str, int]:
        """The peak of this process, and of its GPU where it uses one, in bytes."""
        device = device_peak_bytes()
        ours = {"peak_memory_bytes": self.peak_memory_bytes}
        return ours if device is None else {**ours, "device_peak_bytes": device}

    @property
    def seconds(self) -> float:
        """What the training took so far."""
        return max(self.earlier + self.clock() - self.began, 1e-9)

    @property
    def peak_memory_bytes(self) -> int:
        """The most memory that this process, or one before it, had resident."""
        return max(self.earlier_peak, peak_memory_bytes())

    def state(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "steps": self.steps,
            "tokens": self.tokens,
            "supervised": self.supervised,
            "first_loss": self.first_loss,
            "last_loss": self.last_loss,
            "smoothed_loss": self.smoothed_loss,
            "seconds": self.seconds,
            "peak_memory_bytes": self.peak_memory_bytes,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, with the time from now."""
        self.steps, self.tokens, self.supervised = state["steps"], state["tokens"], state["supervised"]
        self.first_loss, self.last_loss = state["first_loss"], state["last_loss"]
        self.smoothed_loss = state["smoothed_loss"]
        self.earlier, self.earlier_peak, self.began = state["seconds"], state["peak_memory_bytes"], self.clock()


class Record:
    """metrics.jsonl at `path`. `tell` hears the last line and, once, that the disk refused one; where `writes` is
    False, another process of the same training keeps the file.
    """

    def __init__(self, path: Path, tell: Emit, *, writes: bool = True) -> None:
        self.path, self.tell, self.writes, self.lost = path, tell, writes, 0

    def cut_back(self, steps: int) -> None:
        """Keep the lines of the first `steps` steps, which are not done again; what follows, or is half one, goes."""
        if not self.writes:
            return
        try:
            with self.path.open("ab+") as file:
                file.seek(0)
                file.truncate(sum(map(len, lines_until(file, steps))))
        except OSError as error:
            self.writes = False  # lines of two lives would stand side by side
            self.lose(error)

    def step(self, step: "Step", **more: Any) -> None:
        """Add the line of a step. `rate` is the learning rate, `norm` that of the gradient before it was clipped."""
        figures = {
            "step": step.number,
            "epoch": step.epoch + 1,
            "loss": step.loss,
            "rate": step.rate,
            "norm": step.norm,
            "tokens": step.tokens,
            "supervised_tokens": step.supervised,
            "seconds": step.seconds,
            "tokens_per_s": step.tokens / max(step.seconds, 1e-9),
            "supervised_tokens_per_s": step.supervised / max(step.seconds, 1e-9),
        }
        self.write("step", **figures, **more)

    def end(self, **fields: Any) -> None:
        """Add the last line, and tell it."""
        self.write("end", **fields)
        self.tell("end", **fields)

    def write(self, event: str, **fields: Any) -> None:
        """Add a line; whole or not at all."""
        if not self.writes:
            return
        row = {"event": event, **fields, "at": datetime.now(UTC).isoformat(timespec="milliseconds")}
        try:
            reach("append.metrics.before")
            append(self.path, json.dumps(row).encode() + b"\n")
            reach("append.metrics.after")
        except OSError as error:
            self.lose(error)

    def lose(self, error: OSError) -> None:
        """Say that a line is lost, the first time."""
        self.lost += 1
        if self.lost == 1:
            self.tell("metrics_lost", reason=error.strerror or str(error))


def append(path: Path, line: bytes) -> None:
    """Add a line in one write; of one that does not fit on the disk nothing stays. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        if os.write(descriptor, line) < len(line):
            os.ftruncate(descriptor, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    finally:
        os.close(descriptor)


def lines_until(file: Any, steps: int) -> Iterator[bytes]:
    """The whole lines from the beginning that are of the first `steps` steps."""
    for line in file:
        try:
            row = json.loads(line)
            if not line.endswith(b"\n") or row["event"] != "step" or row["step"] > steps:
                return
        except (ValueError, LookupError, TypeError, RecursionError):
            return
        yield line


def peak_memory_bytes() -> int:
    """The most memory that this process had resident.

    getrusage's figure begins with that of the process which started this one: it is for where there is no /proc.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def device_peak_bytes() -> int | None:
    """The most memory that torch had allocated on the GPU, None where it uses none."""
    import torch  # noqa: PLC0415 - seconds to import

    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
