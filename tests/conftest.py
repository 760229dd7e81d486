"""What tests share: Ctrl-C as on a terminal, Hypothesis without luck or clock, a second disk, a drop-box, `thau`."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.testkit.box import Box
from tests.testkit.escapes import ESCAPES
from thaud.failpoints import FAILPOINTS
from thaud.home import Home

# A shell ignores SIGINT for what it starts in the background, and children inherit that: tests press Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same cases each time, so that a failure is the change's and not the day's; no deadlines on noisy machines.
settings.register_profile("thau", derandomize=True, deadline=None)
settings.load_profile("thau")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than tmp_path: /dev/shm, or a tmpfs that root may mount."""
    with ExitStack() as undo:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        if folder.stat().st_dev == tmp_path.stat().st_dev:
            mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=False, capture_output=True)
            if mounted.returncode:
                pytest.skip(f"NOT SHOWN: moving across file systems; there is no second one: {mounted.stderr!r}")
            undo.callback(subprocess.run, ["umount", folder], check=True)
        assert folder.stat().st_dev != tmp_path.stat().st_dev
        yield folder


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """A drop-box with intake and ledger behind it."""
    with Box(tmp_path) as opened:
        yield opened


@pytest.fixture
def file(box: Box) -> Path:
    """The file that most cases are about."""
    return box.queue / "a.jsonl"


@pytest.fixture
def points() -> Iterator[Callable[[str], None]]:
    """Arm fail-points in this process for one test."""
    yield FAILPOINTS.arm
    FAILPOINTS.charges.clear()
    FAILPOINTS.on = False


@pytest.fixture
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """English, and no setting of THAU's from outside."""
    for name in [each for each in os.environ if each.startswith("THAU_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LC_ALL", "C.UTF-8")


@pytest.fixture
def thau(
    home: Home, plain_environment: None, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """The command on the module's own `home`, in this process: words -> (exit code, output, errors)."""
    from thaud.cli import make_app, run  # noqa: PLC0415 - only for the tests that ask

    def invoke(*words: str | Path) -> tuple[int, str, str]:
        code = run(make_app(), ["--home", str(home.root), *map(str, words)], "thau")
        out, err = capsys.readouterr()
        return code, out, err

    return invoke


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Keep the escape suite's table, where a process of pytest-xdist has made it."""
    if (lines := getattr(node, "workeroutput", {}).get("escapes")) is not None:
        node.config.stash[ESCAPES] = lines


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """One table of what was tried behind which walls."""
    if (lines := config.stash.get(ESCAPES, None)) is not None:
        terminalreporter.section("escapes")
        terminalreporter.write_line("\n".join(lines))
