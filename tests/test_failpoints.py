"""Fail-points: every effect has its names, every name its effect, and each action does what it says."""

import ast
import errno
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testkit.daemon import wait_until
from thaud.errors import ConfigError
from thaud.failpoints import ACTS, COMMITS, FILES, POINTS, Failpoints, reach

SOURCES = Path(__file__).parent.parent / "thaud"
CHILD = """
import sys
from thaud.failpoints import FAILPOINTS, reach
FAILPOINTS.arm(sys.argv[1])
for point in sys.argv[2:]:
    reach(point)
print("alive")
"""


def calls() -> Iterator[tuple[str, list[str]]]:
    """(function, its constant string arguments) for every call in the sources."""
    for path in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                values = [each.value for each in node.args if isinstance(each, ast.Constant)]
                yield name, [value for value in values if isinstance(value, str)]


def passed_in_code() -> set[str]:
    """Every point that some line of the sources passes."""
    found: set[str] = set()
    for name, strings in calls():
        if name == "reach":
            found |= set(strings)
        elif name == "transaction":
            found |= {f"ledger.{effect}.{when}" for effect in strings for when in ("before", "after")}
        elif name == "write_durably":
            found |= {f"file.{effect}.{when}" for effect in strings[-1:] for when in ("before", "between", "after")}
        elif name == "put_in_place":
            found |= {f"file.{effect}.{when}" for effect in strings[-1:] for when in ("between", "after")}
    return found


def test_every_name_is_passed_and_every_passing_has_a_name() -> None:
    """The list of points and the sources agree, so that the crash harness misses none."""
    passed = passed_in_code()
    assert sorted(set(POINTS) - passed) == []
    assert sorted(passed - set(POINTS)) == []


def test_no_name_is_listed_twice() -> None:
    """Each effect has one name."""
    assert len(set(POINTS)) == len(POINTS) == 2 * len(COMMITS) + 3 * len(FILES) + 2 * len(ACTS)


def removes_or_renames(path: Path) -> bool:
    """Whether a module calls what takes a file away or gives it another name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in {"unlink", "rename", "rmdir", "rmtree"}:
                return True
            if node.func.attr == "replace" and len(node.args) == 1 and not node.keywords:  # a Path's
                return True
    return False


def test_who_removes_or_renames_passes_a_point() -> None:
    """A module that does such a thing to a home's files passes points there; the others are none of the daemon's."""
    others = ("nano/", "serving/fake/", "demo.py")
    silent = [
        path.relative_to(SOURCES).as_posix()
        for path in sorted(SOURCES.rglob("*.py"))
        if removes_or_renames(path) and "reach(" not in path.read_text(encoding="utf-8")
    ]
    assert [name for name in silent if not name.startswith(others)] == []


def child(setting: str, *points: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CHILD, setting, *points], capture_output=True, text=True, check=False, timeout=60
    )


def test_crash_is_a_sigkill() -> None:
    """The process is gone at the point, without a last word."""
    died = child("ledger.note.before=crash", "ledger.note.after", "ledger.note.before")
    assert (died.returncode, died.stdout) == (-signal.SIGKILL, "")


def test_the_nth_passing_counts_and_then_it_rests() -> None:
    """`@3` lets two by; a point that has gone off does not go off again."""
    point = "ledger.note.before"
    assert child(f"{point}=crash@3", point, point).stdout == "alive\n"
    assert child(f"{point}=crash@3", point, point, point).returncode == -signal.SIGKILL
    armed = Failpoints()
    armed.arm(f"{point}=eio@2")
    armed.pass_by(point)
    with pytest.raises(OSError, match="Input/output error"):
        armed.pass_by(point)
    armed.pass_by(point)


@pytest.mark.parametrize(("action", "number"), [("enospc", errno.ENOSPC), ("eio", errno.EIO)])
def test_errors_are_the_systems(action: str, number: int) -> None:
    """What is raised looks as if the kernel had said it, and names the point."""
    armed = Failpoints()
    armed.arm(f"move.trained.before={action}")
    with pytest.raises(OSError, match=r"move\.trained\.before") as raised:
        armed.pass_by("move.trained.before")
    assert raised.value.errno == number


def test_wait_says_that_it_is_there_and_goes_on(tmp_path: Path) -> None:
    """It makes GATE.reached, holds the process, and lets it go when the gate is made."""
    gate = tmp_path / "gate"
    waiting = subprocess.Popen(
        [sys.executable, "-c", CHILD, f"spawn.step.before=wait:{gate}", "spawn.step.before"], stdout=subprocess.PIPE
    )
    wait_until((tmp_path / "gate.reached").exists, what="the process at its gate")
    assert waiting.poll() is None
    gate.touch()
    assert waiting.communicate(timeout=30)[0] == b"alive\n"


def test_trace_lists_what_was_passed(tmp_path: Path) -> None:
    """Every passing is a line, in order, also where nothing is armed for it; what goes off says so before it does."""
    trace = tmp_path / "trace"
    assert child(f"trace={trace}", "file.spec.before", "file.spec.after", "file.spec.before").stdout == "alive\n"
    assert trace.read_text().split() == ["file.spec.before", "file.spec.after", "file.spec.before"]
    trace.unlink()
    child(f"trace={trace},file.spec.after=crash@2", "file.spec.after", "file.spec.after")
    assert trace.read_text().split() == ["file.spec.after", "file.spec.after", "file.spec.after=crash"]


@pytest.mark.parametrize(
    "setting",
    [
        "no.such.point=crash",
        "file.spec.before",
        "file.spec.before=",
        "file.spec.before=explode",
        "file.spec.before=crash@0",
        "file.spec.before=crash@x",
        "file.spec.before=wait",
        "file.spec.before=crash:/tmp/gate",
    ],
)
def test_a_setting_that_names_nothing_is_refused(setting: str) -> None:
    """One line with the value; a misspelt point would prove nothing."""
    with pytest.raises(ConfigError, match=re.escape(setting.partition("=")[0])):
        Failpoints().arm(setting)


def test_unarmed_it_is_a_look_at_one_attribute() -> None:
    """Nothing is armed by importing, and a point that is passed then looks nowhere else."""
    code = "from thaud.failpoints import FAILPOINTS as f; print(f.on, f.charges, f.trace)"
    environment = {"THAU_FAILPOINTS": "ledger.note.before=crash", "PATH": ""}
    seen = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment, cwd=SOURCES.parent
    )
    assert seen.stdout == "False {} None\n"
    assert reach.__code__.co_names[:2] == ("FAILPOINTS", "on")
    reach("any name at all: nobody looks at it")
