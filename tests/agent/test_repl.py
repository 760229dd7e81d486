import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from agent.repl import run_chat
from agent.screen import Screen, fold
from agent.scripted import ScriptedRuntime, calls, says
from agent.setup import Setup
from agent.words import ENGLISH, SPANISH
from tests.agent.conftest import Rows
from thaud.domain import ToolCall
from thaud.errors import ServerError, StorageError
from thaud.serving.runtime import Delta

ROOT = Path(__file__).parents[2]


def talk(
    setup: Setup, lines: str, *replies: Iterable[Delta], context_tokens: int = 4096
) -> tuple[str, int, list[tuple[str, str]]]:
    """What is shown, the exit code, and what was taught."""
    taught: list[tuple[str, str]] = []

    def teach(question: str, answer: str) -> Path:
        taught.append((question, answer))
        return Path("queue/taught.jsonl")

    shown = io.StringIO()
    runtime = ScriptedRuntime(replies, context_tokens=context_tokens)
    console = Console(file=shown, width=60)
    code = run_chat(runtime, setup, teach=teach, stdin=io.StringIO(lines), console=console)
    return shown.getvalue(), code, taught


def test_a_pipe_is_answered(setup: Setup) -> None:
    """Each line is a question; the output holds answers, calls and results, no prompt and no welcome."""
    shown, code, _ = talk(
        setup, "¿6*7?\n\nhola\n", calls(ToolCall("calculator", {"expression": "6*7"})), says("Son 42."), says("Hola.")
    )
    assert shown == '→ calculator({"expression":"6*7"})\n← 42\nSon 42.\nHola.\n'
    assert code == 0


def test_calls_are_hidden_while_streaming(setup: Setup) -> None:
    """No raw call reaches the screen, and the text around it does."""
    text = 'A ver. <tool_call>{"name": "calculator", "arguments": {"expression": "1+1"}}</tool_call>'
    shown, _, _ = talk(setup, "?\n", says(text, piece=2), says("2"))
    assert shown.splitlines()[0] == "A ver. "
    assert "<" not in shown.replace("← 2", "")


def test_long_answers_are_not_wrapped_by_us(setup: Setup) -> None:
    """What is piped on is the answer as it was said."""
    answer = "word " * 60 + "end"
    shown, _, _ = talk(setup, "?\n", says(answer, piece=7))
    assert shown == answer + "\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_our_own_lines_break_between_words(terminal: bool) -> None:  # noqa: FBT001 - a parameter
    """On a terminal no word of a notice is torn apart at the edge; elsewhere a line stays a line."""
    shown = io.StringIO()
    Screen(Console(file=shown, width=40, force_terminal=terminal, no_color=True), SPANISH).line(SPANISH.welcome)
    lines = shown.getvalue().splitlines()
    assert (len(lines) > 1) == terminal
    assert [word for line in lines for word in line.split()] == SPANISH.welcome.split()


def test_the_model_does_not_drive_the_terminal(setup: Setup) -> None:
    """Control sequences and markup in an answer are shown as text or not at all."""
    shown, _, _ = talk(setup, "?\n", says("\x1b[2J\x1b]0;x\x07[red]hi[/red] :smile:", piece=1))
    assert "\x1b" not in shown
    assert "[red]hi[/red] :smile:" in shown


@pytest.mark.parametrize("command", ["/teach", "/enseñar"])
def test_teaching_hands_over_the_last_question(setup: Setup, transcript: Rows, command: str) -> None:
    """The last question and the corrected answer become an example, and the transcript says where."""
    shown, _, taught = talk(setup, f"¿6*7?\n{command} Son 42.\n", says("41"))
    assert taught == [("¿6*7?", "Son 42.")]
    assert "queue/taught.jsonl" in shown
    assert transcript()[-1]["event"] == "teach"


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("/teach x\n", ENGLISH.nothing_to_teach),
        ("q\n/teach\n", ENGLISH.teach_what),
        ("q\n/clear\n/teach x\n", ENGLISH.nothing_to_teach),
    ],
)
def test_teaching_needs_a_question_and_an_answer(setup: Setup, lines: str, told: str) -> None:
    """Without either nothing is written, and the user reads why."""
    shown, _, taught = talk(setup, lines, says("a"))
    assert taught == []
    assert told in shown


def test_a_failed_lesson_does_not_end_the_chat(setup: Setup) -> None:
    """A full disk is one line; the conversation goes on."""
    shown = io.StringIO()

    def teach(_: str, __: str) -> Path:
        raise StorageError("the disk is full")

    code = run_chat(
        ScriptedRuntime([says("a"), says("b")]),
        setup,
        teach=teach,
        stdin=io.StringIO("q\n/teach x\nq\n"),
        console=Console(file=shown, width=60),
    )
    assert shown.getvalue() == "a\nError: the disk is full\nb\n"
    assert code == 0


@pytest.mark.parametrize("name", ["/help", "/ayuda", "/tools", "/herramientas", "/nonsense"])
def test_commands_speak_to_the_user(setup: Setup, name: str) -> None:
    """Commands work in both languages, and an unknown one is named."""
    shown, _, _ = talk(setup, f"{name}\n")
    expected = {"/help": ENGLISH.help, "/ayuda": ENGLISH.help, "/nonsense": "/nonsense"}.get(name, "calculator")
    assert expected in shown


@pytest.mark.parametrize("name", ["/exit", "/quit", "/salir"])
def test_exit_ends(setup: Setup, name: str) -> None:
    """What comes after is not answered."""
    assert talk(setup, f"{name}\nhola\n")[:2] == ("", 0)


def test_a_failing_server_is_one_line_and_an_exit_code(setup: Setup) -> None:
    """A pipe learns that its last question was not answered, without a traceback."""

    def fail() -> Iterable[Delta]:
        raise ServerError("the server is gone")
        yield

    shown, code, _ = talk(setup, "?\n", fail())
    assert shown == "Error: the server is gone\n"
    assert code == ServerError.exit_code


@pytest.mark.parametrize(("done", "told", "code"), [("length", "(cut: ", 0), ("aborted", "(the answer broke off", 1)])
def test_half_an_answer_says_so(setup: Setup, done: str, told: str, code: int) -> None:
    """What was said is shown, and that it is not whole."""
    shown, left, _ = talk(setup, "?\n", says("Once upon", done=done))  # type: ignore[arg-type]
    assert shown.startswith("Once upon\n" + told)
    assert left == code


def test_a_small_model_has_no_tools(setup: Setup) -> None:
    """Where no definition fits, the list says why it is empty."""
    assert talk(setup, "/tools\n", context_tokens=128)[0] == ENGLISH.no_tools.format(tokens=128) + "\n"


def test_both_languages_say_everything() -> None:
    """Every ending and every notice has words in both languages."""
    assert SPANISH.endings.keys() == ENGLISH.endings.keys()
    assert SPANISH.notices.keys() == ENGLISH.notices.keys()


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("42", "42"),
        ("42\n", "42"),
        ("a\nb", "a\n  b"),
        ("1\n2\n3\n4\n5\n6\n7", "1\n  2\n  3\n  4\n  5\n  6 …"),
        ("", ""),
        ("x" * 700, "x" * 600 + " …"),
    ],
)
def test_long_results_are_folded(text: str, folded: str) -> None:
    """The screen shows the beginning; the model and the transcript have the whole."""
    assert fold(text) == folded


def test_ctrl_c_ends_a_pipe(tmp_path: Path) -> None:
    """Where nobody can type the next question, Ctrl-C ends the program with the shell's code, the transcript saved."""
    command = [sys.executable, "-m", "tests.agent.chat_child", "endless", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write("cuenta\n")
        child.stdin.flush()
        assert child.stdout.read(12) == "bla bla bla "
        child.send_signal(signal.SIGINT)
        child.stdin.close()
        rest = child.stdout.read()
    assert child.returncode == 130
    assert rest.endswith("(detenido)\n")
    (path,) = (tmp_path / "transcripts").iterdir()
    assert json.loads(path.read_text().splitlines()[-1])["ending"] == "stopped"


def test_input_that_is_no_utf8_is_still_a_question(tmp_path: Path) -> None:
    """A pipe in another encoding is answered, not ended with a traceback; so is a terminal that lacks a character."""
    command = [sys.executable, "-m", "tests.agent.chat_child", "sum", str(tmp_path)]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        command, cwd=ROOT, input=b"\xbfCu\xe1nto es 6*7?\n", capture_output=True, check=False, env=environment
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.endswith(b"? 42\nSon 42.\n")


def test_the_list_of_tools_names_the_workspace(setup: Setup) -> None:
    """The user learns which folder the model may read, and finds it there."""
    shown, _, _ = talk(setup, "/tools\n")
    assert str(setup.workspace) in shown
    assert setup.workspace.is_dir()


def test_a_workspace_that_cannot_be_made_is_named(setup: Setup, tmp_path: Path) -> None:
    """The error says which folder, before the first question."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot make the workspace"):
        talk(replace(setup, workspace=tmp_path / "file" / "workspace"), "?\n")


def test_the_agent_is_light() -> None:
    """Before a model is loaded nothing heavy is: the prompt comes at once, and a pipe needs no line editor."""
    heavy = ("torch", "transformers", "numpy", "llama_cpp", "ddgs", "gguf", "prompt_toolkit", "ollama")
    code = f"import sys, agent.repl; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
