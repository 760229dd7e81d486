from datetime import UTC, datetime
from pathlib import Path

import pytest

from tools.base import Context
from tools.workspace import Workspace


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The workspace's folder; what lies beside it in tmp_path is outside."""
    path = tmp_path / "workspace"
    path.mkdir()
    return path


@pytest.fixture
def context(folder: Path) -> Context:
    return Context(Workspace(folder), lambda: datetime(2026, 3, 1, 12, 30, tzinfo=UTC), timeout_s=1.0)
