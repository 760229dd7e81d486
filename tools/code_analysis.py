"""Say what a Python file is made of and what is wrong with it. Owns the wording; refuses to run what it reads.

The parser works in a child of its own (apart.py), ruff, where there is one, behind the walls, or in a child as well: it
gets the text on its standard input and no configuration, so that nothing of the workspace steers it.
"""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from thaud.errors import ToolError
from tools.apart import ask_apart
from tools.base import Context, Risk, path_of, tool
from tools.outside import Bounds
from tools.read_file import read_capped

MOST_ROWS = 60
RUFF = (
    "check",
    "--isolated",
    "--no-cache",
    "--quiet",
    "--output-format=concise",
    "--select=E4,E7,E9,F,B,C90,PLE,S1,UP",
)


def find_ruff() -> str | None:
    """Where ruff is: beside this Python, or on the path."""
    beside = Path(sys.executable).with_name("ruff")
    return str(beside) if beside.is_file() else shutil.which("ruff")


def ask_ruff(context: Context, ruff: str, text: str) -> list[str]:
    """What ruff says, a line each; nothing where it cannot be run."""
    argv = [ruff, *RUFF, "--stdin-filename", "program.py", "-"]
    said = behind_walls(context, argv, text) if context.sandbox else in_child(argv, text, context.timeout_s)
    return [line.removeprefix("program.py:") for line in said.splitlines() if line.startswith("program.py:")]


def behind_walls(context: Context, argv: Sequence[str], text: str) -> str:
    """Run ruff as everything runs that is not ours; where the walls do not let it, do without."""
    assert context.sandbox
    try:
        done = context.sandbox.run(argv, stdin=text, bounds=Bounds(wall_s=context.timeout_s, processes=32))
    except ToolError:
        return ""
    return done.output if done.code in {0, 1} and done.stopped is None else ""


def in_child(argv: Sequence[str], text: str, timeout_s: float) -> str:
    """Run ruff where there are no walls: it reads its standard input and nothing else."""
    try:
        done = subprocess.run(
            argv, input=text, capture_output=True, timeout=timeout_s, check=False, encoding="utf-8", errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode in {0, 1} else ""


def describe(path: str, found: dict[str, Any], said: Sequence[str]) -> str:
    """The analysis in lines: what there is, then what is wrong."""
    functions = [
        f"line {row['line']}: {row['name']}{row['asks']} - {row['lines']} lines, complexity {row['complexity']}"
        for row in found["functions"]
    ]
    classes = [
        f"line {row['line']}: {row['name']}({', '.join(row['bases'])}): {', '.join(row['has']) or 'no methods'}"
        for row in found["classes"]
    ]
    wrong = [f"line {row['line']}: {row['words']}" for row in found["problems"]]
    sections = [
        ("imports", [", ".join(found["imports"])] if found["imports"] else []),
        ("classes", classes),
        ("functions", functions),
        ("problems", wrong),
        ("ruff", list(said)),
    ]
    lines = [f"{path}: {found['lines']} lines"]
    for title, rows in sections:
        lines += [f"{title}:", *(f"  {row}" for row in rows[:MOST_ROWS])] if rows else []
        lines += [f"  [{len(rows) - MOST_ROWS} more]"] if len(rows) > MOST_ROWS else []
    return "\n".join(lines if wrong or said else [*lines, "no problems found"])


def code_analysis(context: Context, path: Annotated[str, Field(min_length=1)]) -> str:
    """Analyse a Python file of the user's workspace: imports, classes, functions, complexity and problems.

    Raises ToolError for what is no Python, and see Workspace.

    Args:
        path: Python file inside the workspace, e.g. src/main.py
    """
    text, cut = read_capped(context.workspace, path)
    if not path.endswith((".py", ".pyi")) and not text.startswith("#!"):
        raise ToolError(f"{path!r} is no Python file: only those can be analysed; read it with read_file")
    if cut:
        raise ToolError(f"{path!r} is too long to be analysed")
    try:
        found = ask_apart("tools.dissecting", {"text": text}, context.timeout_s)
    except TimeoutError as error:
        raise ToolError(f"{path!r} takes too long to be analysed") from error
    ruff = find_ruff()
    return describe(path, found, ask_ruff(context, ruff, text) if ruff else [])


TOOL = tool(code_analysis, Risk.READS, subject=path_of, foreign=True)
