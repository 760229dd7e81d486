"""The contract of a step: spec.json in, progress as NDJSON on stdout, result.json written last.

    python -m thaud.steps.NAME WORKDIR

WORKDIR holds `spec.json`. The step writes its artefacts where the spec says and, last of all, `WORKDIR/result.json`, by
temporary name, fsync and rename: where it exists, the step is over. `{"ok": true, ...}` is a success; a failure that
the step understands is `{"ok": false, "error": "one line for people", "errno": 28}` (where the system gave a number)
and exit code 1. A child that dies leaves no result. Standard input is a leash: the parent holds its other end, and when
it closes (the parent died) the step exits at once. While it lives it holds `WORKDIR/child.lock`, which names it:
whoever finds the lock held knows whom to end.

This module knows the specs and the files; it refuses to know torch, GGUF or llama.cpp.
"""

import fcntl
import json
import math
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict

from thaud.domain import ExportKind, ModelKind, Precision
from thaud.durable import write_durably
from thaud.errors import ThauError
from thaud.failpoints import FAILPOINTS
from thaud.failpoints import SETTING as FAILPOINTS_SETTING

SPEC, RESULT, LOCK = "spec.json", "result.json", "child.lock"
HELD_BACK = "held back for early stopping"  # why an example is set aside that could be trained
CHECKPOINTS = "checkpoints"  # the folder of a step that is trained on; of use until it has its result
LEASH_BROKEN = 75


class Spec(BaseModel):
    """Base of the specs and results: unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BaseSpec(Spec):
    """Find a base model: a shipped name, a folder, or a hub id."""

    base: str


class BaseResult(Spec):
    """Where the base is, and the digest of what decides an outcome in it."""

    base_dir: str
    digest: str
    architecture: str
    context_tokens: int


class TrainSpec(Spec):
    """Train a LoRA adapter on a frozen base. `examples` is JSONL in the frozen order, one object a line: {"id",
    "messages", "tools"?, "new"?}; "new" marks what no earlier version was taught.

    `start_from`: the folder of the adapter to continue, whose weights have `start_sha256`; None begins a fresh one.
    `cache`: a folder for tokens, shared by runs; None keeps none. `checkpoint_minutes`: 0 writes one after each step.
    `patience`: epochs without a better loss on the held-back share of the examples, until it stops; 0 holds none back.
    `max_memory_bytes`: what the step may take; 0 is all that the machine has.
    """

    base_dir: str
    examples: str
    out_dir: str
    context_tokens: int
    seed: int
    learning_rate: float
    epochs: int
    rank: int = 32
    alpha: int = 64
    batch_examples: int = 16
    threads: int = 0
    start_from: str | None = None
    start_sha256: str | None = None
    cache: str | None = None
    precision: Precision = "auto"
    checkpoint_minutes: float = 10.0
    max_memory_bytes: int = 0
    held_back_share: float = 0.0
    patience: int = 0


class TrainResult(Spec):
    """What training made. `set_aside` names examples that could not be trained, each with its reason; `cut` those of
    which a beginning was. `kl_to_base` is in nats a supervised token, None where nothing was new. `resumed_at` counts
    the steps that a checkpoint spared.
    """

    adapter_dir: str
    adapter_sha256: str
    steps: int
    tokens: int
    supervised_tokens: int
    first_loss: float
    last_loss: float
    seconds: float
    peak_memory_bytes: int
    set_aside: list[dict[str, str]]
    cut: list[dict[str, str]] = []
    tokens_per_s: float = 0.0
    supervised_tokens_per_s: float = 0.0
    precision: str = "fp32"
    arrangement: str = ""
    kl_to_base: float | None = None
    resumed_at: int = 0
    stopped_early: bool = False


class ExportSpec(Spec):
    """Merge base and adapter (None: the base alone) into one GGUF at `out`.

    Of kind "adapter" the file at `out` is a GGUF LoRA, and the base it is applied to is at `base_out`, a GGUF of
    `base_kind` that versions share: written unless it is there already. `threads` 0 is all cores.
    """

    base_dir: str
    adapter_dir: str | None
    out: str
    kind: ExportKind
    name: str
    context_tokens: int
    base_out: str | None = None
    base_kind: ModelKind = "f16"
    threads: int = 0


class ExportResult(Spec):
    """The file that was written, with its digest taken on the way. `base_gguf`: what an adapter is applied to."""

    gguf: str
    gguf_sha256: str
    size_bytes: int
    tensors: int
    seconds: float
    base_gguf: str | None = None
    base_sha256: str | None = None


class CertifySpec(Spec):
    """Compare a GGUF with what was trained: base_dir and adapter_dir by transformers, the file by llama.cpp.

    `base_gguf`: what `gguf` is applied to where it is an adapter. `items` is JSONL as of ExamSpec, held-out prompts.
    `max_new_tokens` bounds the answers that must come to an end.
    """

    base_dir: str
    base_digest: str
    adapter_dir: str
    gguf: str
    base_gguf: str | None
    kind: ExportKind
    items: str
    context_tokens: int
    max_new_tokens: int = 64
    threads: int = 0


class CertifyResult(Spec):
    """The certificate, in full (its shape: thaud/steps/certify). `reasons` are empty where it passed."""

    gguf_sha256: str
    passed: bool
    reasons: list[str]
    certificate: dict[str, Any]
    seconds: float


class ExamSpec(Spec):
    """Ask a GGUF every item. `items` is JSONL: {"id", "age", "messages", "tools"?, "grader"?, "role"}; the last message
    is the expected answer; role is "held_out" or "recall". `base_gguf`: what `gguf` is applied to where it is an
    adapter.
    """

    gguf: str
    base_gguf: str | None = None
    items: str
    answers: str
    context_tokens: int
    max_new_tokens: int = 64
    threads: int = 0


class ExamResult(Spec):
    """Where the answers are: JSONL {"id", "age", "role", "answer", "score", "correct"}, in the order of the items."""

    answers: str
    gguf_sha256: str
    asked: int
    seconds: float


class Place(NamedTuple):
    """Which of the `size` that do one step together a process is, and of the `local_size` on this machine, from 0."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


ALONE = Place()
SpecT = TypeVar("SpecT", bound=Spec)
Emit = Callable[..., None]


def emit(event: str, **fields: Any) -> None:
    """Write one line of progress, e.g. emit("step", done=3, total=90, loss=1.2)."""
    sys.stdout.write(json.dumps({"event": event, **fields}, allow_nan=False) + "\n")
    sys.stdout.flush()


def throttle(say: Emit, every_s: float = 0.2) -> Emit:
    """`say`, but at most once in `every_s` seconds, except with last=True, which is always said (and not passed on)."""
    said = -math.inf

    def speak(event: str, *, last: bool, **fields: Any) -> None:
        nonlocal said
        now = time.monotonic()
        if last or now - said >= every_s:
            said = now
            say(event, **fields)

    return speak


def usable_cores(threads: int) -> int:
    """A spec's `threads`; every core this process may use where it is 0."""
    return threads or len(os.sched_getaffinity(0))


def hold_leash() -> None:
    """Exit at once when standard input closes: the daemon that started this step is gone."""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os._exit(LEASH_BROKEN)

    threading.Thread(target=wait, daemon=True, name="leash").start()


def take_workdir(workdir: Path) -> None:
    """Be the one process that works in a workdir until it ends, or wait for the one that is; then say who that is.

    The descriptor stays open on purpose: whatever the step starts shares the lock. Raises OSError.
    """
    descriptor = os.open(workdir / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()} {born_at(os.getpid())}".encode(), 0)
    if leash_is_broken():
        os._exit(LEASH_BROKEN)


def leash_is_broken() -> bool:
    """Whether the daemon has gone, which the leash's thread may be a moment too late to notice."""
    leash = select.poll()
    leash.register(0, 0)
    return any(event & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, event in leash.poll(0))


def born_at(pid: int) -> str | None:
    """When a process started, in the kernel's ticks since boot; None where there is none. See proc(5), stat."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def wait_passively() -> None:
    """Let OpenMP's idle threads sleep after some microseconds. It must be set before torch is loaded.

    Spinning for long, they take the core that the working thread needs as soon as anything else runs here; asleep at
    once, they wake too late. On two cores nano trained 11,300 tokens a second where they spun for ever, 6,000 where
    they never did, 11,800 where they did so 10,000 times; beside two busy loops 1,800, 3,600 and 3,500.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # libgomp's, which torch brings; others pass it over


def place_of_this_process() -> Place:
    """What torchrun says in the environment of what it starts; a place alone where it did not."""
    said = [os.environ.get(name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")]
    return Place(*(int(each) for each in said if each)) if all(said) else ALONE


def failure_of(error: ThauError | OSError | MemoryError) -> dict[str, Any]:
    """The result of a step that ends with an error which it understands."""
    if isinstance(error, ThauError):
        return {"ok": False, "error": str(error), "errno": getattr(error.__cause__, "errno", None)}
    if isinstance(error, OSError):
        words = f"{error.strerror}: {error.filename or 'the step'} (disk full or no permission?)"
        return {"ok": False, "error": words, "errno": error.errno}
    return {"ok": False, "error": "out of memory: choose a smaller size or a shorter context"}


def conclude(workdir: Path, result: Mapping[str, Any]) -> int:
    """Write the result of a step. Returns the exit code."""
    write_durably(workdir / RESULT, json.dumps(result, indent=2).encode(), "result")
    return 0 if result["ok"] else 1


def run_step(kind: type[SpecT], work: Callable[[SpecT], Spec], argv: list[str], place: Place = ALONE) -> int:
    """The body of every step's door: read the spec, work, write the result. Returns the exit code.

    Of several processes the first holds the workdir and writes the result; the others work beside it.
    """
    workdir, leads = Path(argv[1]), place.rank == 0
    hold_leash()
    wait_passively()
    FAILPOINTS.arm(os.environ.get(FAILPOINTS_SETTING, ""))
    if leads:
        take_workdir(workdir)
    try:
        spec = kind.model_validate_json((workdir / SPEC).read_bytes())
        result = {"ok": True, **work(spec).model_dump()}
    except (ThauError, OSError, MemoryError) as error:
        result = failure_of(error)
    return conclude(workdir, result) if leads else int(not result["ok"])
