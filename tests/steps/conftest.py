from pathlib import Path

import pytest

from tests.testkit.llama_cpp_source import source_or_skip
from tests.testkit.tiny_models import write_tiny_adapter, write_tiny_base


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny tied base whose logits are spread."""
    return write_tiny_base(tmp_path_factory.mktemp("base"), init_std=0.2)


@pytest.fixture(scope="session")
def adapter(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    """An adapter for `base` that changes its answers."""
    return write_tiny_adapter(tmp_path_factory.mktemp("adapter"), base)


@pytest.fixture(scope="session")
def converters() -> Path:
    """The folder of llama.cpp's own converters; skips, or fails in CI, where it cannot be had."""
    return source_or_skip()
