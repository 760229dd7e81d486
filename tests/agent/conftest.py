import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.approval import Ask
from agent.dialects.hermes import CLOSE, OPEN
from agent.loop import Agent
from agent.scripted import ScriptedRuntime
from agent.setup import Setup, open_agent
from agent.state import Notice, Repair, Usage
from agent.toolbox import Result
from thaud.domain import ToolCall
from thaud.serving.runtime import Delta
from tools import calculator, current_time, read_file, web_search

Rows = Callable[[], list[dict[str, Any]]]


@dataclass(slots=True)
class Notes:
    """A listener that writes everything down."""

    shown: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    details: list[str] = field(default_factory=list)
    thought: str = ""
    usages: list[Usage] = field(default_factory=list)
    repairs: list[Repair] = field(default_factory=list)

    def text(self, piece: str) -> None:
        """Note a piece."""
        self.shown += piece

    def called(self, call: ToolCall) -> None:
        """Note a call."""
        self.calls.append(call)

    def returned(self, call: ToolCall, result: Result) -> None:
        """Note a result."""
        self.results.append(result)

    def notice(self, notice: Notice, detail: str = "") -> None:
        """Note a notice."""
        self.notices.append(notice)
        self.details.append(detail)

    def thinking(self, piece: str) -> None:
        """Note a thought."""
        self.thought += piece

    def spent(self, usage: Usage) -> None:
        """Note what a reply took."""
        self.usages.append(usage)

    def repaired(self, repair: Repair) -> None:
        """Note a lesson."""
        self.repairs.append(repair)


SQUARES = " ".join(str(number * number) for number in range(250))
SUM = ToolCall("calculator", {"expression": "6*7"})


def call_text(expression: str) -> str:
    return f'{OPEN}\n{{"name": "calculator", "arguments": {{"expression": "{expression}"}}}}\n{CLOSE}'


def open_scripted(
    setup: Setup, notes: Notes, *replies: Iterable[Delta], ask: Ask | None = None, context_tokens: int = 4096
) -> tuple[Agent, ScriptedRuntime]:
    runtime = ScriptedRuntime(replies, context_tokens=context_tokens)
    return open_agent(runtime, setup, notes, ask), runtime


def clock() -> datetime:
    return datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    tools = (calculator.TOOL, current_time.TOOL, read_file.TOOL, web_search.TOOL)
    return Setup(tmp_path / "transcripts", tmp_path / "workspace", tools=tools, clock=clock)


@pytest.fixture
def transcript(setup: Setup) -> Rows:
    """Reads the one transcript that was written."""

    def read() -> list[dict[str, Any]]:
        (path,) = setup.transcripts.iterdir()
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    return read
