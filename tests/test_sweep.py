"""What a crash leaves behind goes at the next start, and nothing else does."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.seeded import fail_run, freeze, make_home, open_ledger, take_in
from thaud.domain import RunState
from thaud.failpoints import FAILPOINTS
from thaud.home import Home
from thaud.ledger import Ledger
from thaud.steps.contract import CHECKPOINTS, RESULT
from thaud.sweep import sweep

SUFFIX = "0123456789abcdef"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path)


@pytest.fixture
def ledger(home: Home) -> Iterator[Ledger]:
    with open_ledger(home) as opened:
        yield opened


def put(path: Path, *, hours_ago: float = 0.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("left")
    then = time.time() - hours_ago * 3600 - 1
    os.utime(path, (then, then))
    return path


def test_our_temporary_names_go(home: Home, ledger: Ledger) -> None:
    """Half-written projections, specs, artefacts, cards and moves of an earlier life are removed."""
    run_id = fail_run(ledger, take_in(ledger, 0, 3, "a.jsonl"), "no").id
    left = [
        put(home.logs / ".cognitive_progress.json.tmp"),
        put(home.runs / run_id / "train" / ".spec.json.tmp"),
        put(home.runs / run_id / "train" / "adapter" / ".adapter_model.safetensors.tmp"),
        put(home.versions / "thau-nano-v1" / ".version.json.tmp"),
        put(home.rejected / ".a.jsonl.tmp"),
        put(home.trained / ".retire.tmp"),
        put(home.cache / ".tokens-0.bin.tmp"),
    ]
    kept = put(home.cache / "tokens-0.bin")
    assert sorted(sweep(home, ledger)) == sorted(left)
    assert not any(path.exists() for path in left)
    assert kept.exists()
    assert sweep(home, ledger) == []


def test_what_a_command_may_be_writing_stays(home: Home, ledger: Ledger) -> None:
    """In the drop-box and the control folder only our own names go, and only after an hour; users' files never."""
    ours = (f".added-{SUFFIX}.jsonl.tmp", f".import-{SUFFIX}.tmp")
    old = [put(home.queue / name, hours_ago=2) for name in ours]
    old.append(put(home.control / f".train-{SUFFIX}{SUFFIX}.json.tmp", hours_ago=2))
    young = [put(home.queue / f".new-{SUFFIX}.jsonl.tmp"), put(home.control / f".reset-{SUFFIX}{SUFFIX}.json.tmp")]
    users = [put(home.queue / name, hours_ago=2) for name in (".mine.jsonl.tmp", "x.tmp", ".hidden", "half.part")]
    users.append(put(home.trained / ".mine.tmp", hours_ago=2))
    assert sorted(sweep(home, ledger)) == sorted(old)
    assert all(path.exists() for path in (*young, *users))


def test_the_model_of_a_refused_run_goes_and_its_report_stays(home: Home, ledger: Ledger) -> None:
    """A crash between the verdict and the removal of the model costs its disk only until the next start."""
    run_id = fail_run(ledger, take_in(ledger, 0, 3, "a.jsonl"), "no").id
    model = put(home.runs / run_id / "export" / "model.gguf")
    adapter = put(home.runs / run_id / "train" / "adapter" / "adapter_model.safetensors")
    strange = put(home.runs / "run-of-mine" / "export" / "model.gguf")
    assert sweep(home, ledger) == [model]
    assert adapter.exists()
    assert strange.exists()


def test_checkpoints_go_once_the_training_is_over(home: Home, ledger: Ledger) -> None:
    """Those of a run that ended, or of a step that has its result, go whole; those that can be resumed stay."""
    failed = fail_run(ledger, take_in(ledger, 0, 3, "a.jsonl"), "no").id
    live = freeze(ledger, take_in(ledger, 0, 3, "b.jsonl"), 0, "thau-nano").id
    for run in (failed, live):
        put(home.runs / run / "train" / CHECKPOINTS / "00000001" / "manifest.json")
    put(home.runs / live / "train" / RESULT)  # as a step leaves it that found the disk full
    assert sweep(home, ledger) == [home.runs / failed / "train" / CHECKPOINTS]
    assert (home.runs / live / "train" / CHECKPOINTS / "00000001" / "manifest.json").exists()
    ledger.receive(live, "train", {}, RunState.TRAINED)
    assert sweep(home, ledger) == [home.runs / live / "train" / CHECKPOINTS]


def test_a_run_that_was_never_frozen_goes_unless_it_holds_more(home: Home, ledger: Ledger) -> None:
    """The folder in which a base was looked up goes; one with an adapter, of a deleted ledger, is left alone."""
    unborn = home.runs / ledger.next_run_id()
    put(unborn / "bases" / "result.json")
    put(unborn / "progress.ndjson")
    assert sweep(home, ledger) == [unborn]
    put(unborn / "train" / "adapter" / "adapter_model.safetensors")
    assert sweep(home, ledger) == []


def test_what_cannot_be_removed_does_not_keep_the_daemon_from_starting(home: Home, ledger: Ledger) -> None:
    """A disk that refuses is logged, and the leftover goes the next time."""
    left = put(home.rejected / ".a.tmp")
    FAILPOINTS.arm("sweep.leftover.before=eio")
    try:
        assert sweep(home, ledger) == []
    finally:
        FAILPOINTS.charges.clear()
        FAILPOINTS.on = False
    assert sweep(home, ledger) == [left]
