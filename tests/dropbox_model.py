"""What writers put into a drop-box, what it means to anybody who reads it, written apart from the code that reads it,
and how a process dies in the middle of that. For dropbox_machine.py.
"""

import gzip
import json
import os
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard
from hypothesis import strategies as st

from tests.testkit.box import Box, line
from thaud.failpoints import FAILPOINTS

PLAIN = ("a.jsonl", "b.jsonl", "age_3_c.jsonl", "d.jsonl.1", "E.JSONL")
WHOLE = ("p.jsonl.gz", "q.jsonl.zst", "r.json")
POINTS = (
    "append.quarantine.before",
    "append.quarantine.after",
    "ledger.take_in.before",
    "ledger.take_in.after",
    "move.trained.before",
    "move.trained.after",
    "ledger.retire_file.before",
    "ledger.retire_file.after",
)
GOOD = st.integers(0, 60).map(lambda n: line(f"{n:03}").encode())
BAD = st.integers(0, 9).map(lambda n: f"{{bad {n}\n".encode())
BLANK = st.just(b"\r\n")
ROWS = st.lists(GOOD | GOOD | GOOD | BAD | BLANK, max_size=8)
BLOWS = st.tuples(st.sampled_from(POINTS), st.sampled_from((1, 1, 1, 2, 3)), st.integers(0, 60))
NAMES, WHOLE_NAMES = st.sampled_from(PLAIN), st.sampled_from(WHOLE)


@dataclass(frozen=True)
class Meaning:
    """What a file holds, as anybody would read it. Bad lines without the space around them: space at the end of a quiet
    file counts as read, so that it is not before what is appended.
    """

    good: frozenset[str]
    bad: frozenset[tuple[int, str]]


NOTHING = Meaning(frozenset(), frozenset())


def answer_of(row: bytes) -> str | None:
    """What a line teaches, if it is a good one."""
    try:
        return str(json.loads(row)["output"])
    except (ValueError, KeyError, TypeError):
        return None


def meaning(rows: list[bytes]) -> Meaning:
    """Of whole lines."""
    kept = [(number, row) for number, row in enumerate(rows, 1) if row.strip()]
    good = frozenset(answer for _, row in kept if (answer := answer_of(row)) is not None)
    bad = ((number, row.decode("utf-8", "backslashreplace").strip()) for number, row in kept if answer_of(row) is None)
    return Meaning(good, frozenset(bad))


def meaning_of_lines(data: bytes, *, settled: bool) -> Meaning:
    """Of a plain file: an unterminated last line counts if the file is quiet and it is an object."""
    *rows, rest = data.split(b"\n")
    return meaning([*rows, rest] if settled and answer_of(rest) is not None else rows)


def pack(name: str, rows: list[bytes]) -> bytes:
    """The content of a file that counts as a whole."""
    if name.endswith(".json"):
        return b"[" + b",".join(row.strip() for row in rows if answer_of(row) is not None) + b"]"
    packer = gzip.compress if name.endswith(".gz") else zstandard.ZstdCompressor(write_checksum=True).compress
    return packer(b"".join(rows))


def unpacked(name: str, data: bytes) -> bytes:
    """The lines of a file that counts as a whole."""
    if name.endswith(".json"):
        return b"\n".join(json.dumps(row, ensure_ascii=False).encode() for row in json.loads(data))
    return gzip.decompress(data) if name.endswith(".gz") else zstandard.ZstdDecompressor().decompress(data)


def quarantined(rejected: Path) -> list[tuple[str, int, str]]:
    """Rows in quarantine; half a row that a crash left is none."""
    rows: list[tuple[str, int, str]] = []
    for path in rejected.iterdir():
        for text in path.read_bytes().splitlines():
            try:
                row: dict[str, Any] = json.loads(text)
            except ValueError:
                continue
            rows.append((row["file"], row["line"], row["raw"]))
    return rows


def take_in_and_die(box: Box, setting: str, *, settled: bool) -> None:
    """In a child: take in with a fail-point armed, and never come back."""
    try:
        FAILPOINTS.arm(setting)
        box.reopen()
        box.look(settled=settled)
        os._exit(0)
    except BaseException:  # noqa: BLE001 - nothing of the test may run in the child
        os.write(2, traceback.format_exc().encode())
        os._exit(1)


def tear(rejected: Path, before: dict[Path, int], cut: int) -> None:
    """Take bytes off the ends of quarantine files, no more than were appended just now."""
    for path in rejected.iterdir():
        size = path.stat().st_size
        os.truncate(path, max(before.get(path, 0), size - cut))
