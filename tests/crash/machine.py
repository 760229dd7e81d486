"""The long form of the drop-box's state machine: at least 20,000 steps, in a process of its own."""

import subprocess
import sys
from pathlib import Path

from rich.console import Console

STEPS = 20_000
MOST_S = 2700


def run_machine(console: Console) -> int:
    """0 where all went well within the time; what it says at its end is shown."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tests.dropbox_machine", str(STEPS)],
            cwd=Path(__file__).parent.parent.parent,
            capture_output=True,
            text=True,
            check=False,
            timeout=MOST_S,
        )
    except subprocess.TimeoutExpired:
        console.print(f"the drop-box's state machine did not take {STEPS} steps in {MOST_S} s", highlight=False)
        return 1
    said = done.stdout.strip() or done.stderr[-3000:]
    console.print(f"the drop-box's state machine: {said}", highlight=False, soft_wrap=True)
    return done.returncode
