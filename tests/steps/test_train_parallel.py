"""Two processes that train one adapter: real ones, under torchrun, over gloo."""

import json
import math
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch.distributed import HashStore

from tests.steps.doors import through_door
from tests.testkit.daemon import wait_until
from tests.testkit.tiny_models import write_tiny_base
from tests.testkit.training import CPU, fact, lessons_of, spec_for
from thaud.domain import Example
from thaud.steps.contract import ALONE as ONE_PLACE
from thaud.steps.contract import RESULT, SPEC, Place, TrainSpec
from thaud.steps.tokenizer import read_json
from thaud.steps.train.capacity import Capacity
from thaud.steps.train.checkpoint import MANIFEST
from thaud.steps.train.footprint import shape_of
from thaud.steps.train.metrics import FILE
from thaud.steps.train.parallel import ALONE, World, balance, listen
from thaud.steps.train.preflight import Arrangement, Case

TOLERANCE = 1e-4  # relative, of losses in fp32: sums are taken in another order
WORDS = ("perro", "gato", "cielo", "azul", "sol", "vaca", "fuego", "cuatro", "patas", "amarillo")
DEADLINE_S = 120.0


def long_facts(count: int) -> list[Example]:
    """Examples of 40 to 400 tokens or so, each of its own length."""
    return [
        fact(" ".join(WORDS[(number * place) % 10] for place in range(10 + 17 * number % 90)), WORDS[number % 10])
        for number in range(1, count + 1)
    ]


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tied base of eight layers, most of whose bytes are in them."""
    return write_tiny_base(tmp_path_factory.mktemp("deep"), init_std=0.1, num_hidden_layers=8)


def spec_in(base: Path, folder: Path, **changes: Any) -> TrainSpec:
    """Two epochs over 14 examples, all new, in batches of 8, 8 and 4 rows."""
    fields = {"context_tokens": 512, "epochs": 2, "batch_examples": 8, "rank": 4, "learning_rate": 1e-3, **changes}
    spec = spec_for(base, folder, long_facts(14), **fields)
    examples = Path(spec.examples)
    rows = [{**json.loads(line), "new": True} for line in examples.read_text().splitlines()]
    examples.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return spec


@contextmanager
def torchrun(*arguments: str, processes: int = 2) -> Iterator["subprocess.Popen[str]"]:
    """torchrun in the background; nothing of it is left afterwards."""
    child = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    started: set[psutil.Process] = set()
    try:
        wait_until(lambda: child.poll() is not None or len(workers(child)) == processes, DEADLINE_S, "its processes")
        started = set(workers(child))
        yield child
    finally:
        for each in started:
            if each.is_running():
                each.kill()
        child.kill()
        child.communicate()


def workers(child: "subprocess.Popen[str]") -> list[psutil.Process]:
    """The processes that a torchrun started, by rank."""
    try:
        return sorted(psutil.Process(child.pid).children(), key=rank_of)
    except psutil.NoSuchProcess:
        return []


def rank_of(process: psutil.Process) -> int:
    """Its rank; -1 where it is gone, or not yet itself."""
    try:
        return int(process.environ().get("RANK", -1))
    except psutil.Error:
        return -1


def together(spec: TrainSpec, workdir: Path, processes: int = 2) -> tuple[int, dict[str, Any], list[dict[str, Any]]]:
    """Exit code, result and metrics of a train step under torchrun."""
    write_spec(spec, workdir)
    with torchrun("-m", "thaud.steps.train", str(workdir), processes=processes) as child:
        assert child.stdout is not None
        code = child.wait(DEADLINE_S)
        shown = child.stdout.read()
    assert [json.loads(line) for line in shown.splitlines()], "the first process speaks, and it alone"
    return code, json.loads((workdir / RESULT).read_text()), metrics(workdir)


def write_spec(spec: TrainSpec, workdir: Path) -> None:
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / SPEC).write_text(spec.model_dump_json())


def metrics(workdir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (workdir / FILE).read_text().splitlines()]


def losses(lines: Sequence[dict[str, Any]]) -> list[float]:
    return [line["loss"] for line in lines if line["event"] == "step"]


def distance(one: Path, other: Path) -> float:
    """How far two adapters are apart, relative to the length of the first."""
    from safetensors.torch import load_file  # noqa: PLC0415

    ours, theirs = (load_file(each / "adapter_model.safetensors") for each in (one, other))
    apart = sum(float((ours[name] - theirs[name]).square().sum()) for name in ours)
    return math.sqrt(apart / sum(float(each.square().sum()) for each in ours.values()))


def enough_for_a_half(spec: TrainSpec) -> int:
    """Bytes in which two processes find room only where the base is spread over them."""
    shape = shape_of(read_json(Path(spec.base_dir) / "config.json"))
    longest = max(len(lesson.ids) for lesson in lessons_of(Path(spec.base_dir), long_facts(14), 512))
    case = Case(shape, spec.rank, longest, Capacity(1 << 40, 1 << 40), world=2)
    spread = Arrangement(CPU, torch.float32, 256, recompute=True, shard=True)
    return 2 * case.estimated(spread).needed


@pytest.fixture(scope="module")
def alone(deep: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainSpec, dict[str, Any], list[float]]:
    """Spec, result and losses of the training by one process."""
    folder = tmp_path_factory.mktemp("alone")
    spec = spec_in(deep, folder)
    code, result, _ = through_door("train", spec, folder / "work")
    assert code == 0
    return spec, result, losses(metrics(folder / "work"))


@pytest.mark.slow
@pytest.mark.parametrize("spread", [False, True])
def test_two_processes_have_the_loss_curve_of_one(alone: Any, deep: Path, tmp_path: Path, *, spread: bool) -> None:
    """Losses to 1e-4 and nearly the adapter of one process, the base whole or spread; and again, bit for bit."""
    reference, expected, curve = alone
    digests = []
    for name in ("one", "two"):
        spec = spec_in(deep, tmp_path / name)
        if spread:
            spec = spec.model_copy(update={"max_memory_bytes": enough_for_a_half(spec)})
        code, result, lines = together(spec, tmp_path / name / "work")
        assert (code, result["ok"]) == (0, True)
        assert ("spread" in result["arrangement"]) == spread
        digests.append(result["adapter_sha256"])
    assert len(curve) == 4
    assert losses(lines) == pytest.approx(curve, rel=TOLERANCE)
    assert distance(Path(reference.out_dir), Path(spec.out_dir)) < 1e-3
    assert digests[0] == digests[1]
    for name in ("tokens", "supervised_tokens", "steps"):
        assert result[name] == expected[name]
    assert result["kl_to_base"] == pytest.approx(expected["kl_to_base"], rel=1e-3)


@pytest.mark.slow
def test_batch_with_fewer_rows_than_processes(alone: Any, deep: Path, tmp_path: Path) -> None:
    """With three processes some get no row of a batch; nothing hangs, and the curve stays that of one."""
    _, _, curve = alone
    code, _, lines = together(spec_in(deep, tmp_path), tmp_path / "work", processes=3)
    assert code == 0
    assert losses(lines) == pytest.approx(curve, rel=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("tied", [True, False])
def test_each_process_holds_half_of_a_spread_base(tmp_path: Path, *, tied: bool) -> None:
    """Spread over two, a process keeps half of the bytes, the head's with them, also once a row has been computed."""
    base = write_tiny_base(tmp_path, tied=tied, init_std=0.1, num_hidden_layers=4)
    with torchrun("-m", "tests.steps.base_bytes", str(base)) as child:
        assert child.stdout is not None
        assert child.wait(DEADLINE_S) == 0
        said = [json.loads(line) for line in child.stdout.read().splitlines()]
    assert sorted(each["rank"] for each in said) == [0, 1]
    for each in said:
        assert each["spread"] == pytest.approx(each["whole"] / 2, rel=0.02)
        assert each["after_a_row"] == pytest.approx(each["whole"] / 2, rel=0.02)


@contextmanager
def with_another_second(spec: TrainSpec, folder: Path, **changes: Any) -> Iterator["subprocess.Popen[str]"]:
    """Two processes, the second of which reads another spec."""
    write_spec(spec, folder / "0")
    write_spec(spec.model_copy(update=changes), folder / "1")
    command = 'exec "$1" -m thaud.steps.train "$2/$RANK"'
    with torchrun("--no-python", "sh", "-c", command, "sh", sys.executable, str(folder)) as child:
        yield child


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"examples": "/nowhere.jsonl"}, r"process 1 of 2: No such file or directory: /nowhere.jsonl"),
        ({"start_from": "/nowhere", "start_sha256": "0"}, r"process 1 of 2: the adapter to continue cannot be read"),
        ({"seed": 8}, r"the adapter that training begins with of process 1 is not that of process 0"),
    ],
)
def test_what_fails_in_one_process_is_the_result_of_all(base: Path, tmp_path: Path, changes: Any, words: str) -> None:
    """A process that fails alone ends the others, soon, and its words are the step's result; it writes none itself."""
    with with_another_second(spec_in(base, tmp_path), tmp_path, **changes) as child:
        assert child.wait(DEADLINE_S / 4) != 0
    result = json.loads((tmp_path / "0" / RESULT).read_text())
    assert not result["ok"]
    assert words in result["error"]
    assert not (tmp_path / "1" / RESULT).exists()


@pytest.mark.slow
def test_no_number_in_the_loss_ends_all_alike(base: Path, tmp_path: Path) -> None:
    """Loss and norm are those of all processes, so all see it, and the result says what it says of one."""
    code, result, _ = together(spec_in(base, tmp_path, learning_rate=1e30), tmp_path / "work")
    assert code != 0
    assert not result["ok"]
    assert "is no number: lower the learning rate" in result["error"]
    assert "process" not in result["error"]


@pytest.mark.slow
@pytest.mark.parametrize("end", ["second", "torchrun", "leash", "stop"])
def test_end_of_one_is_the_end_of_all(base: Path, tmp_path: Path, end: str) -> None:
    """Killed with SIGKILL, the second process or torchrun itself; or the leash breaks; or torchrun is told to stop, for
    which a checkpoint is written: within seconds all are gone, and no result says that the step went well.
    """
    workdir = tmp_path / "work"
    write_spec(spec_in(base, tmp_path, epochs=100_000), workdir)
    with torchrun("-m", "thaud.steps.train", str(workdir)) as child:
        assert child.stdin is not None
        wait_until(lambda: (workdir / FILE).exists() and metrics_begun(workdir), DEADLINE_S, "a first step")
        first, second = workers(child)
        if end == "second":
            second.send_signal(signal.SIGKILL)
        elif end == "torchrun":
            child.kill()
        elif end == "stop":
            child.terminate()
        else:
            child.stdin.close()
            child.stdin = None
        assert child.wait(20.0) != 0
        wait_until(lambda: not first.is_running() and not second.is_running(), 20.0, "the end of both")
    assert not (workdir / RESULT).exists() or not json.loads((workdir / RESULT).read_text())["ok"]
    assert not Path(tmp_path / "adapter").exists()
    assert bool(list(workdir.glob(f"checkpoints/*/{MANIFEST}"))) == (end == "stop")


@pytest.mark.slow
def test_two_processes_go_on_from_a_checkpoint(base: Path, tmp_path: Path) -> None:
    """Killed with a checkpoint and started again, two processes end with the bytes that they would have had."""
    digests = []
    for name in ("whole", "killed"):
        workdir = tmp_path / name / "work"
        spec = spec_in(base, tmp_path / name, epochs=10, checkpoint_minutes=0)
        if name == "killed":
            write_spec(spec, workdir)
            with torchrun("-m", "thaud.steps.train", str(workdir)) as child:
                wait_until(lambda: list(workdir.glob(f"checkpoints/*/{MANIFEST}")), DEADLINE_S, "a checkpoint")  # noqa: B023
                workers(child)[0].send_signal(signal.SIGKILL)
                assert child.wait(DEADLINE_S) != 0
        code, result, _ = together(spec, workdir)
        assert code == 0
        digests.append(result["adapter_sha256"])
    assert result["resumed_at"] > 0
    assert digests[0] == digests[1]


def metrics_begun(workdir: Path) -> bool:
    return (workdir / FILE).stat().st_size > 0


def test_listener_ends_before_python_does(tmp_path: Path) -> None:
    """A process waits for the thread that hears the others: one that asks the store while Python ends is SIGABRT."""
    over = threading.Lock()
    listener = threading.Thread(target=listen, args=(HashStore(), Place(1, 2), tmp_path, over), daemon=True)
    listener.start()
    over.acquire()
    listener.join(10)
    assert not listener.is_alive()


def test_rows_are_shared_by_their_cost() -> None:
    """Every row has one owner, the sums are close, and the result is the same each time; hand-made."""
    assert balance([5, 9, 4, 6], 2) == [[1, 2], [0, 3]]
    assert balance([3], 2) == [[0], []]
    assert balance([], 2) == [[], []]
    assert balance([1, 1, 1, 1], 4) == [[0], [1], [2], [3]]


def test_a_process_alone_has_every_row_in_order() -> None:
    """Alone nothing is moved, weighted or summed."""
    assert ALONE.share(["a", "b"], [1, 2]) == [("a", 1.0), ("b", 1.0)]
    assert ALONE.any(flag=True)
    assert not ALONE.any(flag=False)
    assert ALONE.said_by_first("x") == "x"
    assert ALONE.leads
    assert Place() == ONE_PLACE


def test_even_shares_are_filled_up_with_rows_that_count_nothing() -> None:
    """Where all have to compute as often, who has less computes the cheapest row again, with the weight 0."""
    rows, costs = ["long", "short", "middle"], [9, 2, 5]
    shares = [World(rank, 2).share(rows, costs, even=True) for rank in (0, 1)]
    assert shares == [[("long", 1.0), ("short", 0.0)], [("short", 1.0), ("middle", 1.0)]]
    assert World(1, 2).share(["only"], [3], even=True) == [("only", 0.0)]
    assert World(1, 2).share(["only"], [3]) == []
