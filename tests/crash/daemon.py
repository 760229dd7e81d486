"""The real daemon with the fake steps: python -m tests.crash.daemon HOME.

SIGUSR1 arms the fail-points in HOME/crash/daemon, which is removed then.
"""

import asyncio
import os
import signal
import sys
from functools import partial
from pathlib import Path

from tests.crash.steps.door import CRASH
from thaud.config import Settings, load_settings
from thaud.daemon import serve
from thaud.errors import ThauError
from thaud.executor import run_step
from thaud.failpoints import FAILPOINTS, SETTING
from thaud.home import Home

STEPS = "tests.crash.steps"


def arm(note: Path) -> None:
    """Arm what the harness left."""
    FAILPOINTS.arm(note.read_text(encoding="utf-8"))
    note.unlink()


async def live(home: Home, settings: Settings) -> None:
    """Be the daemon."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, arm, home.root / CRASH / "daemon")
    await serve(home, settings, partial(run_step, package=STEPS))


def main(argv: list[str]) -> int:
    """As `thau start`: what THAU refuses is one line."""
    home = Home(Path(argv[1]))
    FAILPOINTS.arm(os.environ.pop(SETTING, ""))  # the children have charges of their own
    try:
        asyncio.run(live(home, load_settings(home)))
    except ThauError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
