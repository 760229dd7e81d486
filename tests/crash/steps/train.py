"""Trains at once: the adapter is a digest of the examples and, where one is continued, of that adapter.

It is taken in parts, with a checkpoint after each by the functions of the real step: a part that is done twice, or left
out, shows in the adapter.
"""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from tests.crash.steps.door import enter
from thaud.durable import make_folder, write_durably
from thaud.errors import StepError
from thaud.steps.contract import CHECKPOINTS, TrainResult, TrainSpec, emit
from thaud.steps.train.checkpoint import Checkpoints, discard
from thaud.steps.train.metrics import FILE, Record

PARTS = 4


class Chain:
    """The digest so far, of `done` parts."""

    def __init__(self, rows: bytes, spec: TrainSpec, parent: bytes) -> None:
        self.rows, self.done = rows.splitlines(), 0
        self.digest = hashlib.sha256(spec.model_dump_json().encode() + parent).digest()

    def step(self) -> None:
        """Add a part of the rows."""
        self.digest = hashlib.sha256(self.digest + b"\n".join(self.rows[self.done :: PARTS])).digest()
        self.done += 1

    def state(self) -> Mapping[str, Any]:
        return {"done": self.done, "digest": np.frombuffer(self.digest, dtype=np.uint8)}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.done, self.digest = state["done"], state["digest"].tobytes()


def weights_of(rows: bytes, spec: TrainSpec, parent: bytes) -> bytes:
    """What training makes of its rows and of the adapter that it goes on from, empty where there is none."""
    chain = Chain(rows, spec, parent)
    while chain.done < PARTS:
        chain.step()
    return chain.digest.hex().encode()


def parent_of(spec: TrainSpec) -> bytes:
    """The adapter to go on from. Raises StepError where it is not the one that was meant."""
    if spec.start_from is None:
        return b""
    parent = (Path(spec.start_from) / "adapter_model.safetensors").read_bytes()
    if hashlib.sha256(parent).hexdigest() != spec.start_sha256:
        raise StepError(f"{spec.start_from} is not the adapter to go on from")
    return parent


def work(workdir: Path, spec: TrainSpec) -> TrainResult:
    emit("start", total=PARTS)
    rows = Path(spec.examples).read_bytes()
    if spec.cache is not None:
        with suppress(OSError):  # as in the real one, a run does not need it
            make_folder(Path(spec.cache))
            write_durably(Path(spec.cache) / "tokens-0.bin", rows, "tokens")
    chain, record = Chain(rows, spec, parent_of(spec)), Record(workdir / FILE, emit)
    mark = hashlib.sha256(rows + spec.model_dump_json().encode()).hexdigest()
    checkpoints = Checkpoints(workdir / CHECKPOINTS, {"chain": chain}, lambda: {"mark": mark}, 0, emit)
    record.cut_back(checkpoints.resume())
    while chain.done < PARTS:
        chain.step()
        record.write("step", step=chain.done)
        checkpoints.keep_where_due(chain.done)
    weights = chain.digest.hex().encode()
    make_folder(Path(spec.out_dir))
    write_durably(Path(spec.out_dir) / "adapter_model.safetensors", weights, "adapter")
    return TrainResult(
        adapter_dir=spec.out_dir,
        adapter_sha256=hashlib.sha256(weights).hexdigest(),
        steps=PARTS,
        tokens=len(rows),
        supervised_tokens=1,
        first_loss=1.0,
        last_loss=0.5,
        seconds=0.0,
        peak_memory_bytes=1,
        set_aside=[],
        tokens_per_s=1.0,
    )


if __name__ == "__main__":
    enter("train", TrainSpec, work, discard)
