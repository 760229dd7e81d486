"""The walls that are tried, by name, and what is kept of each trial for the table at the end."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.safety.place import make_place, run_probes
from tools.outside import Bounds, Sandbox
from tools.sandbox import Policy, Runtime, why_not
from tools.sandbox.bubblewrap import Bubblewrap
from tools.sandbox.landlock import Landlock

OLD_ABI = 4  # the oldest Landlock that is enough; without scopes
WALLS: dict[str, Callable[[Policy], Sandbox]] = {
    "bubblewrap": Bubblewrap,
    "landlock": Landlock,
    "landlock as of ABI 4": lambda policy: Landlock(policy, abi=OLD_ABI),
}
CONTROLS = ("none", "none, nobody")
RESULTS = pytest.StashKey["Results"]()
WIDEST = Bounds(30.0, 60, 8 << 30, 5000, 1 << 40, 1 << 40, 1 << 10)


@dataclass
class Results:
    """What came of the probes: by walls, then by probe; and why walls did not run."""

    probes: dict[str, dict[str, tuple[bool, str]]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def table(self) -> list[str]:
        """One line for each kind of walls."""
        lines = [f"{'walls':<22}{'probes':>8}{'shown':>8}{'held':>8}{'escapes':>9}"]
        for walls, found in self.probes.items():
            if walls not in CONTROLS:
                control = self.probes[CONTROLS[walls.endswith("nobody")]]
                shown = [name for name in found if control[name][0]]
                held = sum(not found[name][0] for name in shown)
                through = sum(found[name][0] for name in found)
                lines.append(f"{walls:<22}{len(found):>8}{len(shown):>8}{held:>8}{through:>9}")
        return lines + [f"{walls:<22}not run here: {reason}" for walls, reason in self.absent.items()]


def need(walls: str) -> None:
    """Skip, saying why, where these walls do not stand."""
    if reason := why_not(walls.partition(" ")[0], Runtime.of_this()):
        pytest.skip(f"{walls} does not run here, and is not counted: {reason}")


def tried(root: Path, make: Callable[[Policy], Sandbox]) -> dict[str, tuple[bool, str]]:
    """Every probe in a place of its own, behind these walls."""
    with make_place(root) as place:
        return run_probes(place, make(Policy(place.workspace)))


def alive(mark: str) -> list[int]:
    """Processes whose command line holds a mark."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if mark.encode() in line.read_bytes():
                found.append(int(line.parent.name))
    return found
