"""What the fake steps share: the real contract, with a fail-point that the harness arms for one child, and a mood."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from thaud.errors import StepError
from thaud.failpoints import SETTING
from thaud.steps.contract import Spec, run_step

CRASH = "crash"  # the harness's folder beside data/


def notes_of(workdir: Path) -> Path:
    """The harness's folder of the home that a workdir (HOME/data/runs/RUN/STEP) is in."""
    return workdir.parents[3] / CRASH


def take_charge(workdir: Path, step: str) -> None:
    """Arm what the harness left for this step; it is used up by that."""
    note = notes_of(workdir) / "child.json"
    try:
        charge = json.loads(note.read_bytes())
    except (OSError, ValueError):
        return
    if charge["step"] == step:
        note.unlink()
        os.environ[SETTING] = charge["setting"]


def mood(workdir: Path) -> str:
    """right, wrong (exams), uncertified, another file (certificates), or the name of a step that fails."""
    note = notes_of(workdir) / "mood"
    return note.read_text() if note.exists() else "right"


def enter(
    step: str,
    kind: type[Spec],
    work: Callable[[Path, Spec], Spec],
    afterwards: Callable[[Path], None] = lambda _: None,
) -> None:
    """Be a step's door. `afterwards`: what is done once there is a good result."""
    workdir = Path(sys.argv[1])
    take_charge(workdir, step)

    def do(spec: Spec) -> Spec:
        if mood(workdir) == step:
            raise StepError(f"{step} fails, as it was told")
        return work(workdir, spec)

    code = run_step(kind, do, sys.argv)
    if code == 0:
        afterwards(workdir)
    sys.exit(code)
