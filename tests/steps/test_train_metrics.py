"""What a training says of itself while it runs, and keeps in metrics.jsonl."""

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.steps.doors import through_door
from tests.testkit.training import json_lines, spec_with_new
from thaud.failpoints import FAILPOINTS
from thaud.steps.train.loop import Step
from thaud.steps.train.metrics import FILE, RECENT, Record, Tally, peak_memory_bytes

MIB = 1 << 20


def a_step(number: int, loss: float = 1.0, steps: int = 100) -> Step:
    return Step(number, steps, 0, rate=1e-3, loss=loss, norm=0.5, tokens=100, supervised=40, seconds=1.0)


# Running figures


class Clock:
    """Seconds, as a test sets them."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_what_is_left_is_told_from_the_last_steps() -> None:
    """Nine seconds of warm-up in the first step do not lengthen what is left, nor lower the speed that is shown."""
    clock = Clock()
    tally = Tally(clock)
    for number, seconds in enumerate([9.0, 1.0, 1.0, 1.0], 1):
        clock.now += seconds
        said = tally.count(a_step(number))
    assert (said["eta_s"], said["tokens_per_s"], said["supervised_tokens_per_s"]) == (96.0, 100, 40)
    for number in range(5, 5 + RECENT):
        clock.now += 2.0
        said = tally.count(a_step(number, steps=5 + RECENT))
    assert (said["eta_s"], said["tokens_per_s"]) == (2.0, 50)


def test_smoothed_loss_is_the_mean_at_first_and_then_follows() -> None:
    """Of few losses it is the mean; later each counts a tenth."""
    tally = Tally(Clock())
    assert [tally.count(a_step(n, loss))["smoothed_loss"] for n, loss in enumerate([4.0, 2.0, 3.0], 1)] == [
        4.0,
        3.0,
        3.0,
    ]
    for number in range(4, 21):
        tally.count(a_step(number, 3.0))
    assert tally.count(a_step(21, 13.0))["smoothed_loss"] == pytest.approx(4.0)
    assert (tally.first_loss, tally.last_loss) == (4.0, 13.0)


def test_figures_of_a_resumed_training_are_those_of_all_of_it() -> None:
    """Tokens, losses and seconds of the life before are in the figures; the time between the two lives is not."""
    clock = Clock()
    before = Tally(clock)
    for number in (1, 2):
        clock.now += 5.0
        before.count(a_step(number, 2.0))
    state = json.loads(json.dumps(before.state()))
    clock.now += 3600.0
    after = Tally(clock)
    after.restore(state)
    clock.now += 5.0
    after.count(a_step(3, 1.0))
    ended = after.ended()
    assert (ended["steps"], ended["tokens"], ended["supervised_tokens"], ended["seconds"]) == (3, 300, 120, 15.0)
    assert (ended["first_loss"], ended["last_loss"], ended["tokens_per_s"]) == (2.0, 1.0, 20)


def test_peak_is_of_this_process_and_not_of_the_one_that_started_it() -> None:
    """A child of a process of 300 MiB that itself takes 20 says about 20: getrusage would say 300."""
    block = bytearray(300 * MIB)
    code = "from thaud.steps.train.metrics import peak_memory_bytes; print(peak_memory_bytes())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert MIB < int(child.stdout) < 150 * MIB < len(block) < peak_memory_bytes()


# metrics.jsonl


@pytest.fixture
def told() -> list[tuple[str, dict[str, Any]]]:
    return []


@pytest.fixture
def record(tmp_path: Path, told: list[tuple[str, dict[str, Any]]]) -> Record:
    return Record(tmp_path / FILE, lambda event, **fields: told.append((event, fields)))


@pytest.fixture
def points() -> Iterator[None]:
    yield
    FAILPOINTS.charges.clear()
    FAILPOINTS.on = False


def test_each_step_has_one_line_also_after_a_resume(record: Record) -> None:
    """What a resumed training does again is cut off first, with half a line and what follows the end."""
    for number in range(1, 6):
        record.step(a_step(number))
    record.write("end", kl_to_base=None)
    record.cut_back(3)
    assert [row["step"] for row in json_lines(record.path)] == [1, 2, 3]
    with record.path.open("ab") as file:
        file.write(b'{"event": "step", "step": 4, "lo')
    record.cut_back(3)
    for number in (4, 5):
        record.step(a_step(number), held_back_loss=0.5)
    assert [row["step"] for row in json_lines(record.path)] == [1, 2, 3, 4, 5]
    with record.path.open("a") as file:
        file.write("[" * 100_000 + "\n")
    record.cut_back(9)
    assert [row["step"] for row in json_lines(record.path)] == [1, 2, 3, 4, 5]
    record.cut_back(0)
    assert record.path.read_bytes() == b""


@pytest.mark.usefixtures("points")
def test_a_full_disk_loses_lines_and_not_the_training(record: Record, told: list[tuple[str, dict[str, Any]]]) -> None:
    """What the disk refuses is said once; when there is room again, lines are written again."""
    record.step(a_step(1))
    for number in (2, 3):
        FAILPOINTS.arm("append.metrics.before=enospc")
        record.step(a_step(number))
    record.step(a_step(4))
    assert [row["step"] for row in json_lines(record.path)] == [1, 4]
    assert told == [("metrics_lost", {"reason": "No space left on device"})]


def test_of_a_line_that_does_not_fit_nothing_stays(record: Record, told: list[tuple[str, dict[str, Any]]]) -> None:
    """A line is written whole or not at all. A limit on files stands for a full disk."""
    record.step(a_step(1))
    room = record.path.stat().st_size + 20
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        record.step(a_step(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    record.step(a_step(3))
    assert [row["step"] for row in json_lines(record.path)] == [1, 3]
    assert [event for event, _ in told] == ["metrics_lost"]


def test_one_of_several_processes_writes(tmp_path: Path) -> None:
    """The others of a training leave the file alone."""
    record = Record(tmp_path / FILE, lambda *_, **__: None, writes=False)
    record.cut_back(0)
    record.step(a_step(1))
    assert not record.path.exists()


# Through the door


@pytest.mark.slow
def test_metrics_and_progress_of_a_run(base: Path, tmp_path: Path) -> None:
    """A line for each step with its figures and a last one for the end; start, steps and end on standard output."""
    spec = spec_with_new(base, tmp_path, [0, 1])
    code, result, events = through_door("train", spec, tmp_path / "work")
    assert code == 0
    *steps, end = json_lines(tmp_path / "work" / FILE)
    assert [row["step"] for row in steps] == list(range(1, result["steps"] + 1))
    figures = {"event", "step", "epoch", "loss", "rate", "norm", "tokens", "supervised_tokens", "seconds"}
    speeds = {"tokens_per_s", "supervised_tokens_per_s", "peak_memory_bytes", "at"}
    assert all(row.keys() >= figures | speeds for row in steps)
    assert sum(row["tokens"] for row in steps) == result["tokens"]
    assert sum(row["supervised_tokens"] for row in steps) == result["supervised_tokens"]
    assert (steps[0]["loss"], steps[-1]["loss"]) == (result["first_loss"], result["last_loss"])
    assert end["event"] == "end"
    assert 0.0 < end["kl_to_base"] == result["kl_to_base"]
    assert [each["event"] for each in events[:1] + events[-2:]] == ["start", "step", "end"]
    assert events[0]["arrangement"].startswith("fp32")
    assert events[0]["arrangement"] == result["arrangement"]
    assert events[-2].keys() >= {"done", "total", "loss", "smoothed_loss", "tokens_per_s", "eta_s"}
    assert events[-1]["kl_to_base"] == result["kl_to_base"]


@pytest.mark.slow
def test_divergence_of_a_run_without_news_is_none(base: Path, tmp_path: Path) -> None:
    """Where nothing is marked new there is nothing to take it on."""
    _, result, _ = through_door("train", spec_with_new(base, tmp_path, []), tmp_path / "work")
    assert result["kl_to_base"] is None
