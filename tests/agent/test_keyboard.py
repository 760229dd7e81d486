import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from agent.completion import Guesser
from agent.keyboard import KeptHistory, Keyboard, fitting


def guesser(folder: Path, language: str = "en") -> Guesser:
    return Guesser(language, folder, lambda: [(1, "thau-nano-v1"), (12, "thau-nano-v12")])  # type: ignore[arg-type]


def keyboard(folder: Path, shown: Callable[[], None] = lambda: None) -> Keyboard:
    return Keyboard(guesser(folder), folder / "history", lambda: ["model"], lambda: None, shown)


@pytest.fixture
def typed(tmp_path: Path) -> Iterator[object]:
    """Types keys into a line editor and gives what it reads."""
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):

        def read(text: str) -> str:
            keys.send_text(text)
            return keyboard(tmp_path).read()

        yield read


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ("hola\r", "hola"),
        ("uno\x1b\rdos\r", "uno\ndos"),
        ("uno\\\rdos\r", "uno\ndos"),
        ("\x1b[200~uno\rdos\x1b[201~\r", "uno\ndos"),
        ("hola\n", "hola"),
    ],
)
def test_lines_of_several_lines(typed: object, keys: str, line: str) -> None:
    """Enter sends, also where the terminal makes a newline of it; Escape Enter, a backslash and a paste do not."""
    assert typed(keys) == line  # type: ignore[operator]


def test_bytes_of_another_encoding_are_replaced(tmp_path: Path) -> None:
    """Half characters, which no model can be told, do not come out of a line editor."""
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        keys.send_bytes(b"se\xf1al \xc3\xb1\r")
        assert keyboard(tmp_path).read() == "se\ufffdal ñ"


def test_who_waits_for_the_prompt_is_told(tmp_path: Path) -> None:
    """Loading a model begins when the prompt is there, so that it does not keep it from being drawn."""
    drawn: list[str] = []
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        editor = keyboard(tmp_path, lambda: drawn.append("prompt"))
        assert drawn == []
        keys.send_text("hola\r")
        editor.read()
    assert drawn


def test_ctrl_d_ends_and_ctrl_c_empties(typed: object) -> None:
    """They are told apart."""
    with pytest.raises(EOFError):
        typed("\x04")  # type: ignore[operator]
    with pytest.raises(KeyboardInterrupt):
        typed("half a question\x03")  # type: ignore[operator]


def test_the_history_is_its_owners_alone(tmp_path: Path) -> None:
    """Mode 0600 whatever the umask, whole entries back in order, nothing that begins with a space."""
    path = tmp_path / "home" / "history"
    history = KeptHistory(path)
    for entry in ("uno", "dos\ntres", " secreto", "+más"):
        history.store_string(entry)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(KeptHistory(path).load_history_strings()) == ["+más", "dos\ntres", "uno"]


def test_a_history_that_cannot_be_written_costs_no_conversation(tmp_path: Path) -> None:
    """A folder in its place is passed over, in reading and in writing."""
    history = KeptHistory(tmp_path)
    history.store_string("uno")
    assert list(history.load_history_strings()) == []


@pytest.mark.parametrize(
    ("width", "line"), [(80, "model  1,830/4,096  9.0 tok/s"), (20, "model  1,830/4,096"), (3, "")]
)
def test_the_toolbar_fits(width: int, line: str) -> None:
    """In a narrow window what matters most is left."""
    assert fitting(["model", "1,830/4,096", "9.0 tok/s"], width) == line


@pytest.mark.parametrize(
    ("before", "language", "expected"),
    [
        ("/ex", "en", ["/export", "/exit"]),
        ("/ex", "es", ["/exportar"]),
        ("/he", "es", ["/herramientas"]),
        ("/und", "es", ["/undo"]),
        ("/model 1", "en", ["1", "12"]),
        ("/think o", "en", ["on", "off"]),
        ("look at @no", "en", ["@nota.txt", "@notes/"]),
        ("look at @notes/", "en", ["@a.md"]),
        ("me@example", "en", []),
        ("plain words", "en", []),
        ("@", "en", ["@nota.txt", "@notes/"]),
    ],
)
def test_what_could_come_next(tmp_path: Path, before: str, language: str, expected: list[str]) -> None:
    """Commands in the person's language, else in the other; versions; files of the workspace behind an @."""
    (tmp_path / "nota.txt").touch()
    (tmp_path / ".hidden").touch()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.md").touch()
    assert [each.text for each in guesser(tmp_path, language).guess(before)] == expected
