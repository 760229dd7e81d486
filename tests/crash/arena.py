"""A home, its fake Ollama, its real daemon, and the ways to kill it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, Self

from tests.crash.steps.door import CRASH
from tests.crash.workload import Writer
from tests.testkit.daemon import look
from tests.testkit.scripted_gguf import write_scripted_gguf
from thaud.config import initial_toml
from thaud.control import Request, send
from thaud.domain import FINAL_STATES
from thaud.home import Home
from thaud.serving.fake_ollama import FakeOllama

ROOT = Path(__file__).parent.parent.parent
TEMPLATE = "{% for m in messages %}{{ m['role'] }}\n{{ m['content'] }}\n{% endfor %}\n"
SETTINGS = {
    "THAU_API__ENABLED": "false",
    "THAU_QUEUE__QUIET_S": "0.05",
    "THAU_QUEUE__SETTLE_S": "0.15",
    "THAU_TRAINING__MIN_NEW_EXAMPLES": "4",
    "THAU_TRAINING__BUDGET_MINUTES": "0.001",
    "THAU_TRAINING__REBASE_EVERY": "3",
    "THAU_GATE__ALPHA": "0.9",
    "THAU_EXPORT__KEEP_VERSIONS": "1",
    "THAU_EXAM__MIN_ITEMS": "1",
    "THAU_SERVING__OLLAMA_ENABLED": "true",
    "THAU_SERVING__RETRY_S": "0.5",
    "THAU_STAGES": '{"0": {"min_examples": 20, "min_accuracy": 0.5}}',
}
STRATEGIES = ("auto", "auto", "continue", "fresh")
BIRTH_S, DEATH_S = 30.0, 20.0


class ViolationError(AssertionError):
    """A promise that was broken."""


@dataclass
class Arena:
    """Where one home is tried. Use it as a context manager."""

    root: Path
    seed: int
    home: Home = field(init=False)
    random: Random = field(init=False)
    tastes: Random = field(init=False)
    writer: Writer = field(init=False)
    daemon: subprocess.Popen[bytes] | None = None
    restarts: int = 0
    resets: int = 0
    asked_at: str = ""
    wanted: tuple[int, str] | None = None
    said: str = ""
    silent_until: int = 0

    def __enter__(self) -> Self:
        self.random, self.tastes = Random(self.seed), Random(self.seed + 2)
        self.home = Home(self.root)
        self.notes = self.root / CRASH
        for folder in (*self.home.folders(), self.notes):
            folder.mkdir(parents=True, exist_ok=True)
        self.home.config.write_text(initial_toml("nano", None), encoding="utf-8")
        write_scripted_gguf(self.notes / "template.gguf", ["azul"], chat_template=TEMPLATE)
        self.trace = self.notes / "trace"
        self.writer = Writer(self.home.queue, Random(self.seed + 1))
        self.stack = ExitStack()
        self.ollama = self.stack.enter_context(FakeOllama())
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for pid in self.steps():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.stack.close()

    # The daemon

    @property
    def environment(self) -> dict[str, str]:
        """What daemon and commands are started with."""
        ours = {key: value for key, value in os.environ.items() if not key.startswith("THAU_")}
        return {**ours, **SETTINGS, "OLLAMA_HOST": self.ollama.url, "LC_ALL": "C.UTF-8"}

    def start(self, points: str = "", prefix: Sequence[str] = ()) -> None:
        """A new life; not yet ready. `points` are armed from its first breath on; `prefix` is what it is put behind."""
        assert self.daemon is None
        self.restarts += 1
        strategy = self.tastes.choice(STRATEGIES)
        with (self.notes / "stderr.log").open("ab") as log:
            self.silent_until = log.tell()
            self.daemon = subprocess.Popen(
                [*prefix, sys.executable, "-m", "tests.crash.daemon", str(self.root)],
                env={
                    **self.environment,
                    "THAU_FAILPOINTS": f"{points},trace={self.trace}",
                    "THAU_TRAINING__STRATEGY": strategy,
                },
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def arm(self, points: str) -> None:
        """Arm points in the daemon that lives. Returns when it has heard."""
        note = self.notes / "daemon"
        note.write_text(points)
        assert self.daemon is not None
        self.until(self.ready, "a ready daemon")
        self.daemon.send_signal(signal.SIGUSR1)
        self.until(lambda: not note.exists() or self.dead(), "an armed daemon")

    def arm_child(self, step: str, points: str) -> None:
        """Arm points in the next child that is in this step."""
        note = self.notes / ".child"
        note.write_text(json.dumps({"step": step, "setting": f"{points},trace={self.trace}"}))
        note.rename(self.notes / "child.json")

    def ready(self) -> bool:
        """Whether this life has its signal handlers; ViolationError where it ended instead."""
        if self.dead():
            raise ViolationError(f"the daemon ended by itself: {self.last_words()}")
        return self.handles_signals()

    def handles_signals(self) -> bool:
        """Whether this life has its signal handlers; False where it has ended."""
        if self.daemon is None or self.daemon.poll() is not None:
            return False
        handled = Path(f"/proc/{self.daemon.pid}/status").read_text().partition("SigCgt:")[2].split()[0]
        return all(int(handled, 16) >> (number - 1) & 1 for number in (signal.SIGUSR1, signal.SIGTERM))

    def dead(self) -> bool:
        """Whether the daemon has died."""
        return self.daemon is None or self.daemon.poll() is not None

    def kill(self, number: int = signal.SIGKILL) -> int | None:
        """End this life; its exit status."""
        if self.daemon is None:
            return None
        with suppress(ProcessLookupError):
            self.daemon.send_signal(number)
        try:
            status = self.daemon.wait(DEATH_S)
        except subprocess.TimeoutExpired:
            self.daemon.kill()
            self.daemon.wait()
            self.daemon = None
            raise ViolationError(f"the daemon did not end within {DEATH_S:.0f} s of signal {number}") from None
        self.daemon = None
        return status

    def last_words(self) -> str:
        """The end of what the daemon wrote on standard error."""
        return self.words()[-1500:]

    def words(self) -> str:
        """What the daemon wrote on standard error in this life, or, where it has ended, in its last one."""
        return (self.notes / "stderr.log").read_bytes()[self.silent_until :].decode(errors="replace")

    # The children

    def steps(self) -> Iterator[int]:
        """Processes of fake steps of this home."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                with suppress(OSError):
                    command = (entry / "cmdline").read_bytes()
                    if b"tests.crash.steps" in command and os.fsencode(self.root) in command:
                        yield int(entry.name)

    def orphans(self) -> list[int]:
        """Steps that are no child of the daemon that lives."""
        found = []
        for pid in self.steps():
            with suppress(OSError, IndexError):
                state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
                if state != "Z" and (self.daemon is None or int(parent) != self.daemon.pid):
                    found.append(pid)
        return found

    # What is asked of it

    def mood(self, mood: str) -> None:
        """How the fake steps work from now on."""
        (self.notes / "mood").write_text(mood)

    def request(self, request: Request, **values: Any) -> None:
        """As the CLI asks."""
        self.asked(request, **values)
        send(self.home, request, **values)

    def asked(self, request: Request, **values: Any) -> None:
        """Remember what must come of it."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        if request is Request.RESET:
            self.resets += 1
        elif request is Request.ROLLBACK:
            self.wanted = values["n"], now
        elif request is Request.TRAIN:
            self.asked_at = now

    def command(self, *arguments: str, points: str = "", home: bool = True) -> int:
        """Run `thau` to its end; its exit status."""
        begun = self.begin(*arguments, points=points, home=home)
        _, self.said = begun.communicate(timeout=60)
        if "Traceback" in self.said:
            raise ViolationError(f"thau {' '.join(arguments)} ended in a traceback: {self.said[-1000:]}")
        return begun.returncode

    def begin(self, *arguments: str, points: str = "", home: bool = True) -> subprocess.Popen[str]:
        """Run `thau`."""
        chosen = ("--home", str(self.root)) if home else ()
        return subprocess.Popen(
            [sys.executable, "-m", "thaud.cli", *chosen, *arguments],
            env={**self.environment, "THAU_FAILPOINTS": f"{points},trace={self.trace}"},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def passed(self, point: str) -> int:
        """How often a point was passed, by the trace."""
        return self.trace.read_text().splitlines().count(point) if self.trace.exists() else 0

    def idle(self) -> bool:
        """Whether no run is under way."""
        run = look(self.home, lambda ledger: next(iter(ledger.runs(1)), None))
        return run is None or run.state in FINAL_STATES

    def until(self, condition: Callable[[], object], what: str, timeout_s: float = BIRTH_S) -> None:
        """Wait. ViolationError, naming it, when the deadline passes."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise ViolationError(f"{what} did not come within {timeout_s:.0f} s")
            time.sleep(0.01)

    def until_nothing(self, complaint: Callable[[], object], what: str, timeout_s: float) -> None:
        """Wait until there is nothing to complain about. ViolationError, with the last complaint."""
        deadline = time.monotonic() + timeout_s
        while said := complaint():
            if time.monotonic() > deadline:
                raise ViolationError(f"{what} did not come within {timeout_s:.0f} s: {said}")
            time.sleep(0.01)

    def empty(self) -> None:
        """Everything from the beginning, on a server that knows nothing."""
        assert self.daemon is None
        shutil.rmtree(self.home.data)
        for folder in self.home.folders():
            folder.mkdir(parents=True)
        self.stack.close()
        self.ollama = self.stack.enter_context(FakeOllama())
        self.writer = Writer(self.home.queue, self.writer.random, count=self.writer.count)
        self.resets, self.asked_at, self.wanted = 0, "", None

    def remove(self) -> None:
        """The home is of no more use."""
        shutil.rmtree(self.root, ignore_errors=True)
