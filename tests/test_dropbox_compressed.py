"""Compressed files: all or nothing, in bounded memory, and never before they are quiet."""

import gzip
import os
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.testkit.box import Box, append, line, lines
from thaud.config import Queue
from thaud.dropbox import Batch, Position, batches, quarantine_path, scan
from thaud.dropbox.compressed import DamagedError, content

Packer = Callable[[bytes], bytes]
PACKERS: dict[str, Packer] = {"gz": gzip.compress, "zst": zstandard.ZstdCompressor(write_checksum=True).compress}
BOTH = pytest.mark.parametrize("kind", ["gz", "zst"])


def drop(box: Box, kind: str, data: bytes, name: str = "a.jsonl") -> Path:
    """A compressed file in the drop-box."""
    path = box.queue / f"{name}.{kind}"
    path.write_bytes(PACKERS[kind](data))
    return path


@BOTH
def test_its_lines_are_taken_like_those_of_a_plain_file(box: Box, kind: str) -> None:
    """Good and bad lines, their numbers, the age in the name; a last line without end is whole, for the file is."""
    drop(box, kind, (lines(1) + "{bad\n\n" + line(2) + line(3, "")).encode(), "age_3_x.jsonl")
    box.look()
    box.look()
    name = f"age_3_x.jsonl.{kind}"
    assert (box.answers, box.rejected) == (["1", "2", "3"], [(name, 2, "{bad")])
    assert box.quarantined == box.rejected
    ages = box.ledger.connection.execute("SELECT DISTINCT age, file FROM examples").fetchall()
    assert [tuple(row) for row in ages] == [(3, name)]


@BOTH
def test_half_a_last_line_is_a_bad_line(box: Box, kind: str) -> None:
    """Nobody can complete a line in a compressed file: what is no object is refused as a line."""
    drop(box, kind, (line(1) + '{"instruc').encode())
    box.look()
    assert (box.answers, box.rejected) == (["1"], [(f"a.jsonl.{kind}", 2, '{"instruc')])


@BOTH
def test_the_same_content_plain_and_compressed_is_stored_once(box: Box, kind: str) -> None:
    """Whatever it is wrapped in, an example is one."""
    drop(box, kind, lines(*range(50)).encode())
    (box.queue / "a.jsonl").write_text(lines(*range(50)))
    box.look()
    assert box.answers == [str(n) for n in range(50)]


@BOTH
@pytest.mark.parametrize("growing", [1, 100])
def test_a_growing_file_waits(box: Box, kind: str, growing: int) -> None:
    """Before it is quiet nothing of it is read; then all of it is."""
    whole = PACKERS[kind](lines(*range(500)).encode())
    path = box.queue / f"a.jsonl.{kind}"
    for at in range(0, len(whole), max(1, len(whole) // growing)):
        append(path, whole[at : at + max(1, len(whole) // growing)])
        box.look(settled=False)
        assert (box.answers, box.rejected, box.intake.waiting) == ([], [], True)
    box.look()
    assert len(box.answers) == 500


@BOTH
@pytest.mark.parametrize("cut", [1, 4, 20])
def test_cut_off_and_completed(box: Box, kind: str, cut: int) -> None:
    """A file that ends too early gives one rejection and nothing else; when it grows to its end, or is replaced by a
    whole one, it counts, and the rejection stands as what happened.
    """
    whole = PACKERS[kind](lines(*range(500)).encode())
    path = box.queue / f"a.jsonl.{kind}"
    path.write_bytes(whole[:-cut])
    box.look()
    box.look()
    assert (box.answers, [row[:2] for row in box.rejected]) == ([], [(path.name, 0)])
    assert "cut off before its end: copy it again" in box.reasons[0]
    assert box.quarantined == box.rejected
    append(path, whole[-cut:])
    box.look()
    assert (len(box.answers), len(box.rejected)) == (500, 1)


@BOTH
def test_damaged_in_the_middle(box: Box, kind: str) -> None:
    """One changed byte, which only the checksum at the end tells, gives nothing: not even the lines before it."""
    damaged = bytearray(PACKERS[kind](os.urandom(3000).hex().encode() + b"\n" + lines(*range(500)).encode()))
    damaged[len(damaged) // 2] ^= 0x10
    path = box.queue / f"a.jsonl.{kind}"
    path.write_bytes(damaged)
    box.look()
    assert (box.answers, [row[:2] for row in box.rejected]) == ([], [(path.name, 0)])
    assert "damaged" in box.reasons[0] or "window" in box.reasons[0] or "cut off" in box.reasons[0]


@BOTH
def test_damaged_at_its_very_end(box: Box, kind: str) -> None:
    """All of a file is unpacked before its first line is taken: MiBs of good lines before the damage give nothing."""
    whole = PACKERS[kind](lines(*range(30_000)).encode())
    (box.queue / f"a.jsonl.{kind}").write_bytes(whole[:-1])
    box.look()
    assert (box.answers, [row[1] for row in box.rejected]) == ([], [0])


@BOTH
def test_several_members_and_what_follows_them(box: Box, kind: str) -> None:
    """Compressed files may be joined (`cat a.gz b.gz`), and zeros may follow gzip; anything else at the end may not."""
    pack = PACKERS[kind]
    joined = pack(lines(1, 2).encode() + b'{"instr') + pack(b"") + pack(b'uction": "a", "output": "3"}\n')
    (box.queue / f"a.jsonl.{kind}").write_bytes(joined + (b"\0" * 700 if kind == "gz" else b""))
    (box.queue / f"b.jsonl.{kind}").write_bytes(joined + b"garbage that follows" * 9)
    box.look()
    assert (box.answers, [row[:2] for row in box.rejected]) == (["1", "2", "3"], [(f"b.jsonl.{kind}", 0)])
    assert "follows the end" in box.reasons[0]


@BOTH
def test_a_bomb_is_refused_in_bounded_memory(box: Box, kind: str) -> None:
    """A file that unpacks to 200 times its size and more is refused before it is unpacked, with little memory."""
    packer = zlib.compressobj(9, wbits=31) if kind == "gz" else zstandard.ZstdCompressor(19).compressobj()
    with (box.queue / f"a.jsonl.{kind}").open("wb") as sink:
        for _ in range(256):
            sink.write(packer.compress(b" " * (1 << 20)))
        sink.write(packer.flush())
    tracemalloc.start()
    box.look()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [row[:2] for row in box.rejected] == [(f"a.jsonl.{kind}", 0)]
    assert "more than 200 times its size: unpack it yourself" in box.reasons[0]
    assert peak < 16 << 20


@BOTH
def test_small_files_may_be_dense(box: Box, kind: str) -> None:
    """Below a MiB nobody asks how well a file was compressed."""
    drop(box, kind, line(1).encode() + b" " * 900_000 + b"\n")
    box.look()
    assert (box.answers, box.rejected) == (["1"], [])


@BOTH
def test_content_over_the_limit(tmp_path: Path, kind: str) -> None:
    """What is not allowed as a plain file is not allowed compressed."""
    with Box(tmp_path, Queue(max_file_bytes=2000)) as box:
        drop(box, kind, lines(*range(100)).encode())
        box.look()
        assert (box.answers, len(box.rejected)) == ([], 1)
        assert "unpacks to more than the limit of 2000 bytes: split it" in box.reasons[0]


@BOTH
def test_an_archive_within_and_utf16(box: Box, kind: str) -> None:
    """What is packed twice, and UTF-16, is one rejection that says so, not one for each line."""
    drop(box, kind, gzip.compress(line(1).encode()), "a.jsonl")
    drop(box, kind, line(1).encode("utf-16"), "b.jsonl")
    box.look()
    assert (box.answers, len(box.rejected)) == ([], 2)
    assert ["archive" in box.reasons[0], "UTF-16" in box.reasons[1]] == [True, True]


@BOTH
def test_nothing_and_what_is_none(box: Box, kind: str) -> None:
    """A file of no bytes holds nothing; compressed nothing holds nothing; a plain file under that name is refused."""
    (box.queue / f"a.jsonl.{kind}").touch()
    drop(box, kind, b"", "b.jsonl")
    (box.queue / f"c.jsonl.{kind}").write_text(lines(1))
    box.look()
    assert (box.answers, [row[:2] for row in box.rejected]) == ([], [(f"c.jsonl.{kind}", 0)])
    assert "damaged" in box.reasons[0]


def test_a_zstd_window_that_is_too_large() -> None:
    """`zstd --long` asks for more memory than is given: the reason says how to compress instead."""
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    packed = packer.compress(b"x" * 1000) + packer.flush()
    assert (
        refusal_of(packed, "x.jsonl.zst") == "it needs a window of more than 8 MiB: compress it with zstd -19 or less"
    )


def refusal_of(packed: bytes, name: str) -> str | None:
    """Why a file is not sound, or None."""
    descriptor = os.memfd_create("packed")
    try:
        os.write(descriptor, packed)
        for _ in content(descriptor, name, len(packed), Queue()):
            pass
    except DamagedError as error:
        return str(error)
    finally:
        os.close(descriptor)
    return None


@settings(max_examples=150)
@given(st.sampled_from(["gz", "zst"]), st.binary(max_size=3000), st.data())
def test_no_prefix_of_a_file_is_whole(kind: str, data: bytes, draw: st.DataObject) -> None:
    """Wherever a compressed file is cut, it is noticed: a part of it is never taken for the whole."""
    packed = PACKERS[kind](b"{" + data)
    cut = draw.draw(st.integers(1, len(packed) - 1))
    assert refusal_of(packed, f"x.{kind}") is None
    assert refusal_of(packed[:cut], f"x.{kind}") is not None


@BOTH
def test_it_goes_on_where_it_was_stopped(tmp_path: Path, kind: str) -> None:
    """Committed in batches, a compressed file is read on after a restart from the last one, with the right numbers."""
    with Box(tmp_path) as box:
        drop(box, kind, (lines(*range(5000)) + "{bad\n" + lines(*range(5000, 9000))).encode())
        [file] = scan(box.queue).files
        position: Position | None = None
        lengths = []
        while position is None or position.offset < position.size:
            found = batches(box.queue, file, position, box.limits, quiet=lambda _: True)
            batch = next(each for each in found if isinstance(each, Batch) and (each.items or not each.more))
            box.intake.gather(file.name, batch, position)
            box.intake.commit_gathered()
            position = Position.from_json(batch.position.to_json())
            lengths.append(len(batch.items))
        assert sorted(map(int, box.answers)) == list(range(9000))
        assert (box.rejected, max(lengths)) == ([(file.name, 5001, "{bad")], 2000)
        assert box.ledger.one("SELECT max(line) FROM sightings") == 9001


@BOTH
def test_changed_while_it_is_unpacked(tmp_path: Path, kind: str) -> None:
    """A file that changes between two batches is not judged by half of each: it waits until it is quiet again."""
    with Box(tmp_path) as box:
        path = drop(box, kind, os.urandom(1 << 20).hex().encode() + b"\n" + lines(*range(9000)).encode())
        found = batches(box.queue, scan(box.queue).files[0], None, box.limits, quiet=lambda _: True)
        next(found)
        path.write_bytes(b"")
        *_, last = found
        assert isinstance(last, Batch)
        assert (last.items, last.unsettled) == ((), True)


def test_rotated_logs(box: Box) -> None:
    """logrotate's a.jsonl.1.gz is read, and what it holds was known from a.jsonl."""
    (box.queue / "a.jsonl").write_text(lines(1, 2))
    box.look()
    (box.queue / "a.jsonl").unlink()
    drop(box, "gz", lines(1, 2, 3).encode(), "a.jsonl.1")
    box.look()
    assert box.answers == ["1", "2", "3"]


@pytest.mark.parametrize("name", ["a.json.gz", "a.gz", "a.jsonl.bz2", "a.jsonl.xz", "a.zip", "a.tar.zst"])
def test_other_archives_are_named_with_the_way_out(box: Box, name: str) -> None:
    """What is compressed otherwise is not read, and the reason says what to do."""
    (box.queue / name).write_bytes(b"x")
    box.look()
    assert box.not_read == {name: "it is compressed: unpack it (only .jsonl.gz and .jsonl.zst are read as they are)"}


def test_quarantine_has_their_whole_name(tmp_path: Path) -> None:
    """a.jsonl and a.jsonl.gz have a file each in quarantine."""
    assert quarantine_path(tmp_path, "a.jsonl.gz") == tmp_path / "a.jsonl.gz.jsonl"
    assert len(os.fsencode(quarantine_path(tmp_path, "ñ" * 123 + ".jsonl.gz").name)) <= 255
