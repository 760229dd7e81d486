from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tools.base import Context, Tool
from tools.workspace import Workspace


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The workspace's folder; what lies beside it in tmp_path is outside."""
    path = tmp_path / "workspace"
    path.mkdir()
    return path


@pytest.fixture
def context(folder: Path) -> Context:
    return Context(Workspace(folder), lambda: datetime(2026, 3, 1, 12, 30, tzinfo=UTC))


@pytest.fixture
def call(context: Context) -> Callable[..., str]:
    """Calls a tool as the toolbox does: its arguments are validated first."""

    def perform(tool: Tool, **arguments: object) -> str:
        return tool.perform(tool.accept(arguments), context)

    return perform
