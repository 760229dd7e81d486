"""A real daemon as a child process of a test, and waiting on conditions with a deadline."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from thaud.control import daemon_runs
from thaud.home import Home
from thaud.ledger import LedgerReader

ValueT = TypeVar("ValueT")
QUICK = {
    "THAU_API__PORT": "0",
    "THAU_SERVING__OLLAMA_ENABLED": "false",
    "THAU_QUEUE__QUIET_S": "0.3",
    "THAU_QUEUE__SETTLE_S": "0.2",
    "LC_ALL": "C.UTF-8",
}


def wait_until(condition: Callable[[], ValueT | None], timeout_s: float = 30.0, what: str = "the condition") -> ValueT:
    """The first truthy value of a condition. AssertionError, naming it, when the deadline passes."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not come within {timeout_s} s"
        time.sleep(0.02)
    return value


def thau(root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `thau` on a home to its end."""
    return subprocess.run(
        [sys.executable, "-m", "thaud.cli", "--home", str(root), *arguments],
        env={**os.environ, **QUICK, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def make_home(root: Path) -> Home:
    """A new nano home."""
    made = thau(root, "init", "--size", "nano")
    assert made.returncode == 0, made.stderr
    return Home(root)


def command_line(home: Home) -> list[str]:
    """`thau start`, as a list of arguments."""
    return [sys.executable, "-m", "thaud.cli", "--home", str(home.root), "start"]


def start(
    home: Home, *, stdin: int | None = None, command: Sequence[str] = (), **environment: str
) -> subprocess.Popen[bytes]:
    """A daemon that is ready: it holds the lock and has said so in its log. `command`: another way to start it."""
    log = (home.root / "stderr.log").open("ab")
    before = said_ready(home)
    daemon = subprocess.Popen(
        command or command_line(home),
        env={**os.environ, **QUICK, **environment},
        stdin=stdin,
        stdout=log,
        stderr=log,
    )
    log.close()

    def ready() -> bool:
        assert daemon.poll() is None, (home.root / "stderr.log").read_text()
        return said_ready(home) > before and daemon_runs(home)

    wait_until(ready, 60, "a ready daemon")
    return daemon


def said_ready(home: Home) -> int:
    """How often a daemon of this home became ready."""
    return home.service_log.read_text(encoding="utf-8").count('"ready"') if home.service_log.exists() else 0


@contextmanager
def running(home: Home, *, command: Sequence[str] = (), **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon while the block runs; it is asked to end, and must."""
    daemon = start(home, stdin=subprocess.DEVNULL, command=command, **environment)
    try:
        yield daemon
    finally:
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(30) == 0


def look(home: Home, question: Callable[[LedgerReader], ValueT]) -> ValueT:
    """Ask the ledger, read-only, while the daemon runs."""
    with LedgerReader.open(home.ledger) as ledger:
        return question(ledger)
