"""Every case of what a writer may do to a file of the drop-box, through the real intake into the real ledger.

Names, kinds of files and the folder: test_dropbox_names.py; what lines may hold: test_dropbox_lines.py; compressed
files: test_dropbox_compressed.py; any order of all of it: test_dropbox_machine.py.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.testkit.box import Box, append, line, lines
from tests.testkit.daemon import wait_until
from thaud.config import Queue
from thaud.dropbox import Batch, Unread, batches, scan

NOBODY = 65534


# Appending


def test_an_empty_file(box: Box, file: Path) -> None:
    """An empty file gives nothing, is finished, and is read when it grows."""
    file.touch()
    box.look()
    row = box.ledger.file("a.jsonl")
    assert row is not None
    assert (row.finished, box.answers) == (True, [])
    append(file, line(1))
    box.look()
    assert box.answers == ["1"]


def test_a_partial_last_line_is_completed_later(box: Box, file: Path) -> None:
    """Half a line waits, however quiet its file; completed, it counts once and under its own number."""
    text = line(2)
    file.write_text(line(1) + text[:12])
    for settled in (False, True, True):
        box.look(settled=settled)
    assert (box.answers, box.rejected) == (["1"], [])
    append(file, text[12:] + "{bad\n")
    box.look(settled=False)
    assert (box.answers, box.rejected) == (["1", "2"], [("a.jsonl", 3, "{bad")])


def test_a_last_line_without_end(box: Box, file: Path) -> None:
    """A whole object without a line end counts once the file is quiet, and not again when its line end comes."""
    file.write_text(line(1, ""))
    box.look(settled=False)
    assert box.answers == []
    box.look()
    append(file, "\n" + line(2))
    box.look()
    assert (box.answers, box.rejected) == (["1", "2"], [])


def test_going_on_without_the_line_end_that_was_missing(box: Box, file: Path) -> None:
    """A last line that counted because its file was quiet is ended by that: an object written right behind it is the
    next one, and neither is lost. Without a quiet time in between the two are one bad line.
    """
    file.write_text(line(1, ""))
    box.look()
    append(file, line(2))
    (box.queue / "b.jsonl").write_text(line(3, "") + line(4))
    box.look()
    assert box.answers == ["1", "2"]
    assert box.rejected == [("b.jsonl", 1, line(3, "") + line(4, ""))]


def test_a_writer_killed_in_the_middle_of_an_append(box: Box, file: Path) -> None:
    """What a writer that got SIGKILL left of its last line waits; its whole lines count; another writer's line end
    makes the rest one bad line, and nothing after it is lost.
    """
    half = line(3)[:20]
    program = (
        "import sys, time; f = open(sys.argv[1], 'a', buffering=1); f.write(sys.argv[2]); f.flush(); time.sleep(99)"
    )
    writer = subprocess.Popen([sys.executable, "-c", program, str(file), lines(1, 2) + half])
    wait_until(lambda: file.exists() and file.stat().st_size == len((lines(1, 2) + half).encode()), what="its lines")
    writer.send_signal(signal.SIGKILL)
    assert writer.wait() == -signal.SIGKILL
    box.look()
    assert (box.answers, box.rejected) == (["1", "2"], [])
    append(file, "\n" + line(4))
    box.look()
    assert (box.answers, box.rejected) == (["1", "2", "4"], [("a.jsonl", 3, half)])


def test_cat_with_lines_split_over_its_writes(box: Box, file: Path) -> None:
    """`cat >> file` writes at any byte: looked at after each byte, every line comes once."""
    for byte in (lines(1, 2) + "{bad\n" + line(3)).encode():
        append(file, bytes([byte]))
        box.look(settled=False)
    assert (box.answers, box.rejected) == (["1", "2", "3"], [("a.jsonl", 3, "{bad")])


# Rewriting


@pytest.mark.parametrize("after", [(), (100,), tuple(range(100, 150))])
def test_truncated_and_rewritten(box: Box, file: Path, after: tuple[int, ...]) -> None:
    """After truncate and rewrite everything in the file counts, be it shorter or longer; what was there stays known."""
    file.write_text(lines(*range(20)))
    box.look()
    with file.open("r+") as handle:
        handle.truncate()
        handle.write(lines(*after))
    box.look()
    assert box.answers == [str(n) for n in (*range(20), *after)]


@pytest.mark.parametrize("restored", [False, True])
def test_the_same_size_overwritten(box: Box, file: Path, restored: bool) -> None:  # noqa: FBT001
    """A line overwritten in the middle of a large file is read, though size and both ends are as before; also where
    the writer set the time of its last change back, because the kernel's own (ctime) cannot be.
    """
    file.write_text(lines(*range(1000, 2000)))
    box.look()
    before = file.stat()
    with file.open("r+b") as handle:
        handle.seek(500 * len(line(1000).encode()))
        handle.write(line(7777).encode())
    if restored:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    box.look()
    assert box.answers[1000:] == ["7777"]


def test_overwritten_in_the_middle_and_appended_between_two_looks(box: Box, file: Path) -> None:
    """The one limit: a file of more than 8 KiB that is overwritten far from both ends of what was read and also grows
    before the next look is taken for one that grew. The appended lines count; the overwritten one is not seen until
    the file is touched again.
    """
    file.write_text(lines(*range(1000, 2000)))
    box.look()
    with file.open("r+b") as handle:
        handle.seek(500 * len(line(1000).encode()))
        handle.write(line(7777).encode())
    append(file, line(1))
    box.look()
    assert box.answers[1000:] == ["1"]
    os.utime(file)
    box.look()
    assert box.answers[1000:] == ["1", "7777"]


def test_a_position_of_an_earlier_release_is_understood(box: Box, file: Path) -> None:
    """A ledger whose positions have no ctime is read on from where it stands: nothing is read twice."""
    file.write_text(lines(1, 2))
    box.look()
    box.ledger.connection.execute("UPDATE files SET position = json_remove(position, '$.ctime_ns', '$.unpacked')")
    box.ledger.connection.execute("DELETE FROM sighted")
    box.reopen()
    box.look()
    append(file, line(3))
    box.look()
    assert (box.answers, box.ledger.one("SELECT count(*) FROM sightings")) == (["1", "2", "3"], 1)


def test_logrotate_with_rename(box: Box, file: Path) -> None:
    """The log moves aside under .1 and a new one begins: lines written to either before or after the move count."""
    with file.open("a", buffering=1) as writer:
        writer.write(lines(1, 2))
        box.look()
        file.rename(box.queue / "a.jsonl.1")
        writer.write(line(3))
        file.write_text(line(4))
        box.look()
    assert sorted(box.answers) == ["1", "2", "3", "4"]


def test_logrotate_with_copytruncate(box: Box, file: Path) -> None:
    """The log is copied aside and truncated under its writer: nothing is doubled, what comes then counts."""
    with file.open("a", buffering=1) as writer:
        writer.write(lines(1, 2))
        box.look()
        writer.write(line(3))
        shutil.copy(file, box.queue / "a.jsonl.1")
        os.truncate(file, 0)
        box.look()
        writer.write(line(4))
        box.look()
    assert sorted(box.answers) == ["1", "2", "3", "4"]


def test_replaced_between_two_batches(tmp_path: Path) -> None:
    """A file replaced while it is read is read to the end of what it was, and then as what it is."""
    with Box(tmp_path, Queue(batch_bytes=1024, max_line_bytes=512)) as box:
        file = box.queue / "a.jsonl"
        file.write_text(lines(*range(100)))
        found = batches(box.queue, scan(box.queue).files[0], None, box.limits, quiet=lambda _: True)
        first = next(found)
        (box.queue / ".new").write_text(lines(*range(200, 300)))
        (box.queue / ".new").rename(file)
        rest = [batch for batch in found if isinstance(batch, Batch)]
        assert isinstance(first, Batch)
        assert said((first, *rest)) == {str(n) for n in range(100)}
        box.intake.gather("a.jsonl", rest[-1], None)
        box.intake.commit_gathered()
        box.look()
        assert set(map(str, range(200, 300))) <= set(box.answers)


def said(found: Iterable[Batch | Unread]) -> set[str]:
    """What the examples of batches answer."""
    some = [batch for batch in found if isinstance(batch, Batch)]
    return {example.completion.content for batch in some for _, example in batch.examples}


def test_truncated_between_two_batches(tmp_path: Path) -> None:
    """A file rewritten while it is read is begun again at once, and says so."""
    with Box(tmp_path, Queue(batch_bytes=1024, max_line_bytes=512)) as box:
        file = box.queue / "a.jsonl"
        file.write_text(lines(*range(100)))
        found = batches(box.queue, scan(box.queue).files[0], None, box.limits, quiet=lambda _: True)
        next(found)
        file.write_text(lines(*range(200, 210)))
        rest = [batch for batch in found if isinstance(batch, Batch)]
        assert rest[0].restarted
        assert said(rest) == {str(n) for n in range(200, 210)}


def test_deleted_while_it_is_read(tmp_path: Path) -> None:
    """A file deleted between two batches is read to its end: its descriptor is still there. Nothing raises."""
    with Box(tmp_path, Queue(batch_bytes=1024, max_line_bytes=512)) as box:
        file = box.queue / "a.jsonl"
        file.write_text(lines(*range(100)))
        found = batches(box.queue, scan(box.queue).files[0], None, box.limits, quiet=lambda _: True)
        first = next(found)
        file.unlink()
        assert said((first, *found)) == {str(n) for n in range(100)}
        box.look()
        assert box.answers == []
