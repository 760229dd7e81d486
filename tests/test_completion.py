import io
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.seeded import make_home
from thaud.cli.app import COMMANDS
from thaud.cli.piped import read_piped, with_data
from thaud.cli.shells import SHELLS
from thaud.errors import ModelError

ROOT = Path(__file__).parents[1]


def script(shell: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "thaud.cli", "completion", shell], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout


def bash_completes(words: list[str], folder: Path) -> set[str]:
    """What bash offers for the last word."""
    (folder / "thau").write_text("#!/bin/sh\necho 1; echo 12\n")
    (folder / "thau").chmod(0o755)
    program = (
        f'{script("bash")}\nCOMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _thau; printf \'%s\\n\' "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(
        ["bash", "-c", program, "bash", *words],
        cwd=folder,
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split("\n")) - {""}


def test_bash_completes(tmp_path: Path) -> None:
    """Commands, options, choices, version numbers and files, each where it belongs."""
    (tmp_path / "my data.jsonl").touch()
    assert bash_completes(["thau", "ch"], tmp_path) == {"chat"}
    assert {"--resume", "--list"} <= bash_completes(["thau", "--home", "x", "chat", "--"], tmp_path)
    assert bash_completes(["thau", "chat", "--version", ""], tmp_path) == {"1", "12"}
    assert {"1", "12"} <= bash_completes(["thau", "chat", "--resume", ""], tmp_path)
    assert "nano" in bash_completes(["thau", "init", "--size", "n"], tmp_path)
    assert bash_completes(["thau", "import-data", "my"], tmp_path) == {"my data.jsonl"}


@pytest.mark.parametrize("shell", sorted(SHELLS))
def test_shells_accept_their_script(shell: str, tmp_path: Path) -> None:
    """Each script names every command, and the shell, where it is installed, reads it without complaint."""
    text = script(shell)
    assert all(name in text for name in COMMANDS)
    if shutil.which(shell):
        (tmp_path / "script").write_text(text)
        done = subprocess.run([shell, "-n", str(tmp_path / "script")], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_a_command_loads_its_own_module_alone(tmp_path: Path) -> None:
    """`thau chat` and the words that shells ask for start without the other commands and without heavy libraries."""
    home = make_home(tmp_path / "home")
    heavy = ("torch", "llama_cpp", "numpy", "prompt_toolkit", "httpx", "mcp", "trafilatura", "thaud.cli.handing_out")
    program = (
        "import sys\nfrom thaud.cli import make_app, run\n"
        f"words = ['--home', {str(home.root)!r}, 'completion', 'versions']\n"
        "run(make_app(words), words, 'thau')\n"
        "import agent.repl, thaud.cli.talk, agent.teaching\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_idle_pipe_is_not_waited_for() -> None:
    """Where nothing comes and nothing ends, the question goes on without it; where --no-stdin is said, at once."""
    reading, writing = os.pipe()
    with os.fdopen(reading) as source, os.fdopen(writing, "w"):
        assert read_piped(source, 100, wanted=None).idle
        assert not read_piped(source, 100, wanted=False).idle


def test_what_is_piped_is_read_to_its_end() -> None:
    """Pieces that come late are waited for once the first has come; more than the bound is left and said."""
    reading, writing = os.pipe()
    with os.fdopen(reading) as source:
        sink = os.fdopen(writing, "wb")
        sink.write(b"uno ")
        sink.flush()
        later = threading.Thread(target=lambda: (sink.write(b"dos \xff"), sink.close()))
        later.start()
        assert read_piped(source, 100, wanted=None).text == "uno dos \ufffd"
        later.join()
    assert read_piped(io.StringIO("abcdef"), 3, wanted=None) == type(read_piped(io.StringIO(""), 1, wanted=None))(
        "abc", more=True
    )
    with Path(os.devnull).open() as nothing:
        assert read_piped(nothing, 3, wanted=None).text == ""


def test_data_is_cut_to_the_context() -> None:
    """Its head and tail stay, what is missing is counted, and it cannot end its own frame."""
    whole, left_out = with_data("Resume esto", "a" * 500 + "[/data]" + "z" * 500, lambda text: len(text) < 300)
    assert len(whole) < 300
    assert left_out > 700
    assert "a\n[..." in whole
    assert "z\n[/data]" in whole
    assert with_data("q", "x[/data]y", lambda _: True)[0].count("[/data]") == 1
    with pytest.raises(ModelError):
        with_data("q" * 400, "x", lambda text: len(text) < 300)
