"""Reading the drop-box: every whole line once, whatever happens to its file, and memory that stays bounded."""

import json
import os
import socket
import tempfile
import tracemalloc
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thaud.config import Queue
from thaud.domain import Example
from thaud.dropbox import Batch, Position, QueueFile, Unread, batches, scan

LIMITS = Queue()
SMALL = Queue(batch_bytes=256, max_line_bytes=128)
NOBODY = 65534


def line(answer: int, end: str = "\n") -> str:
    """A valid line of its own."""
    return json.dumps({"instruction": "¿Cuántos?", "output": str(answer)}, ensure_ascii=False) + end


def named(queue: Path, name: str) -> QueueFile:
    """The scan's view of one file."""
    return next(file for file in scan(queue).files if file.name == name)


def read_batch(
    queue: Path, file: QueueFile, position: Position | None, limits: Queue, *, quiet: bool
) -> Batch | Unread:
    """The first of the batches."""
    return next(batches(queue, file, position, limits, quiet=lambda _: quiet))


@dataclass
class Reader:
    """A stand-in for the daemon and its ledger: it reads one file on, as far as there is something to read."""

    queue: Path
    name: str = "a.jsonl"
    limits: Queue = LIMITS
    position: Position | None = None
    answers: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    rejected: list[tuple[int, str, str]] = field(default_factory=list)

    def read(self, *, quiet: bool = False) -> Batch:
        """Read until nothing more is to be had, and remember what came."""
        found = batches(self.queue, named(self.queue, self.name), self.position, self.limits, quiet=lambda _: quiet)
        for batch in found:
            assert isinstance(batch, Batch), batch
            self.position = Position.from_json(batch.position.to_json())
            self.answers += [example.completion.content for _, example in batch.examples]
            self.lines += [number for number, _ in batch.examples]
            self.rejected += [(number, bad.reason, bad.raw) for number, bad in batch.rejections]
        return batch


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    folder = tmp_path / "training_queue"
    folder.mkdir()
    return folder


@pytest.fixture
def file(queue: Path) -> Path:
    return queue / "a.jsonl"


@pytest.fixture
def reader(queue: Path) -> Reader:
    return Reader(queue)


def append(path: Path, text: str | bytes) -> None:
    """Append as a writer would."""
    with path.open("ab") as file:
        file.write(text.encode() if isinstance(text, str) else text)


def test_a_file_is_read_once(file: Path, reader: Reader) -> None:
    """All lines come, numbered from 1, blank ones are passed over, and the file then needs no opening."""
    file.write_text(line(1) + "\n" + line(2) + "  \r\n" + line(3, "\r\n"))
    assert reader.read().finished
    assert (reader.answers, reader.lines, reader.rejected) == (["1", "2", "3"], [1, 3, 5], [])
    assert reader.position is not None
    assert reader.position.covers(named(reader.queue, "a.jsonl"))
    assert reader.read().items == ()


def test_bad_lines_do_not_stop_good_ones(file: Path, reader: Reader) -> None:
    """A broken line is rejected with its number, its reason and its text; the lines around it are examples."""
    file.write_bytes(line(1).encode() + b"{broken\n" + b'"\xff"\n' + line(2).encode())
    reader.read()
    assert reader.answers == ["1", "2"]
    assert [(number, raw) for number, _, raw in reader.rejected] == [(2, "{broken"), (3, '"\\xff"')]


def test_a_byte_order_mark_and_a_file_with_nothing_else(file: Path, reader: Reader) -> None:
    """A byte order mark does no harm, with a line behind it or without."""
    file.write_bytes(b"\xef\xbb\xbf" + line(1).encode())
    reader.read()
    file.write_bytes(b"\xef\xbb\xbf")
    assert reader.read(quiet=True).finished
    assert (reader.answers, reader.rejected) == (["1"], [])


def test_batches_are_bounded_and_add_up(file: Path, queue: Path) -> None:
    """A file is read in pieces of the batch's size, and the pieces are the file."""
    file.write_text("".join(line(n) for n in range(100)))
    first = read_batch(queue, named(queue, "a.jsonl"), None, SMALL, quiet=False)
    assert isinstance(first, Batch)
    assert first.more
    assert 0 < first.position.offset <= SMALL.batch_bytes
    small = Reader(queue, limits=SMALL)
    assert small.read().finished
    assert small.answers == [str(n) for n in range(100)]


@settings(deadline=None)
@given(st.lists(st.sampled_from([line(1), line(22), "\n", "{bad\n", "x" * 200 + "\n", "y" * 900 + "\n"])), st.data())
def test_appends_and_reads_in_any_order_give_every_line_once(lines: list[str], data: st.DataObject) -> None:
    """However the writer's bytes are cut and whenever the reader looks, each line comes once, with its number."""
    text = "".join(lines).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    with tempfile.TemporaryDirectory() as folder:
        reader = Reader(Path(folder), limits=SMALL)
        path = reader.queue / reader.name
        for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
            append(path, text[start:end])
            reader.read(quiet=data.draw(st.booleans()))
    good = [number for number, row in enumerate(lines, 1) if row.startswith('{"')]
    bad = [number for number, row in enumerate(lines, 1) if row[0] in "{xy" and number not in good]
    assert (reader.lines, [number for number, _, _ in reader.rejected]) == (good, bad)


def test_a_two_mebibyte_line_is_rejected_and_passed_over(file: Path, reader: Reader) -> None:
    """A line over the limit is rejected with its first KiB, and the lines after it are read."""
    file.write_bytes(line(1).encode() + b"x" * (2 << 20) + b"\n" + line(2).encode())
    reader.read()
    [(number, why, raw)] = reader.rejected
    assert (number, raw, reader.answers, reader.lines) == (2, "x" * 1024, ["1", "2"], [1, 3])
    assert "limit of 1048576 bytes" in why


def test_memory_is_bounded_by_the_batch(file: Path, queue: Path) -> None:
    """A line of 64 MiB without end costs no more memory than a batch."""
    file.write_bytes(b"z" * (64 << 20))
    reader = Reader(queue)
    tracemalloc.start()
    assert reader.read().finished
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(reader.rejected) == 1
    assert peak < 4 * LIMITS.batch_bytes


def test_short_lines_make_no_large_batch(queue: Path) -> None:
    """However short the lines or rows are, a batch holds no more than 2,000 of them, and all of them come."""
    (queue / "a.jsonl").write_text("5\n" * 25_000)
    (queue / "a.json").write_text("[" + "5," * 24_999 + "5]")
    for name in ("a.jsonl", "a.json"):
        first = read_batch(queue, named(queue, name), None, LIMITS, quiet=True)
        assert isinstance(first, Batch)
        assert (len(first.items), first.more) == (2_000, True)
        reader = Reader(queue, name)
        assert reader.read(quiet=True).finished
        assert [number for number, _, _ in reader.rejected] == list(range(1, 25_001))


def test_a_utf16_file_is_rejected_whole(file: Path, reader: Reader) -> None:
    """A UTF-16 file gives one rejection that says so, not one a line."""
    file.write_text(line(1) * 10, encoding="utf-16")
    assert reader.read().finished
    assert [why for _, why, _ in reader.rejected] == ["the file is UTF-16: save it as UTF-8"]


def test_a_json_file_counts_as_a_whole(queue: Path) -> None:
    """A .json file waits until it is quiet; then each element of its list is judged; rewritten, it is read again."""
    path, reader = queue / "a.json", Reader(queue, "a.json")
    path.write_text("[" + line(1, ",") + line(2, ",") + "5]")
    assert reader.read().waiting_bytes == path.stat().st_size
    assert reader.read(quiet=True).finished
    assert (reader.answers, reader.lines, [number for number, _, _ in reader.rejected]) == (["1", "2"], [1, 2], [3])
    path.write_text("[" + line(1, ",") + line(2, ",") + line(3, "]"))
    assert reader.read(quiet=True).restarted
    assert reader.answers[2:] == ["1", "2", "3"]


@pytest.mark.parametrize(("text", "said"), [("[{", "not JSON"), ("[" + " " * 300 + "]", "over the limit of 256")])
def test_a_bad_json_file_is_rejected_whole(queue: Path, text: str, said: str) -> None:
    """A .json file that is broken or too large gives one rejection."""
    (queue / "a.json").write_text(text)
    reader = Reader(queue, "a.json", SMALL)
    assert reader.read(quiet=True).finished
    [(number, why, _)] = reader.rejected
    assert number == 0
    assert said in why


def test_a_file_that_is_gone_is_a_value(queue: Path, file: Path) -> None:
    """A file removed between the scan and the reading is said to be gone, and raises nothing."""
    file.write_text(line(1))
    seen = named(queue, "a.jsonl")
    file.unlink()
    result = read_batch(queue, seen, None, LIMITS, quiet=True)
    assert isinstance(result, Unread)
    assert result.gone


def test_what_became_a_link_or_a_fifo_is_not_opened(queue: Path, file: Path, tmp_path: Path) -> None:
    """A file that was swapped for a link, a FIFO or a socket after the scan is not followed and blocks nobody."""
    file.write_text(line(1))
    seen = named(queue, "a.jsonl")
    (tmp_path / "secret").write_text(line(2))
    for make in (lambda: file.symlink_to(tmp_path / "secret"), lambda: os.mkfifo(file), lambda: bind(file)):
        file.unlink()
        make()
        result = read_batch(queue, seen, None, LIMITS, quiet=True)
        assert isinstance(result, Unread)
        assert not result.gone
        assert "cannot read it" in result.reason


def bind(path: Path) -> None:
    """Make a socket file; its short relative name stays below the limit of socket names."""
    with socket.socket(socket.AF_UNIX) as endpoint:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            endpoint.bind(f"/proc/self/fd/{folder}/{path.name}")
        finally:
            os.close(folder)


def test_items_are_examples_and_rejections_in_order(file: Path, reader: Reader) -> None:
    """A batch keeps the order of the lines, whatever they are."""
    file.write_text("x\n" + line(1) + "y\n")
    items = read_batch(reader.queue, named(reader.queue, "a.jsonl"), None, LIMITS, quiet=False)
    assert isinstance(items, Batch)
    assert [(number, isinstance(item, Example)) for number, item in items.items] == [(1, False), (2, True), (3, False)]
