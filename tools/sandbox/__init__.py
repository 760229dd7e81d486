"""The walls around every program that runs for a model: no network, no files but workspace and runtime, bounds on all.

Owns which walls there are and which stand here. Refuses to run anything where none do; `Unsafe` is made by who asked
for it by name, and by nobody else.

    plan.py         what a program may see, write and use, whatever the walls
    bubblewrap.py   namespaces and mounts; landlock.py   where those cannot be had; unsafe.py   nothing at all
    confine.py      runs in the child: limits, capabilities, Landlock, seccomp, and the supervisor of Landlock's
    filters.py      the system calls that are refused
    running.py      start to end: bounds, output, Ctrl-C; tree.py, survey.py and output.py are its eyes
    aftermath.py    what is put right when a program has ended
    probing.py      whether walls stand here
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from tools.outside import Bounds, Finished, Sandbox
from tools.sandbox.plan import Policy, Runtime
from tools.sandbox.probing import MAKERS, REMEDIES, find_walls, why_not
from tools.sandbox.unsafe import Unsafe

__all__ = ["MAKERS", "REMEDIES", "Policy", "Runtime", "Unsafe", "Walls", "find_walls", "standing", "why_not"]


@dataclass(frozen=True)
class Walls:
    """The walls that stand here, looked for when the first program is to be run: the probe takes a moment. A Sandbox.

    kind: `auto`, `bubblewrap` or `landlock`.
    """

    kind: str
    policy: Policy

    @cached_property
    def found(self) -> Sandbox:
        """Which they are. Raises ToolError where there are none."""
        return find_walls(self.kind, self.policy)

    @property
    def name(self) -> str:
        """Which walls. Raises ToolError where there are none."""
        return self.found.name

    def run(self, argv: Sequence[str], *, folder: str = ".", stdin: str = "", bounds: Bounds | None = None) -> Finished:
        """Run a program in a folder of the workspace. Raises ToolError where it cannot be started, or has no walls."""
        return self.found.run(argv, folder=folder, stdin=stdin, bounds=bounds)


def standing() -> dict[str, str | None]:
    """Each kind of walls, and why it does not stand here; None where it does."""
    runtime = Runtime.of_this()
    return {kind: why_not(kind, runtime) for kind in MAKERS}
