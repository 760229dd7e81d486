"""Quarantine after the fact: lines that were corrected are marked in the ledger, and their files follow it.

Owns what a file in `data/rejected/` must hold: every line that the ledger has and nobody corrected, up to 16 MiB, and
whatever somebody is just editing there. Refuses to judge lines (formats) and to put anything into the drop-box.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import structlog

from thaud.dropbox import Quarantined, quarantine_path
from thaud.dropbox.writing import MAX_QUARANTINE_BYTES, storage
from thaud.durable import write_durably
from thaud.failpoints import reach
from thaud.formats import to_raw
from thaud.home import Home
from thaud.ledger import Ledger, LedgerReader, Rejected, RejectedRow
from thaud.ledger.quarantined import digest_of, found_by_digest, rejected_files, rows_at, unresolved

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Resolution:
    """What `thau retry` asks for: lines that were corrected, and the digests of the lines that it took from the file.

    What somebody edits into the file after that is in neither, and stays.
    """

    rejections: tuple[Rejected, ...]
    taken: frozenset[str] = frozenset()

    def to_json(self) -> dict[str, Any]:
        """For a request."""
        return {"rejections": [asdict(each) for each in self.rejections], "taken": sorted(self.taken)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Resolution":
        """Read back what `to_json` wrote. Raises LookupError, TypeError or ValueError for anything else."""
        return cls(tuple(map(read_rejected, values["rejections"])), frozenset(map(str, values["taken"])))


def read_rejected(row: Mapping[str, Any]) -> Rejected:
    """One rejection of a request. Raises LookupError, TypeError or ValueError where it is none."""
    file, line, digest = str(row["file"]), row["line"], str(row["digest"])
    if not is_line_number(line):
        raise ValueError(line)
    file.encode()  # half a surrogate pair names no file
    return Rejected(file, line, digest)


def resolve(home: Home, ledger: Ledger, resolution: Resolution) -> None:
    """Mark lines as corrected, then let their files follow. Done twice, it does no harm. Raises StorageError."""
    known = found_by_digest(ledger, resolution.rejections)
    marked = ledger.resolve(resolution.rejections) if any(not row.resolved for row in known) else 0
    for path in sorted({quarantine_path(home.rejected, row.file) for row in known}):
        rewrite(ledger, path, resolution.taken)
    log.info("rejections_resolved", lines=marked)


def rewrite(ledger: LedgerReader, path: Path, taken: frozenset[str] = frozenset()) -> bool:
    """Let a file in quarantine say what the ledger says; True where it had to be changed. Raises StorageError."""
    with storage(f"write {path}"):
        before = path.read_bytes() if path.is_file() else b""
        after = "".join(f"{line}\n" for line in wanted_lines(ledger, path, before, taken)).encode()
        if not after:
            reach("remove.quarantine.before")
            path.unlink(missing_ok=True)
            reach("remove.quarantine.after")
        elif before != after:
            write_durably(path, after, "quarantine")
    return before != after


def is_in_step(ledger: LedgerReader, path: Path) -> bool:
    """Whether a file in quarantine says what the ledger says. Raises OSError."""
    before = path.read_bytes() if path.is_file() else b""
    return before == "".join(f"{line}\n" for line in wanted_lines(ledger, path, before, frozenset())).encode()


def is_being_corrected(ledger: LedgerReader, path: Path) -> bool:
    """Whether somebody put lines of their own in the place of rows, which `thau retry` pairs with what is missing."""
    lines = lines_of(path.read_bytes()) if path.is_file() else iter(())
    return any(read_quarantined(line) is None and not is_half(ledger, path, line) for line in lines)


def wanted_lines(ledger: LedgerReader, path: Path, before: bytes, taken: frozenset[str]) -> Iterator[str]:
    """The lines that a file should hold: those of its own that still count, then those that it lacks, up to 16 MiB."""
    seen: set[Rejected] = set()
    size = 0
    for line in lines_of(before):
        if digest_of(line) not in taken and still_counts(ledger, path, line, seen):
            size += len(line.encode()) + 1
            yield line
    for file in sources_of(path):
        for row in unresolved(ledger, file):
            if size >= MAX_QUARANTINE_BYTES:
                return
            if row.key not in seen:
                line = line_of(row)
                size += len(line.encode()) + 1
                yield line


def lines_of(data: bytes) -> Iterator[str]:
    """The lines of a file in quarantine that are not blank, without their ends."""
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "backslashreplace")
    return (line for each in text.split("\n") if (line := each.rstrip("\r")).strip())


def still_counts(ledger: LedgerReader, path: Path, line: str, seen: set[Rejected]) -> bool:
    """Whether a line stays in its file. `seen` gets the rejections that it stands for.

    What THAU has not written (an edited row, an example in a row's place) stays, until it is retried.
    """
    row = read_quarantined(line)
    if row is None:
        return not is_half(ledger, path, line)
    known = rows_at(ledger, row.file, row.line)
    same = [each for each in known if each.raw == row.raw]
    open_ones = [each for each in same or known if not each.resolved]
    if same and same[0].key in seen:
        return False
    seen.update(each.key for each in open_ones)
    return bool(open_ones) or not known


def is_half(ledger: LedgerReader, path: Path, line: str) -> bool:
    """Whether a line is the beginning of one that THAU was writing when it was killed."""
    if not line.startswith('{"file": '):
        return False
    whole = (line_of(row) for file in sources_of(path) for row in unresolved(ledger, file))
    return any(beginning(each).startswith(beginning(line)) for each in whole)


def beginning(line: str) -> str:
    """A row without its time, which differs between the ledger and the file."""
    return line.rpartition('", "at": ')[0] or line


def sources_of(path: Path) -> tuple[str, ...]:
    """Names of the drop-box's files whose rejected lines are kept in this one: `a.json.jsonl` holds those of a.json."""
    names = (path.name, path.name[: -len(".jsonl")])
    return tuple(name for name in names if name and quarantine_path(path.parent, name) == path)


def read_quarantined(line: str) -> Quarantined | None:
    """A row of quarantine, whose `raw` may be an object that was put in the text's place; None for anything else."""
    try:
        row = json.loads(line)
        file, number, raw = row["file"], row["line"], row["raw"]
        text = raw if isinstance(raw, str) else json.dumps(raw, ensure_ascii=False)
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    if not isinstance(file, str) or not is_line_number(number):
        return None
    return Quarantined(to_raw(file), number, str(row.get("reason", "")), to_raw(text), str(row.get("at", "")))


def is_line_number(value: Any) -> bool:
    """Whether a value can be the number of a line; 0 is the whole file."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def line_of(row: RejectedRow) -> str:
    """A rejection as its file holds it, without line end."""
    return Quarantined(row.file, row.line, row.reason, row.raw, row.at).to_line().rstrip("\n")


def quarantine_files(home: Home, ledger: LedgerReader) -> list[Path]:
    """The files that are in quarantine or should be."""
    due = {quarantine_path(home.rejected, file) for file in rejected_files(ledger)}
    return sorted(due | {path for path in home.rejected.glob("*.jsonl") if path.is_file()})
