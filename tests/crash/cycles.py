"""The cycles: at a point, at a random moment, with an error instead of a death. Each ends with a look at the oracle."""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.crash.answering import go_back, prune
from tests.crash.arena import Arena, ViolationError
from tests.crash.handing_out import hand_out
from tests.crash.leads import Leads
from tests.crash.oracle import Oracle
from tests.crash.reviewing import review
from tests.crash.workload import text
from tests.testkit.daemon import look
from thaud.control import Request

STEP_OF = {
    "tokens": "train",
    "metrics": "train",
    "checkpoint": "train",
    "adapter": "train",
    "gguf": "export",
    "answers": "exam",
}
OF_DAEMON = {"remove.result", "move.gguf", "discard.gguf", "prune.gguf"}  # what it does with what a step made
REVIEW = {"file.proposal", "remove.proposal"}
COMMAND = {"file.config", "file.queue", "file.import", "file.export", "file.request", *REVIEW}
AT_START = {"ledger.migrate", "file.state", "sweep.leftover", "end.step", "move.back"}
MANY = {
    "ledger.take_in",
    "ledger.intend",
    "ledger.receive",
    "file.spec",
    "file.rows",
    "spawn.step",
    "remove.result",
    "append.progress",
    "file.progress",
    "file.trained_examples",
    "ollama.unload",
}
REACH_S = 20.0


@dataclass
class Tally:
    """What has been done."""

    cycles: int = 0
    restarts: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    hit: set[str] = field(default_factory=set)
    crashed: Counter[str] = field(default_factory=Counter)


@dataclass
class Cycles:
    """Cycles on one arena."""

    arena: Arena
    oracle: Oracle
    tally: Tally

    def begin(self) -> None:
        """A first life, looked at."""
        self.arena.start()
        self.oracle.look()

    def revive(self, *, rest: bool = False) -> None:
        """The next life, looked at."""
        if self.arena.daemon is None:
            self.oracle.look_at_the_dead()
            self.arena.start()
        self.oracle.look(rest=rest)

    # At a random moment

    def at_random(self) -> None:
        """Kill something at some time, half the time right after a drop."""
        arena, random = self.arena, self.arena.random
        arena.mood(random.choice(("right", "right", "right", "wrong", "uncertified", "another file", "train")))
        self.ask_at_random()
        for _ in range(random.randint(1, 4)):
            arena.writer.act()
        if random.random() < 0.5:
            time.sleep(random.uniform(0, 1.5))
        how = random.choice(("daemon", "daemon", "daemon", "child", "term", "both"))
        if how in {"child", "both"}:
            for pid in list(arena.steps()):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    self.tally.kills["child"] += 1
        if how == "child":
            time.sleep(random.uniform(0, 0.3))
        if how == "term":
            self.end_in_order()
        else:
            arena.kill()
            self.tally.kills["daemon"] += 1
        if random.random() < 0.3:
            arena.writer.act()
        if random.random() < 0.2:
            self.spoil()
        arena.writer.complete()
        self.revive(rest=random.random() < 0.25)
        self.tally.cycles += 1

    def ask_at_random(self) -> None:
        """Sometimes a request, as the CLI makes it."""
        arena, random = self.arena, self.arena.random
        if random.random() < 0.1:
            arena.request(random.choice((Request.TRAIN, Request.RESET)))
        if random.random() < 0.2 and arena.home.ledger.exists():
            random.choice((go_back, prune))(arena)

    def end_in_order(self) -> None:
        """SIGTERM, to a daemon that has its handlers."""
        self.arena.until(self.arena.ready, "a ready daemon")
        if (status := self.arena.kill(signal.SIGTERM)) != 0:
            raise ViolationError(f"SIGTERM ended the daemon with {status}: {self.arena.last_words()}")
        self.tally.kills["term"] += 1

    def spoil(self) -> None:
        """What a run under way has made so far is damaged while nobody lives, as by a disk that lost power."""
        arena = self.arena
        if arena.daemon is not None or not arena.home.ledger.exists():
            return
        arena.until_nothing(arena.orphans, "the end of orphan processes", 20)
        run = look(arena.home, lambda ledger: ledger.unfinished_run())
        for made in ("train/adapter/adapter_model.safetensors", "export/model.gguf", "certify/result.json"):
            path = arena.home.runs / (run.id if run else "") / made
            if path.exists():
                os.truncate(path, path.stat().st_size // 2)

    # At a point

    def at_point(self, point: str, action: str, nth: int) -> None:
        """Arm a point, do what leads there, see that it happened, and look."""
        effect = point.rpartition(".")[0]
        arena = self.arena
        arena.mood("right")
        before = arena.passed(f"{point}={action}")
        if effect in COMMAND:
            self.in_command(point, action)
        elif effect in AT_START:
            self.at_start(point, action)
        elif effect not in OF_DAEMON and effect.partition(".")[2] in {*STEP_OF, "result"}:
            self.in_child(point, action, nth)
        else:
            self.in_daemon(point, action, nth if effect in MANY else 1)
        if arena.passed(f"{point}={action}") == before:
            raise ViolationError(f"{point} was not passed")
        self.tally.hit.add(point)
        self.tally.crashed[action] += 1
        arena.mood("right")
        arena.writer.complete()
        if effect == "ledger.receive":
            self.spoil()
        self.revive(rest=True)
        self.tally.cycles += 1

    def in_daemon(self, point: str, action: str, nth: int) -> None:
        """A point that the daemon passes."""
        arena = self.arena
        before = arena.passed(f"{point}={action}")
        done = arena.dead if action == "crash" else lambda: arena.passed(f"{point}={action}") > before
        lead = Leads(self.arena).to(point, done)
        arena.arm(f"{point}={action}@{nth}")
        deadline = time.monotonic() + REACH_S
        while not done():
            if time.monotonic() > deadline:
                raise ViolationError(f"{point}={action}@{nth} was not reached within {REACH_S:.0f} s")
            if arena.daemon is not None and not arena.dead():
                lead()
                self.wait_for(done, 2.5)
        self.see(point, action)

    def see(self, point: str, action: str) -> None:
        """After a crash the daemon is dead of it; after an error it lives, and ends in order."""
        arena = self.arena
        if action == "crash":
            status = arena.kill()
            if status != -signal.SIGKILL:
                raise ViolationError(f"{point}=crash ended the daemon with {status}: {arena.last_words()}")
            self.tally.kills["point"] += 1
            return
        self.wait_for(arena.dead, 0.3)
        if arena.dead():
            raise ViolationError(f"{point}={action} ended the daemon: {arena.last_words()}")
        arena.writer.drop()
        self.end_in_order()

    def in_child(self, point: str, action: str, nth: int) -> None:
        """A point that a step passes; the daemon sees its child die, and dies too every other time."""
        arena = self.arena
        name = point.split(".")[1]
        step = STEP_OF.get(name) or arena.random.choice(("train", "export", "certify", "exam"))
        before = arena.passed(f"{point}={action}")
        arena.until(arena.idle, "a run's end")
        arena.arm_child(step, f"{point}={action}")
        lead = Leads(self.arena).to(point, arena.dead)
        lead()
        self.wait_for(lambda: arena.passed(f"{point}={action}") > before, 5)
        if arena.passed(f"{point}={action}") == before:
            lead()
            self.wait_for(lambda: arena.passed(f"{point}={action}") > before, REACH_S)
        if arena.dead():
            raise ViolationError(f"{point}={action} in a child ended the daemon: {arena.last_words()}")
        if nth % 2:
            arena.kill()
            self.tally.kills["daemon"] += 1
        else:
            arena.until(arena.idle, "the end of the run whose step died")
        self.tally.kills["child"] += 1

    def in_command(self, point: str, action: str) -> None:
        """A point that a command passes."""
        arena = self.arena
        effect = point.rpartition(".")[0]
        armed = f"{point}={action}"
        if effect == "file.config":
            other = arena.root / f"other-{arena.random.random()}"
            status = arena.command("--home", str(other), "init", points=armed, home=False)
        elif effect == "file.queue":
            arena.writer.count += 1
            asked = f"¿Y {arena.writer.count}?", "sí"
            status = arena.command("add", *asked, points=armed)
            if not point.endswith("after"):  # what had its name then is not added again: it must be there
                arena.command("add", *asked)
            arena.writer.finish([json.dumps({"instruction": asked[0], "output": asked[1]})])
        elif effect == "file.import":
            lines = [arena.writer.valid(), arena.writer.valid()]
            source = arena.notes / "age_0_import.jsonl"
            source.write_bytes(text(lines))
            status = arena.command("import-data", str(source), points=armed)
            if not point.endswith("after"):
                arena.command("import-data", str(source))
            arena.writer.finish(lines)
        elif effect == "file.export":
            status = hand_out(arena, armed)
        elif effect in REVIEW:
            status = review(arena, armed)
        else:
            arena.until(arena.ready, "a ready daemon")
            if not point.endswith(("before", "between")):
                arena.asked(Request.TRAIN)
            status = arena.command("train", points=armed)
        if (status == -signal.SIGKILL) != (action == "crash") or status in {0, 2}:
            raise ViolationError(f"{armed} ended the command with {status}: {arena.said}")
        self.tally.kills["command"] += action == "crash"

    def at_start(self, point: str, action: str) -> None:
        """A point that is passed while the daemon starts."""
        arena = self.arena
        afterwards = self.lay_out(point.rpartition(".")[0])
        before = arena.passed(f"{point}={action}")
        arena.start(f"{point}={action}")
        self.wait_for(
            lambda: arena.dead() if action == "crash" else arena.passed(f"{point}={action}") > before, REACH_S
        )
        afterwards()
        if action == "crash":
            self.see(point, action)
            return
        self.wait_for(lambda: arena.dead() or arena.handles_signals(), REACH_S)
        if arena.dead():
            status = arena.kill()
            if status is None or status <= 0 or "Traceback" in arena.words():
                raise ViolationError(f"{point}={action} at start: {status}, {arena.last_words()}")

    def lay_out(self, effect: str) -> Callable[[], None]:
        """A dead daemon, and what the next one must find to pass a point; what is to be done when it was passed."""
        arena = self.arena
        if effect == "end.step":
            self.leave_a_stopped_child()
        if effect == "move.back":
            self.train_a_file()
        arena.kill()
        if effect == "move.back" and not arena.writer.go_on(arena.home.trained):
            raise ViolationError("no trained file to go on with")
        if effect == "sweep.leftover":
            arena.home.progress.with_name(f".{arena.home.progress.name}.tmp").write_text("left")
            return self.add_slowly()
        if effect == "file.state":
            arena.home.state.unlink(missing_ok=True)
        if effect == "ledger.migrate":
            arena.empty()
            self.oracle = Oracle(arena)
        return lambda: None

    def add_slowly(self) -> Callable[[], None]:
        """A `thau add` that is held between its fsync and its rename; what lets it go and sees it succeed."""
        arena = self.arena
        gate = arena.notes / f"gate-{arena.random.random()}"
        arena.writer.count += 1
        asked = f"¿Y {arena.writer.count}?", "sí"
        adding = arena.begin("add", *asked, points=f"file.queue.between=wait:{gate}")
        arena.until(gate.with_name(f"{gate.name}.reached").exists, "a command at its gate")

        def end() -> None:
            gate.touch()
            _, said = adding.communicate(timeout=60)
            if adding.returncode != 0:
                raise ViolationError(f"thau add ended with {adding.returncode} beside a start: {said[-500:]}")
            arena.writer.finish([json.dumps({"instruction": asked[0], "output": asked[1]})])

        return end

    def leave_a_stopped_child(self) -> None:
        """A step that is stopped while it works, and whose daemon is killed then."""
        arena = self.arena
        arena.until(arena.ready, "a ready daemon")
        arena.until(arena.idle, "a run's end")
        gate = arena.notes / f"gate-{arena.random.random()}"
        arena.arm_child("train", f"file.adapter.before=wait:{gate}")
        arena.writer.drop_taught(12)
        reached = gate.with_name(f"{gate.name}.reached")
        arena.until(reached.exists, "a step at its gate")
        for pid in arena.steps():
            os.kill(pid, signal.SIGSTOP)
            arena.until(partial(is_stopped, pid), "a stopped step")  # else its leash may be quicker

    def train_a_file(self) -> None:
        """A file that has left the drop-box, all its examples being trained."""
        arena, writer = self.arena, self.arena.writer
        arena.until(arena.ready, "a ready daemon")
        if not writer.gone_to(arena.home.trained):
            writer.drop_taught(8)
            arena.until(lambda: writer.gone_to(arena.home.trained), "a trained file")

    def wait_for(self, condition: Callable[[], object], timeout_s: float) -> None:
        """Wait for something that need not come."""
        deadline = time.monotonic() + timeout_s
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.005)


def is_stopped(pid: int) -> bool:
    """Whether every thread of a process stands still."""
    threads = [each.read_text().rpartition(")")[2].split()[0] for each in Path(f"/proc/{pid}/task").glob("*/stat")]
    return set(threads) == {"T"}
