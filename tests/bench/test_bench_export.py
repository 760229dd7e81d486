"""The export's benchmark itself: that it runs, counts rightly, and says what it could not measure."""

import json
import subprocess
import sys

import pytest

from tests.bench.export_report import aims, summary
from tests.bench.export_runs import Child, Disk, Run, RunFailedError, run_child
from tests.bench.export_shapes import SHAPES

GB = 10**9


def ours(wall: float, peak: float = 0.5) -> Run:
    return Run({"export": wall}, int(peak * GB), int(peak * GB), 3 * GB, 3 * GB)


def peer(merge: float, convert: float, digest: float) -> Run:
    steps = {"merge": merge, "convert": convert, "digest": digest}
    return Run(steps, 4 * GB, 4 * GB, 6 * GB, 3 * GB)


def test_report_is_what_a_hand_counts() -> None:
    """Medians over the rounds, the peer's steps summed in each, and ratios of medians."""
    found = summary(
        [ours(9.0), ours(11.0), ours(30.0)],
        [peer(50, 20, 10), peer(60, 20, 8), peer(10, 10, 10)],
        [Disk(4.0, 6.0), Disk(3.0, 8.0), Disk(5.0, 1.0)],
    )
    assert found["ours"]["wall_s"] == 11
    assert (found["peer"]["wall_s"], found["peer"]["merge_s"]) == (80, 50)
    assert found["times_as_fast"] == 80 / 11
    assert found["share_of_peak"] == 1 / 8
    assert found["written_per_byte"] == 1
    assert found["disk"] == {"read_s": 4.0, "write_s": 6.0, "total_s": 10.0}
    assert found["times_the_disk"] == 1.1


def test_aims_say_what_was_missed() -> None:
    """Each aim is judged by the figure it names, on the side of the bar it must be on."""
    slow = summary([ours(30.0, 2.5)], [peer(50, 20, 10)], [Disk(4.0, 6.0)])
    assert [met for _, _, met in aims("7b", slow)] == [True, False, False, False, False]
    quick = summary([ours(19.0, 0.6)], [peer(50, 20, 10)], [Disk(4.0, 6.0)])
    assert [met for _, _, met in aims("7b", quick)] == [True, True, True, True, True]
    twice = summary([Run({"export": 9.0}, GB, GB, 6 * GB, 3 * GB)], [], [])
    assert [(seen, met) for _, seen, met in aims("1.5b", twice)] == [("2.000 times", False)]


def test_sizes_are_those_of_the_models_they_are_named_after() -> None:
    """The values of 1.5b and 7b are as many as the published models', to a hundredth."""
    for name, wanted in (("1.5b", 1.54e9), ("7b", 7.07e9)):
        shape = SHAPES[name]
        linear = shape.layers * sum(into * out for into, out in shape.products())
        assert linear + shape.vocabulary * shape.hidden == pytest.approx(wanted, rel=0.01)


def test_child_that_fails_is_an_error_with_its_words() -> None:
    """A side that breaks down is not timed."""
    with pytest.raises(RunFailedError, match="ended with 3: oh no"):
        run_child(Child([sys.executable, "-c", "import sys; sys.stderr.write('oh no'); sys.exit(3)"]))


def test_childs_memory_and_writing_are_measured() -> None:
    """Both peaks see what a child holds; the high water is its own alone, where the kernel's count at the end begins
    with what its parent held when it was forked.
    """
    used = run_child(Child([sys.executable, "-c", "held = bytearray(100 << 20); import time; time.sleep(0.2)"]))
    assert used.peak > 100 << 20
    assert 100 << 20 < used.high_water < 400 << 20
    assert used.wall_s > 0.2


@pytest.mark.slow
def test_benchmark_runs_on_a_small_shape() -> None:
    """Without the peer it still says what we took, what the disk took, and what was written."""
    command = [
        sys.executable,
        "-m",
        "tests.bench.bench_export",
        "--shape",
        "tiny",
        "--rounds",
        "1",
        "--no-peer",
        "--json",
    ]
    done = subprocess.run([*command, "--kind", "q8_0"], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)["tiny q8_0"]
    assert "peer" not in found
    assert found["ours"]["size"] > 0
    assert found["disk"]["total_s"] > 0
