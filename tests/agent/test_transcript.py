import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.transcript import Transcript
from thaud.errors import StorageError


def clock() -> datetime:
    return datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


def test_lines_are_there_as_soon_as_they_are_added(tmp_path: Path) -> None:
    """Each event is a JSON object on its own line, readable before anything is closed, by the user alone."""
    transcript = Transcript(tmp_path / "transcripts", clock)
    transcript.add("message", message={"role": "user", "content": "¿6*7?\n"})
    transcript.add("end", ending="answered")
    rows = [json.loads(line) for line in transcript.path.read_text(encoding="utf-8").splitlines()]
    assert [row["event"] for row in rows] == ["message", "end"]
    assert rows[0]["at"] == "2026-03-01T12:30:00.000+00:00"
    assert rows[0]["message"]["content"] == "¿6*7?\n"
    assert transcript.path.stat().st_mode & 0o077 == 0
    transcript.save()


def test_nothing_is_rewritten(tmp_path: Path) -> None:
    """A saved transcript goes on where it ended."""
    transcript = Transcript(tmp_path, clock)
    transcript.add("first")
    transcript.save()
    before = transcript.path.read_bytes()
    transcript.add("second")
    transcript.save()
    assert transcript.path.read_bytes().startswith(before)
    assert len(transcript.path.read_text().splitlines()) == 2


def test_no_event_no_file(tmp_path: Path) -> None:
    """A chat in which nothing was said leaves nothing behind."""
    Transcript(tmp_path / "transcripts", clock).save()
    assert not (tmp_path / "transcripts").exists()


def test_broken_text_is_kept(tmp_path: Path) -> None:
    """Half a surrogate pair, as a byte-level model can say, does not lose the line."""
    transcript = Transcript(tmp_path, clock)
    transcript.add("reply", text="a\ud83d")
    transcript.save()
    assert "\\ud83d" in transcript.path.read_text()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """The error says which file could not be written."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write the transcript"):
        Transcript(tmp_path / "file" / "transcripts", clock).add("first")
