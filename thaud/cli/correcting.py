"""A corrected copy of quarantine, line by line: what is mended, what is as it was, what is still bad.

Each line is a quarantine row whose `raw` was mended (text, or an object put in its place) or a plain example. Owns
which rejection a line stands for; refuses to write anything.

A row says itself what it corrects: its file and line. A plain example says nothing, so it is taken to stand for the
rows that are missing in its place, where there are at least as many examples as missing rows.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from thaud.config import Queue
from thaud.domain import Example
from thaud.dropbox import Quarantined
from thaud.dropbox.lines import RAW_BYTES
from thaud.errors import StorageError, UsageError
from thaud.formats import parse_line
from thaud.home import Home
from thaud.ledger import LedgerReader, RejectedRow
from thaud.ledger.quarantined import digest_of, rows_at, unresolved
from thaud.quarantine import is_half, lines_of, read_quarantined, sources_of

MAX_BYTES = 64 << 20
CUT = "over the limit of"
SUFFIX = re.compile(r"\.jsonl?(\..*)?\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Good:
    """A line for the drop-box. `file` is where it first came from: its name may hold the age."""

    file: str
    text: str
    id: str


@dataclass(frozen=True, slots=True)
class StillBad:
    """A line that somebody mended and that is no example yet. `line` counts in the file that was handed in."""

    line: int
    reason: str


@dataclass(slots=True)
class Corrections:
    """What a file holds. `resolved` are the rejections that its good lines stand for; `unchanged` and `cut` stay.

    `done`: rows that were resolved before; `taken`: digests of the lines that may leave the file; `unpaired`: good
    examples of which nobody can tell what they stand for.
    """

    good: list[Good] = field(default_factory=list)
    bad: list[StillBad] = field(default_factory=list)
    resolved: dict[RejectedRow, None] = field(default_factory=dict)
    unchanged: list[RejectedRow] = field(default_factory=list)
    cut: list[RejectedRow] = field(default_factory=list)
    done: int = 0
    taken: set[str] = field(default_factory=set)
    unpaired: int = 0


def find_file(home: Home, named: Path) -> Path:
    """The file that `thau retry` means: a path, or a name of quarantine or of the drop-box. Raises UsageError."""
    in_quarantine = home.rejected / named.name
    candidates = [named.expanduser(), in_quarantine, home.rejected / f"{named.name}.jsonl"]
    plain = named.name == str(named)
    for path in candidates if not plain else [*candidates[1:], candidates[0]]:
        if path.is_file():
            return path.absolute()
    raise UsageError(
        f"there is no file {named}, neither here nor in {home.rejected}: `thau rejected` names what was refused"
    )


def read_lines(path: Path) -> list[tuple[int, str]]:
    """(number, text) of the lines that are not blank. Raises StorageError or UsageError."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path} is over 64 MiB: keep the corrected lines in it, or use `thau import-data`")
        data = path.read_bytes()
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}; check its owner and mode") from error
    numbered = enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1)
    return [(number, line) for number, each in numbered for line in lines_of(each)]


class Reader:
    """Reads one file against a ledger that stands still since before the file was read (`snapshot`)."""

    def __init__(self, home: Home, limits: Queue, ledger: LedgerReader, path: Path) -> None:
        self.limits = limits
        self.ledger = ledger
        self.path = path
        self.lines = read_lines(path)
        self.found = Corrections()
        self.plain: list[tuple[int, str]] = []
        self.present = self.rows_present()
        self.places = {(file, line) for file, line, _ in self.present}
        in_quarantine = os.path.realpath(path.parent) == os.path.realpath(home.rejected)  # a loop of links is no error
        named = {file for file, _ in self.places} | set(sources_of(home.rejected / path.name) if in_quarantine else ())
        self.open_rows = [row for file in sorted(named) for row in unresolved(ledger, file)]
        self.index = {(row.file, row.line): number for number, row in reversed(list(enumerate(self.open_rows)))}
        self.passed = 0

    def rows_present(self) -> set[tuple[str, int, str]]:
        """(file, line, raw) of every row in the file."""
        rows = (read_quarantined(line) for _, line in self.lines)
        return {(row.file, row.line, row.raw) for row in rows if row is not None}

    def read(self) -> Corrections:
        """Judge every line."""
        for number, line in self.lines:
            row = read_quarantined(line)
            if row is not None:
                self.pair_plain(row)
                self.read_row(number, line, row)
            elif not is_half(self.ledger, self.path, line):
                self.plain.append((number, line))
        self.pair_plain(None)
        return self.found

    # Rows of quarantine

    def read_row(self, number: int, line: str, row: Quarantined) -> None:
        """A row as it was, or one whose raw was mended."""
        known = rows_at(self.ledger, row.file, row.line)
        if same := [each for each in known if each.raw == row.raw]:
            self.read_unchanged(same[0])
            return
        originals = [each for each in known if (each.file, each.line, each.raw) not in self.present]
        still_open = [each for each in originals if not each.resolved]
        if any(is_cut(each) and row.raw.startswith(each.raw[: RAW_BYTES // 2]) for each in still_open):
            where = f"{row.file}:{row.line}" if row.line else row.file
            self.found.bad.append(StillBad(number, f"only its first KiB was kept: correct {where} in the file itself"))
        elif (judged := self.judge(row.raw)) is not None:
            if known or judged != row.reason:  # else: written by the service since the ledger was read
                self.found.bad.append(StillBad(number, judged))
        else:
            self.accept(row.file, row.raw, still_open)
            self.found.taken.add(digest_of(line))

    def read_unchanged(self, row: RejectedRow) -> None:
        """A row that nobody touched: taken where the rules have become laxer."""
        if row.resolved:
            self.found.done += 1
        elif is_cut(row):
            self.found.cut.append(row)
        elif self.judge(row.raw) is None:
            self.accept(row.file, row.raw, [row])
        else:
            self.found.unchanged.append(row)

    # Plain examples

    def pair_plain(self, upto: Quarantined | None) -> None:
        """The plain examples since the last row stand for the rows that are missing before this one."""
        missing = list(self.missing(upto))
        judged = [(number, line, self.judge(line)) for number, line in self.plain]
        self.plain = []
        self.found.bad += [StillBad(number, reason) for number, _, reason in judged if reason is not None]
        good = [line for _, line, reason in judged if reason is None]
        pairs = missing if good and len(missing) <= len(judged) else []
        self.found.unpaired += len(good) if not pairs else 0
        for index, line in enumerate(good):
            origin = missing[min(index, len(missing) - 1)].file if missing else self.path.name
            self.accept(origin, line, [])
            self.found.taken.add(digest_of(line))
        self.found.resolved.update(dict.fromkeys(pairs))

    def missing(self, upto: Quarantined | None) -> Iterator[RejectedRow]:
        """Rows that the file should have before this place and has not, in order; each is passed once."""
        start, end = self.passed, self.index.get((upto.file, upto.line), 0) if upto else len(self.open_rows)
        self.passed = max(start, end)
        yield from (row for row in self.open_rows[start:end] if (row.file, row.line) not in self.places)

    # What both share

    def judge(self, text: str) -> str | None:
        """Why a line is no example, or None."""
        if len(text.encode("utf-8", "surrogatepass")) > self.limits.max_line_bytes:
            return f"the line is {CUT} {self.limits.max_line_bytes} bytes: shorten it or split it"
        judged = parse_line(text, max_depth=self.limits.max_depth)
        return None if isinstance(judged, Example) else judged.reason

    def accept(self, file: str, text: str, resolved: Sequence[RejectedRow]) -> None:
        """A good line and what it stands for. A line break inside is space: in JSON it stands between values only."""
        example = parse_line(text, max_depth=self.limits.max_depth)
        assert isinstance(example, Example)
        one_line = text.replace("\r", " ").replace("\n", " ").strip()
        self.found.good.append(Good(file, one_line, example.id))
        self.found.resolved.update(dict.fromkeys(resolved))


def is_cut(row: RejectedRow) -> bool:
    """Whether only the beginning of a line, or of a file, was kept."""
    return CUT in row.reason or (row.line == 0 and len(row.raw.encode()) >= RAW_BYTES)


def stem_of(file: str) -> str:
    """How the names of the drop-box's new files begin: an age in the first name keeps its meaning."""
    return f"{SUFFIX.sub('', file) or 'lines'}-retry"
