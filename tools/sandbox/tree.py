"""The processes that a program became, seen from outside: how many, how much memory and time, what they hold open.

Owns the reading of /proc; refuses to signal anyone.
"""

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
BLOCK_BYTES = 512
PARENT, TIMES, THREADS, RESIDENT = 1, slice(11, 15), 17, 21  # fields of /proc/PID/stat after the name, see proc(5)


@dataclass(frozen=True, slots=True)
class Process:
    """One process: memory in bytes, shared pages whole; CPU seconds with those of children it waited for."""

    pid: int
    parent: int
    threads: int
    resident: int
    cpu_s: float


def read_processes() -> list[Process]:
    """Every process that can be seen."""
    names = (name for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208 - names are numbers
    return [process for name in names if (process := read_process(int(name))) is not None]


def read_process(pid: int) -> Process | None:
    """One process, None where it has gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    cpu_s = sum(map(int, fields[TIMES])) / TICKS_PER_S
    return Process(pid, int(fields[PARENT]), int(fields[THREADS]), int(fields[RESIDENT]) * PAGE_BYTES, cpu_s)


def below(pid: int, processes: Iterable[Process]) -> list[Process]:
    """What descends from a process, itself left out."""
    children: dict[int, list[Process]] = {}
    for process in processes:
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    waiting = [pid]
    while waiting:
        more = children.pop(waiting.pop(), [])
        found += more
        waiting += [each.pid for each in more]
    return found


def tasks_of(uid: int) -> int:
    """How many tasks a user has now, threads counted."""
    return sum(each.threads for each in read_processes() if owner(each.pid) == uid)


def owner(pid: int) -> int | None:
    """Whose a process is, None where it has gone."""
    try:
        return Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return None


def memory(processes: Iterable[Process]) -> int:
    """What processes take together in bytes, each shared page once, swap counted."""
    return sum(own_share(each) for each in processes)


def own_share(process: Process) -> int:
    """A process's proportional share; all that it sees where that is not told."""
    try:
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return process.resident
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(("Pss:", "SwapPss:")))


def nameless(processes: Iterable[Process]) -> int:
    """Bytes of files that are held open but have no name any more, each once."""
    sizes: dict[tuple[int, int], int] = {}
    for process in processes:
        folder = f"/proc/{process.pid}/fd"
        try:
            descriptors = os.listdir(folder)  # noqa: PTH208 - names are numbers
        except OSError:
            continue
        for descriptor in descriptors:
            try:
                found = Path(folder, descriptor).stat()
            except OSError:
                continue
            if found.st_nlink == 0 and stat.S_ISREG(found.st_mode):
                sizes[found.st_dev, found.st_ino] = found.st_blocks * BLOCK_BYTES
    return sum(sizes.values())
