"""Walls by Landlock and seccomp, where bubblewrap does not run: no namespaces, the same workspace and runtime.

Owns the rules for the kernel's Landlock and the end of what was started. Landlock allows whole trees: so where a folder
of the workspace holds something that is kept from programs, they can change what else is in it, but make nothing new
directly there. It guards no file's mode, owner, times or existence; the filter answers for the first three, and that
files outside exist can be seen.
"""

import ctypes
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from thaud.errors import ToolError
from tools.outside import Bounds, Finished
from tools.sandbox import aftermath, tree
from tools.sandbox.filters import make_filter
from tools.sandbox.plan import THREADS_PER_PROCESS, Policy, launch, limits
from tools.sandbox.running import Places, Started, given, kill_below, see_through, start
from tools.sandbox.survey import Hold, Survey

NAME = "landlock"
CREATE_RULESET, ASK_VERSION = 444, 1
NETWORK_ABI, SCOPES_ABI, DEVICES_ABI = 4, 6, 5
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
DEVICES = 1 << 6 | 1 << 11  # MAKE_CHAR, MAKE_BLOCK
SOCKETS = 1 << 9
ALL_NAMES = (1 << 15) - 1  # up to TRUNCATE, as of ABI 3
TRUNCATE, IOCTL_DEV = 1 << 14, 1 << 15
BOTH_NET, BOTH_SCOPES = 3, 3  # BIND_TCP and CONNECT_TCP; ABSTRACT_UNIX_SOCKET and SIGNAL
READ = EXECUTE | READ_FILE | READ_DIR
WRITE = ALL_NAMES & ~DEVICES & ~SOCKETS
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE
DEVICE_FILES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
PROC_FILES = ("/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/version", "/proc/filesystems", "/proc/loadavg")
GONE_S = 10.0

Rule = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Landlock:
    """Runs programs behind Landlock's walls; a Sandbox. `abi`: act as on a kernel of that age; None: as it is."""

    policy: Policy
    abi: int | None = None

    @property
    def name(self) -> str:
        """Which walls."""
        return NAME

    def run(self, argv: Sequence[str], *, folder: str = ".", stdin: str = "", bounds: Bounds | None = None) -> Finished:
        """Run a program in a folder of the workspace. Raises ToolError where it cannot be started."""
        bounds = bounds or self.policy.bounds
        abi = enough(kernel_abi() if self.abi is None else self.abi)
        at, before = self.policy.folder(folder), self.policy.look()
        root = self.policy.root
        scratch = Path(tempfile.mkdtemp(prefix="thau-run-"))
        try:
            command = launch(
                self.policy.runtime,
                argv,
                limits(bounds, tree.tasks_of(os.getuid())),
                make_filter(namespaces=False, modes=False, scoped=abi >= SCOPES_ABI),
                supervise=True,
                parent=os.getpid(),
                tasks=THREADS_PER_PROCESS * bounds.processes,
                folder=str(at),
                landlock=self.rules(abi, scratch, before),
            )
            with given(stdin) as file:
                process = start(command, self.policy.environment(str(scratch)), file)
            finished = see_through(Started(process, partial(end, process)), bounds, Places(root, scratch, before))
        finally:
            aftermath.remove(scratch)
        return aftermath.put_right(root, before, finished)

    def rules(self, abi: int, scratch: Path, before: Survey) -> dict[str, Any]:
        """What the kernel is told: what is handled, and what of it is allowed where."""
        policy = self.policy
        paths: list[Rule] = [
            *((str(path.resolve()), READ) for path in policy.readable()),
            *((name, READ_FILE | WRITE_FILE) for name in DEVICE_FILES),
            *((name, READ_FILE) for name in PROC_FILES),
            (str(scratch), WRITE),
            *granted(policy.root, before, ways(before)),
            *((str(path), WRITE) for path in policy.spared()),
        ]
        fitting = [(name, fit(Path(name), rights)) for name, rights in dict(paths).items() if Path(name).exists()]
        names = ALL_NAMES | (IOCTL_DEV if abi >= DEVICES_ABI else 0)
        return {"names": names, "net": BOTH_NET, "scoped": BOTH_SCOPES if abi >= SCOPES_ABI else 0, "paths": fitting}


def kernel_abi() -> int:
    """Which Landlock the kernel has; 0 where it has none."""
    return max(0, int(ctypes.CDLL(None).syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ASK_VERSION)))


def enough(abi: int) -> int:
    """An ABI that controls the network. Raises ToolError for an older one."""
    if abi < NETWORK_ABI:
        had = f"has ABI {abi}" if abi else "has none, or it is turned off"
        raise ToolError(f"this kernel's Landlock {had}; ABI {NETWORK_ABI} (Linux 6.7) is needed to keep networks away")
    return abi


def fit(path: Path, rights: int) -> int:
    """Of rights, those that a file or a folder can have."""
    return rights if path.is_dir() else rights & OF_FILES


def ways(before: Survey) -> dict[Path, int]:
    """The folders on the way to what is held, and what may still be had of each as a whole: its names, unless there is
    a hidden folder below, whose names would be told too; and what its files hold, unless one below is hidden.
    """
    found: dict[Path, int] = {}
    for path, held in before.held.items():
        left = READ if held.hold is Hold.KEPT else 0 if held.folder else READ_DIR
        for folder in path.parents:
            found[folder] = found.get(folder, READ) & left
    return found


def granted(path: Path, before: Survey, on_the_way: dict[Path, int]) -> Iterator[Rule]:
    """All of a folder where nothing in it is held; else of each thing in it what may be had."""
    if (held := before.held.get(path)) is not None:
        if held.hold is Hold.KEPT and held.target is None:
            yield str(path), READ
        return
    if path not in on_the_way:
        yield str(path), WRITE
        return
    if on_the_way[path]:
        yield str(path), on_the_way[path]
    for entry in os.scandir(path):
        if not entry.is_symlink():
            yield from granted(Path(entry.path), before, on_the_way)


def end(process: subprocess.Popen[bytes]) -> None:
    """Have the supervisor end all below it; where it does not in time, do it here."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(GONE_S)
    except subprocess.TimeoutExpired:
        kill_below(process.pid, time.monotonic() + GONE_S)
        process.kill()
        process.wait()
