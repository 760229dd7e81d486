"""Walls by bubblewrap: mounts, processes, network and users of its own, and a seccomp filter besides.

Owns the command line of `bwrap` and the end of what it started. The root is empty but for what is bound into it: the
runtime read-only, the workspace, a private /tmp; everything else is not there to be reached.
"""

import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from thaud.errors import ToolError
from tools.outside import Bounds, Finished
from tools.sandbox import aftermath, tree
from tools.sandbox.filters import make_filter
from tools.sandbox.plan import Policy, launch, limits
from tools.sandbox.running import Places, Started, given, see_through, start
from tools.sandbox.survey import Held, Hold, Survey
from tools.workspace import Descriptor

NAME = "bubblewrap"
TMP, SHM = Path("/tmp"), Path("/dev/shm")  # noqa: S108 - inside the walls, where they are private
USER_ID = 1000
STUBS = {"/etc/passwd": f"thau:x:{USER_ID}:{USER_ID}::/tmp:/bin/sh\n", "/etc/group": f"thau:x:{USER_ID}:\n"}
APART = ("--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try")
GONE_S = 10.0


@dataclass(frozen=True, slots=True)
class Bubblewrap:
    """Runs programs behind bubblewrap's walls; a Sandbox."""

    policy: Policy

    @property
    def name(self) -> str:
        """Which walls."""
        return NAME

    def run(self, argv: Sequence[str], *, folder: str = ".", stdin: str = "", bounds: Bounds | None = None) -> Finished:
        """Run a program in a folder of the workspace. Raises ToolError where it cannot be started."""
        bounds = bounds or self.policy.bounds
        at, before = self.policy.folder(folder), self.policy.look()
        root = self.policy.root
        scratch = Path(tempfile.mkdtemp(prefix="thau-run-"))
        try:
            with ExitStack() as opened:
                started = self.started(opened, argv, at, scratch, before, stdin, bounds)
                finished = see_through(started, bounds, Places(root, scratch, before))
        finally:
            aftermath.remove(scratch)
        return aftermath.put_right(root, before, finished)

    def started(
        self,
        opened: ExitStack,
        argv: Sequence[str],
        at: Path,
        scratch: Path,
        before: Survey,
        stdin: str,
        bounds: Bounds,
    ) -> Started:
        """Start it; descriptors that only the child needs are closed at once."""
        with ExitStack() as passing:
            told, tell = map(Descriptor, os.pipe())
            opened.enter_context(closing(told))
            passing.enter_context(closing(tell))
            stubs = {path: passing.enter_context(closing(Descriptor(stub(text)))) for path, text in STUBS.items()}
            walls = [find_bwrap(), *APART, "--uid", str(USER_ID), "--gid", str(USER_ID), "--info-fd", str(int(tell))]
            walls += ["--hostname", "thau", "--cap-drop", "ALL", "--new-session", "--die-with-parent"]
            walls += mounts(self.policy, before, scratch, stubs)
            walls += ["--chdir", str(at), "--"]
            command = launch(
                self.policy.runtime,
                argv,
                limits(bounds, tree.tasks_of(os.getuid())),
                # the devices are the system's own: root owns them, and could change their modes for all
                make_filter(namespaces=True, modes=os.getuid() != 0, scoped=True),
            )
            environment = self.policy.environment(str(TMP))
            file = passing.enter_context(given(stdin))
            process = start([*walls, *command], environment, file, pass_fds=(int(tell), *map(int, stubs.values())))
        return Started(process, partial(end, process, first_inside(opened, told)))


def find_bwrap() -> str:
    """Where bwrap is. Raises ToolError."""
    if (found := shutil.which("bwrap")) is None:
        raise ToolError("bubblewrap is not installed: install the package `bubblewrap`")
    return found


def stub(text: str) -> int:
    """A pipe's end to read a small text from."""
    read, write = os.pipe()
    os.write(write, text.encode())
    os.close(write)
    return read


def first_inside(opened: ExitStack, told: int) -> int | None:
    """A descriptor of the first process inside, whose end is the end of all; None where there is none."""
    said = b""
    while chunk := os.read(told, 4096):
        said += chunk
    try:
        return opened.enter_context(closing(Descriptor(os.pidfd_open(int(json.loads(said)["child-pid"])))))
    except (ValueError, KeyError, OSError):
        return None


def end(process: subprocess.Popen[bytes], inside: int | None) -> None:
    """Kill the first process inside; the kernel kills the rest, and it has ended when they have."""
    process.kill()
    if inside is not None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(inside, signal.SIGKILL)
        gone = select.poll()
        gone.register(inside, select.POLLIN)
        gone.poll(1000 * GONE_S)
    process.wait()


def mounts(policy: Policy, before: Survey, scratch: Path, stubs: dict[str, Descriptor]) -> list[str]:
    """What is there, and how: system, devices, private folders, runtime, workspace, what is held; all else sealed."""
    tmp, shm = scratch / "tmp", scratch / "shm"
    tmp.mkdir()
    shm.mkdir()
    line = list(system(policy))
    for name, descriptor in stubs.items():
        line += ["--ro-bind-data", str(int(descriptor)), name]
    line += ["--proc", "/proc", "--dev", "/dev", "--bind", str(tmp), str(TMP), "--bind", str(shm), str(SHM)]
    bound = [("--ro-bind", each) for each in policy.runtime.prefixes] + [("--bind", policy.root)]
    for how, path in sorted(bound, key=lambda pair: len(pair[1].parts)):
        line += [how, str(path), str(path)]
    line += withheld(before, policy.spared(), policy.root)
    for name in ("/proc", "/dev", "/"):
        line += ["--remount-ro", name]
    return line


def system(policy: Policy) -> Iterator[str]:
    """The system's own folders, as they lie: links as links."""
    for path in policy.readable():
        if path in policy.runtime.prefixes:
            continue
        if path.is_symlink() and path.parent == Path("/"):
            yield from ("--symlink", str(path.readlink()), str(path))
        else:
            yield from ("--ro-bind", str(path), str(path))


def withheld(before: Survey, spared: Sequence[Path], root: Path) -> list[str]:
    """Read-only what may be read, empty what may not; what is spared inside lies open again. Links cannot be bound.

    The folders on the way are bound onto themselves: what is mounted upon can be neither moved nor replaced.
    """
    real = {path: held for path, held in before.held.items() if held.target is None}
    shown = [path for path in real if not any(above.hold is Hold.HIDDEN for above in over(path, before))]
    ways = {each for path in shown for each in path.parents if each.is_relative_to(root) and each != root}
    line: list[str] = []
    for path in sorted({*shown, *ways}, key=lambda each: len(each.parts)):
        name = str(path)
        if path not in real:
            line += ["--bind", name, name]
        elif real[path].hold is Hold.KEPT:
            line += ["--ro-bind", name, name]
        elif not real[path].folder:
            line += ["--ro-bind", os.devnull, name]
        else:
            line += ["--perms", "0555", "--tmpfs", name]
            for each in (each for each in spared if each.is_relative_to(path)):
                line += ["--bind", str(each), str(each)]
            line += ["--remount-ro", name]
    return line


def over(path: Path, before: Survey) -> Iterator[Held]:
    """What is held of the folders above a path."""
    return (before.held[each] for each in path.parents if each in before.held)
