"""The trainer's benchmark itself: that it runs, counts rightly, and says what it could not measure."""

import json
import math
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.bench.train_growth import Pace
from tests.bench.train_runs import RunFailedError, run_child
from tests.bench.train_shapes import RANK, SHAPES, Facts, Shape, flops, rows

BENCH = "import sys; {first}; sys.argv[1:] = {arguments}; from tests.bench.bench_train import main; main()"
SMALL = ["tiny", "--rounds", "1", "--examples", "32", "--json"]
with_peer = pytest.mark.skipif(find_spec("trl") is None, reason="NOT SHOWN: the peer; TRL is not installed")


def bench(*arguments: str, first: str = "pass") -> tuple[dict[str, Any], str]:
    """What the benchmark says, and its progress; `first` is done before it is imported."""
    program = BENCH.format(first=first, arguments=[*SMALL, *arguments])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return json.loads(done.stdout), done.stderr


def test_arithmetic_is_what_a_hand_counts() -> None:
    """One layer of width two, one head, an inner width of three, a vocabulary of five, one example of two tokens."""
    shape = Shape(2, 1, 1, 1, 3, 5, examples=1, held_out=1)
    frozen = 4 * (2 * 2) + 3 * (2 * 3)  # weights: query, key, value, output; gate, up, down
    low = RANK * (4 * (2 + 2) + 3 * (2 + 3))
    spared = 3 * (2 * 2 + 2 * RANK)  # input gradients of the first query, key and value
    token = 4 * frozen + 6 * low - 2 * spared
    head, attention = 4 * 2 * 5, 6 * (2 * 2) * 2
    assert flops(shape, Facts(tokens=2, supervised=1, squares=4, examples=1)) == 2 * token + head + attention


def test_no_held_out_example_is_trained() -> None:
    """What judges the adapters has nothing in common with what they were trained on, and is the same each time."""
    shape = SHAPES["nano"]
    trained = {row["messages"][-1]["content"] for row in rows(shape.examples, "examples") if len(str(row)) > 200}
    judged = [row["messages"] for row in rows(shape.held_out, "held out")]
    assert judged == [row["messages"] for row in rows(shape.held_out, "held out")]
    assert not trained & {messages[-1]["content"] for messages in judged}


def test_pace_leaves_out_the_first_steps() -> None:
    """Steps that allocate and compile are not in the rate, and a run is ended at the last step that is wanted."""
    pace = Pace(most=60)
    steps = [(1, 9.0), (20, 10.0), (40, 12.0), (60, 14.0)]
    wanted = [pace(json.dumps({"event": "step", "done": done, "total": 100}), at_s) for done, at_s in steps]
    assert wanted == [True, True, True, False]
    assert pace.steps_per_s == 40 / 4.0


def test_a_child_that_fails_is_named_with_its_last_words() -> None:
    """A failed run is an error that says why, never a figure."""
    with pytest.raises(RunFailedError, match=r"exit code 3: no such thing"):
        run_child([sys.executable, "-c", "import sys; sys.stderr.write('a\\nno such thing\\n'); sys.exit(3)"])


def test_a_peak_is_the_childs_own() -> None:
    """A child that holds 200 MiB for a moment has had them, one that holds nothing has not; measured by a small parent,
    for the kernel lets a child's peak begin with its parent's.
    """
    out = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True).stdout
    large, small = map(float, out.split())
    assert large == pytest.approx(210, abs=12)
    assert small < 60


@pytest.mark.slow
def test_without_its_peer_the_benchmark_measures_ours_and_says_so() -> None:
    """Ours alone, judged by the loss of the adapter that it saved; the missing peer is named with its remedy."""
    found, progress = bench("--compare", first="sys.modules['trl'] = None")
    assert "TRL is not installed" in progress
    assert "pip install" in progress
    report = found["shapes"]["tiny"]
    assert list(report["medians"]) == ["ours"]
    ours = report["medians"]["ours"]
    assert ours["tokens"] == report["facts"]["tokens"]
    assert math.isfinite(ours["loss"])
    assert ours["loss"] < report["base_loss"], "the judge did not see the adapter"
    assert ours["tokens_per_s"] > 0
    assert [aim for aim, _, _ in report["aims"]] == ["60% of plain fp32 products' arithmetic"]


@pytest.mark.slow
def test_growth_and_start_up_are_measured() -> None:
    """The parts without a peer end with figures of each count and each start."""
    found, _ = bench("--growth", "--growth-counts", "32,64", "--growth-steps", "4", "--start", "--starts", "1")
    assert [row["examples"] for row in found["growth"]] == [32, 64]
    assert all(row["tokens_per_s"] > 0 and row["peak_mib"] > 100 for row in found["growth"])
    assert len(found["start_s"]) == 1
    assert len(found["aims"]) == 2
    assert "shapes" not in found


@pytest.mark.slow
@with_peer
def test_the_peer_trains_the_same_tokens() -> None:
    """Both ways of the peer take each example whole, and a line feed after it, and learn from the same answers."""
    found, _ = bench("--compare")
    report = found["shapes"]["tiny"]
    facts, medians = report["facts"], report["medians"]
    assert report["failed"] == {}
    for way in ("pad", "pack"):
        assert medians[way]["tokens"] == facts["tokens"] + facts["examples"]
        assert report["runs"][way][0]["supervised"] == facts["supervised"] + facts["examples"]
        assert medians[way]["loss"] < report["base_loss"]
    assert report["runs"]["ours"][0]["supervised"] == facts["supervised"]


PEAKS = """
import sys
from tests.bench.train_runs import run_child
for size in (200 << 20, 1):
    print(run_child([sys.executable, "-c", f"b'x' * {size}"]).peak_mib)
"""
PACKED = """
import sys
from pathlib import Path
import torch
from tests.bench.train_peer import make_trainer
work = Path(sys.argv[1])
trainer = make_trainer("pack", str(work / "base"), work / "examples.jsonl", str(work / "out"), [0, 1, 1])
batch = next(iter(trainer.get_train_dataloader()))
batch.pop("labels")
starts = (batch["position_ids"][0] == 0).nonzero().flatten().tolist()
model = trainer.model.train()
with torch.no_grad():
    before = model(**batch).logits[0]
    batch["input_ids"][0, 0] += 1
    changed = (model(**batch).logits[0] != before).any(-1)
print(len(starts), bool(changed[:starts[1]].any()), bool(changed[starts[1]:].any()))
"""


@pytest.mark.slow
@with_peer
def test_what_the_notes_say_of_the_packed_peer(tmp_path: Path) -> None:
    """Its examples do not see each other: a token of the first changes nothing in those behind it."""
    run_child([sys.executable, "-m", "tests.bench.train_shapes", "tiny", "32", "8", str(tmp_path)])
    count, first, others = run_child([sys.executable, "-c", PACKED, str(tmp_path)]).last_line.split()
    assert int(count) > 1
    assert (first, others) == ("True", "False")
