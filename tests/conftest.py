"""What tests share: Ctrl-C as on a terminal, Hypothesis without luck or clock, a second file system, a drop-box."""

import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

from tests.testkit.box import Box

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
