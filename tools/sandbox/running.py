"""One run of a program from its start to its end: reads what it writes, keeps it to its bounds, leaves nothing behind.

Owns the loop, the bounds and what is said of them. How a program is started and ended is the walls' (Started). Whatever
ends the loop - the program, a bound, Ctrl-C - everything that came of the program is ended too.
"""

import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from thaud.errors import ToolError
from tools.outside import Bounds, Finished
from tools.sandbox import tree
from tools.sandbox.output import Output
from tools.sandbox.plan import THREADS_PER_PROCESS
from tools.sandbox.survey import Survey, survey

TICK_S = 0.05
LAST_OUTPUT_S = 0.2
CHUNK_BYTES = 1 << 16
SLOWER = 5.0  # a look at the disk is taken after this many times as long as the last took
LOOK_S = 0.1
OWN_PROCESSES = 2  # of the walls themselves
SIGNALLED, LAST_SIGNAL = 128, 64


@dataclass(frozen=True, slots=True)
class Started:
    """A program behind walls. `end` kills all that came of it and waits until it is gone; twice does no harm."""

    process: subprocess.Popen[bytes]
    end: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Places:
    """Where a program may write, and what lay there before."""

    root: Path
    scratch: Path
    before: Survey


def start(
    argv: Sequence[str], environment: Mapping[str, str], stdin: IO[bytes], **more: object
) -> subprocess.Popen[bytes]:
    """Start a process with its output in one pipe, in a session of its own. Raises ToolError where it cannot be."""
    try:
        return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
            list(argv),
            env=dict(environment),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **more,
        )
    except (OSError, ValueError) as error:
        raise ToolError(f"cannot start {argv[0]!r}: {error}") from error


def given(stdin: str) -> IO[bytes]:
    """What a program reads, as a file without a name: no pipe, so that nothing waits for anything."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by who starts the program
    file.write(stdin.encode("utf-8", errors="surrogateescape"))
    file.seek(0)
    return file


def see_through(started: Started, bounds: Bounds, places: Places) -> Finished:
    """Follow a program to its end. Raises KeyboardInterrupt where the user ends it; nothing is left then either."""
    began = time.monotonic()
    output = Output(places.root, bounds.output_bytes)
    watch = Watch(started.process.pid, bounds, places, began)
    assert started.process.stdout is not None
    with closing(output), started.process.stdout:
        try:
            stopped = follow(started.process, watch, output)
        finally:
            started.end()
        drain(started.process, output)
        code = exit_code(started.process.wait(), stopped)
        seconds = time.monotonic() - began
    return Finished(code, output.text(), seconds, stopped, output.rest)


def exit_code(code: int, stopped: str | None) -> int:
    """A program's own exit code; the walls tell a signal as a shell does."""
    if stopped:
        return -signal.SIGKILL
    return SIGNALLED - code if SIGNALLED < code <= SIGNALLED + LAST_SIGNAL else code


def follow(process: subprocess.Popen[bytes], watch: "Watch", output: Output) -> str | None:
    """Read until the program ends or a bound is met; which one."""
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    while process.poll() is None:
        read_some(process.stdout.fileno(), TICK_S, output)
        if stopped := watch.look(output.size):
            return stopped
    return None


def read_some(pipe: int, timeout_s: float, output: Output) -> bool:
    """Wait for output and take it; whether there was some."""
    waiting = select.poll()  # select() knows no descriptor above 1,023
    waiting.register(pipe, select.POLLIN)
    if not waiting.poll(1000 * timeout_s):
        return False
    try:
        chunk = os.read(pipe, CHUNK_BYTES)
    except BlockingIOError:
        return False
    output.add(chunk)
    if not chunk:
        time.sleep(timeout_s)  # it closed its output and goes on
    return bool(chunk)


def drain(process: subprocess.Popen[bytes], output: Output) -> None:
    """What the pipe still holds when all have gone."""
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    until = time.monotonic() + LAST_OUTPUT_S
    while time.monotonic() < until and read_some(process.stdout.fileno(), 0, output):
        continue


@dataclass(slots=True)
class Watch:
    """Looks whether a program keeps to its bounds."""

    pid: int
    bounds: Bounds
    places: Places
    began: float
    next_look: float = 0.0
    next_disk: float = field(default=0.0)

    def look(self, written: int) -> str | None:
        """The word for the bound that is met, or None. `written`: bytes of output so far."""
        now = time.monotonic()
        if now - self.began > self.bounds.wall_s:
            return "time"
        if written > self.bounds.file_bytes:
            return "output"
        if now < self.next_look:
            return None
        processes = tree.below(self.pid, tree.read_processes())
        met = self.of_processes(processes) or self.of_disk(processes, now)
        self.next_look = max(now + TICK_S, time.monotonic() + SLOWER * (time.monotonic() - now) / 2)
        return met

    def of_processes(self, processes: list[tree.Process]) -> str | None:
        """Too many, too much memory, too much time."""
        bounds = self.bounds
        threads = sum(each.threads for each in processes)
        if len(processes) > bounds.processes + OWN_PROCESSES or threads > THREADS_PER_PROCESS * bounds.processes:
            return "processes"
        resident = sum(each.resident for each in processes)
        if resident > bounds.memory_bytes and tree.memory(processes) > bounds.memory_bytes:
            return "memory"
        return "cpu" if sum(each.cpu_s for each in processes) > bounds.cpu_s else None

    def of_disk(self, processes: list[tree.Process], now: float) -> str | None:
        """Too much written, or written where it cannot be seen."""
        if now < self.next_disk:
            return None
        root, scratch = (survey(each, names=False) for each in (self.places.root, self.places.scratch))
        grown = root.size + scratch.size + tree.nameless(processes) - self.places.before.size
        took_s = time.monotonic() - now
        self.next_disk = now + max(LOOK_S, SLOWER * took_s)
        hidden = (root.unseen | scratch.unseen) - self.places.before.unseen
        return "disk" if hidden or grown > self.bounds.disk_bytes else None


def kill_below(pid: int, until: float) -> None:
    """Kill what descends from a process, again and again until there is nothing or the time is over."""
    while (processes := tree.below(pid, tree.read_processes())) and time.monotonic() < until:
        for process in processes:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process.pid, signal.SIGKILL)
