"""What a version knows and what it is continued from, where its training left examples out or was done again."""

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest

from tests.seeded import make_home, open_ledger
from tests.test_pipeline import feed
from tests.test_strategy import FAMILY, MeasuringSteps, run
from thaud.config import Settings
from thaud.domain import RunState, Side, Trigger
from thaud.home import Home
from thaud.ledger import Ledger
from thaud.pipeline import Pipeline
from thaud.steps.contract import CHECKPOINTS, HELD_BACK, SPEC, TrainSpec
from thaud.workdir import make_ready, training_spec


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path)


@pytest.fixture
def ledger(home: Home):  # noqa: ANN201
    with open_ledger(home) as opened:
        yield opened


class OfRelease(MeasuringSteps):
    """Steps whose adapter depends on their release."""

    release = b"1"

    def train(self, spec: TrainSpec) -> dict[str, Any]:
        result = super().train(spec)
        adapter = Path(spec.out_dir) / "adapter_model.safetensors"
        adapter.write_bytes(adapter.read_bytes() + self.release)
        return {**result, "adapter_sha256": hashlib.sha256(adapter.read_bytes()).hexdigest()}


def test_what_was_held_back_can_be_learned(home: Home, ledger: Ledger) -> None:
    """It was set aside to stop by, not for its length: alone it is reason enough to continue, and counts in the mix."""
    feed(ledger, range(136))
    held = sorted(ledger.ids_by_age(Side.TAUGHT, 0)[0])[:4]
    run(home, ledger, MeasuringSteps(set_aside=[{"id": each, "reason": HELD_BACK} for each in held]))
    second = run(home, ledger, MeasuringSteps(), strategy="continue")
    assert (second.strategy, len(second.example_ids), second.replayed) == ("continue", 4 + 1, 1)
    assert ledger.versions()[-1].examples == 102
    assert ledger.trained_count(FAMILY) == 102


def test_an_adapter_that_was_made_again_is_continued(home: Home, ledger: Ledger) -> None:
    """Where a lost one comes out otherwise (by another release, say), the ledger has the digest of what there is."""
    feed(ledger, range(136))
    steps = OfRelease()
    pipeline = Pipeline(home, Settings(), ledger, steps)
    spec = asyncio.run(pipeline.freeze(Trigger.EXAMPLES))
    asyncio.run(pipeline.train(spec))
    (home.runs / spec.id / "train" / "adapter" / "adapter_model.safetensors").unlink()
    steps.release = b"2"
    assert asyncio.run(pipeline.finish(spec.id)) is RunState.PROMOTED
    feed(ledger, range(136, 140))
    assert run(home, ledger, steps, strategy="continue").parent == 1
    assert steps.began_on.endswith(b"2")


def test_another_pause_between_checkpoints_keeps_what_was_done(home: Home, ledger: Ledger) -> None:
    """Who changes `checkpoint_minutes` and restarts in the middle of a training loses no checkpoint."""
    feed(ledger, range(136))
    spec = asyncio.run(Pipeline(home, Settings(), ledger, MeasuringSteps()).freeze(Trigger.EXAMPLES))
    folder = home.runs / spec.id / "train"
    before, after, other = (
        training_spec(home, Settings(training=training).training, spec, None)  # type: ignore[arg-type]
        for training in ({}, {"checkpoint_minutes": 1}, {"threads": 7})
    )
    make_ready(folder, before)
    (folder / SPEC).write_text(before.model_dump_json())
    (folder / CHECKPOINTS).mkdir()
    make_ready(folder, after)
    assert (folder / CHECKPOINTS).exists()
    make_ready(folder, other)
    assert not (folder / CHECKPOINTS).exists()
