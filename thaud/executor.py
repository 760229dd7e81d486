"""Run a step as a child process: spec -> child -> result. A cluster executor would keep the same signature.

Owns the process (its group, its leash, its end) and the parsing of what it says; refuses to know what a step does.
"""

import asyncio
import errno
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from thaud.durable import make_folder, write_durably
from thaud.errors import DiskFullError, StepError
from thaud.failpoints import reach
from thaud.steps.contract import RESULT, SPEC, Spec
from thaud.workdir import end_survivor

LINE_LIMIT = 1 << 20
STDERR = "stderr.log"
LEAST_ROOM_BYTES = 1 << 20
EXIT_POLL_S = 0.05
GRACE_S = 15.0  # for a training to write a checkpoint; service managers give the daemon a minute
LAST_WORDS_S = 5.0  # after its end, for what of its output is still on the way
NO_ROOM = (os.strerror(errno.ENOSPC), "no room for")  # the kernel's words, and the export's before it begins
OnEvent = Callable[[dict[str, Any]], None]
PACKAGE = "thaud.steps"
ResultT = TypeVar("ResultT", bound=Spec)


async def run_step(
    name: str,
    spec: Spec,
    kind: type[ResultT],
    workdir: Path,
    on_event: OnEvent,
    *,
    package: str = PACKAGE,
) -> ResultT:
    """Run `python -m thaud.steps.NAME WORKDIR` to its end and read its result. `package`: where its door is.

    A child of an earlier life that still works here is ended first. Raises StepError with the child's own words, or
    with how it died; DiskFullError where they say that there is no room. Cancelling ends the child's whole group: after
    SIGTERM it has GRACE_S to write a checkpoint, which a training does after its next optimiser step.
    """
    make_folder(workdir)
    await asyncio.to_thread(end_survivor, workdir)
    reach("remove.result.before")
    (workdir / RESULT).unlink(missing_ok=True)
    reach("remove.result.after")
    write_durably(workdir / SPEC, spec.model_dump_json(indent=2).encode(), "spec")
    reach("spawn.step.before")
    with (workdir / STDERR).open("wb") as stderr:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            f"{package}.{name}",
            str(workdir),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            limit=LINE_LIMIT,
            start_new_session=True,
        )
    try:
        reach("spawn.step.after")
        code = await attend(child, on_event)
    finally:
        await end(child)
    return read_result(name, kind, workdir, code)


async def attend(child: asyncio.subprocess.Process, on_event: OnEvent) -> int:
    """Follow a child to its end; its exit status. What it started and left behind ends with it."""
    following, ending = asyncio.create_task(follow(child, on_event)), asyncio.create_task(exited(child))
    try:
        await asyncio.wait({following, ending}, return_when=asyncio.FIRST_COMPLETED)
        if following.done():
            following.result()
        code = await ending
        kill_group(child)
        await asyncio.wait({following}, timeout=LAST_WORDS_S)
        return code
    finally:
        following.cancel()
        ending.cancel()


async def exited(child: asyncio.subprocess.Process) -> int:
    """Exit status of a child. Its own `wait` would wait for all who inherited its output, perhaps for ever."""
    while child.returncode is None:  # noqa: ASYNC110 - asyncio tells nobody else of it
        await asyncio.sleep(EXIT_POLL_S)
    return child.returncode


async def follow(child: asyncio.subprocess.Process, on_event: OnEvent) -> None:
    """Hand each line of progress on; whatever is no JSON object is the libraries' chatter and is dropped."""
    assert child.stdout is not None
    while line := await next_line(child.stdout):
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict):
            on_event(event)


async def next_line(stdout: asyncio.StreamReader) -> bytes:
    """A line of at most LINE_LIMIT, with its end; nothing at the end of the stream. Longer ones are chatter."""
    while True:
        try:
            return await stdout.readline()
        except ValueError:
            continue


async def end(child: asyncio.subprocess.Process, grace_s: float = GRACE_S) -> None:
    """Leave nothing running: SIGTERM to the child, SIGKILL to the group, and wait. Most children die of the first."""
    if child.returncode is None:
        try:
            with suppress(ProcessLookupError):
                child.terminate()
            with suppress(TimeoutError):
                await asyncio.wait_for(exited(child), grace_s)
        finally:
            kill_group(child)
        await exited(child)
    if child.stdin is not None:
        child.stdin.close()


def kill_group(child: asyncio.subprocess.Process) -> None:
    """SIGKILL to a child and all that it started; its number stays theirs as long as one of them lives."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def read_result(name: str, kind: type[ResultT], workdir: Path, code: int) -> ResultT:
    """The result that a finished step left. Raises StepError where it left none or a failure."""
    try:
        result = json.loads((workdir / RESULT).read_bytes())
    except (OSError, ValueError, RecursionError):
        raise failure(f"step {name} died ({how_it_died(code)}): {last_words(workdir)}", workdir) from None
    if not result.pop("ok"):
        raise failure(f"step {name}: {result['error']}", workdir, result.get("errno"))
    return kind.model_validate(result)


def failure(words: str, workdir: Path, number: int | None = None) -> StepError | DiskFullError:
    """What a failed step said, as the error that it is. On a full disk it may have had no room for its words.

    `number`: the system's, where the step had one; libraries keep it to themselves, so that words count too.
    """
    said_full = number in {errno.ENOSPC, errno.EDQUOT} or any(said in words for said in NO_ROOM)
    full = said_full or shutil.disk_usage(workdir).free < LEAST_ROOM_BYTES
    return DiskFullError(words) if full else StepError(words)


def how_it_died(code: int) -> str:
    """An exit status in words."""
    if code == -signal.SIGKILL:
        return "SIGKILL; the kernel does that when memory runs out"
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def last_words(workdir: Path) -> str:
    """Last line of the child's standard error, and where the rest is."""
    path = workdir / STDERR
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"{lines[-1] if lines else 'it said nothing'} (see {path})"
