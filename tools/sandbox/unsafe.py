"""No walls at all, for who has said so: programs run as the user, with the user's files and network.

Owns saying it loudly with every result. Bounds on time and output hold, and what is not in the environment's allow-list
is still not passed on; nothing else is kept. Nothing chooses this by itself.
"""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tools.outside import Bounds, Finished
from tools.sandbox import aftermath
from tools.sandbox.plan import Policy
from tools.sandbox.running import Places, Started, given, kill_below, see_through, start
from tools.sandbox.survey import survey

NAME = "none"
LOUD = "[UNSAFE: this ran without any walls, as you]\n"
GONE_S = 2.0


@dataclass(frozen=True, slots=True)
class Unsafe:
    """Runs programs as they are; a Sandbox in name."""

    policy: Policy

    @property
    def name(self) -> str:
        """Which walls: none."""
        return NAME

    def run(self, argv: Sequence[str], *, folder: str = ".", stdin: str = "", bounds: Bounds | None = None) -> Finished:
        """Run a program in a folder of the workspace. Raises ToolError where it cannot be started."""
        scratch = Path(tempfile.mkdtemp(prefix="thau-run-"))
        try:
            at, root = self.policy.folder(folder), self.policy.root
            places = Places(root, scratch, survey(root, names=False))
            with given(stdin) as file:
                process = start(argv, self.policy.environment(str(scratch)), file, cwd=at)
            finished = see_through(Started(process, partial(end, process)), bounds or self.policy.bounds, places)
        finally:
            aftermath.remove(scratch)
        return replace(finished, output=LOUD + finished.output)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill what still descends from it; what has left its parents is not found."""
    kill_below(process.pid, time.monotonic() + GONE_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
