"""A training that makes no sense any more stops and says where; one that is merely noisy goes on. Memory that runs out
halves the rows once.
"""

import json
import math
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.testkit.training import adapted, fact_lessons, trainer
from thaud.errors import StepError
from thaud.steps.train.divergence import LONG, Watch
from thaud.steps.train.loop import SHORTEST_ROW, Recipe, Step, Trainer

FULL = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried 1 bytes."


def diverges_at(losses: Iterator[float] | list[float]) -> int | None:
    """The step at which a training with these losses is stopped, from 1."""
    watch = Watch()
    return next((step for step, loss in enumerate(losses, 1) if watch.has_diverged(loss)), None)


def falling(chance: random.Random, steps: int, noise: float, first: float = 2.5, floor: float = 0.4) -> list[float]:
    """A sound run: it falls to a floor, each step's loss off by a factor that is log-normal."""
    return [
        (floor + (first - floor) * math.exp(-4 * step / steps)) * math.exp(chance.gauss(0, noise))
        for step in range(steps)
    ]


@pytest.mark.parametrize("steps", [10, 60, 400, 5000])
@pytest.mark.parametrize("noise", [0.05, 0.3, 1.0])
def test_a_noisy_run_is_not_stopped(steps: int, noise: float) -> None:
    """Short or long, calm or with losses that triple from one step to the next: sound runs go on. Twenty of each."""
    for seed in range(20):
        assert diverges_at(falling(random.Random(seed), steps, noise)) is None


SOUND: dict[str, Callable[[random.Random], float]] = {
    "half are known by heart": lambda chance: chance.choice((0.01, 3.0)),
    "one in ten is known by heart": lambda chance: 0.01 if chance.random() < 0.1 else 4.0,
    "one in ten is hard": lambda chance: 9.0 if chance.random() < 0.1 else 0.05,
    "a heavy tail": lambda chance: 0.2 * chance.paretovariate(1.0),
}


@pytest.mark.parametrize("kind", SOUND)
def test_single_examples_of_all_sorts_are_no_divergence(kind: str) -> None:
    """One example a batch, so that each loss is another task's: ten runs of 10,000 steps go on."""
    for seed in range(10):
        chance = random.Random(seed)
        assert diverges_at([SOUND[kind](chance) for _ in range(10_000)]) is None


def test_an_overfitted_run_that_stumbles_is_not_stopped() -> None:
    """Learned by heart, with a spike of a few steps: it recovers, and is let be."""
    losses = [3.0] * 5 + [0.01] * 100 + [6.0] * (LONG - 1) + [0.02] * 100
    assert diverges_at(losses) is None


@pytest.mark.parametrize("at", [5, 50, 1000])
@pytest.mark.parametrize("plateau", [7.0, 9.0, 12.0])
def test_a_run_that_went_up_for_good_is_stopped(at: int, plateau: float) -> None:
    """Whenever it happens, LONG steps later it is over."""
    chance = random.Random(at)
    losses = falling(chance, max(at, 100), 0.2)[:at]
    losses += [plateau * math.exp(chance.gauss(0, 0.1)) for _ in range(4 * LONG)]
    assert diverges_at(losses) == at + LONG


def test_a_resumed_watch_stops_at_the_same_step() -> None:
    """What a checkpoint keeps of it is all of it."""
    losses = falling(random.Random(1), 100, 0.2)[:60] + [9.0] * 100
    expected = diverges_at(losses)
    watch = Watch()
    for cut in (3, 17, 61, 80):
        assert expected is not None
        watch = Watch()
        assert not any(watch.has_diverged(loss) for loss in losses[:cut])
        second = Watch()
        second.restore(json.loads(json.dumps(watch.state())))
        rest = next(step for step, loss in enumerate(losses[cut:], cut + 1) if second.has_diverged(loss))
        assert rest == expected


def steps_of(training: Trainer) -> Iterator[Step]:
    while training.done < training.steps:
        yield training.step()


def test_a_training_that_diverged_stops_and_says_where(base: Path) -> None:
    """The trainer watches: what had held 0.1 and has the losses of an untaught model for LONG steps ends there."""
    broken = trainer(adapted(base), fact_lessons(base), Recipe(0, 1e-9, 100, 2), row_tokens=128)
    for _ in range(LONG):
        assert not broken.watch.has_diverged(0.1)
    with pytest.raises(
        StepError, match=rf"step {LONG} is .* nats a token: the training has diverged.*lower the"
    ) as caught:
        list(steps_of(broken))
    assert "above 1.15, where it had held 0.10" in str(caught.value)
    assert "[stages.N] in thau.toml" in str(caught.value)
    _, chosen = broken.order.at(LONG - 1)
    assert str(caught.value).endswith(f"examples {', '.join(str(each) for each in chosen)}")


# Memory


class Full:
    """A module's hook that says, as torch does, that memory is out, where the row is longer than there is room for."""

    def __init__(self, fitting: int, error: Callable[[], BaseException] = lambda: RuntimeError(FULL)) -> None:
        self.fitting, self.error, self.refused = fitting, error, 0

    def __call__(self, _: Any, __: Any, given: dict[str, Any]) -> None:
        if given["input_ids"].shape[1] > self.fitting:
            self.refused += 1
            raise self.error()


def small_rows(base: Path, full: Full | None, row_tokens: int = 256) -> tuple[Trainer, list[dict[str, Any]]]:
    said: list[dict[str, Any]] = []
    made = trainer(adapted(base), fact_lessons(base), Recipe(0, 1e-3, 3, 6), row_tokens=row_tokens)
    made.tell = lambda event, **fields: said.append({"event": event, **fields})
    if full is not None:
        made.model.get_base_model().model.register_forward_pre_hook(full, with_kwargs=True)
    return made, said


@pytest.mark.parametrize("error", [lambda: RuntimeError(FULL), MemoryError, lambda: torch.OutOfMemoryError("CUDA")])
def test_memory_that_runs_out_halves_the_rows_once(base: Path, error: Callable[[], BaseException]) -> None:
    """The step is done again with rows of half the length, from nothing: its gradients are those of such rows."""
    full = Full(128, error)
    halved, said = small_rows(base, full)
    alike, _ = small_rows(base, None, 128)
    steps = [(halved.step(), alike.step()) for _ in range(halved.steps)]
    assert full.refused == 1
    assert said == [{"event": "rows_halved", "row_tokens": 128, "before": 256, "done": 0}]
    assert [(one.loss, one.norm) for one, _ in steps] == [(other.loss, other.norm) for _, other in steps]
    assert halved.state()["row_tokens"] == 128
    assert halved.state()["halved"]


@pytest.mark.parametrize(("rows", "fitting", "refusals"), [(256, 100, 2), (SHORTEST_ROW, 10, 1)])
def test_the_second_time_it_ends_with_advice(base: Path, rows: int, fitting: int, refusals: int) -> None:
    """With rows that were halved, or cannot be: the error has the figures and the settings to change."""
    full = Full(fitting)
    halved, said = small_rows(base, full, rows)
    with pytest.raises(
        StepError, match=r"out of memory in step 1, with rows of \d+ tokens: \d+\.\d GB .* has \d+ token"
    ) as caught:
        halved.step()
    assert full.refused == refusals
    assert len(said) == refusals - 1
    assert all(word in str(caught.value) for word in ("context_tokens", "smaller size", "training.max_memory_gib"))


def test_other_errors_are_not_taken_for_memory(base: Path) -> None:
    """A mistake of shapes is not tried again."""
    full = Full(10, lambda: RuntimeError("shape '[1]' is invalid for input of size 2"))
    broken, said = small_rows(base, full)
    with pytest.raises(RuntimeError, match="invalid for input"):
        broken.step()
    assert (full.refused, said) == (1, [])


EXHAUSTED = """
import resource, sys
from pathlib import Path
import torch
from tests.testkit.training import adapted, trainer
from thaud.steps.train.data import Lesson
from thaud.steps.train.loop import Recipe

torch.set_num_threads(1)
lessons = [Lesson(str(each), tuple(range(1, 257)), tuple(range(128, 257 - 1))) for each in range(64)]
made = trainer(adapted(Path(sys.argv[1])), lessons, Recipe(0, 1e-3, 1, 64), row_tokens=16384)
made.tell = lambda event, **fields: print(event, fields["before"], fields["row_tokens"])
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + int(float(sys.argv[2]) * 2**20),) * 2)
step = made.step()
print("done", step.number)
"""


@pytest.mark.slow
def test_real_exhaustion_is_survived_by_half_the_rows(base: Path) -> None:
    """A limit on the address space, refused by the kernel: one of the amounts of room is enough for half only."""
    said = {}
    for room in (80, 50, 110, 30, 150):
        done = subprocess.run(
            [sys.executable, "-c", EXHAUSTED, str(base), str(room)], check=False, capture_output=True, text=True
        )
        said[room] = done.stdout.split() if done.returncode == 0 else [done.stderr.strip().splitlines()[-1]]
        if "rows_halved" in said[room]:
            assert said[room] == ["rows_halved", "16384", "8192", "done", "1"]
            return
    pytest.fail(f"no amount of room was enough for half of the rows alone: {said}")
