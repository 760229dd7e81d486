"""Parts of the trainer's benchmark without a peer: growth, start-up, and the daemon's memory while a run trains."""

import json
import math
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.bench.train_runs import Work, prepare, run_child, write_spec
from tests.bench.train_shapes import BATCH, write_examples
from tests.testkit.daemon import look, make_home, running, thau, wait_until
from thaud.home import Home

REPOSITORY = Path(__file__).parents[2]
NANO = REPOSITORY / "thaud/nano/base"
LESSONS = REPOSITORY / "data/datasets/age_0_newborn.jsonl"
SKIPPED = 20  # steps before the clock: the first ones allocate, and compile their products
MIB = 2**20


# Growth


@dataclass
class Pace:
    """Reads the step's progress: when steps came, from the first that counts to the last that is wanted."""

    most: int  # optimiser steps; 0 is all of them
    started_s: float = 0.0
    marks: list[tuple[int, float]] = field(default_factory=list)

    def __call__(self, line: str, at_s: float) -> bool:
        said = json.loads(line)
        if said["event"] == "start":
            self.started_s = at_s
        elif said["event"] == "step":
            if said["done"] >= min(SKIPPED, max(1, said["total"] // 4)):
                self.marks.append((said["done"], at_s))
            return not self.most or said["done"] < self.most
        return True

    @property
    def steps_per_s(self) -> float:
        """Between the first mark and the last."""
        (first, began), (last, ended) = self.marks[0], self.marks[-1]
        return (last - first) / (ended - began)


def grow(folder: Path, counts: list[int], most_steps: int, rounds: int) -> list[dict[str, float]]:
    """Nano's shape on ever more examples, in turns: tokens/s over the same number of steps, and the peak.

    A step's tokens are the mean of its examples' times sixteen. All examples are read, tokenised and put in order, also
    where not all steps are waited for; few examples are seen more than once, to make up the number.
    """
    works = [prepare("nano", folder / str(count), count) for count in counts]
    runs: list[list[tuple[Pace, float]]] = [[] for _ in works]
    for turn in range(rounds):
        for work, found in zip(works, runs, strict=True):
            found.append(paced(work, most_steps, work.folder / f"run-{turn}"))
    return [
        {
            "examples": work.facts.examples,
            "tokens": work.facts.tokens,
            "tokens_per_s": statistics.median(pace.steps_per_s for pace, _ in found) * tokens_a_step(work),
            "start_s": statistics.median(pace.started_s for pace, _ in found),
            "peak_mib": max(peak for _, peak in found),
        }
        for work, found in zip(works, runs, strict=True)
    ]


def tokens_a_step(work: Work) -> float:
    """The mean."""
    return work.facts.tokens / work.facts.examples * BATCH


def paced(work: Work, most_steps: int, workdir: Path) -> tuple[Pace, float]:
    """One run: its pace, and the process's peak in MiB."""
    epochs = max(1, math.ceil(most_steps * BATCH / work.facts.examples))
    pace = Pace(most_steps)
    command = write_spec(workdir, base_dir=str(work.base), examples=str(work.examples), epochs=epochs)
    return pace, run_child(command, pace).peak_mib


# Start-up


def start_up(folder: Path, times: int) -> list[float]:
    """Seconds from the spawn to the first optimiser step's event, on the shipped nano base."""
    examples, taken = write_examples(folder / "start.jsonl", 64), list[float]()

    def first_step(line: str, at_s: float) -> bool:
        if json.loads(line)["event"] != "step":
            return True
        taken.append(at_s)
        return False

    for number in range(times):
        command = write_spec(folder / f"start-{number}", base_dir=str(NANO), examples=str(examples))
        run_child(command, first_step)
    return taken


# The daemon


def daemon_memory(folder: Path) -> dict[str, Any]:
    """Resident memory in MiB of a real daemon: with its examples taken in and nothing to do, and while nano trains."""
    home = make_home(folder / "home")
    with running(home, THAU_TRAINING__AUTO_TRAIN_ENABLED="false") as child:
        daemon = psutil.Process(child.pid)
        (home.queue / LESSONS.name).write_bytes(LESSONS.read_bytes())
        expected = len(LESSONS.read_text(encoding="utf-8").splitlines())
        wait_until(lambda: taken_in(home) == expected, what="the intake")
        before = sampled(daemon, 3.0)
        asked = thau(home.root, "train")
        assert asked.returncode == 0, asked.stderr
        step = wait_until(lambda: training_child(daemon), 60, "the training step")
        during = []
        while step.is_running() and step.status() != psutil.STATUS_ZOMBIE:
            during.append(resident(daemon))
            time.sleep(0.1)
    assert during, "the training step was not seen"
    return {"before": max(before), "first": during[0], "most": max(during), "last": during[-1], "samples": len(during)}


def taken_in(home: Home) -> int:
    """Examples in the ledger."""
    return int(look(home, lambda ledger: ledger.one("SELECT count(*) FROM examples")))


def training_child(daemon: psutil.Process) -> psutil.Process | None:
    """The train step that the daemon started, once it runs."""
    for child in daemon.children(recursive=True):
        try:
            if "thaud.steps.train" in child.cmdline():
                return child
        except psutil.NoSuchProcess:
            continue
    return None


def resident(process: psutil.Process) -> float:
    """Resident memory in MiB."""
    return float(process.memory_info().rss) / MIB


def sampled(process: psutil.Process, seconds: float) -> list[float]:
    """Its resident memory, ten times a second."""
    found, end = [resident(process)], time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.1)
        found.append(resident(process))
    return found


def measure_parts(growth: tuple[list[int], int, int] | None, start: int, *, daemon: bool) -> dict[str, Any]:
    """The parts that are asked for, by name; `growth` is (counts, steps, rounds)."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if start:
            found["start_s"] = start_up(root, start)
        if daemon:
            found["daemon_mib"] = daemon_memory(root)
        if growth:
            found["growth"] = grow(root / "growth", *growth)
    return found
