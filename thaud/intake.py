"""Intake: from the drop-box into the ledger. What is read is gathered, of one file or of many small ones, and committed
in one transaction: examples, rejections, sightings and each file's position together.

Owns the way between the two; refuses to know SQL (ledger) and the file system (dropbox), and to decide the split
(curriculum).
"""

import asyncio
import gc
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import structlog

from thaud import curriculum
from thaud.config import Settings
from thaud.domain import Example, content_id
from thaud.dropbox import (
    Batch,
    Ignored,
    Position,
    Quarantined,
    QueueFile,
    Unread,
    append_rejections,
    batches,
    counts_as_whole,
    reclaim,
    retire,
    scan,
    written_since,
)
from thaud.errors import StorageError
from thaud.formats import age_from_name
from thaud.home import Home
from thaud.ledger import FileRow, Ledger, NewExample, NewFile, NewRejection
from thaud.ledger.quarantined import without_resolved

WORK_S, BREATH_S = 0.05, 0.003
COMMIT_LINES = 8_000  # of a transaction: committing them keeps the loop for 0.15 to 0.3 s
COMMIT_AFTER_S = 0.5  # what was read of small files does not wait longer for the large one after them
LONG_BATCHES = 16  # of one file (32,000 lines, or 64 MiB): a second or two
SWEPT_FILES = 500
LOOK_BACK_SLACK_NS = 2_000_000_000  # the file system's clock may be a little behind
log = structlog.get_logger()


class Seen(NamedTuple):
    """An example where it was seen, and what the ledger and the split know it by. `text`: its content as JSON, or None
    where the order of keys counts. A tuple, because a million are made, in a third of a dataclass's time.
    """

    line: int
    example: Example
    id: str
    text: str | None
    group_key: str


@dataclass(slots=True)
class Gathered:
    """Batches of files that are read and not committed yet, in order, with their lines and bytes; since when."""

    batches: list[tuple[str, Batch, list[Seen]]] = field(default_factory=list)
    lines: int = 0
    size: int = 0
    since: float = 0.0

    def add(self, name: str, batch: Batch, size: int) -> None:
        """One more."""
        if not self.batches:
            self.since = time.monotonic()
        self.batches.append((name, batch, [seen(line, example) for line, example in batch.examples]))
        self.lines += len(batch.items)
        self.size += size

    def is_full(self, lines: int, size: int, limit: int) -> bool:
        """Whether these are to be committed before so many lines and bytes are added."""
        return self.lines + lines > COMMIT_LINES or self.size + size > limit

    @property
    def is_due(self) -> bool:
        """Whether the first of them has waited long enough."""
        return bool(self.batches) and time.monotonic() - self.since > COMMIT_AFTER_S


def seen(line: int, example: Example) -> Seen:
    """An example with its names."""
    text = example.text
    as_it_is = None if '"function"' in text else text  # tools and calls have that key, and templates print their order
    return Seen(line, example, content_id(text), as_it_is, curriculum.group_key(example))


@contextmanager
def no_collector() -> Iterator[None]:
    """Hold the cycle collector: what is read here has no cycles, and walking it takes a fifth longer."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class Intake:
    """Takes in what is new. `waiting`: some file is to be looked at again when it has settled.

    `done`: files as they were when the ledger said that all of them is read; thousands may stay, and each change asks
    for a scan. `swept`: what an earlier life had no time to move out of the queue is moved. `called`: whether something
    was dropped meanwhile. `gave_way`: long files that were left for that; they come last. `touched`: files of which
    something was committed since trained ones were last looked for. `reading`: the file that is read, and how many
    lines of it were taken in.
    """

    def __init__(self, home: Home, settings: Settings, ledger: Ledger) -> None:
        self.home = home
        self.settings = settings
        self.ledger = ledger
        self.stages = curriculum.stages_with(settings.stages)
        self.waiting = False
        self.complained: set[tuple[str, str]] = set()
        self.breathed_at = 0.0
        self.done: dict[str, QueueFile] = {}
        self.swept = False
        self.reading = ""
        self.called: Callable[[], bool] = lambda: False
        self.gathered = Gathered()
        self.touched: list[str] = []
        self.looked_back_ns, self.look_back_at = 0, 0.0
        self.gave_way: set[str] = set()

    async def take_in(self, stopped: Callable[[], bool] = lambda: False) -> int:
        """Read everything new in the drop-box, until `stopped`; returns how many lines were taken in.

        Raises StorageError.
        """
        with no_collector():
            taken = await self.take_in_all(stopped)
        if not stopped():
            await self.retire_trained(self.touched if self.swept else None)
            self.touched = []
            self.look_back_where_due()
        return taken

    async def take_in_all(self, stopped: Callable[[], bool]) -> int:
        """Read and commit; what is trained already stays where it is."""
        found = scan(self.home.queue)
        self.complain(found.ignored)
        self.waiting, taken = False, 0
        self.breathed_at = time.monotonic()
        self.done = {file.name: file for file in found.files if self.done.get(file.name) == file}
        self.gathered = Gathered()  # what an error left was not committed, so it is read again
        for file in sorted(found.files, key=lambda each: each.name in self.gave_way):
            if file.name not in self.done and not stopped():
                await self.breathe()
                taken += await self.take_in_file(file, stopped)
        self.commit_gathered()
        return taken

    async def breathe(self) -> None:
        """Let signals, HTTP and the run under way have their turn, after at most one batch of work."""
        if time.monotonic() - self.breathed_at > WORK_S:
            await asyncio.sleep(BREATH_S)
            self.breathed_at = time.monotonic()

    async def take_in_file(self, file: QueueFile, stopped: Callable[[], bool]) -> int:
        """Read one file to its end, giving the loop its turn between batches."""
        row, taken = self.ledger.file(file.name), 0
        position = Position.from_json(row.position) if row else None
        if position is not None and position.covers(file):
            self.done[file.name] = file
            return 0
        self.gave_way.discard(file.name)
        found = batches(self.home.queue, file, position, self.settings.queue, quiet=self.is_quiet)
        for number, batch in enumerate(found, 1):
            if isinstance(batch, Unread):
                self.complain([Ignored(batch.name, batch.reason)] if not batch.gone else [])
                break
            self.gather(file.name, batch, position)
            if self.gathered.is_due:
                self.commit_gathered()
            taken += len(batch.items)
            self.reading = f"{file.name}: {taken}"
            self.waiting = self.waiting or batch.unsettled
            position = batch.position
            if stopped() or self.gives_way(file.name, number):
                break
            await self.breathe()
        return taken

    def gives_way(self, name: str, batch: int) -> bool:
        """Whether a file that takes long is left here, so that what was dropped or asked for meanwhile need not wait.

        Not a compressed one: it would be unpacked from its start again.
        """
        if batch < LONG_BATCHES or counts_as_whole(name) or not self.called():
            return False
        self.gave_way.add(name)
        return True

    def is_quiet(self, file: QueueFile) -> bool:
        """Whether nobody has written to the file for a while."""
        # a time from the future is another clock's: whoever writes now sets it to now
        return abs(time.time_ns() - file.mtime_ns) >= self.settings.queue.settle_s * 1e9

    def gather(self, name: str, batch: Batch, before: Position | None) -> None:
        """Put a batch to those that the next transaction commits, which comes first where it would grow too large."""
        if not batch.items and before == batch.position:
            return
        size = batch.position.offset + batch.position.unpacked
        if before is not None and not batch.restarted:
            size -= before.offset + before.unpacked
        if self.gathered.is_full(len(batch.items), size, self.settings.queue.batch_bytes):
            self.commit_gathered()
        self.gathered.add(name, batch, size)

    def commit_gathered(self) -> None:
        """The rejections of what is gathered beside, for people, then all of it into the ledger.

        In this order, because what was not committed is read again, and a line is not put into quarantine twice.
        """
        gathered, self.gathered = self.gathered.batches, Gathered()
        if not gathered:
            return
        rejections = [
            [NewRejection(line, each.reason, each.raw) for line, each in batch.rejections] for _, batch, _ in gathered
        ]
        self.set_beside(zip((name for name, _, _ in gathered), rejections, strict=True))
        known = self.ledger.row_numbers({each.id for _, _, found in gathered for each in found})
        decided = self.decide([(name, found) for name, _, found in gathered], known)
        self.ledger.take_in(
            *(
                NewFile(
                    name=name,
                    position=batch.position.to_json(),
                    finished=batch.finished,
                    examples=new,
                    sightings=[(each.line, each.id) for each in found],
                    rejections=refused,
                    restarted=batch.restarted,
                )
                for (name, batch, found), new, refused in zip(gathered, decided, rejections, strict=True)
            ),
            known=known,
        )
        for name, some in groupby(gathered, key=itemgetter(0)):
            self.touched.append(name)
            log.info("taken_in", file=name, lines=sum(len(batch.items) for _, batch, _ in some))

    def set_beside(self, found: Iterable[tuple[str, list[NewRejection]]]) -> None:
        """Put rejected lines where people find them, less those that they corrected."""
        at = self.ledger.now()
        unresolved = [
            Quarantined(name, each.line, each.reason, each.raw, at)
            for name, rejections in found
            for each in without_resolved(self.ledger, name, rejections)
        ]
        if unresolved:
            append_rejections(self.home.rejected, unresolved)

    def decide(self, found: Sequence[tuple[str, list[Seen]]], known: Container[str]) -> list[list[NewExample]]:
        """What is new in each file, with its age and side; the first of equal ones counts."""
        keys: dict[str, str] = {}
        for _, some in found:
            for each in some:
                if each.id not in known:
                    keys.setdefault(each.id, each.group_key)
        members = self.ledger.members(keys.values())
        sides = curriculum.assign_sides(keys.items(), members, self.settings.exam.held_out_share)
        age, decided = self.ledger.age, []
        for name, some in found:
            file_age, ages, new = age_from_name(name), dict[int | None, int](), []
            for each in some:
                if (side := sides.pop(each.id, None)) is None:
                    continue
                own = each.example.age
                if own not in ages:
                    ages[own] = curriculum.age_of(each.example, file_age, age, self.stages)
                new.append(NewExample(each.example, each.id, ages[own], side, each.group_key, each.line, each.text))
            decided.append(new)
        return decided

    def complain(self, ignored: Sequence[Ignored]) -> None:
        """Say once what is in the drop-box and will not be read."""
        for item in ignored:
            if (item.name, item.reason) not in self.complained:
                self.complained.add((item.name, item.reason))
                log.warning("not_read", file=item.name, reason=item.reason)

    async def retire_trained(self, names: Sequence[str] | None = None) -> None:
        """Move files whose examples are all trained out of the queue, of some or of all; one that changed stays."""
        asked = [None] if names is None else [names[at : at + SWEPT_FILES] for at in range(0, len(names), SWEPT_FILES)]
        for some in asked:
            for name in self.ledger.finished_files(self.settings.family, some):
                self.retire(name)
                await self.breathe()
                if self.called():
                    self.swept = False  # the rest another time: what was just dropped comes first
                    return
            await self.breathe()
        self.swept = True

    def look_back_where_due(self) -> None:
        """Bring trained files back that grew since the last look: what was appended to them is to be read too."""
        if time.monotonic() < self.look_back_at:
            return
        self.look_back_at, now_ns = time.monotonic() + self.settings.queue.rescan_s, time.time_ns()
        try:
            written = written_since(self.home.trained, self.looked_back_ns - LOOK_BACK_SLACK_NS)
            for row in self.ledger.retired_as(written):
                self.reclaim(row)
        except StorageError as error:
            self.complain([Ignored(self.home.trained.name, str(error))])
            self.look_back_at, self.waiting = 0.0, True
        else:
            self.looked_back_ns = now_ns

    def reclaim(self, row: FileRow) -> None:
        """Bring one back, if it grew. Raises StorageError."""
        assert row.retired_to is not None
        position = Position.from_json(row.position)
        back = reclaim(self.home.queue, self.home.trained, row.name, row.retired_to, position)
        if back is not None:
            log.warning("trained_file_grew", file=row.retired_to, moved_to=str(back))

    def retire(self, name: str) -> None:
        """Move a file out of the queue, if it still is the one that was read."""
        row = self.ledger.file(name)
        assert row is not None
        try:
            moved = retire(self.home.queue, self.home.trained, name, Position.from_json(row.position))
        except StorageError as error:
            log.warning("not_retired", file=name, reason=str(error))
            return
        if moved is not None:
            self.ledger.retire_file(name, moved.name)
            log.info("file_trained", file=name, moved_to=str(moved))
