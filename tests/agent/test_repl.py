import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from agent.chat_words import ENGLISH as CHAT_EN
from agent.chat_words import SPANISH as CHAT_ES
from agent.conversation import Choice, Equipment, Shelf
from agent.folding import fold
from agent.repl import run_chat
from agent.screen import Screen
from agent.scripted import ScriptedRuntime, calls, says
from agent.setup import Setup
from agent.words import ENGLISH, SPANISH
from tests.agent.teaching_double import Written
from thaud.domain import Example, ToolCall
from thaud.errors import ModelError, ServerError, StorageError, UsageError
from thaud.formats import parse_line
from thaud.serving.runtime import Delta, Runtime

ROOT = Path(__file__).parents[2]


def equip(setup: Setup, folder: Path, *replies: Iterable[Delta], context_tokens: int = 4096) -> Equipment:
    """A chat with a scripted model; version 2 says one line."""

    def open_version(n: int | None) -> Runtime:
        if n == 3:
            raise ModelError("version 3 is damaged")
        said = [says("Soy otra.")] * 3 if n == 2 else replies
        return ScriptedRuntime(said, f"thau-nano-v{n or 1}", context_tokens, thinks=True)

    numbered = [Choice(n, f"thau-nano-v{n}") for n in (1, 2, 3)]
    shelf = Shelf("thau-nano-v1", lambda: numbered, open_version)
    return Equipment(shelf, setup, Written(folder / "taught.jsonl"))


def talk(
    setup: Setup, lines: str, *replies: Iterable[Delta], context_tokens: int = 4096
) -> tuple[str, int, list[dict[str, Any]]]:
    """What is shown, the exit code, and what was proposed."""
    shown = io.StringIO()
    kit = equip(setup, setup.transcripts.parent, *replies, context_tokens=context_tokens)
    code = run_chat(kit, stdin=io.StringIO(lines), console=Console(file=shown, width=60))
    taught = kit.setup.transcripts.parent / "taught.jsonl"
    rows = [json.loads(line) for line in taught.read_text("utf-8").splitlines()] if taught.exists() else []
    return shown.getvalue(), code, rows


def test_a_pipe_is_answered(setup: Setup) -> None:
    """Each line is a question; the output holds answers, calls and results, no prompt and no welcome."""
    shown, code, _ = talk(
        setup, "¿6*7?\n\nhola\n", calls(ToolCall("calculator", {"expression": "6*7"})), says("Son 42."), says("Hola.")
    )
    assert shown == '→ calculator({"expression":"6*7"})\n← 42\nSon 42.\nHola.\n'
    assert code == 0


def test_each_version_is_asked_as_its_age_wants(setup: Setup) -> None:
    """From age 15 on step by step, also after another version was chosen."""
    models = {n: ScriptedRuntime([says("Sí.")] * 2, f"v{n}") for n in (1, 2)}
    shelf = Shelf("v1", lambda: [Choice(1, "v1", age=11), Choice(2, "v2", age=15)], lambda n: models[n or 1])
    kit = Equipment(shelf, setup, Written(setup.transcripts.parent / "taught.jsonl"))
    run_chat(kit, stdin=io.StringIO("a\n/model 2\nb\n/model 1\nc\n"), console=Console(file=io.StringIO()))
    asked = [request.messages[0].content for n in (1, 2) for request in models[n].requests]
    assert [text.startswith("Go step by step") for text in asked] == [False, False, True]


def test_calls_are_hidden_while_streaming(setup: Setup) -> None:
    """No raw call reaches the screen, and the text around it does."""
    text = 'A ver. <tool_call>{"name": "calculator", "arguments": {"expression": "1+1"}}</tool_call>'
    shown, _, _ = talk(setup, "?\n", says(text, piece=2), says("2"))
    assert shown.splitlines()[0] == "A ver. "
    assert "<" not in shown.replace("← 2", "")


def test_long_answers_are_not_wrapped_by_us(setup: Setup) -> None:
    """What is piped on is the answer as it was said."""
    answer = " ".join(f"word{n}" for n in range(60))
    shown, _, _ = talk(setup, "?\n", says(answer, piece=7))
    assert shown == answer + "\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_our_own_lines_break_between_words(terminal: bool) -> None:  # noqa: FBT001 - a parameter
    """On a terminal no word of a notice is torn apart at the edge; elsewhere a line stays a line."""
    shown = io.StringIO()
    Screen(Console(file=shown, width=40, force_terminal=terminal, no_color=True), SPANISH, CHAT_ES).line(
        CHAT_ES.welcome
    )
    lines = shown.getvalue().splitlines()
    assert (len(lines) > 1) == terminal
    assert [word for line in lines for word in line.split()] == CHAT_ES.welcome.split()


def test_the_model_does_not_drive_the_terminal(setup: Setup) -> None:
    """Control sequences and markup in an answer are shown as text or not at all."""
    shown, _, _ = talk(setup, "?\n", says("\x1b[2J\x1b]0;x\x07[red]hi[/red] :smile:", piece=1))
    assert "\x1b" not in shown
    assert "[red]hi[/red] :smile:" in shown


@pytest.mark.parametrize("command", ["/teach", "/enseñar"])
def test_teaching_proposes_the_corrected_answer(setup: Setup, command: str) -> None:
    """The last question and the corrected answer are proposed, and the person reads what happens next."""
    shown, _, taught = talk(setup, f"¿6*7?\n{command} Son 42.\n", says("41"))
    assert taught == [{"kind": "teach", "question": "¿6*7?", "answer": "Son 42."}]
    assert "thau review" in shown


def test_good_and_bad_are_proposed(setup: Setup) -> None:
    """/good proposes the answer as it is, /bad says that the right one is missing, /bad TEXT gives it."""
    shown, _, taught = talk(setup, "q\n/good\n/bad\n/mal otra\n", says("a"))
    assert [(row["kind"], row["answer"]) for row in taught] == [("good", "a"), ("bad", ""), ("bad", "otra")]
    assert shown.count(CHAT_EN.review) == 1


@pytest.mark.parametrize("command", ["/teach x", "/good", "/bad", "/save", "/export x.md"])
def test_what_needs_an_answer_says_so(setup: Setup, command: str, tmp_path: Path) -> None:
    """Before there is an answer nothing is proposed or written, and the person reads why."""
    shown, code, taught = talk(setup, f"{command}\n")
    assert taught == []
    assert shown.startswith("Error: ")
    assert code == UsageError.exit_code


@pytest.mark.parametrize(("editor", "proposed"), [("false", False), ("true", False), ("sed -i s/41/42/", True)])
def test_teaching_in_the_editor(
    setup: Setup,
    monkeypatch: pytest.MonkeyPatch,
    editor: str,
    proposed: bool,  # noqa: FBT001 - a parameter
) -> None:
    """/teach opens $EDITOR on the last answer; an editor that fails, or leaves it as it was, proposes nothing."""
    monkeypatch.setenv("EDITOR", editor)
    monkeypatch.delenv("VISUAL", raising=False)
    shown, _, taught = talk(setup, "¿6*7?\n/teach\n", says("Son 41."))
    assert [row["answer"] for row in taught] == (["Son 42."] if proposed else [])
    assert (CHAT_EN.not_changed in shown) is not proposed


def test_an_editor_that_is_not_there_is_named(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says which editor, and the conversation goes on."""
    monkeypatch.setenv("VISUAL", "/nowhere/editor -w")
    shown, _, taught = talk(setup, "q\n/teach\nr\n", says("a"), says("b"))
    assert taught == []
    assert "/nowhere/editor" in shown
    assert shown.endswith("b\n")


def test_undo_takes_the_question_out_of_the_prompt(setup: Setup) -> None:
    """What was undone is not sent again; /retry asks it again with another seed."""
    runtime = ScriptedRuntime([says("a"), says("b"), says("c")])
    kit = Equipment(Shelf("x", list, lambda _: runtime), setup, Written(setup.transcripts.parent / "t"))
    run_chat(kit, stdin=io.StringIO("uno\n/undo\ndos\n/retry\n"), console=Console(file=io.StringIO()))
    asked = [[each.content for each in request.messages if each.role == "user"] for request in runtime.requests]
    assert asked == [["uno"], ["dos"], ["dos"]]


def test_another_version_goes_on(setup: Setup) -> None:
    """/model lists the versions and switches between them; the conversation stays; what fails leaves the old one."""
    shown, _, _ = talk(setup, "hola\n/model\n/model 2\nsigue\n/model 3\n/modelo x\notra\n/context\n", says("Soy v1."))
    assert "*   1  thau-nano-v1" in shown
    assert CHAT_EN.switched.format(model="thau-nano-v2") in shown
    assert "Error: version 3 is damaged" in shown
    assert f"Error: {CHAT_EN.which_version}" in shown
    assert shown.count("Soy otra.") == 2
    assert "3 questions" in shown


def test_a_model_that_does_not_load_is_said(setup: Setup) -> None:
    """Each question says why there is no answer, the exit code is the model's, and another version can be chosen."""

    def fail(n: int | None) -> Runtime:
        if n == 2:
            return ScriptedRuntime([says("Aquí.")])
        raise ModelError("the file is damaged")

    shown = io.StringIO()
    kit = Equipment(Shelf("x", lambda: [Choice(2, "y")], fail), setup, Written(setup.transcripts.parent / "t"))
    code = run_chat(kit, stdin=io.StringIO("hola\n/help\n"), console=Console(file=shown))
    assert code == ModelError.exit_code
    assert shown.getvalue().startswith("Error: the file is damaged\n/help")
    shown.truncate(0)
    run_chat(kit, stdin=io.StringIO("hola\n/model 2\nhola\n"), console=Console(file=shown))
    assert shown.getvalue().endswith("Aquí.\n")


def test_the_conversation_is_exported(setup: Setup, tmp_path: Path) -> None:
    """Markdown for people, one line of the training format where the name ends in .jsonl; nothing is overwritten."""
    markdown, jsonl = tmp_path / "chat.md", tmp_path / "chat.jsonl"
    lines = f"¿6*7?\n/export {markdown}\n/exportar {jsonl}\n/export {markdown}\n/save {tmp_path / 'a.txt'}\n"
    shown, _, _ = talk(setup, lines, calls(ToolCall("calculator", {"expression": "6*7"})), says("Son 42."))
    assert markdown.read_text("utf-8") == "# thau-nano-v1\n\n## ¿6*7?\n\n```\ncalculator 6*7\n42\n```\n\nSon 42.\n"
    example = parse_line(jsonl.read_bytes())
    assert isinstance(example, Example)
    assert [message.role for message in example.messages] == ["user", "assistant", "tool", "assistant"]
    assert CHAT_EN.exists.format(path=markdown) in shown
    assert (tmp_path / "a.txt").read_text() == "Son 42.\n"


def test_thinking_and_system_are_switched(setup: Setup) -> None:
    """/think and /system change what the next question is asked with."""
    runtime = ScriptedRuntime([says("a"), says("b")], thinks=True)
    kit = Equipment(Shelf("x", list, lambda _: runtime), setup, Written(setup.transcripts.parent / "t"))
    shown = io.StringIO()
    lines = "/think on\n/system Sé breve.\nuno\n/think off\n/system -\n/think maybe\ndos\n"
    run_chat(kit, stdin=io.StringIO(lines), console=Console(file=shown))
    assert [request.think for request in runtime.requests] == [True, False]
    assert [request.messages[0].content == "Sé breve." for request in runtime.requests] == [True, False]
    assert f"Error: {CHAT_EN.say_on_or_off}" in shown.getvalue()


def test_events_for_programs(setup: Setup) -> None:
    """--json gives one object a line: ready, call, result, text, usage, end; errors too."""
    shown = io.StringIO()
    kit = equip(setup, setup.transcripts.parent, calls(ToolCall("calculator", {"expression": "6*7"})), says("Son 42."))
    lines = io.StringIO("¿6*7?\n/context\nq\n")
    code = run_chat(kit, stdin=lines, console=Console(file=shown), as_json=True)
    events = [json.loads(line) for line in shown.getvalue().splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds[:4] == ["ready", "usage", "call", "result"]
    assert {"text", "say"} <= set(kinds)
    assert next(event for event in events if event["event"] == "end") == {
        "event": "end",
        "ending": "answered",
        "answer": "Son 42.",
    }
    assert (kinds[-1], events[-1]["exit_code"], code) == ("error", ModelError.exit_code, ModelError.exit_code)


@pytest.mark.parametrize("name", ["/help", "/ayuda", "/tools", "/herramientas", "/nonsense", "/hlp"])
def test_commands_speak_to_the_user(setup: Setup, name: str) -> None:
    """Commands work in both languages, and an unknown one is named."""
    shown, _, _ = talk(setup, f"{name}\n")
    expected = {"/help": "/retry", "/ayuda": "/retry", "/nonsense": "/nonsense", "/hlp": "mean /help?"}
    assert expected.get(name, "calculator") in shown


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
    """Where no definition fits, the chat and the list say why: once each, and not both at once."""
    line = CHAT_EN.no_tools.format(tokens=128) + "\n"
    assert talk(setup, "/tools\n", context_tokens=128)[0] == line
    assert talk(setup, "/context\n/tools\n", context_tokens=128)[0].count(line) == 2


def test_a_command_ends_at_any_blank(setup: Setup) -> None:
    """What follows it may begin on another line, as an answer that was pasted does."""
    _, _, (row,) = talk(setup, "?\n/teach\tDos.\n", says("Uno."))
    assert row["answer"] == "Dos."


@pytest.mark.parametrize(
    "line", ["/save a\0b", "/save ~nobody-of-that-name/x", "/export a\0.md", f"/model {'7' * 5000}"]
)
def test_an_impossible_argument_is_one_line(setup: Setup, line: str) -> None:
    """A name that no file can have, a number that is none: said, and the conversation goes on."""
    shown, code, _ = talk(setup, f"?\n{line}\n/context\n", says("Sí."))
    said, after = shown.splitlines()[1:]
    assert said.startswith("Error: ")
    assert after.startswith("Context: ")
    assert code == UsageError.exit_code


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
    assert done.stdout.endswith(b"< 42\nSon 42.\n")


def test_the_list_of_tools_names_the_workspace(setup: Setup) -> None:
    """The user learns which folder the model may read, and finds it there."""
    shown, _, _ = talk(setup, "/tools\n")
    assert str(setup.workspace) in shown
    assert setup.workspace.is_dir()


def test_a_workspace_that_cannot_be_made_is_named(setup: Setup, tmp_path: Path) -> None:
    """The error says which folder, and the exit code that nothing was answered."""
    (tmp_path / "file").write_text("")
    shown, code, _ = talk(replace(setup, workspace=tmp_path / "file" / "workspace"), "?\n")
    assert "cannot make the workspace" in shown
    assert code == StorageError.exit_code


def test_the_agent_is_light() -> None:
    """Before a model is loaded nothing heavy is: the prompt comes at once, and a pipe needs no line editor."""
    heavy = ("torch", "transformers", "numpy", "llama_cpp", "ddgs", "gguf", "prompt_toolkit", "ollama")
    code = f"import sys, agent.repl; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
