"""list_files, search_files and code_analysis: what is in the workspace."""

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import monotonic

import pytest

from thaud.errors import ToolError
from tools import code_analysis, list_files, search_files
from tools.apart import ask_apart
from tools.base import Context
from tools.outside import Bounds, Finished

Call = Callable[..., str]


@pytest.fixture
def tree(folder: Path) -> Path:
    """A few files, a link out and what nobody wants to read."""
    for name, text in [("b.txt", "Uno\ndos"), ("a/x.py", "uno = 1\n"), ("a/deep/y.py", "# uno\n"), (".git/c", "uno")]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder.parent / "secret.txt").write_text("uno secreto")
    (folder / "door").symlink_to("..", target_is_directory=True)
    (folder / "link.txt").symlink_to("../secret.txt")
    (folder / ".env").write_text("uno=key")
    return folder


def test_a_folder_is_listed(tree: Path, call: Call) -> None:
    """Names in order, folders and links told apart, sizes in bytes."""
    assert call(list_files.TOOL) == ".env 7 bytes\n.git/\na/\nb.txt 7 bytes\ndoor (link)\nlink.txt (link)"
    assert call(list_files.TOOL, path="a") == "a/deep/\na/x.py 8 bytes"
    assert call(list_files.TOOL, path=".", pattern="*.py", recursive=True) == "a/deep/y.py 6 bytes\na/x.py 8 bytes"
    assert call(list_files.TOOL, pattern="*.md") == "[nothing there]"


@pytest.mark.parametrize("path", ["..", "/", "/etc", "door", "door/x", "none", ".ssh", "a/../.."])
@pytest.mark.parametrize("tool", [list_files.TOOL, search_files.TOOL], ids=lambda tool: tool.name)
def test_listing_and_searching_stay_inside(tree: Path, call: Call, tool: object, path: str) -> None:
    """Neither parents nor links are looked into, and what is no folder is told."""
    words = {"text": "secreto"} if tool is search_files.TOOL else {}
    with pytest.raises(ToolError, match=re.escape(repr(path))):
        call(tool, path=path, **words)


def test_names_cannot_forge_lines(folder: Path, call: Call) -> None:
    """A name with a newline, an escape or bytes that are no text is one line, spelled out."""
    for name in (b"a\nb.txt 5 bytes", b"\x1b[2Jx", b"\xff"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(b"uno")
    assert call(list_files.TOOL).splitlines() == [
        "\\u001b[2Jx 3 bytes", "a\\u000ab.txt 5 bytes 3 bytes", "\\udcff 3 bytes",
    ]  # fmt: skip
    assert len(call(search_files.TOOL, text="uno").splitlines()) == 3


def test_listings_are_bounded(folder: Path, context: Context, call: Call) -> None:
    """Many files give so many lines, and no time gives what there was time for."""
    for number in range(list_files.MOST_LISTED + 5):
        (folder / f"{number:04}").touch()
    lines = call(list_files.TOOL).splitlines()
    assert len(lines) == list_files.MOST_LISTED + 1
    assert lines[-1].startswith("[more than")
    assert "stopped" in list_files.TOOL.perform({}, replace(context, timeout_s=0.0))


def test_what_is_not_looked_at_is_told(folder: Path, context: Context) -> None:
    """Of a folder with too many names the answer says that there are more, whatever is looked for."""
    (folder / "crowd").mkdir()
    for name in ("a", "b", "crowd/c", "crowd/d", "crowd/e"):
        (folder / name).touch()

    def look(most: int) -> list[str]:
        small = replace(context, workspace=replace(context.workspace, most_entries=most))
        listed = list_files.TOOL.perform({"pattern": "no*", "recursive": True}, small)
        return [listed, search_files.TOOL.perform({"text": "x", "pattern": "no*"}, small)]

    assert look(3) == ["[nothing there]", "[nothing found]"]
    assert look(2)[0].startswith("[. holds more than 2 names")
    assert "folder with too many" in look(2)[1]


def test_folders_of_secrets_are_not_entered(folder: Path, call: Call) -> None:
    """Their names are told, and nothing of what is in them, also where a secret is known by its way alone."""
    for name in (".config/gh/hosts.yml", ".ssh/id", ".config/app/x"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("uno")
    told = call(list_files.TOOL, recursive=True)
    assert told == ".config/\n.config/app/\n.config/app/x 3 bytes\n.config/gh/\n.ssh/"
    assert call(search_files.TOOL, text="uno") == ".config/app/x:1: uno"


def test_a_text_far_into_a_line_is_found(folder: Path, call: Call) -> None:
    """A line may be as long as a file: a line of JSON often is."""
    (folder / "long.jsonl").write_text("x" * 500_000 + "needle\n")
    assert call(search_files.TOOL, text="Needle").startswith("long.jsonl:1: ")


def test_a_text_is_found(tree: Path, call: Call) -> None:
    """Each line with its file and number, of any case unless it counts; links, secrets and .git are left out."""
    told = call(search_files.TOOL, text="uno")
    assert told.splitlines()[:3] == ["a/deep/y.py:1: # uno", "a/x.py:1: uno = 1", "b.txt:1: Uno"]
    assert "secreto" not in told
    assert "key" not in told
    assert call(search_files.TOOL, text="Uno", ignore_case=False, pattern="*.txt") == "b.txt:1: Uno"
    assert call(search_files.TOOL, text="Uno", path="b.txt") == "b.txt:1: Uno"
    assert call(search_files.TOOL, text="u.o", path="a") == "[nothing found]"


def test_an_expression_is_found(tree: Path, call: Call) -> None:
    """A regular expression finds what it should, and a wrong one is explained."""
    assert call(search_files.TOOL, text=r"^u\w+\s=", regex=True, path="a") == "a/x.py:1: uno = 1"
    with pytest.raises(ToolError, match="no regular expression"):
        call(search_files.TOOL, text="(", regex=True)


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "(.*a){25}$", "([a-z]+)*\\d"])
def test_a_catastrophic_expression_ends(folder: Path, context: Context, pattern: str) -> None:
    """An expression that would take years is ended, and the model is told what to do instead."""
    (folder / "a.txt").write_text("a" * 60 + "!")
    began = monotonic()
    with pytest.raises(ToolError, match="takes too long"):
        search_files.TOOL.perform({"text": pattern, "regex": True}, replace(context, timeout_s=0.5))
    assert monotonic() - began < 30


def test_searches_are_bounded(folder: Path, call: Call) -> None:
    """Many hits, long lines, large files and files that are no text neither fill the answer nor fail it."""
    (folder / "many").write_text("uno\n" * 1000)
    lines = call(search_files.TOOL, text="uno").splitlines()
    assert len(lines) == search_files.MOST_FOUND + 1
    (folder / "many").write_text("uno" + "x" * 10_000)
    assert len(call(search_files.TOOL, text="uno")) < 300
    (folder / "many").unlink()
    (folder / "raw").write_bytes(b"\0uno")
    (folder / "large").write_bytes(b"uno" + b"x" * search_files.MOST_FILE_BYTES)
    assert call(search_files.TOOL, text="uno").splitlines() == [
        "[nothing found]", "[1 file that are too large]", "[1 file that are no text]",
    ]  # fmt: skip


PROGRAM = """\
import os
import sys as system
from json import *
from .near import thing


class Shape(Base):
    def area(self, scale=[]):
        if scale and self:
            return sum(x for x in scale if x)
        return thing
        print("never")


def shape():
    try:
        return eval("1") == None
    except:
        pass


def shape():
    pass
"""


def test_a_program_is_taken_apart(folder: Path, call: Call) -> None:
    """Imports, classes, functions with their complexity, and what is wrong, each with its line."""
    (folder / "p.py").write_text(PROGRAM)
    told = call(code_analysis.TOOL, path="p.py")
    for words in (
        "p.py: 23 lines",
        ".near, json, os, sys",
        "line 7: Shape(Base): area",
        "line 8: Shape.area(self, scale=[]) - 5 lines, complexity 5",
        "line 15: shape() - 5 lines, complexity 2",
        "line 1: os is imported and not used",
        "line 2: system is imported and not used",
        "line 8: area: a default that can be changed",
        "what follows line 11 is never reached",
        "line 17: eval runs whatever its text says",
        "line 17: None is compared with `is`",
        "line 18: a bare except",
        "shape of line 15 is defined again in line 22",
    ):
        assert words in told, (words, told)


def test_a_program_without_fault_says_so(folder: Path, call: Call) -> None:
    """Where nothing is wrong, that is told and nothing is made up."""
    (folder / "p.py").write_text('"""A module."""\n\n\ndef f(x: int) -> int:\n    """Twice."""\n    return 2 * x\n')
    assert call(code_analysis.TOOL, path="p.py").splitlines() == [
        "p.py: 6 lines", "functions:", "  line 4: f(x: int) - 3 lines, complexity 1", "no problems found",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("p.py", "def f(:\n", "syntax error"),
        ("p.py", "a\0b", "syntax error|could not be read"),
        ("p.py", "(" * 5000, "syntax error|could not be read"),
        ("p.py", "-" * 50_000 + "1", "lines|could not be read"),
        ("p.py", "a" + ".a" * 50_000, "lines|could not be read"),
        ("p.txt", "uno", "no Python file"),
        ("p.py", "x\n" * 200_000, "too long"),
    ],
)
def test_no_program_breaks_the_analysis(folder: Path, call: Call, name: str, text: str, told: str) -> None:
    """Whatever is in a file, this process goes on: the parser's falls are words."""
    (folder / name).write_text(text)
    try:
        said = call(code_analysis.TOOL, path=name)
    except ToolError as error:
        said = str(error)
    assert any(words in said for words in told.split("|")), said


class Walls:
    """Walls that note what is to run behind them."""

    name = "double"

    def __init__(self) -> None:
        self.argv: list[str] = []
        self.stdin = ""

    def run(self, argv: list[str], *, folder: str = ".", stdin: str = "", bounds: Bounds | None = None) -> Finished:
        self.argv, self.stdin = list(argv), stdin
        return Finished(1, "program.py:1:1: F401 it is not used\nnoise\n", 0.1)


def test_ruff_runs_behind_the_walls(folder: Path, context: Context) -> None:
    """Where there are walls, ruff works behind them, on its standard input alone and without a configuration."""
    if code_analysis.find_ruff() is None:
        pytest.skip("no ruff here")
    (folder / "p.py").write_text("import os\n")
    walls = Walls()
    told = code_analysis.TOOL.perform({"path": "p.py"}, replace(context, sandbox=walls))
    assert told.endswith("ruff:\n  1:1: F401 it is not used")
    assert {"--isolated", "--no-cache", "-"} <= set(walls.argv)
    assert walls.stdin == "import os\n"


def test_a_child_gets_no_folder_and_no_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in the folders of this process does not decide what runs apart; what fails there is an error here."""
    (tmp_path / "ast.py").write_text("raise SystemExit('planted')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert ask_apart("tools.dissecting", {"text": "import os"}, 5.0)["imports"] == ["os"]
    with pytest.raises(ToolError, match="could not be read"):
        ask_apart("no.such.module", {}, 5.0)
