"""Anything that writers may do to a drop-box, in any order, with crashes: a state machine over a real folder, the real
intake and the real ledger.

    python -m tests.dropbox_machine [STEPS]      prints steps=N violations=0, or the steps that lead to a violation

A crash is one: a child process takes in, with SIGKILL at a fail-point. What is checked after each completed look: every
whole line that stood in a file is in the ledger, nothing else is, none twice, sides stay; every bad line is refused
once in the ledger and once in quarantine; what users wrote is byte for byte what they wrote.
"""

import asyncio
import logging
import os
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path

import structlog
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from tests import dropbox_model as model
from tests.dropbox_model import BAD, BLOWS, GOOD, NAMES, ROWS, WHOLE_NAMES
from tests.seeded import freeze, promote
from tests.testkit.box import Box
from thaud.domain import Score, Side

STEPS = Counter[str]()  # rules carried out by this process
FOLDERS = "/dev/shm" if Path("/dev/shm").is_dir() else None  # a SIGKILL is the same there, an fsync is not waited for
MAX_BYTES = 6000  # within 8 KiB the two digests see every byte


class DropBoxMachine(RuleBasedStateMachine):
    """The writers, the daemon's looks, and its crashes. `files` is what users wrote and left in the queue."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="thau-machine-", dir=FOLDERS)
        self.box = Box(Path(self.folder.name))
        self.queue = self.box.queue
        self.files: dict[str, bytes] = {}
        self.rests: dict[str, bytes] = {}  # of half lines
        self.rewritten: set[str] = set()  # since the last settled look
        self.inodes: set[tuple[str, int]] = set()  # that the daemon has seen under each name
        self.whole: dict[str, model.Meaning | None] = {}  # None: damaged
        self.trained: dict[Path, bytes] = {}
        self.removed: set[str] = set()  # by users
        self.stood: set[str] = set()
        self.stood_bad: set[tuple[str, int, str]] = set()
        self.sides: dict[str, Side] = {}
        self.versions = 0

    def teardown(self) -> None:
        self.box.ledger.close()
        self.folder.cleanup()

    def put(self, name: str, data: bytes) -> None:
        """What a file holds from now on, instead of what it held."""
        self.rewritten.add(name)
        self.files[name] = data
        self.removed.discard(name)
        self.rests.pop(name, None)

    def drop(self, name: str) -> None:
        """The file is no longer there."""
        for known in (self.files, self.rests, self.whole):
            known.pop(name, None)  # type: ignore[attr-defined]
        self.rewritten.discard(name)

    # The writers

    @rule(name=NAMES, rows=ROWS)
    def write(self, name: str, rows: list[bytes]) -> None:
        """Truncate, or create, and write."""
        STEPS["write"] += 1
        self.put(name, b"".join(rows))
        (self.queue / name).write_bytes(self.files[name])

    @rule(name=NAMES, rows=ROWS)
    def append(self, name: str, rows: list[bytes]) -> None:
        """Whole lines at the end, whatever stands there."""
        if len(self.files.get(name, b"")) >= MAX_BYTES:
            return
        STEPS["append"] += 1
        self.add(name, b"".join(rows))
        self.rests.pop(name, None)

    @rule(name=NAMES, row=GOOD | BAD, data=st.data())
    def append_half(self, name: str, row: bytes, data: st.DataObject) -> None:
        """The beginning of a line, of which the rest may come later; or the line without its end."""
        if len(self.files.get(name, b"")) >= MAX_BYTES or name in self.rests:
            return
        STEPS["append_half"] += 1
        cut = data.draw(st.integers(1, len(row) - 1) | st.just(len(row) - 1))
        self.add(name, row[:cut])
        self.rests[name] = row[cut:]

    @rule(place=st.integers(0, 9))
    def append_rest(self, place: int) -> None:
        """What completes a half line."""
        if not (names := sorted(self.rests.keys() & set(model.PLAIN))):
            return
        name = names[place % len(names)]
        STEPS["append_rest"] += 1
        self.add(name, self.rests.pop(name))

    def add(self, name: str, data: bytes) -> None:
        """At the end of the file, or the first of it."""
        if name not in self.files:
            self.put(name, b"")
        if (
            name in model.PLAIN
            and model.answer_of(self.files[name].rpartition(b"\n")[2]) is not None
            and data[:1] != b"\n"
        ):
            data = b"\n" + data  # the last line may have counted already: who goes on, ends it
        with (self.queue / name).open("ab") as file:
            file.write(data)
        self.files[name] += data

    @rule(name=NAMES, share=st.floats(0, 1))
    def truncate(self, name: str, share: float) -> None:
        """Cut anywhere."""
        if name not in self.files:
            return
        STEPS["truncate"] += 1
        length = int(len(self.files[name]) * share)
        os.truncate((self.queue / name), length)
        self.put(name, self.files[name][:length])

    @rule(name=NAMES, place=st.integers(0, 99), row=GOOD, restored=st.booleans())
    def overwrite(self, name: str, place: int, row: bytes, restored: bool) -> None:  # noqa: FBT001
        """One line in place by another of its length, perhaps with the time of its change set back."""
        data = self.files.get(name, b"")
        starts = [at for at in range(len(data)) if at == 0 or data[at - 1 : at] == b"\n"]
        fitting = [at for at in starts if data[at : at + len(row)].find(b"\n") == len(row) - 1]
        if not fitting:
            return
        STEPS["overwrite"] += 1
        at = fitting[place % len(fitting)]
        before = (self.queue / name).stat()
        while (self.queue / name).stat().st_ctime_ns == before.st_ctime_ns:  # older kernels' clocks tick slowly
            with (self.queue / name).open("r+b") as file:
                file.seek(at)
                file.write(row)
        if restored:
            os.utime((self.queue / name), ns=(before.st_atime_ns, before.st_mtime_ns))
        self.put(name, data[:at] + row + data[at + len(row) :])

    @rule(name=NAMES, rows=ROWS)
    def replace(self, name: str, rows: list[bytes]) -> None:
        """Rename a finished file over it."""
        STEPS["replace"] += 1
        temporary = self.queue / f".{name}.tmp"
        temporary.write_bytes(b"".join(rows))
        temporary.rename(self.queue / name)
        self.put(name, b"".join(rows))

    @rule(name=NAMES, to=NAMES)
    def rename(self, name: str, to: str) -> None:
        """Move it, over another where there is one."""
        if name not in self.files or name == to:
            return
        STEPS["rename"] += 1
        (self.queue / name).rename(self.queue / to)
        rest, data = self.rests.get(name), self.files[name]
        self.drop(name)
        self.removed.add(name)
        self.put(to, data)
        if rest is not None:
            self.rests[to] = rest

    @rule(name=NAMES, to=NAMES)
    def copy(self, name: str, to: str) -> None:
        """`cp` writes into the file that is there."""
        if name not in self.files or name == to:
            return
        STEPS["copy"] += 1
        shutil.copyfile((self.queue / name), (self.queue / to))
        self.put(to, self.files[name])

    @rule(name=NAMES | WHOLE_NAMES)
    def delete(self, name: str) -> None:
        """Gone."""
        if name not in self.files:
            return
        STEPS["delete"] += 1
        (self.queue / name).unlink()
        self.drop(name)
        self.removed.add(name)

    @rule(name=WHOLE_NAMES, rows=ROWS, damaged=st.booleans(), renamed=st.booleans())
    def pack(self, name: str, rows: list[bytes], damaged: bool, renamed: bool) -> None:  # noqa: FBT001
        """A compressed file or a list, whole or cut off, written in place or renamed in."""
        STEPS["pack"] += 1
        data = model.pack(name, rows)
        whole = rows if not name.endswith(".json") else [row for row in rows if model.answer_of(row) is not None]
        self.put(name, data[:-1] if damaged else data)
        if renamed:
            (self.queue / ".new.tmp").write_bytes(self.files[name])
            (self.queue / ".new.tmp").rename(self.queue / name)
        else:
            (self.queue / name).write_bytes(self.files[name])
        self.whole[name] = None if damaged else model.meaning(b"".join(whole).split(b"\n"))
        if damaged:
            self.rests[name] = data[-1:]

    @rule(place=st.integers(0, 9))
    def complete(self, place: int) -> None:
        """What was cut off grows to its end."""
        if not (names := sorted(self.rests.keys() & set(model.WHOLE))):
            return
        name = names[place % len(names)]
        STEPS["complete"] += 1
        self.add(name, self.rests.pop(name))
        self.whole[name] = model.meaning(model.unpacked(name, self.files[name]).split(b"\n"))

    # The daemon

    @rule(settled=st.booleans())
    def look(self, settled: bool) -> None:  # noqa: FBT001
        """The daemon scans and takes in."""
        STEPS["look"] += 1
        self.expect(settled=settled)
        self.box.look(settled=settled)
        self.check(settled=settled)

    @rule(settled=st.booleans())
    def restart(self, settled: bool) -> None:  # noqa: FBT001
        """It ends, and another begins."""
        STEPS["restart"] += 1
        self.expect(settled=settled)
        self.box.reopen()
        self.box.look(settled=settled)
        self.check(settled=settled)

    @rule(name=NAMES, rows=ROWS, blow=BLOWS, settled=st.booleans())
    def crash(self, name: str, rows: list[bytes], blow: tuple[str, int, int], settled: bool) -> None:  # noqa: FBT001
        """Something new comes, and the daemon is killed at a fail-point; what it had appended to quarantine but not
        committed may be torn.
        """
        STEPS["crash"] += 1
        point, nth, torn = blow
        if len(self.files.get(name, b"")) < MAX_BYTES:
            self.add(name, b"".join(rows))
            self.rests.pop(name, None)
        self.expect(settled=settled)
        before = {path: path.stat().st_size for path in self.box.home.rejected.iterdir()}
        self.box.ledger.close()
        child = os.fork()
        if not child:
            model.take_in_and_die(self.box, f"{point}=crash@{nth}", settled=settled)
        died = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        STEPS["killed"] += died
        self.box.reopen()
        if died and point == "append.quarantine.after":
            model.tear(self.box.home.rejected, before, torn)
        self.account_for_moves()
        if not died:
            self.check(settled=settled)

    @rule()
    def train(self) -> None:
        """All that is taught so far gets into a version, and its files leave the queue."""
        ids = [queued.id for queued, side in self.box.examples if side == Side.TAUGHT]
        if not ids:
            return
        STEPS["train"] += 1
        self.versions += 1
        family = self.box.intake.settings.family
        promote(self.box.ledger, freeze(self.box.ledger, ids, 0, family), self.versions, Score(2, 2), None)
        asyncio.run(self.box.intake.retire_trained())
        self.account_for_moves()

    # What is owed

    def inode(self, name: str) -> tuple[str, int]:
        """A name and the file behind it: one that is overwritten in place (or whose number was used again) waits."""
        return name, (self.queue / name).stat().st_ino if name in self.files else 0

    def held(self, name: str, *, settled: bool) -> model.Meaning:
        """What a file holds that counts now."""
        if name in model.PLAIN:
            return model.meaning_of_lines(self.files[name], settled=settled)
        return (self.whole[name] or model.NOTHING) if settled else model.NOTHING

    def expect(self, *, settled: bool) -> None:
        """What stands there may be taken from now on."""
        for name in self.files:
            held = self.held(name, settled=settled)
            self.stood |= held.good
            self.stood_bad |= {(name, *row) for row in held.bad}
        waits = set() if settled else {name for name in self.rewritten if self.inode(name) in self.inodes}
        self.owed = {name: self.held(name, settled=settled) for name in self.files if name not in waits}
        self.inodes |= {self.inode(name) for name in self.files}
        self.damaged = {name for name in self.files if settled and name in self.whole and self.whole[name] is None}

    def check(self, *, settled: bool) -> None:
        """After a completed look."""
        if settled:
            self.rewritten.clear()
        self.account_for_moves()
        self.check_examples()
        self.check_rejections()
        for path, data in [
            *(((self.queue / name), data) for name, data in self.files.items()),
            *self.trained.items(),
        ]:
            assert path.read_bytes() == data, f"{path} was changed"
        finished = set(self.box.ledger.finished_files("thau-nano"))
        assert finished <= self.files.keys() | self.removed, f"{finished} left, and the ledger does not know"

    def check_examples(self) -> None:
        rows = self.box.examples
        answers = [queued.example.completion.content for queued, _ in rows]
        assert len(set(answers)) == len(answers) == len({queued.id for queued, _ in rows}), "an example is there twice"
        for name, held in self.owed.items():
            assert held.good <= set(answers), f"{name}: {sorted(held.good - set(answers))} are lost"
        assert set(answers) <= self.stood, f"{sorted(set(answers) - self.stood)} were never written"
        sides = {queued.id: side for queued, side in rows}
        assert self.sides.items() <= sides.items(), "an example was lost or changed sides"
        self.sides = sides

    def check_rejections(self) -> None:
        """Each bad line once, in the ledger and in quarantine."""
        ledger, shown = self.box.rejected, model.quarantined(self.box.home.rejected)
        for known in (ledger, shown):
            assert len(set(known)) == len(known), f"refused twice: {Counter(known).most_common(1)}"
        refused = {(name, number, raw.strip()) for name, number, raw in ledger}
        owed = {(name, *row) for name, held in self.owed.items() for row in held.bad}
        assert owed <= refused, f"{sorted(owed - refused)} are not in the ledger"
        assert self.damaged <= {name for name, number, _ in refused if number == 0}
        assert set(ledger) <= set(shown), "the ledger refuses what quarantine does not show"
        assert {(*row[:2], row[2].strip()) for row in shown if row[1]} <= self.stood_bad, "refused, but never written"

    def account_for_moves(self) -> None:
        """Files that the daemon moved are where the ledger can find them, as they were."""
        news = {path: path.read_bytes() for path in self.box.home.trained.iterdir() if path not in self.trained}
        for name in [name for name in self.files if not (self.queue / name).exists()]:
            moved = [path for path, data in news.items() if data == self.files[name]]
            assert moved, f"{name} is neither in the queue nor in trained/"
            self.trained[moved[0]] = news.pop(moved[0])
            assert self.held(name, settled=False).good <= set(self.box.answers), f"{name} left before it was read"
            self.drop(name)
        assert not news, f"{sorted(news)} came from nowhere"


def run(steps: int, *, long: bool) -> int:
    """At least so many steps; returns how many. Raises AssertionError with the way there, which the long form, other
    each time, does not make short.
    """
    begun = count()
    profile = settings(
        max_examples=40 if long else steps // 40,  # each the same as last time, so once must be enough
        stateful_step_count=60,
        deadline=None,
        derandomize=not long,
        phases=(Phase.generate,) if long else (Phase.generate, Phase.shrink),
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    while count() - begun < steps:
        run_state_machine_as_test(DropBoxMachine, settings=profile)
    return count() - begun


def count() -> int:
    """Of the steps so far; that a process died in one is no other step."""
    return STEPS.total() - STEPS["killed"]


def main() -> int:
    """The long form."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    try:
        done = run(steps, long=True)
    except Exception:  # noqa: BLE001 - whatever it is, it is a violation
        traceback.print_exc()
        print(f"steps={count()} violations=1")
        return 1
    print(f"steps={done} violations=0 ({dict(STEPS)})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
