"""What a program behind walls may see, write and use, as plain data. Owns the decisions common to all walls: the
runtime, the environment, what is held back; refuses a workspace that would give THAU itself away.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thaud.errors import ToolError
from tools.fence import Fence
from tools.outside import Bounds
from tools.sandbox.survey import MOST_ENTRIES, Held, Hold, Survey, survey
from tools.workspace import Descriptor, Workspace

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store")
ETC = (
    *("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime", "timezone", "mime.types"),
    *("python3", "python3.11", "python3.12", "python3.13", "python3.14", "fonts", "magic", "mailcap"),
)
LAUNCHER_SOURCE = Path(__file__).with_name("confine.py")
PATH = ("/usr/local/bin", "/usr/bin", "/bin")
PASSED_ON = ("LANG", "LC_ALL", "LC_CTYPE", "TZ")
OPEN_FILES = 256
THREADS_PER_PROCESS = 8
ADDRESSES_PER_BYTE = 4  # programs reserve more than they use
NICE = 10
ROOTS = frozenset(map(Path, ("/", "/usr", "/etc", "/bin", "/lib", "/proc", "/sys", "/dev", "/tmp", "/var", "/run")))  # noqa: S108 - refused


@dataclass(frozen=True, slots=True)
class Runtime:
    """The interpreter that programs get (`python`), the one that sets up the walls (`launcher`), and what both need."""

    python: str
    launcher: str
    prefixes: tuple[Path, ...]

    @classmethod
    def of_this(cls) -> "Runtime":
        """What runs THAU: its virtual environment and the Python below it."""
        prefixes = dict.fromkeys(Path(each).resolve() for each in (sys.base_prefix, sys.prefix))
        system = [Path(each) for each in SYSTEM]
        own = [each for each in prefixes if not any(each.is_relative_to(system_folder) for system_folder in system)]
        return cls(sys.executable, os.path.realpath(sys.executable), tuple(own))


@dataclass(frozen=True, slots=True)
class Policy:
    """Around what the walls stand: the workspace with what is protected in it, the bounds, the runtime."""

    workspace: Workspace
    bounds: Bounds = field(default_factory=Bounds)
    runtime: Runtime = field(default_factory=Runtime.of_this)

    @property
    def root(self) -> Path:
        """The workspace's real path. Raises ToolError where it is not there."""
        try:
            return self.workspace.root.resolve(strict=True)
        except OSError as error:
            raise ToolError(f"there is no workspace {self.workspace.root}: {error.strerror}") from error

    def look(self) -> Survey:
        """The workspace before a run, protected places and the runtime among what is held.

        Raises ToolError for a workspace that programs may not have, or that is too large to keep watch over.
        """
        root = self.root
        self.refuse_root(root)
        found = survey(root)
        if found.entries > MOST_ENTRIES:
            raise ToolError(
                f"the workspace {root} holds more than {MOST_ENTRIES:,} files: name a smaller folder with --workspace"
            )
        for path in self.workspace.protected:
            real = resolved(path)
            if real is None and (folder := resolved(path.parent)) is not None and inside(folder / path.name, root):
                found.absent.append(folder / path.name)
            elif inside(real, root):
                assert real is not None
                found.held[real] = held(real, Hold.HIDDEN)
        for path in self.runtime.prefixes:
            if inside(path, root):
                found.held[path] = held(path, Hold.KEPT)
        return found

    def refuse_root(self, root: Path) -> None:
        """Raise ToolError where the workspace is, or lies in, what programs may never write."""
        if root in ROOTS or any(root.is_relative_to(each) for each in map(Path, ("/proc", "/sys", "/dev/pts"))):
            raise ToolError(f"programs are not run in {root}: name a folder of your own with --workspace")
        if any(root.is_relative_to(prefix) for prefix in self.runtime.prefixes if prefix != Path("/")):
            raise ToolError(f"programs are not run in {root}, which is part of the Python that runs THAU")
        with closing(Descriptor(os.open(root, os.O_RDONLY | os.O_DIRECTORY))) as at:
            if Fence.of(self.workspace.protected, self.workspace.spared).at(root, at).closed:
                raise ToolError(f"programs are not run in {root}, which is THAU's own: name another --workspace")

    def spared(self) -> list[Path]:
        """Folders that lie open inside protected ones that lie inside the workspace."""
        real = [resolved(path) for path in self.workspace.spared]
        return [path for path in real if path is not None and inside(path, self.root)]

    def folder(self, folder: str) -> Path:
        """A folder of the workspace, to run in. Raises ToolError where there is none."""
        path = self.root.joinpath(*self.workspace.folder_parts(folder))
        if not path.is_dir() or not path.resolve().is_relative_to(self.root):
            raise ToolError(f"there is no folder {folder!r} in the workspace")
        return path

    def environment(self, scratch: str) -> dict[str, str]:
        """All of the environment that a program gets. Nothing of it is THAU's but language and time zone."""
        passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        own = {
            "PATH": ":".join((os.path.dirname(self.runtime.python), *PATH)),  # noqa: PTH120 - as it is written
            "HOME": scratch,
            "TMPDIR": scratch,
            "USER": "thau",
            "LOGNAME": "thau",
            "SHELL": "/bin/sh",
            "TERM": "dumb",
        }
        return {"LANG": "C.UTF-8", **passed, **own}

    def readable(self) -> list[Path]:
        """What exists of the runtime that programs may read. Raises ToolError where THAU's own lies in it."""
        etc = [Path("/etc") / name for name in ETC]
        found = [path for path in (*map(Path, SYSTEM), *etc, *self.runtime.prefixes) if path.exists()]
        for path in self.workspace.protected:
            if any(resolved(path) == each or inside(resolved(path), each.resolve()) for each in found):
                raise ToolError(f"programs cannot be run: THAU's own {path} lies in what every program may read")
        return found


def resolved(path: Path) -> Path | None:
    """A path's real one, None where there is nothing."""
    try:
        return path.resolve(strict=True)
    except OSError:
        return None


def inside(path: Path | None, folder: Path) -> bool:
    """Whether a path lies below a folder."""
    return path is not None and path != folder and path.is_relative_to(folder)


def held(path: Path, hold: Hold) -> Held:
    """A path that is held back."""
    found = path.stat()
    return Held(hold, (found.st_dev, found.st_ino), path.is_dir())


def limits(bounds: Bounds, tasks: int) -> dict[str, int]:
    """What the kernel keeps each process to. `tasks`: how many the user has already; RLIMIT_NPROC counts them."""
    return {
        "RLIMIT_CORE": 0,
        "RLIMIT_CPU": bounds.cpu_s + 1,  # the watch over the whole tree comes first
        "RLIMIT_FSIZE": bounds.file_bytes,
        "RLIMIT_DATA": bounds.memory_bytes,
        "RLIMIT_AS": ADDRESSES_PER_BYTE * bounds.memory_bytes,
        "RLIMIT_NOFILE": OPEN_FILES,
        "RLIMIT_NPROC": tasks + THREADS_PER_PROCESS * bounds.processes,
        "RLIMIT_MSGQUEUE": 0,
        "RLIMIT_MEMLOCK": 1 << 16,
    }


def launch(runtime: Runtime, argv: Sequence[str], most: Mapping[str, int], filtered: bytes, **more: Any) -> list[str]:
    """The command that takes the last things away and becomes `argv`; `more` as confine.py reads it."""
    plain = {"supervise": False, "landlock": None, "folder": None, "parent": 0, "tasks": 0}
    plan = {"argv": list(argv), "limits": dict(most), "filter": filtered.hex(), "nice": NICE} | plain | more
    source = LAUNCHER_SOURCE.read_text(encoding="utf-8")
    return [runtime.launcher, "-I", "-S", "-c", source, json.dumps(plan)]
