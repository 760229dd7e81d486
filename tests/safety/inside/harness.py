"""Runs probes where it is told to, and says of each whether it got through.

A probe is a function that tries to do what walls should prevent, with `P` as its place. It got through if it returns
something true; an error, or no answer within five seconds, is the wall. Each runs in a process of its own. What a probe
changed outside is judged from outside besides. All of inside/ is one program: its files are joined and sent.
"""

import ctypes
import json
import os
import select
import signal
import sys
from collections.abc import Callable
from typing import Any

P: dict[str, Any] = {}
PROBES: dict[str, Callable[[], object]] = {}
LONGEST_S = 5.0
libc = ctypes.CDLL(None, use_errno=True)


def probe(function: Callable[[], object]) -> Callable[[], object]:
    """Have a function among the probes."""
    PROBES[function.__name__] = function
    return function


def call(number: int, *arguments: object) -> int:
    """A system call by its number on x86-64. Raises OSError."""
    wide = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result = int(libc.syscall(number, *wide))
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return result


def secret(path: str) -> bool:
    """Whether a file can be read, and is what lies outside."""
    with open(path) as file:
        return "SECRET" in file.read()


def own(name: str) -> str:
    """A probe's own folder outside, with a file `f`."""
    return os.path.join(P["outside"], name)


def poke(path: str) -> bool:
    """Append to a file; whether it took is judged from outside."""
    with open(path, "a") as file:
        file.write("poked")
    return True


def part(name: str, path: str) -> str:
    """A path in a probe's own part of the workspace."""
    return f"parts/{name}/{path}"


def tried(name: str) -> list[object]:
    """[whether it got through, what it said] of one probe, in a process of its own."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said = [bool(PROBES[name]()), ""]
        except BaseException as error:  # noqa: BLE001 - anything is the wall
            said = [False, f"{type(error).__name__}: {error}"[:120]]
        os.write(write, json.dumps(said).encode())
        os._exit(0)
    os.close(write)
    answer = os.read(read, 4096) if select.select([read], [], [], LONGEST_S)[0] else b""
    os.close(read)
    try:
        os.kill(child, signal.SIGKILL)
    except OSError:
        pass
    os.waitpid(child, 0)
    return json.loads(answer) if answer else [False, "no answer"]


def try_all() -> None:
    """Every probe, and what came of it, as one line of JSON each."""
    for name in list(PROBES):
        sys.stdout.write(json.dumps([name, *tried(name)]) + "\n")
        sys.stdout.flush()
