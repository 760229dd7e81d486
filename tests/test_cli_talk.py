import io
import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.agent.test_llama_cpp import AFTER_TOOL, CALL, MARKED, TEMPLATE
from tests.seeded import freeze, make_home, open_ledger, promote, take_in
from tests.testkit.scripted_gguf import write_scripted_gguf
from thaud.cli import make_app, run
from thaud.cli.agent_kit import furnish, make_setup
from thaud.cli.door import Door
from thaud.cli.shelf import choose_version
from thaud.domain import Score
from thaud.home import Home
from tools.sandbox import Walls, why_not
from tools.sandbox.unsafe import LOUD

Invoke = Callable[..., tuple[int, str, str]]
ROOM = 32768
ROOM_FOR_TOOLS = f"\n[stages.0]\ncontext_tokens = {ROOM}\n"


def add_version(home: Home, n: int, gguf: Path) -> None:
    with open_ledger(home) as ledger:
        spec = freeze(ledger, take_in(ledger, 0, 3, f"{n}.jsonl"), 0, "thau-nano")
        promote(ledger, spec, n, Score(3, 3), None, str(gguf))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Version 1 says one thing; version 2, the champion, calls the calculator."""
    home = make_home(tmp_path / "home")
    with home.config.open("a", encoding="utf-8") as config:
        config.write(ROOM_FOR_TOOLS)
    write_scripted_gguf(tmp_path / "1.gguf", ["Hola, soy v1."], chat_template=TEMPLATE + "{% endif %}")
    template = TEMPLATE + MARKED[AFTER_TOOL] + "{% endif %}"
    write_scripted_gguf(
        tmp_path / "2.gguf", CALL, after={AFTER_TOOL: ["Son 42."]}, chat_template=template, context_length=ROOM
    )
    for n in (1, 2):
        add_version(home, n, tmp_path / f"{n}.gguf")
    return home


@pytest.fixture
def thau(home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Invoke:
    def invoke(*words: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        code = run(make_app(), ["--home", str(home.root), *words], "thau")
        out, err = capsys.readouterr()
        return code, out, err

    return invoke


def test_ask_prints_the_answer(thau: Invoke) -> None:
    """ask loads the version's own file into llama.cpp and prints what it says."""
    assert thau("ask", "Hola", "--version", "1")[:2] == (0, "Hola, soy v1.\n")


def test_ask_as_json(thau: Invoke) -> None:
    """ask --json names the version that answered."""
    code, out, _ = thau("ask", "Hola", "--version", "1", "--json")
    assert code == 0
    assert json.loads(out) == {"version": "thau-nano-v1", "question": "Hola", "answer": "Hola, soy v1."}


def test_ask_with_tools(thau: Invoke) -> None:
    """ask --tools lets the champion call the calculator and prints the answer that it gives with the result."""
    assert thau("ask", "¿Cuánto es 6*7?", "--tools")[:2] == (0, "Son 42.\n")


def test_ask_refuses_what_does_not_fit(thau: Invoke) -> None:
    """A question longer than the context is one line with exit code 14."""
    code, _, err = thau("ask", "x" * 5000, "--version", "1")
    assert (code, err.count("\n")) == (14, 1)


def test_ask_where_the_file_is_gone(thau: Invoke, home: Home, tmp_path: Path) -> None:
    """A version whose file was deleted is one line with exit code 14, and says which file."""
    add_version(home, 3, tmp_path / "gone.gguf")
    code, _, err = thau("ask", "Hola")
    assert (code, err.count("\n")) == (14, 1)
    assert "gone.gguf" in err


def test_chat_from_a_pipe(thau: Invoke, home: Home) -> None:
    """chat answers each line, keeps a transcript, and what is corrected waits for `thau review`."""
    code, out, _ = thau("chat", stdin="¿Cuánto es 6*7?\n/teach Cuarenta y dos\n")
    (path,) = home.proposed.iterdir()
    assert code == 0
    assert "Son 42." in out
    assert "Cuarenta y dos" in path.read_text("utf-8")
    assert list(home.queue.iterdir()) == []
    assert len(list(home.transcripts.iterdir())) == 1


def test_a_workspace_that_is_no_folder(thau: Invoke, tmp_path: Path) -> None:
    """A workspace that is not there is a usage error, before any model is loaded."""
    assert thau("chat", "--workspace", str(tmp_path / "nowhere"))[0] == 2


def test_bytes_that_are_no_text(thau: Invoke) -> None:
    """A question typed in another encoding is asked with what is no text replaced."""
    code, out, _ = thau("ask", "ma\udcff", "--version", "1", "--json")
    assert (code, json.loads(out)["question"]) == (0, "ma\ufffd")


@pytest.mark.parametrize("command", ["ask Hola --version 1", "chat --version 1", "ask --version 1"])
def test_without_standard_input(home: Home, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """A service starts us with standard input closed: there is nothing on it."""
    monkeypatch.setattr(sys, "stdin", None)
    words = ["--home", str(home.root), *command.split()]
    assert run(make_app(), words, "thau") == (2 if command == "ask --version 1" else 0)
    sys.stdin.close()


def test_programs_without_walls(thau: Invoke, home: Home, tmp_path: Path) -> None:
    """--unsafe is said at the start and with each result; without it walls are looked for when a program runs."""
    with home.config.open("a", encoding="utf-8") as config:
        config.write('\n[agent.approvals]\nrun_python = "allow"\n')
    template = TEMPLATE + MARKED[AFTER_TOOL] + "{% endif %}"
    run_it = ["<tool_call>", '\n{"name": "run_python", "arguments": {"code": "print(6*7)"}}\n', "</tool_call>"]
    write_scripted_gguf(
        tmp_path / "3.gguf", run_it, after={AFTER_TOOL: ["Hecho."]}, chat_template=template, context_length=ROOM
    )
    add_version(home, 3, tmp_path / "3.gguf")
    code, out, err = thau("ask", "Corre", "--tools", "--json", "--unsafe")
    (result,) = [event for event in map(json.loads, out.splitlines()) if event.get("event") == "result"]
    assert code == 0
    assert result["ok"]
    assert LOUD.strip() in result["text"]
    assert "42" in result["text"]
    assert "--unsafe" in err


def test_walls_are_not_tried_before_a_program_runs(home: Home) -> None:
    """Trying them takes seconds, and most conversations run nothing."""
    door = Door(home.root)
    tried = why_not.cache_info()
    setup = make_setup(door, choose_version(door, 1), None)
    with ExitStack() as stack:
        sandbox = furnish(door, setup, stack, None).setup.sandbox
    assert isinstance(sandbox, Walls)
    assert why_not.cache_info() == tried


def test_ask_with_tools_as_events(thau: Invoke) -> None:
    """--tools --json prints an event a line, and the promised object last."""
    code, out, _ = thau("ask", "¿Cuánto es 6*7?", "--tools", "--json")
    *events, last = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert last == {"version": "thau-nano-v2", "question": "¿Cuánto es 6*7?", "answer": "Son 42."}
    assert [event["event"] for event in events if event["event"] in {"call", "result", "end"}] == [
        "call",
        "result",
        "end",
    ]


def test_what_is_piped_goes_with_the_question(thau: Invoke) -> None:
    """Text behind the question does no harm, more than fits is cut and said; alone it is the question."""
    assert thau("ask", "Resume", "--version", "1", stdin="poco")[:2] == (0, "Hola, soy v1.\n")
    code, out, err = thau("ask", "Resume", "--version", "1", stdin="mucho " * 20_000)
    assert (code, out) == (0, "Hola, soy v1.\n")
    assert err.count("\n") == 1
    assert json.loads(thau("ask", "--version", "1", "--json", stdin="Hola\n")[1])["question"] == "Hola"
    assert thau("ask", "--version", "1")[0] == 2


def test_a_conversation_is_listed_and_gone_on_with(thau: Invoke) -> None:
    """--list names it, --resume goes on with it, by its id or as the last; an id without --resume is refused."""
    assert thau("chat", stdin="¿Cuánto es 6*7?\n")[0] == 0
    (found,) = json.loads(thau("chat", "--list", "--json")[1])
    assert (found["title"], found["questions"], found["model"]) == ("¿Cuánto es 6*7?", 1, "thau-nano-v2")
    assert found["id"] in thau("chat", "--list")[1]
    assert "2 " in thau("chat", "--resume", found["id"], stdin="¿Y otra vez?\n/context\n")[1].splitlines()[-1]
    assert json.loads(thau("chat", "--list", "--json")[1])[0]["questions"] == 2
    assert thau("chat", found["id"])[0] == 2
    assert thau("chat", "--resume", "nonsense")[0] == 2
