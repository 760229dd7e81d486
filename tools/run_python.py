"""Run Python that a model wrote. Owns the command and the words of the result; refuses to run it without walls."""

import sys
from typing import Annotated

from pydantic import Field

from thaud.errors import ToolError
from tools.base import Context, Risk, Values, Verbatim, tool
from tools.sandbox.said import said

FLAGS = ("-I", "-B", "-u", "-X", "utf8")
MOST_CHARACTERS = 100_000


def run_python(context: Context, code: Annotated[Verbatim, Field(min_length=1, max_length=MOST_CHARACTERS)]) -> str:
    """Run a Python program in the workspace and return what it prints. It has no network, and each run starts anew.

    Args:
        code: the program; print() what you want to see.
    """
    if context.sandbox is None:
        raise ToolError("programs cannot be run here")
    return said(context.sandbox.run([sys.executable, *FLAGS, "-"], stdin=code))


def subject(values: Values) -> str:
    """The program, whole: a rule is about all of it."""
    return str(values["code"])


def preview(values: Values, _: Context) -> str:
    """The program in its lines: the subject has them in one."""
    return str(values["code"])


TOOL = tool(run_python, Risk.RUNS, subject=subject, preview=preview, foreign=True)
