import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tools.base import Context, Risk, tool
from tools.plugins import GROUP, find_plugins
from tools.registry import TOOLS

NAMES = frozenset(each.name for each in TOOLS)
PACKAGE = '''
import sys
from tools.base import Context, Risk, tool


def dice(context: Context, sides: int = 6) -> str:
    """Throw a die.

    Args:
        sides: how many sides
    """
    return str(sides)


TOOL = tool(dice, Risk.COMPUTES)
NOT_A_TOOL = 5


def fails():
    raise RuntimeError("no")
'''


@dataclass(frozen=True)
class Entry:
    """An entry point that brings what it was given, or raises it."""

    brings: object
    name: str = "sample"
    value: str = "sample:TOOL"

    def load(self) -> object:
        if isinstance(self.brings, BaseException):
            raise self.brings
        return self.brings


def sample(_: Context) -> str:
    """A sample."""
    return "x"


SAMPLE = tool(sample, Risk.READS)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package with entry points, as pip leaves it: one good, others broken in their ways."""
    (tmp_path / "dicey.py").write_text(PACKAGE)
    (tmp_path / "broken.py").write_text("import nothing_of_that_name\n")
    (tmp_path / "leaver.py").write_text("raise SystemExit(3)\n")
    about = tmp_path / "dicey-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: dicey\nVersion: 1.0\n")
    points = "a = broken:TOOL\nb = dicey:NOT_A_TOOL\nc = leaver:TOOL\nd = dicey:MISSING\ne = dicey:TOOL\n"
    (about / "entry_points.txt").write_text(f"[{GROUP}]\n{points}")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in ("dicey", "broken", "leaver"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("installed")
def test_an_installed_tool_is_found_and_broken_ones_are_named(context: Context) -> None:
    """A package's tool works as ours do; whatever is wrong with the others is a sentence each and ends nothing."""
    tools, complaints = find_plugins(NAMES)
    (dice,) = (each for each in tools if each.name == "dice")
    assert dice.perform(dice.accept({"sides": 20}), context) == "20"
    for words in ("a (broken:TOOL) brings no tool: No module", "b (dicey:NOT_A_TOOL) brings no tool: it names a int",
                  "c (leaver:TOOL) brings no tool: 3", "d (dicey:MISSING) brings no tool: "):  # fmt: skip
        assert any(words in each for each in complaints), (words, complaints)


@pytest.mark.parametrize(
    "name",
    ["read_file", "calculator", "Read_file", "files__read", "", "a b", "re\u0430d_file", "_x", "x" * 60, "\x1b[2J"],
)
def test_no_tool_can_be_taken_for_another(name: str) -> None:
    """The name of one of ours, of an MCP server's, or one that only looks like a name, is refused."""
    tools, (complaint,) = find_plugins(NAMES, [Entry(replace(SAMPLE, name=name))])
    assert tools == ()
    assert "brings no tool" in complaint


def test_of_two_tools_of_a_name_the_first_counts() -> None:
    """Two packages cannot both bring a name; which one does is always the same."""
    entries = [Entry(replace(SAMPLE, description="two"), "b"), Entry([SAMPLE, replace(SAMPLE, name="other")], "a")]
    tools, complaints = find_plugins(NAMES, entries)
    assert [(each.name, each.description) for each in tools] == [("sample", "A sample."), ("other", "A sample.")]
    assert complaints == ("the plugin b (sample:TOOL) brings no tool: there is a tool sample already",)


@pytest.mark.parametrize(
    "brings",
    [RuntimeError("no"), SystemExit(1), None, "text", [SAMPLE, 5], replace(SAMPLE, risk="reads"),
     replace(SAMPLE, description=" "), replace(SAMPLE, schema=None)],
)  # fmt: skip
def test_nothing_that_a_plugin_does_ends_the_chat(brings: object) -> None:
    """Errors, exits and values that are no tools become one complaint."""
    tools, complaints = find_plugins((), [Entry(brings), Entry(SAMPLE, "good")])
    assert [each.name for each in tools] == ["sample"]
    assert len(complaints) == 1


def test_ctrl_c_is_not_swallowed() -> None:
    """A person may end what a plugin takes too long over."""
    with pytest.raises(KeyboardInterrupt):
        find_plugins((), [Entry(KeyboardInterrupt())])
