"""A run's folder: what its steps are handed, what they hand back, the probes of both, and the way out of it.

Owns the shapes of the files between pipeline and steps, and who works among them; refuses to know the steps' order
(pipeline.py).
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import signal
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from thaud.config import Training
from thaud.domain import Answer, QueuedExample, RunSpec, Side
from thaud.durable import fsync_folder, make_folder, remove
from thaud.errors import StepError, StorageError
from thaud.failpoints import reach
from thaud.home import Home
from thaud.steps.contract import LOCK, RESULT, SPEC, ExamResult, Spec, TrainSpec, born_at

WEIGHTS = "adapter_model.safetensors"
UNDECIDING = {"checkpoint_minutes"}  # of a spec: may change in the middle of a step, and changes nothing of its outcome
GIB = 1 << 30
SURVIVOR_S, SURVIVOR_POLL_S = 20.0, 0.01
COPY_BYTES = 1 << 20
ResultT = TypeVar("ResultT", bound=Spec)


def make_ready(workdir: Path, spec: Spec) -> None:
    """A workdir for this very spec: what an earlier try at it left (checkpoints) stays, what any other left goes.

    `spec.json` goes last, so that a half-emptied folder is never taken for one that is of use. Raises OSError.
    """
    make_folder(workdir)
    if is_for(workdir, spec):
        return
    left = [each for each in workdir.iterdir() if each.name not in {LOCK, SPEC}]
    if not left:
        return
    reach("clear.workdir.before")
    for each in left:
        remove(each)
    (workdir / SPEC).unlink(missing_ok=True)
    reach("clear.workdir.after")


def is_for(workdir: Path, spec: Spec) -> bool:
    """Whether the spec that lies in a workdir asks for what this one does."""
    try:
        found = type(spec).model_validate_json((workdir / SPEC).read_bytes())
        return found.model_dump(exclude=UNDECIDING) == spec.model_dump(exclude=UNDECIDING)
    except (OSError, ValueError):
        return False


def end_survivor(workdir: Path) -> None:
    """End the child that outlived its daemon here, stopped or slow to die, with its whole group, and wait for its end.

    The kernel holds its lock exactly as long as anything of it lives. Raises StorageError where it will not go.
    """
    try:
        descriptor = os.open(workdir / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(f"cannot open {workdir / LOCK}: {error.strerror}; check its owner and mode") from error
    try:
        deadline = time.monotonic() + SURVIVOR_S
        while not locked(descriptor):
            holder = os.pread(descriptor, 64, 0).decode("ascii", "replace")
            if time.monotonic() > deadline:
                raise StorageError(f"process {holder or '?'} still works in {workdir}: end it (kill -9)")
            kill(holder)
            time.sleep(SURVIVOR_POLL_S)
    finally:
        os.close(descriptor)


def locked(descriptor: int) -> bool:
    """Take a lock if it is free."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def kill(holder: str) -> None:
    """SIGKILL to the group of the process that a lock names, unless its number is another's by now."""
    pid, _, born = holder.partition(" ")
    if pid.isdecimal() and born_at(int(pid)) in {born, None}:
        reach("end.step.before")
        with suppress(ProcessLookupError):
            os.killpg(int(pid), signal.SIGKILL)
        reach("end.step.after")


def finished_result(workdir: Path, spec: Spec, kind: type[ResultT]) -> ResultT | None:
    """The result that an earlier life left for this very spec, or None."""
    try:
        result = json.loads((workdir / RESULT).read_bytes())
        return kind.model_validate(result) if is_for(workdir, spec) and result.pop("ok") else None
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return None  # none, or one that another release of THAU left


def adapter_of(runs: Path, run_id: str) -> Path:
    """The folder of the adapter that a run trains."""
    return runs / run_id / "train" / "adapter"


def training_spec(home: Home, training: Training, spec: RunSpec, start: Path | None) -> TrainSpec:
    """What the trainer is asked: the frozen spec, and those settings that decide no outcome. `start`: the adapter that
    is trained on.
    """
    folder = home.runs / spec.id / "train"
    return TrainSpec(
        base_dir=spec.base,
        examples=str(folder / "examples.jsonl"),
        out_dir=str(adapter_of(home.runs, spec.id)),
        context_tokens=spec.context_tokens,
        seed=spec.seed,
        learning_rate=spec.learning_rate,
        epochs=spec.epochs,
        rank=spec.rank,
        alpha=spec.alpha,
        batch_examples=spec.batch_examples,
        threads=training.threads,
        start_from=str(start) if start else None,
        start_sha256=spec.parent_sha256,
        cache=str(home.cache),
        precision=spec.precision,
        checkpoint_minutes=training.checkpoint_minutes,
        max_memory_bytes=int(training.max_memory_gib * GIB),
        held_back_share=spec.held_back_share,
        patience=spec.patience,
    )


def expect_parent(asked: TrainSpec) -> None:
    """Raises StepError where the adapter to be trained on is no longer what it was when the run was frozen."""
    if asked.start_sha256 is None:
        return
    try:
        probe(Path(asked.start_from or "the adapter of the parent") / WEIGHTS, asked.start_sha256)
    except StorageError as error:
        raise StepError(f"the adapter to go on from is lost; the next run begins afresh: {error}") from error


def train_row(each: QueuedExample, *, new: bool) -> bytes:
    """One line of the trainer's input. `new`: no promoted version was taught it."""
    row = {"id": each.id, **each.example.content}
    return json.dumps({**row, "new": True} if new else row, ensure_ascii=False).encode() + b"\n"


def exam_row(each: QueuedExample) -> bytes:
    """One line of the exam's input."""
    row = {"id": each.id, "age": each.age, "role": "held_out" if each.side is Side.HELD_OUT else "recall"}
    if each.example.grader:
        row["grader"] = each.example.grader
    return json.dumps({**row, **each.example.content}, ensure_ascii=False).encode() + b"\n"


def read_answers(path: Path) -> Iterator[Answer]:
    """The exam's output."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            yield Answer(row["id"], row["age"], row["answer"], row["score"], row["correct"])


def expect_at(said: str, asked: str) -> None:
    """Raises StorageError where an artefact is not where it was asked for: this home was moved or copied since."""
    if said != asked:
        raise StorageError(f"it is in {said}, and is asked for in {asked}")


def probe_answers(result: ExamResult, gguf_sha256: str, ids: Collection[str]) -> None:
    """Raises StorageError where an exam was of another model, or its answers are not those to the items asked."""
    if result.gguf_sha256 != gguf_sha256:
        raise StorageError(f"the exam was of a model with SHA-256 {result.gguf_sha256}, its step said {gguf_sha256}")
    try:
        answered = [answer.example_id for answer in read_answers(Path(result.answers))]
    except OSError as error:
        raise StorageError(f"{result.answers}: {error.strerror}") from error
    except (ValueError, LookupError, TypeError):
        answered = []
    if sorted(answered) != sorted(ids):
        raise StorageError(f"{result.answers} does not answer the {len(ids)} items that were asked")


def place(source: Path, target: Path, sha256: str) -> bool:
    """Move a model from its run's folder to its version's, durably; doing it again changes nothing.

    `data/versions` may be another file system, a larger disk: then it is copied, and the source goes at the end.

    False where neither is the file that was accepted. A stranger in its place is set aside under another name.
    Raises OSError, and StorageError where a copy is not what was copied.
    """
    if not stands(target, sha256):
        if not stands(source, sha256):
            return False
        make_folder(target.parent)
        set_aside(target)
        reach("move.gguf.before")
        bring(source, target, sha256)
    fsync_folder(target.parent)
    source.unlink(missing_ok=True)
    fsync_folder(source.parent)
    reach("move.gguf.after")
    return True


def bring(source: Path, target: Path, sha256: str) -> None:
    """Rename, or where that is another file system copy by temporary name and fsync.

    The source is the caller's to remove, so a copy is probed before it counts. Raises OSError and StorageError.
    """
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        temporary = target.with_name(f".{target.name}.tmp")
        with source.open("rb") as given, temporary.open("wb") as sink:
            shutil.copyfileobj(given, sink, COPY_BYTES)
            sink.flush()
            os.fsync(sink.fileno())
        probe(temporary, sha256)
        temporary.replace(target)


def set_aside(path: Path) -> None:
    """Give a file of somebody else's (of a ledger that was deleted) another name: `model.gguf.other-1`. May be gone."""
    number = 1
    while (other := path.with_name(f"{path.name}.other-{number}")).exists():
        number += 1
    if path.exists():
        reach("move.stranger.before")
        path.rename(other)
        reach("move.stranger.after")


def stands(path: Path, expected_sha256: str) -> bool:
    """Whether a file is there and is what it should be."""
    try:
        probe(path, expected_sha256)
    except StorageError:
        return False
    return True


def probe(path: Path, expected_sha256: str) -> None:
    """Take the digest again. Raises StorageError where the file is not what the step said."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from error
    if found != expected_sha256:
        raise StorageError(
            f"{path} has SHA-256 {found}, its step said {expected_sha256}: the disk lost something (see `thau doctor`)"
        )
