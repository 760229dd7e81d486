import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.agent.test_llama_cpp import AFTER_TOOL, CALL, MARKED, TEMPLATE
from tests.seeded import freeze, make_home, open_ledger, promote, take_in
from tests.testkit.scripted_gguf import write_scripted_gguf
from thaud.cli import make_app, run
from thaud.domain import Example, Score
from thaud.formats import parse_line
from thaud.home import Home

Invoke = Callable[..., tuple[int, str, str]]
ROOM_FOR_TOOLS = "\n[stages.0]\ncontext_tokens = 4096\n"


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
    write_scripted_gguf(tmp_path / "2.gguf", CALL, after={AFTER_TOOL: ["Son 42."]}, chat_template=template)
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
    """chat answers each line, keeps a transcript, and what is corrected goes into the drop-box."""
    code, out, _ = thau("chat", stdin="¿Cuánto es 6*7?\n/teach Cuarenta y dos\n")
    (path,) = home.queue.iterdir()
    example = parse_line(path.read_bytes())
    assert code == 0
    assert "Son 42." in out
    assert isinstance(example, Example)
    assert [message.content for message in example.messages] == ["¿Cuánto es 6*7?", "Cuarenta y dos"]
    assert len(list(home.transcripts.iterdir())) == 1


def test_a_workspace_that_is_no_folder(thau: Invoke, tmp_path: Path) -> None:
    """A workspace that is not there is a usage error, before any model is loaded."""
    assert thau("chat", "--workspace", str(tmp_path / "nowhere"))[0] == 2
