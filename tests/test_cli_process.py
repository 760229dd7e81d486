"""What only a process of its own shows: signals, closed pipes, and what an import costs."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.seeded import make_home
from thaud.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path / "home")


def command(home: Home, *words: str) -> list[str]:
    return [sys.executable, "-m", "thaud.cli", "--home", str(home.root), *words]


@contextmanager
def closing_child(words: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        try:
            yield child
        finally:
            child.kill()


def test_logs_follow_through_a_rotation_until_ctrl_c(home: Home) -> None:
    """logs -f prints what is appended, goes on in the new file after a rotation, and Ctrl-C is exit code 130."""
    home.service_log.write_text('{"event": "first"}\n', encoding="utf-8")
    with closing_child(command(home, "logs", "-f")) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert b"first" in child.stdout.readline()
        with home.service_log.open("a", encoding="utf-8") as log:
            log.write('{"event": "second"}\n')
        assert b"second" in child.stdout.readline()
        home.service_log.rename(home.service_log.with_suffix(".log.1"))
        home.service_log.write_text('{"event": "third"}\n', encoding="utf-8")
        assert b"third" in child.stdout.readline()
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 130
        assert child.stderr.read() == b""


def test_a_closed_pipe_is_no_error(home: Home) -> None:
    """`thau logs | head -1` ends quietly."""
    home.service_log.write_text('{"event": "x"}\n' * 50_000, encoding="utf-8")
    with closing_child(command(home, "logs", "-n", "50000")) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.readline()
        child.stdout.close()
        assert child.wait(20) != 0
        assert child.stderr.read() == b""


def test_the_command_line_starts_light() -> None:
    """Neither the daemon's nor the models' libraries are imported to show a status."""
    heavy = ["fastapi", "uvicorn", "torch", "transformers", "numpy", "llama_cpp", "httpx", "ollama", "prompt_toolkit"]
    code = f"import sys, thaud.cli; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
