"""Listing the drop-box: what is read, what is named with a reason, and what is passed over in silence."""

import os
from pathlib import Path

import pytest

from thaud.dropbox import scan
from thaud.errors import StorageError


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    folder = tmp_path / "training_queue"
    folder.mkdir()
    return folder


def test_a_scan_lists_files_and_says_what_it_ignores(queue: Path, tmp_path: Path) -> None:
    """Regular .jsonl and .json files are listed by name; links, folders, FIFOs and other kinds are named with why."""
    for name in ("b.jsonl", "A.JSON", "c.jsonl.2", "e.jsonl.1.GZ", "notes.txt", "d.json.gz"):
        (queue / name).touch()
    (tmp_path / "outside.jsonl").touch()
    (queue / "link.jsonl").symlink_to(tmp_path / "outside.jsonl")
    (queue / "folder.jsonl").mkdir()
    os.mkfifo(queue / "pipe.jsonl")
    found = scan(queue)
    assert [file.name for file in found.files] == ["A.JSON", "b.jsonl", "c.jsonl.2", "e.jsonl.1.GZ"]
    reasons = {item.name: item.reason for item in found.ignored}
    assert sorted(reasons) == ["d.json.gz", "folder.jsonl", "link.jsonl", "notes.txt", "pipe.jsonl"]
    assert "symbolic link" in reasons["link.jsonl"]
    assert "unpack" in reasons["d.json.gz"]


def test_unfinished_files_are_passed_over_in_silence(queue: Path) -> None:
    """What editors and copying programs are still writing is neither read nor complained about."""
    for name in (".a.jsonl.swp", ".hidden.jsonl", "a.jsonl~", "#a.jsonl#", "a.jsonl.tmp", "a.jsonl.part", ".gitkeep"):
        (queue / name).touch()
    assert scan(queue) == scan(queue)
    assert (scan(queue).files, scan(queue).ignored) == ((), ())


def test_a_name_that_is_no_text_is_ignored_with_a_reason(queue: Path) -> None:
    """A name that is not UTF-8 is shown in a form that can be stored."""
    (queue / os.fsdecode(b"\xff.jsonl")).touch()
    [ignored] = scan(queue).ignored
    assert ignored.name == "\\xff.jsonl"
    assert "rename" in ignored.reason


def test_a_missing_folder_is_one_clear_error(tmp_path: Path) -> None:
    """A drop-box that is gone is a StorageError that names the folder and the remedy."""
    with pytest.raises(StorageError, match=r"nowhere is gone: make the folder again"):
        scan(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot list the drop-box"):
        scan(tmp_path / "file")
