"""The oracle's source: only the one meant, and never missed in silence."""

from pathlib import Path

import pytest
from _pytest.outcomes import Failed, Skipped

from tests.testkit.llama_cpp_source import SDIST, SourceMissingError, find_source, source_or_skip


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and an index that is not there; the folder of the cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "no-index").as_uri())
    return tmp_path / "thau-tests"


def test_missing_source_skips_with_the_reason(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the source a test is skipped, and says what is not shown."""
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(Skipped, match=r"NOT SHOWN: equality with llama\.cpp's converter; .* the package index"):
        source_or_skip()


def test_missing_source_fails_in_ci(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where CI=true nothing is skipped: the test fails."""
    monkeypatch.setenv("CI", "true")
    with pytest.raises(Failed, match=r"not to be had"):
        source_or_skip()


def test_another_source_is_refused(nowhere: Path) -> None:
    """A file of that name with other bytes is not unpacked, and its digest is told."""
    nowhere.mkdir()
    (nowhere / SDIST).write_bytes(b"something else")
    with pytest.raises(SourceMissingError, match=r"has the digest [0-9a-f]{64}, not 832db069"):
        find_source()
    assert [path.name for path in nowhere.iterdir()] == [SDIST]
