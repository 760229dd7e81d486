"""Intake: from the drop-box into the ledger. Each batch of a file is one transaction: examples, rejections, position.

Owns the way between the two; refuses to know SQL (ledger) and the file system (dropbox), and to decide the split
(curriculum).
"""

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog

from thaud import curriculum
from thaud.config import Settings
from thaud.domain import Example
from thaud.dropbox import (
    Batch,
    Ignored,
    Position,
    Quarantined,
    QueueFile,
    Unread,
    append_rejections,
    read_batch,
    retire,
    scan,
)
from thaud.errors import StorageError
from thaud.formats import age_from_name
from thaud.home import Home
from thaud.ledger import Ledger, NewExample, NewFile, NewRejection

WORK_S, BREATH_S = 0.05, 0.01
log = structlog.get_logger()


class Intake:
    """Takes in what is new. `waiting`: some file is to be looked at again when it has settled.

    `done`: files as they were when the ledger said that all of them is read; thousands may stay, and each change asks
    for a scan. `swept`: what an earlier life had no time to move out of the queue is moved.
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

    async def take_in(self, stopped: Callable[[], bool] = lambda: False) -> int:
        """Read everything new in the drop-box, until `stopped`; returns how many lines were taken in.

        Raises StorageError.
        """
        found = scan(self.home.queue)
        self.complain(found.ignored)
        self.waiting, taken = False, 0
        self.breathed_at = time.monotonic()
        self.done = {file.name: file for file in found.files if self.done.get(file.name) == file}
        for file in found.files:
            if file.name not in self.done and not stopped():
                await self.breathe()
                taken += await self.take_in_file(file, stopped)
        if (taken or not self.swept) and not stopped():
            await self.retire_trained()
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
        while True:
            # a time from the future is another clock's: whoever writes now sets it to now
            quiet = abs(time.time_ns() - file.mtime_ns) >= self.settings.queue.settle_s * 1e9
            batch = read_batch(self.home.queue, file, position, self.settings.queue, quiet=quiet)
            if isinstance(batch, Unread):
                self.complain([Ignored(batch.name, batch.reason)] if not batch.gone else [])
                return taken
            self.commit(file.name, batch, position)
            taken += len(batch.items)
            self.waiting = self.waiting or (bool(batch.waiting_bytes) and not quiet)
            position = batch.position
            if not batch.more or stopped():
                return taken
            await self.breathe()

    def commit(self, name: str, batch: Batch, before: Position | None) -> None:
        """One batch's rejections beside, for people, then all of it into the ledger.

        In this order, because what was not committed is read again, and a line is not put into quarantine twice.
        """
        rejections = [NewRejection(line, each.reason, each.raw) for line, each in batch.rejections]
        if rejections:
            at = self.ledger.now()
            append_rejections(
                self.home.rejected, [Quarantined(name, each.line, each.reason, each.raw, at) for each in rejections]
            )
        if batch.items or before != batch.position:
            self.ledger.take_in(
                NewFile(
                    name=name,
                    position=batch.position.to_json(),
                    finished=batch.finished,
                    examples=self.decide(name, batch.examples),
                    sightings=[(line, example.id) for line, example in batch.examples],
                    rejections=rejections,
                    restarted=batch.restarted,
                )
            )
        if batch.items:
            log.info("taken_in", file=name, examples=len(batch.examples), rejected=len(rejections))

    def decide(self, name: str, examples: Sequence[tuple[int, Example]]) -> list[NewExample]:
        """Age and side of those that are new; the first of equal ones counts."""
        unique = {example.id: (line, example) for line, example in reversed(examples)}
        known = self.ledger.known_ids(unique)
        fresh = {each: found for each, found in reversed(unique.items()) if each not in known}
        keys = {each: curriculum.group_key(example) for each, (_, example) in fresh.items()}
        sides = curriculum.assign_sides(
            keys.items(), self.ledger.members(keys.values()), self.settings.exam.held_out_share
        )
        file_age, age = age_from_name(name), self.ledger.age
        return [
            NewExample(
                example, each, curriculum.age_of(example, file_age, age, self.stages), sides[each], keys[each], line
            )
            for each, (line, example) in fresh.items()
        ]

    def complain(self, ignored: Sequence[Ignored]) -> None:
        """Say once what is in the drop-box and will not be read."""
        for item in ignored:
            if (item.name, item.reason) not in self.complained:
                self.complained.add((item.name, item.reason))
                log.warning("not_read", file=item.name, reason=item.reason)

    async def retire_trained(self) -> None:
        """Move files whose examples are all trained out of the queue; one that changed since stays."""
        for name in self.ledger.finished_files(self.settings.family):
            await self.breathe()
            row = self.ledger.file(name)
            assert row is not None
            try:
                moved = retire(self.home.queue, self.home.trained, name, Position.from_json(row.position))
            except StorageError as error:
                log.warning("not_retired", file=name, reason=str(error))
                continue
            if moved is not None:
                self.ledger.retire_file(name, moved.name)
                log.info("file_trained", file=name, moved_to=str(moved))
        self.swept = True
