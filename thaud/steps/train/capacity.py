"""How much memory this machine has, and how much of it is free now.

On a CPU the physical memory or the limit of a control group (systemd's MemoryMax, a container's), whichever is less.
What cannot be read limits nothing. Refuses to decide what may be taken: that is preflight's.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

ROOT = Path("/")
GROUPS = Path("sys/fs/cgroup")
# limit and use, in cgroups of version 2 and of version 1
LIMITS = {"memory.max": "memory.current", "memory.limit_in_bytes": "memory.usage_in_bytes"}
GIVEN_UP = ("inactive_file", "active_file")  # the page cache of a group, which the kernel gives up before it kills


@dataclass(frozen=True, slots=True)
class Capacity:
    """Bytes that there are, and bytes that are free now, the page cache counted as free."""

    total: int
    free: int


def capacity(device: torch.device) -> Capacity:
    """What a device, or the machine around a CPU, has."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return Capacity(total, free)
    return machine_capacity(ROOT)


def machine_capacity(root: Path) -> Capacity:
    """What the machine whose files are under `root` leaves this process. See proc(5), meminfo; cgroups(7)."""
    facts = figures((root / "proc/meminfo").read_text(encoding="utf-8"))
    total = facts["MemTotal:"] * 1024
    free = facts.get("MemAvailable:", facts["MemTotal:"]) * 1024
    for group in groups(root):
        for limit_file, used_file in LIMITS.items():
            limit = number(group / limit_file)
            if limit is not None and 0 < limit < total:
                total = limit
            if limit is not None and (used := number(group / used_file)) is not None:
                free = min(free, max(0, limit - used + reclaimable(group)))
    return Capacity(total, min(free, total))


def groups(root: Path) -> Iterator[Path]:
    """The folders of the memory groups that this process is in, each with those around it. In a container they may be
    named as they are outside, where there is no such folder: the outermost is then the container's own.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        own = Path(path.lstrip("/"))
        for mount in (GROUPS, GROUPS / "unified") if not controllers else (GROUPS / "memory",):
            yield from (root / mount / each for each in (own, *own.parents))


def number(file: Path) -> int | None:
    """What a file of one number says; None where it is "max", or cannot be read."""
    try:
        return int(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def reclaimable(group: Path) -> int:
    """Bytes of a group's page cache."""
    try:
        facts = figures((group / "memory.stat").read_text(encoding="utf-8"))
    except OSError:
        return 0
    return sum(facts.get(f"total_{name}", facts.get(name, 0)) for name in GIVEN_UP)


def figures(text: str) -> dict[str, int]:
    """Lines of a name and a number, as the kernel writes them; others are passed over."""
    parts = (line.split() for line in text.splitlines())
    return {each[0]: int(each[1]) for each in parts if len(each) > 1 and each[1].isdigit()}
