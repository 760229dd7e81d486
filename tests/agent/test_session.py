"""The recorded session: a person at a real terminal, from the first question to the example in the ledger."""

import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.agent.test_llama_cpp import AFTER_TOOL, MARKED, TEMPLATE
from tests.seeded import freeze, make_home, open_ledger, promote, take_in
from tests.testkit.daemon import running, wait_until
from tests.testkit.scripted_gguf import write_scripted_gguf
from thaud.domain import Score
from thaud.home import Home

ROOM = 32768
WRITE = [
    "<tool_call>",
    '\n{"name": "write_file", "arguments": {"path": "nota.txt", "content": "Hola, mundo"}}\n',
    "</tool_call>",
]
pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")


class Session:
    """A tmux session of our own server: what is typed, and what the screen shows."""

    def __init__(self, folder: Path) -> None:
        self._tmux = ["tmux", "-S", str(folder / "tmux"), "-f", "/dev/null"]

    def tmux(self, *words: str) -> str:
        """Run a tmux command."""
        done = subprocess.run([*self._tmux, *words], capture_output=True, text=True, check=True)
        return done.stdout

    def run(self, command: list[str], **environment: str) -> None:
        """Start a program in a window of 80x24."""
        setting = [f"{name}={value}" for name, value in environment.items()]
        line = f'{shlex.join(["env", *setting, *command])}; echo "[ended $?]"; exec sleep 600'
        self.tmux("new-session", "-d", "-x", "80", "-y", "24", line)

    def shown(self) -> str:
        """The screen with its scrollback, lines joined where the window broke them."""
        return self.tmux("capture-pane", "-p", "-J", "-S", "-500")

    def expect(self, text: str, times: int = 1) -> str:
        """Wait until the screen shows a text so often."""
        wait_until(lambda: self.shown().count(text) >= times, 60, f"{text!r} on the screen")
        return self.shown()

    def type(self, *keys: str) -> None:
        """Press keys by tmux's names; plain text is typed."""
        self.tmux("send-keys", *keys)

    def say(self, line: str) -> None:
        """Type a line and Enter."""
        self.tmux("send-keys", "-l", line)
        self.tmux("send-keys", "Enter")

    def leave(self) -> str:
        """Press Ctrl-D until the program ends, as somebody does; gives its exit code."""

        def press() -> str:
            self.type("C-d")
            return self.exit_code()

        return wait_until(press, 60, "the end")

    def exit_code(self) -> str:
        """Of a program that has ended; empty before."""
        found = re.search(r"\[ended (\d+)\]", self.shown())
        return found[1] if found else ""

    def ended(self) -> str:
        """Wait for the program's end; gives its exit code."""
        return wait_until(self.exit_code, 60, "the end")


@pytest.fixture
def sit_down(tmp_path: Path) -> Iterator[Callable[[], Session]]:
    """Opens terminals, each with a server of its own, and ends them."""
    opened: list[Session] = []

    def open_terminal() -> Session:
        folder = tmp_path / f"terminal-{len(opened)}"
        folder.mkdir()
        opened.append(Session(folder))
        return opened[-1]

    yield open_terminal
    for session in opened:
        subprocess.run([*session._tmux, "kill-server"], capture_output=True, check=False)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home whose champion asks to write a file, and says one thing where it has a result."""
    home = make_home(tmp_path / "home")
    with home.config.open("a", encoding="utf-8") as config:
        config.write(f"\n[stages.0]\ncontext_tokens = {ROOM}\n")
    template = TEMPLATE + MARKED[AFTER_TOOL] + "{% endif %}"
    after = {AFTER_TOOL: ["La nota dice lo que pediste."]}
    write_scripted_gguf(tmp_path / "1.gguf", WRITE, after=after, chat_template=template, context_length=ROOM)
    with open_ledger(home) as ledger:
        spec = freeze(ledger, take_in(ledger, 0, 3, "1.jsonl"), 0, "thau-nano")
        promote(ledger, spec, 1, Score(3, 3), None, str(tmp_path / "1.gguf"))
    return home


def thau(home: Home, *words: str) -> list[str]:
    """A command line of this home."""
    return [sys.executable, "-m", "thaud.cli", "--home", str(home.root), *words]


def taught(home: Home) -> str:
    """Whatever the ledger holds, as text."""
    with closing(sqlite3.connect(f"file:{home.ledger}?mode=ro", uri=True)) as ledger:
        return str(ledger.execute("SELECT * FROM examples").fetchall())


@pytest.mark.slow
def test_from_the_first_question_to_the_ledger(sit_down: Callable[[], Session], home: Home) -> None:
    """Ask with a tool, deny, approve, stop, correct, review: and the corrected answer is in the ledger."""
    note, session = home.workspace / "nota.txt", sit_down()
    session.run(thau(home, "chat"), LC_ALL="C.UTF-8", PATH=os.environ["PATH"], EDITOR="false")
    session.expect("/help shows what can be done")
    session.say("Escribe una nota")
    assert "+Hola, mundo" in session.expect("Allow it?")
    session.say("n")
    session.expect("La nota dice")
    assert not note.exists()
    session.say("Escribe una nota, de verdad")
    session.expect("Allow it?", 2)
    session.say("y")
    session.expect("La nota dice", 2)
    assert note.read_text("utf-8").strip() == "Hola, mundo"
    session.say("Otra nota")
    session.expect("Allow it?", 3)
    session.type("C-c")
    session.expect("(stopped)")
    session.say("/undo")
    session.expect("Taken back: Otra nota")
    session.say("/teach La nota ya está escrita.")
    session.expect("thau review")
    assert session.leave() == "0"
    review(sit_down(), home)
    with running(home):
        wait_until(lambda: "La nota ya está escrita." in taught(home), 60, "the example in the ledger")


def review(session: Session, home: Home) -> None:
    """`thau review`: accept the proposal."""
    session.run(thau(home, "review"), LC_ALL="C.UTF-8", PATH=os.environ["PATH"])
    session.expect("La nota ya está escrita.")
    session.say("a")
    assert session.ended() == "0"


def test_the_scrollback_holds_each_line_once(sit_down: Callable[[], Session], tmp_path: Path) -> None:
    """What was drawn again while it came is there once, rendered; so it stays when the window grows narrow."""
    session = sit_down()
    session.run([sys.executable, "-m", "tests.agent.chat_child", "markdown", str(tmp_path)], LC_ALL="C.UTF-8")
    session.expect("> ")
    session.say("Escribe")
    shown = session.expect("Fin.")
    for text in ("Título", "Un párrafo con negrita", "def suma(a, b):", "dentro", "Fin."):
        assert shown.count(text) == 1
    assert "**" not in shown
    session.tmux("resize-window", "-x", "40", "-y", "12")
    session.say("/ayuda")
    session.expect("/salir")
    assert session.leave() == "0"
