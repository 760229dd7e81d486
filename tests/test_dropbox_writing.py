"""Writing around the drop-box: files come in whole, rejected lines are kept once, trained files leave untouched."""

import json
from pathlib import Path

import pytest

from thaud.dropbox import (
    Quarantined,
    append_rejections,
    quarantine_path,
    scan,
    write_examples,
)
from thaud.dropbox.writing import MAX_QUARANTINE_BYTES
from thaud.errors import StorageError
from thaud.formats import age_from_name

BAD = Quarantined("a.jsonl", 3, "not JSON", '{"raw", "at": ', "2026-01-01T00:00:00Z")


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


def test_a_quarantine_that_was_removed_is_made_again(tmp_path: Path) -> None:
    """Whoever deletes the folder whole does not stop the intake; one that leads nowhere is a StorageError."""
    append_rejections(tmp_path / "rejected", [BAD])
    assert (tmp_path / "rejected" / "a.jsonl").exists()
    with pytest.raises(StorageError, match="cannot write into"):
        append_rejections(tmp_path / "nowhere" / "rejected", [BAD])
