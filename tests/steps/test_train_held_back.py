"""Early stop: what is held back, how long a training waits, and which adapter it saves, killed on the way or not."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.steps.doors import through_door
from tests.testkit.training import CPU, FACTS, fact, json_lines, rows, spec_with_new
from thaud.steps.contract import HELD_BACK, SPEC, TrainSpec
from thaud.steps.tokenizer import read_tokenizer
from thaud.steps.train.data import Cut, Prepared, SetAside, prepare
from thaud.steps.train.evaluate import mean_loss
from thaud.steps.train.held_back import Patience, hold_back
from thaud.steps.train.metrics import FILE
from thaud.steps.train.model import add_adapter, continue_adapter, load_base


def test_examples_are_held_back_whole_and_with_a_reason(base: Path) -> None:
    """A share of the examples, by seed and id, is not trained, is set aside, and is not called cut."""
    examples = [fact(f"¿{number}?", "Sí") for number in range(40)]
    whole = prepare(rows(examples), read_tokenizer(base), 128)
    whole.cut.extend(Cut(f"id-{number}", "short") for number in range(40))
    whole.aside.append(SetAside("other", "too long"))
    trained, held = hold_back(whole, 0.1, 7)
    names, kept = {lesson.id for lesson in held}, {lesson.id for lesson in trained.lessons}
    assert len(names) == 4
    assert names | kept == {f"id-{number}" for number in range(40)}
    assert not names & kept
    assert {each.id: each.reason for each in trained.aside} == {"other": "too long", **dict.fromkeys(names, HELD_BACK)}
    assert {each.id for each in trained.cut} == kept
    fewer = prepare(list(reversed(rows(examples)))[:20], read_tokenizer(base), 128)
    order = [lesson.id for lesson in hold_back(fewer, 0.1, 7)[1]]
    assert {*order} == {name for name in names if int(name[3:]) >= 20} | ({*order} - names)
    assert {lesson.id for lesson in hold_back(whole, 0.1, 8)[1]} != names


@pytest.mark.parametrize(("count", "share", "wanted"), [(1, 0.5, 0), (2, 0.01, 1), (3, 0.99, 2), (6, 0.0, 0)])
def test_something_is_held_back_and_something_is_left(base: Path, count: int, share: float, wanted: int) -> None:
    """One example at least and all but one at most; none where there is only one, or where it is not asked for."""
    trained, held = hold_back(
        prepare(rows([fact(*each) for each in FACTS[:count]]), read_tokenizer(base), 128), share, 1
    )
    assert (len(held), len(trained.lessons)) == (wanted, count - wanted)


def test_all_lessons_of_an_example_are_held_back(base: Path) -> None:
    """Where an example has several lessons, none of them is trained: their answers are the same conversation."""
    whole = prepare(rows([fact(*each) for each in FACTS]), read_tokenizer(base), 128)
    twice = Prepared(whole.lessons.only([0, 0, 1, 1, 2, 2]), [], [])
    trained, held = hold_back(twice, 0.3, 7)
    assert (len(held), len(trained.lessons)) == (2, 4)
    assert len({lesson.id for lesson in held}) == 1


def test_patience_ends_after_so_many_epochs_without_a_better_loss() -> None:
    """A tie is no better; a better loss starts the count anew; the best epoch's weights come back."""
    weights = {"a": torch.zeros(2)}
    losses = iter([3.0, 2.0, 2.5, 1.0, 1.0, 1.5])
    patience = Patience(2, 10, weights, lambda: next(losses))
    ended = []
    for steps in range(1, 61):
        weights["a"].fill_(steps)
        if patience.after(steps):
            ended.append((steps, patience.is_over))
    assert ended == [(10, False), (20, False), (30, False), (40, False), (50, False), (60, True)]
    patience.give_back()
    assert (patience.best_loss, weights["a"].tolist()) == (1.0, [40.0, 40.0])
    assert patience.said() == {"held_back_loss": 1.5}
    other = Patience(2, 10, {"a": torch.zeros(2)}, lambda: 0.0)
    other.restore({key: value.numpy() if key == "a" else value for key, value in patience.state().items()})
    other.give_back()
    assert (other.is_over, other.weights["a"].tolist()) == (True, [40.0, 40.0])


def test_without_anything_held_back_nothing_is_waited_for() -> None:
    """Where early stop is not asked for, a training goes to its end with the adapter that it ends with."""
    patience = Patience(0, 10, {"a": torch.ones(1)}, None)
    assert patience.after(10) == {}
    assert not patience.is_over
    patience.give_back()
    assert patience.weights["a"].item() == 1.0
    assert patience.said() == {}
    assert patience.state() == {"best_loss": None, "last_loss": None, "waited": 0}


# Through the door


def early(base: Path, folder: Path) -> TrainSpec:
    """One that learns its four examples by heart, and gets worse on the two that are held back."""
    options = {"learning_rate": 2e-2, "epochs": 40, "held_back_share": 0.3, "patience": 2, "checkpoint_minutes": 0}
    return spec_with_new(base, folder, [0], **options)


@pytest.mark.slow
def test_a_run_stops_early_and_saves_its_best_epoch(base: Path, tmp_path: Path) -> None:
    """It ends `patience` epochs after the best one, whose adapter it saves, and names what it held back."""
    spec = early(base, tmp_path)
    code, result, events = through_door("train", spec, tmp_path / "work")
    assert code == 0
    assert result["stopped_early"]
    losses = [row["held_back_loss"] for row in json_lines(tmp_path / "work" / FILE) if "held_back_loss" in row][:-1]
    assert len(losses) == losses.index(min(losses)) + 1 + spec.patience == result["steps"] < spec.epochs
    held = {each["id"] for each in result["set_aside"]}
    assert {each["reason"] for each in result["set_aside"]} == {HELD_BACK}
    assert events[0]["set_aside"] == len(held) == 2
    whole = prepare([row for row in rows([fact(*each) for each in FACTS]) if row.id in held], read_tokenizer(base), 128)
    model = add_adapter(load_base(base, torch.float32, CPU), spec.rank, spec.alpha, spec.seed)
    continue_adapter(model, Path(spec.out_dir), result["adapter_sha256"])
    assert mean_loss(model, whole.lessons, 256) == pytest.approx(min(losses), abs=1e-6)


def die_after(lines: int, spec: TrainSpec, workdir: Path) -> None:
    """A child that is killed after so many lines of metrics."""
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / SPEC).write_text(spec.model_dump_json())
    with subprocess.Popen(
        [sys.executable, "-m", "thaud.steps.train", str(workdir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "THAU_FAILPOINTS": f"append.metrics.after=crash@{lines}"},
    ) as child:
        assert child.stdout is not None
        child.stdout.read()
        assert child.wait() == -signal.SIGKILL


@pytest.mark.slow
def test_a_run_that_was_killed_stops_where_it_would_have(base: Path, tmp_path: Path) -> None:
    """Killed after its best epoch and resumed, it makes the same decisions, the same adapter and the same lines."""
    _, whole, _ = through_door("train", early(base, tmp_path / "a"), tmp_path / "a" / "work")
    spec = early(base, tmp_path / "b")
    die_after(whole["steps"] - 1, spec, tmp_path / "b" / "work")
    _, resumed, events = through_door("train", spec, tmp_path / "b" / "work")
    assert resumed["resumed_at"] == whole["steps"] - 2
    assert "resumed" in {each["event"] for each in events}
    for name in ("adapter_sha256", "steps", "tokens", "supervised_tokens", "first_loss", "last_loss", "kl_to_base"):
        assert resumed[name] == whole[name], name
    assert resumed["set_aside"] == whole["set_aside"]
    same = ("event", "step", "loss", "norm", "rate", "held_back_loss")
    lines = [
        [[row.get(name) for name in same] for row in json_lines(tmp_path / each / "work" / FILE)] for each in ("a", "b")
    ]
    assert lines[0] == lines[1]
    assert len(lines[0]) == whole["steps"] + 1
