"""A training that is killed goes on from its last checkpoint and ends with the bytes it would have had."""

import hashlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.steps.doors import through_door
from tests.testkit.training import FACTS, adapted, fact, fact_lessons, spec_for, trainer
from thaud.failpoints import SETTING
from thaud.steps.contract import CHECKPOINTS, RESULT, SPEC, TrainSpec
from thaud.steps.train.checkpoint import Checkpoints, Part
from thaud.steps.train.loop import Recipe, Trainer
from thaud.steps.train.metrics import Tally
from thaud.steps.train.resuming import Randomness

EXAMPLES = [fact(*each) for each in FACTS]
Said = list[dict[str, Any]]


# The trainer


def fresh(base: Path, dtype: torch.dtype) -> Trainer:
    return trainer(adapted(base, dtype), fact_lessons(base), Recipe(3, 5e-3, 4, 4), row_tokens=128)


def bytes_of(trained: Trainer) -> str:
    whole = b"".join(weight.detach().numpy().tobytes() for weight in trained.weights)
    return hashlib.sha256(whole).hexdigest()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_resumed_trainer_is_the_one_that_went_on(
    base: Path, tmp_path: Path, dtype: torch.dtype, threads: int
) -> None:
    """Weights, losses and gradient norms are equal to the last bit, wherever it was interrupted."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        whole = fresh(base, dtype)
        steps = [whole.step() for _ in range(whole.steps)]
        for at in (1, 4):
            first, tally = fresh(base, dtype), Tally()
            for _ in range(at):
                tally.count(first.step())
            folder = tmp_path / f"{at}"
            parts: dict[str, Part] = {"trainer": first, "tally": tally, "random": Randomness()}
            assert Checkpoints(folder, parts, dict, 0, lambda *_, **__: None).keep(at)
            second, tally = fresh(base, dtype), Tally()
            parts = {"trainer": second, "tally": tally, "random": Randomness()}
            assert Checkpoints(folder, parts, dict, 0, lambda *_, **__: None).resume() == second.done == at
            rest = [second.step() for _ in range(second.steps - at)]
            assert [(each.loss, each.norm) for each in rest] == [(each.loss, each.norm) for each in steps[at:]]
            assert bytes_of(second) == bytes_of(whole)
            assert (tally.first_loss, tally.last_loss) == (steps[0].loss, steps[at - 1].loss)
            assert tally.tokens == sum(each.tokens for each in steps[:at])
    finally:
        torch.set_num_threads(before)


# The step itself


def start(spec: TrainSpec, workdir: Path, points: str = "") -> subprocess.Popen[str]:
    """The step, as the executor starts it."""
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / RESULT).unlink(missing_ok=True)
    (workdir / SPEC).write_text(spec.model_dump_json())
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "thaud.steps.train", str(workdir)],
        env={**os.environ, SETTING: points},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def events(child: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    """What it says, as it says it."""
    assert child.stdout is not None
    yield from map(json.loads, child.stdout)


def finish(child: subprocess.Popen[str]) -> tuple[int, Said]:
    """Its exit status, and the rest of what it said."""
    said = list(events(child))
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdout.close()
    child.stdin.close()
    return child.wait(60), said


def outcome(spec: TrainSpec, result: Mapping[str, Any]) -> dict[str, Any]:
    """What must be the same of two trainings: the adapter's bytes and all figures that are no time and no memory."""
    weights = (Path(spec.out_dir) / "adapter_model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == result["adapter_sha256"]
    same = ("adapter_sha256", "steps", "tokens", "supervised_tokens", "first_loss", "last_loss", "kl_to_base")
    return {name: result[name] for name in same}


def expect_each_step_once(workdir: Path, steps: int) -> None:
    """And the end once, after them."""
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    assert [line.get("step", line["event"]) for line in lines] == [*range(1, steps + 1), "end"]


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "threads", "cached"), [("fp32", 1, False), ("auto", 2, True)])
def test_killed_again_and_again_it_ends_with_the_same_bytes(
    base: Path, tmp_path: Path, precision: str, threads: int, *, cached: bool
) -> None:
    """SIGKILL at random moments, whatever the step is at; what comes out in the end is what one life would have made,
    with and without kept tokens.
    """
    changes = {"precision": precision, "threads": threads, "epochs": 30}
    whole = spec_for(base, tmp_path / "whole", EXAMPLES, **changes)
    code, result, _ = through_door("train", whole, tmp_path / "whole" / "work")
    assert code == 0
    expected = outcome(whole, result)
    cache = str(tmp_path / "cache") if cached else None
    spec = spec_for(base, tmp_path / "torn", EXAMPLES, **changes, checkpoint_minutes=0, cache=cache)
    workdir, chance, reached = tmp_path / "torn" / "work", random.Random(precision), 0
    for _ in range(4):
        child = start(spec, workdir)
        written = (each["steps"] for each in events(child) if each["event"] == "checkpoint")
        *_, latest = itertools.islice(written, chance.randint(1, 8))
        assert latest > reached
        reached = latest
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(chance.uniform(0.0001, 0.03))
        os.killpg(child.pid, signal.SIGKILL)
        assert finish(child)[0] == -signal.SIGKILL
    child = start(spec, workdir)
    assert finish(child)[0] == 0
    result = json.loads((workdir / RESULT).read_text())
    assert reached <= result["resumed_at"] < result["steps"]
    assert outcome(spec, result) == expected
    assert not (workdir / CHECKPOINTS).exists()
    expect_each_step_once(workdir, result["steps"])


POINTS = (
    "file.checkpoint.before",
    "file.checkpoint.between",
    "file.checkpoint.after",
    "remove.checkpoint.before",
    "remove.checkpoint.after",
)


@pytest.mark.slow
def test_killed_while_a_checkpoint_is_written_or_removed(base: Path, tmp_path: Path) -> None:
    """Each point of a checkpoint's making and going kills one life; the last ends with the bytes of a whole one."""
    whole = spec_for(base, tmp_path / "whole", EXAMPLES, epochs=15)
    code, result, _ = through_door("train", whole, tmp_path / "whole" / "work")
    assert code == 0
    expected = outcome(whole, result)
    spec = spec_for(base, tmp_path / "torn", EXAMPLES, epochs=15, checkpoint_minutes=0)
    workdir = tmp_path / "torn" / "work"
    for point in POINTS:
        code, said = finish(start(spec, workdir, f"{point}=crash@3"))
        assert code == -signal.SIGKILL
        assert point == POINTS[0] or "resumed" in [each["event"] for each in said]
    code, said = finish(start(spec, workdir))
    assert code == 0
    result = json.loads((workdir / RESULT).read_text())
    assert result["resumed_at"] > 2 * len(POINTS) - 2
    assert outcome(spec, result) == expected
    expect_each_step_once(workdir, result["steps"])


@pytest.mark.slow
def test_asked_to_stop_it_leaves_a_checkpoint(base: Path, tmp_path: Path) -> None:
    """SIGTERM ends the step after the optimiser step it is at, and nothing is lost, however rare checkpoints are."""
    spec = spec_for(base, tmp_path, EXAMPLES, epochs=400, checkpoint_minutes=60)
    child = start(spec, tmp_path / "work")
    next(each for each in events(child) if each["event"] == "step")
    child.terminate()
    code, said = finish(child)
    assert code == 128 + signal.SIGTERM
    kept_at = next(each["steps"] for each in said if each["event"] == "checkpoint")
    assert not (tmp_path / "work" / RESULT).exists()
    child = start(spec, tmp_path / "work")
    assert next(each for each in events(child) if each["event"] == "resumed")["steps"] == kept_at > 0
    os.killpg(child.pid, signal.SIGKILL)
    finish(child)
