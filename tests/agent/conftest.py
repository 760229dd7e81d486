import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.setup import Setup
from agent.state import Notice
from agent.toolbox import Result
from thaud.domain import ToolCall

Rows = Callable[[], list[dict[str, Any]]]


@dataclass(slots=True)
class Notes:
    """A listener that writes everything down."""

    shown: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    details: list[str] = field(default_factory=list)

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


def clock() -> datetime:
    return datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path / "transcripts", tmp_path / "workspace", clock=clock)


@pytest.fixture
def transcript(setup: Setup) -> Rows:
    """Reads the one transcript that was written."""

    def read() -> list[dict[str, Any]]:
        (path,) = setup.transcripts.iterdir()
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    return read
