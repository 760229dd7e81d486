import json
import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from tools.sanitise import strip_controls

ROOT = Path(__file__).parents[2]
DEADLINE_S = 30.0
PROMPT = ">"
CTRL_C, CTRL_D = "\x03", "\x04"


class Terminal:
    """A person at a pseudo-terminal: reads until something appears, types."""

    def __init__(self, scene: str, folder: Path) -> None:
        self.master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (40, 200))
        environment = {**os.environ, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
        command = [sys.executable, "-m", "tests.agent.chat_child", scene, str(folder)]
        self.child = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, cwd=ROOT, env=environment, start_new_session=True
        )
        os.close(slave)
        self.raw = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.child.kill()
        self.child.wait()
        os.close(self.master)

    def read(self, timeout_s: float) -> str:
        """What came; nothing where the other side is closed or silent."""
        if not select.select([self.master], [], [], timeout_s)[0]:
            return ""
        try:
            return os.read(self.master, 65536).decode(errors="replace")
        except OSError:
            return ""

    def expect(self, text: str) -> str:
        """Read until the text was shown since what was last expected; gives what was shown up to it."""
        deadline = time.monotonic() + DEADLINE_S
        while text not in (shown := strip_controls(self.raw)):
            assert time.monotonic() < deadline, f"no {text!r} in {shown[-2000:]!r}"
            self.raw = self.raw[-100_000:] + self.read(0.2)
        before, _, self.raw = shown.partition(text)
        return before

    def type(self, keys: str) -> None:
        """Press keys, now."""
        os.write(self.master, keys.encode())

    def say(self, line: str) -> None:
        """Wait for the prompt, type a line and Enter."""
        self.expect(PROMPT)
        self.type(line + "\r")

    def leave(self) -> int:
        """Read to the end and give the exit code."""
        deadline = time.monotonic() + DEADLINE_S
        while self.child.poll() is None:
            assert time.monotonic() < deadline, "the chat did not end"
            self.raw += self.read(0.1)
        return self.child.returncode


@pytest.fixture
def sit_down(tmp_path: Path) -> Iterator[Callable[[str], Terminal]]:
    opened: list[Terminal] = []

    def open_terminal(scene: str) -> Terminal:
        opened.append(Terminal(scene, tmp_path))
        return opened[-1]

    yield open_terminal
    for terminal in opened:
        terminal.__exit__(None, None, None)


def events(folder: Path) -> list[dict[str, object]]:
    (path,) = (folder / "transcripts").iterdir()
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_conversation_at_a_terminal(sit_down: Callable[[str], Terminal], tmp_path: Path) -> None:
    """A person asks, sees the call, its result and the answer, corrects it, and leaves; the example is written."""
    terminal = sit_down("sum")
    terminal.expect("thau-nano-v1")
    terminal.say("¿Cuánto es 6*7?")
    shown = terminal.expect("Son 42.")
    assert "calculator 6*7 → 42" in shown
    assert "tool_call" not in shown
    terminal.say("/enseñar Es 42, exactamente.")
    terminal.expect("Propuesto")
    terminal.say("/salir")
    assert terminal.leave() == 0
    taught = json.loads((tmp_path / "taught.jsonl").read_text(encoding="utf-8"))
    assert taught == {"kind": "teach", "question": "¿Cuánto es 6*7?", "answer": "Es 42, exactamente."}
    assert events(tmp_path)[-1]["event"] == "end"


def test_ctrl_c_stops_the_answer_and_not_the_program(sit_down: Callable[[str], Terminal], tmp_path: Path) -> None:
    """Ctrl-C in the middle of an endless answer gives the prompt back; at the prompt it does nothing; Ctrl-D ends."""
    terminal = sit_down("endless")
    terminal.say("cuenta")
    terminal.expect("bla bla bla")
    terminal.type(CTRL_C)
    terminal.expect("(detenido)")
    terminal.say("sigues?")
    terminal.expect("Otra vez aquí.")
    terminal.expect(PROMPT)
    terminal.type(CTRL_C)
    terminal.expect(PROMPT)
    terminal.type(CTRL_D)
    assert terminal.leave() == 0
    assert [event["ending"] for event in events(tmp_path) if event["event"] == "end"] == ["stopped", "answered"]


@pytest.mark.parametrize(("answer", "sent"), [("s", True), ("n", False), ("", False)])
def test_a_call_is_approved_at_the_terminal(
    sit_down: Callable[[str], Terminal],
    tmp_path: Path,
    answer: str,
    sent: bool,  # noqa: FBT001
) -> None:
    """A call that sends something is shown whole and runs only after a yes."""
    terminal = sit_down("send")
    terminal.say("manda hello")
    assert "+hello" in terminal.expect("¿Permitir?")
    assert not (tmp_path / "workspace" / "sent.txt").exists()
    terminal.type(answer + "\r")
    terminal.expect("Done with it.")
    assert (tmp_path / "workspace" / "sent.txt").exists() is sent
    terminal.say("/exit")
    assert terminal.leave() == 0
