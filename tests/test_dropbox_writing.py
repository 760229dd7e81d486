"""Writing around the drop-box: files come in whole, rejected lines are kept once, trained files leave untouched."""

import json
import os
from pathlib import Path

import pytest

from thaud.config import Queue
from thaud.dropbox import (
    Batch,
    Position,
    Quarantined,
    append_rejections,
    quarantine_path,
    read_batch,
    retire,
    scan,
    write_examples,
)
from thaud.dropbox.writing import MAX_QUARANTINE_BYTES
from thaud.errors import StorageError
from thaud.formats import age_from_name

BAD = Quarantined("a.jsonl", 3, "not JSON", '{"raw", "at": ', "2026-01-01T00:00:00Z")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """The drop-box and the folder of trained files."""
    queue, trained = tmp_path / "training_queue", tmp_path / "trained"
    queue.mkdir()
    trained.mkdir()
    return queue, trained


def position_of(queue: Path, name: str) -> Position:
    """Where a file stands when all of it has been read."""
    [file] = [file for file in scan(queue).files if file.name == name]
    batch = read_batch(queue, file, None, Queue(), quiet=True)
    assert isinstance(batch, Batch)
    assert batch.finished
    return batch.position


def test_lines_arrive_as_one_finished_file(tmp_path: Path) -> None:
    """A written file is whole, ends in a line end, carries the age of its stem, and leaves nothing temporary."""
    paths = [write_examples(tmp_path, ['{"a": "ñ"}', "{}"], "age_3_toddler") for _ in range(2)]
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert paths[0].read_bytes() == '{"a": "ñ"}\n{}\n'.encode()
    assert [age_from_name(path.name) for path in paths] == [3, 3]
    assert [file.name for file in scan(tmp_path).files] == sorted(path.name for path in paths)


@pytest.mark.parametrize("stem", ["", "../../etc/passwd", ".hidden", "a b\n", "ñ" * 300, "\U00020000" * 99])
def test_any_stem_gives_a_name_that_is_read(tmp_path: Path, stem: str) -> None:
    """Whatever a file was called, its copy lands in the drop-box, under a name that a scan lists."""
    path = write_examples(tmp_path, ["{}"], stem)
    assert path.parent == tmp_path
    assert [file.name for file in scan(tmp_path).files] == [path.name]


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """Lines that cannot all be had leave no file, and a folder that is not there is a StorageError."""

    def lines() -> list[str]:
        raise StorageError("the source broke")

    with pytest.raises(StorageError, match="the source broke"):
        write_examples(tmp_path, (line for _ in range(2) for line in lines()), "x")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StorageError, match="cannot write into the drop-box"):
        write_examples(tmp_path / "nowhere", ["{}"], "x")


def test_rejections_are_kept_once(tmp_path: Path) -> None:
    """A line is in quarantine once, by file, line and raw text, however often it is reported and at whatever time."""
    other = Quarantined("a.jsonl", 4, "not JSON", "ñ", BAD.at)
    append_rejections(tmp_path, [BAD, BAD])
    append_rejections(tmp_path, [Quarantined(BAD.file, BAD.line, BAD.reason, BAD.raw, "later"), other])
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert rows == [
        {"file": "a.jsonl", "line": row.line, "reason": row.reason, "raw": row.raw, "at": row.at}
        for row in (BAD, other)
    ]


def test_half_a_quarantined_line_is_made_good(tmp_path: Path) -> None:
    """After a crash in the middle of an append, the line is written again, whole."""
    (tmp_path / "a.jsonl").write_text(BAD.to_line()[:30])
    append_rejections(tmp_path, [BAD])
    append_rejections(tmp_path, [BAD])
    assert (tmp_path / "a.jsonl").read_text() == BAD.to_line()[:30] + "\n" + BAD.to_line()


def test_a_quarantine_file_stops_growing(tmp_path: Path) -> None:
    """A file in quarantine is no copy of a huge file: at its limit it takes no more."""
    with (tmp_path / "a.jsonl").open("wb") as file:
        file.truncate(MAX_QUARANTINE_BYTES)
    append_rejections(tmp_path, [BAD])
    assert (tmp_path / "a.jsonl").stat().st_size == MAX_QUARANTINE_BYTES


def test_quarantine_files_are_jsonl(tmp_path: Path) -> None:
    """Every file in quarantine can be read as JSONL and has the name of its source in its own."""
    assert quarantine_path(tmp_path, "a.jsonl") == tmp_path / "a.jsonl"
    assert quarantine_path(tmp_path, "a.json") == tmp_path / "a.json.jsonl"
    with pytest.raises(StorageError, match="cannot write into"):
        append_rejections(tmp_path / "nowhere", [BAD])


def test_a_trained_file_moves_out(folders: tuple[Path, Path]) -> None:
    """A file that is unchanged since it was read moves as it is; a taken name is not overwritten."""
    queue, trained = folders
    (trained / "a.jsonl").write_text("older")
    (queue / "a.jsonl").write_text("{}\n")
    assert retire(queue, trained, "a.jsonl", position_of(queue, "a.jsonl")) == trained / "a-2.jsonl"
    assert (trained / "a-2.jsonl").read_text() == "{}\n"
    assert (trained / "a.jsonl").read_text() == "older"
    assert list(queue.iterdir()) == []


def test_a_changed_or_vanished_file_stays_where_it_is(folders: tuple[Path, Path]) -> None:
    """A file that grew, was rewritten or is gone since it was read is not moved."""
    queue, trained = folders
    path = queue / "a.jsonl"
    path.write_text("{}\n")
    position = position_of(queue, "a.jsonl")
    with path.open("a") as file:
        file.write("{}\n")
    assert retire(queue, trained, "a.jsonl", position) is None
    path.write_text("[]\n")
    os.utime(path, ns=(position.mtime_ns, position.mtime_ns))
    assert retire(queue, trained, "a.jsonl", position) is None
    path.unlink()
    assert retire(queue, trained, "a.jsonl", position) is None
    assert list(trained.iterdir()) == []


def test_a_file_that_a_program_still_writes_stays(folders: tuple[Path, Path]) -> None:
    """A file held open for appending is not moved away under its writer, who may go on with it."""
    queue, trained = folders
    with (queue / "a.jsonl").open("a") as writer:
        writer.write("{}\n")
        writer.flush()
        position = position_of(queue, "a.jsonl")
        assert retire(queue, trained, "a.jsonl", position) is None
    assert retire(queue, trained, "a.jsonl", position) == trained / "a.jsonl"


def test_a_missing_folder_for_trained_files_is_an_error(folders: tuple[Path, Path]) -> None:
    """A move that is refused says from where to where, and the file stays."""
    queue, trained = folders
    (queue / "a.jsonl").write_text("{}\n")
    trained.rmdir()
    with pytest.raises(StorageError, match=r"cannot move a\.jsonl from"):
        retire(queue, trained, "a.jsonl", position_of(queue, "a.jsonl"))
    assert (queue / "a.jsonl").exists()
