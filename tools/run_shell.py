"""Run a shell command that a model wrote. Owns the command line, which is all of the call; refuses to run it without
walls.
"""

from typing import Annotated

from pydantic import Field

from thaud.errors import ToolError
from tools.base import Context, Risk, Values, tool
from tools.sandbox.said import said

MOST_CHARACTERS = 20_000


def run_shell(context: Context, command: Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS)]) -> str:
    """Run a command with sh in the workspace and return what it prints. It has no network and no input.

    Where it runs is a part of it (`cd app && make`), so that rules see that too.

    Args:
        command: the command line
    """
    if context.sandbox is None:
        raise ToolError("programs cannot be run here")
    if "\0" in command:
        raise ToolError("a command holds no NUL")
    return said(context.sandbox.run(["sh", "-c", command]))


def subject(values: Values) -> str:
    """The command line."""
    return str(values["command"])


TOOL = tool(run_shell, Risk.RUNS, subject=subject, foreign=True)
