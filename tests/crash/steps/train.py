"""Trains at once: the adapter is a digest of the examples."""

import hashlib
from pathlib import Path

from tests.crash.steps.door import enter
from thaud.durable import make_folder, write_durably
from thaud.steps.contract import TrainResult, TrainSpec, emit


def weights_of(rows: bytes, spec: TrainSpec) -> bytes:
    """What training makes of its rows."""
    return hashlib.sha256(rows + spec.model_dump_json().encode()).hexdigest().encode()


def work(_: Path, spec: TrainSpec) -> TrainResult:
    emit("start", total=1)
    rows = Path(spec.examples).read_bytes()
    weights = weights_of(rows, spec)
    make_folder(Path(spec.out_dir))
    write_durably(Path(spec.out_dir) / "adapter_model.safetensors", weights, "adapter")
    return TrainResult(
        adapter_dir=spec.out_dir,
        adapter_sha256=hashlib.sha256(weights).hexdigest(),
        steps=1,
        tokens=len(rows),
        supervised_tokens=1,
        first_loss=1.0,
        last_loss=0.5,
        seconds=0.0,
        peak_memory_bytes=1,
        set_aside=[],
    )


if __name__ == "__main__":
    enter("train", TrainSpec, work)
