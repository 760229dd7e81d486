"""Trained files leave the drop-box whole and once: within a file system, across two, and after a crash in between."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from tests.dropbox_model import take_in_and_die
from tests.seeded import freeze, promote
from tests.testkit.box import Box, append, line, lines
from thaud.config import Queue
from thaud.domain import Score, Side
from thaud.dropbox import Batch, Position, batches, retire, scan
from thaud.dropbox.retiring import TEMPORARY
from thaud.errors import StorageError


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
    *_, batch = batches(queue, file, None, Queue(), quiet=lambda _: True)
    assert isinstance(batch, Batch)
    assert batch.finished
    return batch.position


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


@pytest.mark.parametrize(
    ("name", "second"),
    [
        ("x.jsonl.gz", "x-2.jsonl.gz"),
        ("x.jsonl.1", "x-2.jsonl.1"),
        ("x" * 249 + ".jsonl", "x" * 247 + "-2.jsonl"),
        ("ñ" * 124 + ".jsonl", "ñ" * 123 + "-2.jsonl"),
    ],
)
def test_a_taken_name_keeps_its_suffix_and_fits(folders: tuple[Path, Path], name: str, second: str) -> None:
    """The second file of a name gets a number before its whole suffix, and never a name that is too long."""
    queue, trained = folders
    (trained / name).write_text("older")
    (queue / name).touch()
    assert retire(queue, trained, name, position_of(queue, name)) == trained / second


def test_across_file_systems(elsewhere: Path, tmp_path: Path) -> None:
    """Where the drop-box is a mount point, the file is copied with its bytes, mode and time, and then leaves."""
    path = elsewhere / "a.jsonl"
    path.write_bytes(os.urandom(3 << 20).hex().encode())
    path.chmod(0o640)
    os.utime(path, ns=(1, 1_600_000_000_000_000_001))
    data, position = path.read_bytes(), position_of(elsewhere, "a.jsonl")
    assert retire(elsewhere, tmp_path, "a.jsonl", position) == tmp_path / "a.jsonl"
    there = (tmp_path / "a.jsonl").stat()
    assert ((tmp_path / "a.jsonl").read_bytes(), there.st_mode & 0o777) == (data, 0o640)
    assert there.st_mtime_ns == 1_600_000_000_000_000_001
    assert list(elsewhere.iterdir()) == []
    assert [each.name for each in tmp_path.iterdir()] == ["a.jsonl"]


@pytest.mark.parametrize("crashed", ["in the copy", "before the unlink", "before the ledger"])
def test_a_crash_while_it_is_copied(elsewhere: Path, tmp_path: Path, crashed: str) -> None:
    """Killed at any moment of a move across file systems, the original is there, or both are, or the whole copy; the
    next sweep ends it: one file, one name, nothing temporary.
    """
    path = elsewhere / "a.jsonl"
    path.write_text(lines(*range(100)))
    position = position_of(elsewhere, "a.jsonl")
    if crashed == "in the copy":
        (tmp_path / TEMPORARY).write_text(lines(*range(50)))
    else:
        shutil.copy(path, tmp_path / "a.jsonl")
    if crashed == "before the ledger":
        path.unlink()
    assert retire(elsewhere, tmp_path, "a.jsonl", position) == tmp_path / "a.jsonl"
    assert list(elsewhere.iterdir()) == []
    assert [each.name for each in tmp_path.iterdir()] == ["a.jsonl"]
    assert (tmp_path / "a.jsonl").read_text() == lines(*range(100))


def test_a_file_that_a_program_holds_is_not_copied_away(elsewhere: Path, tmp_path: Path) -> None:
    """Across file systems too a writer keeps its file, and no copy of it is left behind."""
    with (elsewhere / "a.jsonl").open("a") as writer:
        writer.write(lines(1))
        writer.flush()
        assert retire(elsewhere, tmp_path, "a.jsonl", position_of(elsewhere, "a.jsonl")) is None
    assert list(tmp_path.iterdir()) == []


def test_another_file_of_the_name_is_not_taken_for_it(folders: tuple[Path, Path]) -> None:
    """A file that its user deleted is nowhere, whatever lies in trained/ under its name."""
    queue, trained = folders
    (queue / "a.jsonl").write_text(lines(1))
    position = position_of(queue, "a.jsonl")
    (queue / "a.jsonl").unlink()
    (trained / "a.jsonl").write_text(lines(2))
    assert retire(queue, trained, "a.jsonl", position) is None


def train_all(box: Box) -> None:
    """A version that was taught everything."""
    ids = [queued.id for queued, side in box.examples if side == Side.TAUGHT]
    promote(box.ledger, freeze(box.ledger, ids, 0, box.intake.settings.family), 1, Score(2, 2), None)


def test_a_trained_file_that_grows_comes_back(tmp_path: Path) -> None:
    """What a program goes on appending to a file in trained/ is read: the file comes back into the drop-box."""
    with Box(tmp_path, Queue(rescan_s=1e-6)) as box:
        (box.queue / "a.jsonl").write_text(lines(1, 2))
        box.look()
        train_all(box)
        asyncio.run(box.intake.retire_trained())
        trained = box.home.trained / "a.jsonl"
        append(trained, line(3))
        box.look()
        assert ((box.queue / "a.jsonl").read_text(), trained.exists()) == (lines(1, 2, 3), False)
        box.look()
        row = box.ledger.file("a.jsonl")
        assert row is not None
        assert (row.retired_to, sorted(box.answers)) == (None, ["1", "2", "3"])


def test_a_trained_file_that_somebody_edits_stays(tmp_path: Path) -> None:
    """What is no growth of what was read, or another file, is the user's own affair."""
    with Box(tmp_path, Queue(rescan_s=1e-6)) as box:
        for name in ("edited", "replaced", "touched"):
            (box.queue / f"{name}.jsonl").write_text(lines(name))
        box.look()
        train_all(box)
        asyncio.run(box.intake.retire_trained())
        (box.home.trained / "edited.jsonl").write_text(lines(7, 8))
        (tmp_path / "other").write_text(lines("replaced", 9))
        (tmp_path / "other").rename(box.home.trained / "replaced.jsonl")
        (box.home.trained / "touched.jsonl").touch()
        box.look()
        assert list(box.queue.iterdir()) == []


def test_a_drop_box_that_is_a_link_to_another_file_system(elsewhere: Path, tmp_path: Path) -> None:
    """data/training_queue may be a symbolic link: files are read there, and leave from there."""
    with Box(tmp_path) as box:
        box.queue.rmdir()
        box.queue.symlink_to(elsewhere)
        (box.queue / "a.jsonl").write_text(lines(*range(20)))
        box.look()
        train_all(box)
        box.reopen()
        box.look()
        assert [each.name for each in box.home.trained.iterdir()] == ["a.jsonl"]
        assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize("point", ["move.trained.before", "move.trained.after", "ledger.retire_file.before"])
def test_killed_around_the_move(elsewhere: Path, tmp_path: Path, point: str, far: bool) -> None:  # noqa: FBT001
    """A process that gets SIGKILL before or after the move, before the ledger hears of it: the next life moves the
    file, or finds where it is, and it is pending no more.
    """
    with Box(tmp_path) as box:
        if far:
            box.queue.rmdir()
            box.queue.symlink_to(elsewhere)
        (box.queue / "a.jsonl").write_text(lines(*range(20)))
        box.look()
        train_all(box)
        box.ledger.close()
        child = os.fork()
        if not child:
            take_in_and_die(box, f"{point}=crash", settled=True)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
        box.reopen()
        assert box.ledger.finished_files(box.intake.settings.family) == ["a.jsonl"]
        box.look()
        row = box.ledger.file("a.jsonl")
        assert row is not None
        assert (row.retired_to, box.ledger.finished_files(box.intake.settings.family)) == ("a.jsonl", [])
        assert [each.name for each in box.home.trained.iterdir()] == ["a.jsonl"]
        assert list(box.queue.iterdir()) == []
        append(box.queue / "a.jsonl", lines(100))
        box.look()
        assert box.answers[-1] == "100"
