"""One measured run of the trainer's benchmark: a child process, its clock, its peak memory and its adapter's loss.

Both sides run alike: a fresh process each, one environment, the parent's clock. Training time is what lies between
the end of loading and the last optimiser step: for ours between the events `start` and the last `step`, for the peer
the call of train(). The whole process's time is kept beside it. This module loads no torch: a child's
peak begins with its parent's.
"""

import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.bench.train_shapes import ALPHA, BATCH, CONTEXT, RANK, RATE, SHAPES, Facts
from thaud.steps.contract import RESULT, SPEC, TrainSpec, usable_cores

BARE = "-"
PADDED = 8  # examples at once of the padded peer: its own default
OURS = {"ours": "auto", "ours-fp32": "fp32"}  # way -> training.precision
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "PYTHONWARNINGS": "ignore",
    # What the step sets for itself: threads that spin measure whatever else runs on the machine.
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "10000",
}
Watch = Callable[[str, float], bool]


class RunFailedError(Exception):
    """A child ended without a result; says how."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A finished child: its last line on stdout, seconds from spawn to end, peak resident memory in MiB."""

    last_line: str
    wall_s: float
    peak_mib: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What a run took. Rates are a second of training; `loss` is nats a held-out token; peaks are MiB."""

    tokens: int
    supervised: int
    steps: int
    train_s: float
    wall_s: float
    peak_mib: float
    device_peak_mib: float
    tokens_per_s: float
    supervised_per_s: float
    remark: str = ""
    loss: float = math.nan  # judged after the run


@dataclass(frozen=True, slots=True)
class Work:
    """A shape's files and facts."""

    name: str
    folder: Path
    facts: Facts

    @property
    def base(self) -> Path:
        """The base's folder."""
        return self.folder / "base"

    @property
    def examples(self) -> Path:
        """What is trained."""
        return self.folder / "examples.jsonl"


def peer_is_here() -> bool:
    """Whether TRL is installed."""
    return importlib.util.find_spec("trl") is not None


# Children


def module(name: str, *arguments: object) -> list[str]:
    """The command line of one of this package's modules."""
    return [sys.executable, "-m", name, *map(str, arguments)]


def run_child(command: Sequence[str], watch: Watch = lambda _line, _s: True) -> Ended:
    """Run to the end, or until `watch`, which sees each line of stdout with the seconds since the spawn, says False.

    The child's stdin stays open: a step takes it for its leash. Raises RunFailedError.
    """
    began = time.perf_counter()
    with tempfile.TemporaryFile() as complaints:
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env={**os.environ, **ENVIRONMENT},
            text=True,
        )
        wanted, last = False, ""
        try:
            wanted, last = follow(child, watch, began)
        finally:
            if not wanted:  # enough was seen, or somebody pressed Ctrl-C
                child.kill()
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            close_pipes(child)
        if wanted and child.returncode:
            raise RunFailedError(how_it_ended(child.returncode, complaints))
    return Ended(last, time.perf_counter() - began, usage.ru_maxrss / 1024)


def follow(child: "subprocess.Popen[str]", watch: Watch, began: float) -> tuple[bool, str]:
    """Read what a child says; whether it was wanted to the end, and its last line."""
    assert child.stdout is not None
    last = ""
    for line in child.stdout:
        last = line
        if not watch(line, time.perf_counter() - began):
            return False, last
    return True, last


def close_pipes(child: "subprocess.Popen[str]") -> None:
    """Both ends that are ours."""
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()


def how_it_ended(code: int, complaints: Any) -> str:
    """A line for people."""
    if code == -signal.SIGKILL:
        return "killed: more memory than this machine has?"
    complaints.seek(0)
    said = complaints.read().decode(errors="replace").strip().splitlines()
    return f"exit code {code}: {said[-1] if said else 'nothing was said'}"


def prepare(name: str, folder: Path, examples: int | None) -> Work:
    """Write a shape's base and examples."""
    shape = SHAPES[name]
    folder.mkdir(parents=True)
    run_child(module("tests.bench.train_shapes", name, examples or shape.examples, shape.held_out, folder))
    return Work(name, folder, Facts(**json.loads((folder / "facts.json").read_bytes())))


def ask(*question: object) -> dict[str, float]:
    """An answer of the judge."""
    answer: dict[str, float] = json.loads(run_child(module("tests.bench.train_judge", *question)).last_line)
    return answer


def losses_of(work: Work, adapters: Sequence[str]) -> dict[str, float]:
    """Held-out losses by adapter's folder; BARE is the base alone."""
    return ask("loss", work.base, work.folder / "held_out.jsonl", *adapters)


# Sides


def adapter_of(workdir: Path) -> Path:
    """Where a run leaves its adapter."""
    return workdir / "adapter"


def write_spec(workdir: Path, **fields: Any) -> list[str]:
    """A work directory for the real step, and its command."""
    workdir.mkdir(parents=True, exist_ok=True)
    common = {"out_dir": str(adapter_of(workdir)), "context_tokens": CONTEXT, "seed": 0, "epochs": 1}
    recipe = {"learning_rate": RATE, "rank": RANK, "alpha": ALPHA, "batch_examples": BATCH}
    spec = TrainSpec.model_validate({**common, **recipe, **fields})
    (workdir / SPEC).write_text(spec.model_dump_json(), encoding="utf-8")
    return module("thaud.steps.train", workdir)


def read_result(workdir: Path) -> dict[str, Any]:
    """What the step says it did. Raises RunFailedError where it says that it failed."""
    result: dict[str, Any] = json.loads((workdir / RESULT).read_bytes())
    if not result["ok"]:
        raise RunFailedError(result["error"])
    return result


@dataclass
class Clock:
    """Reads the step's progress: when training began and ended, in seconds since the spawn."""

    started: float = 0.0
    stepped: float = 0.0

    def __call__(self, line: str, at_s: float) -> bool:
        event = json.loads(line)["event"]
        if event == "start":
            self.started = at_s
        elif event == "step":
            self.stepped = at_s
        return True


def run_ours(work: Work, way: str, seed: int, workdir: Path) -> Figures:
    """The real step on its work directory."""
    command = write_spec(workdir, base_dir=str(work.base), examples=str(work.examples), seed=seed, precision=OURS[way])
    clock = Clock()
    try:
        ended = run_child(command, clock)
    except RunFailedError:
        if (workdir / RESULT).exists():
            read_result(workdir)  # says it better
        raise
    result = read_result(workdir)
    assert (result["set_aside"], result["cut"]) == ([], []), "the sides would not train the same tokens"
    return figures(
        ended,
        {
            **{name: result[name] for name in ("tokens", "steps")},
            "supervised": result["supervised_tokens"],
            "seconds": clock.stepped - clock.started,
            "remark": result["arrangement"],
        },
    )


def run_peer(work: Work, way: str, seed: int, workdir: Path) -> Figures:
    """TRL, as train_peer.py has it."""
    at_once, accumulated = peer_batch(work, way)
    out = adapter_of(workdir)
    ended = run_child(module("tests.bench.train_peer", way, work.base, work.examples, out, seed, at_once, accumulated))
    figured = json.loads(ended.last_line)
    return figures(ended, {**figured, "remark": f"{at_once} at once, {accumulated} a step"})


def peer_batch(work: Work, way: str) -> tuple[int, int]:
    """(examples or rows at once, passes a step): sixteen examples a step, or the rows that hold about as many.

    Packed rows go one at a time: three at once, under a dense mask, were slower and took more memory.
    """
    if way.startswith("pack"):
        return 1, max(1, round(BATCH * work.facts.tokens / work.facts.examples / CONTEXT))
    return PADDED, BATCH // PADDED


def figures(ended: Ended, told: dict[str, Any]) -> Figures:
    """What the child said and what was seen of it."""
    return Figures(
        tokens=told["tokens"],
        supervised=told["supervised"],
        steps=told["steps"],
        train_s=told["seconds"],
        wall_s=ended.wall_s,
        peak_mib=ended.peak_mib,
        device_peak_mib=told.get("device_peak_bytes", 0) / 2**20,
        tokens_per_s=told["tokens"] / told["seconds"],
        supervised_per_s=told["supervised"] / told["seconds"],
        remark=told["remark"],
    )


def run_side(work: Work, way: str, seed: int, workdir: Path) -> Figures:
    """Either side."""
    return (run_ours if way in OURS else run_peer)(work, way, seed, workdir)


# The machine


def machine() -> dict[str, Any]:
    """What was measured on, as far as the kernel tells."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    told = dict(line.split(":", 1) for line in lines if ":" in line)
    facts = {key.strip(): value.strip() for key, value in told.items()}
    flags = set(facts.get("flags", "").split())
    return {
        "processor": facts.get("model name", "unknown"),
        "cores": usable_cores(0),
        "units": sorted(flags & {"avx2", "avx512f", "avx512_bf16", "amx_bf16"}),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_1_min": round(os.getloadavg()[0], 2),
    }


def as_json(found: dict[str, list[Figures]]) -> dict[str, list[dict[str, Any]]]:
    """All runs of a shape, for --json."""
    return {way: [asdict(run) for run in runs] for way, runs in found.items()}
