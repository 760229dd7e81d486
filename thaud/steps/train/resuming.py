"""What a checkpoint must agree in with the training that goes on from it, the random states that both share, and the
request to stop that has one written.
"""

import hashlib
import random
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from thaud import __version__
from thaud.steps.bases import base_digest
from thaud.steps.contract import TrainSpec
from thaud.steps.train.data import Lesson
from thaud.steps.train.preflight import Arrangement

DECIDING = (  # fields of a spec that no digest below stands for
    "context_tokens",
    "seed",
    "learning_rate",
    "epochs",
    "rank",
    "alpha",
    "batch_examples",
    "start_sha256",
    "held_back_share",
    "patience",
)
LIBRARIES = ("torch", "transformers", "peft")


def mark_of(spec: TrainSpec, lessons: Iterable[Lesson], arrangement: Arrangement, processes: int) -> dict[str, Any]:
    """All that decides the bytes of a training on one machine; what is in the checkpoint itself is not in it."""
    return {
        **{name: getattr(spec, name) for name in DECIDING},
        "base": base_digest(Path(spec.base_dir)),
        "lessons": digest_of(lessons),
        "precision": str(arrangement.dtype),
        "four_bit": arrangement.four_bit,
        "device": arrangement.device.type,
        "threads": torch.get_num_threads(),
        "processes": processes,
        "thau": __version__,
        **{name: version(name) for name in LIBRARIES},
    }


def digest_of(lessons: Iterable[Lesson]) -> str:
    """SHA-256 of lessons in their order."""
    total = hashlib.sha256()
    for each in lessons:
        ids, targets = (np.asarray(column, dtype=np.int32) for column in (each.ids, each.targets))
        total.update(f"{each.id}\0{len(ids)}\0{len(targets)}\n".encode("utf-8", "surrogatepass"))
        total.update(ids.tobytes())
        total.update(targets.tobytes())
    return total.hexdigest()


@contextmanager
def stop_asked_for() -> Iterator[threading.Event]:
    """SIGTERM sets the event instead of ending the process: between two steps there is something worth keeping."""
    asked = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: asked.set())
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)


class Randomness:
    """The states of all random generators of this process. Nothing of a training draws from them once it has begun; a
    base whose code did would still be resumed exactly.
    """

    def state(self) -> dict[str, Any]:
        """Of Python, numpy and torch, and of each CUDA device that is in use."""
        python, numpy = random.getstate(), np.random.get_state(legacy=False)  # noqa: NPY002 - whoever draws from it
        assert isinstance(numpy, dict)
        devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return {
            "python": [python[0], list(python[1]), python[2]],
            "numpy": {**numpy, "state": {"pos": int(numpy["state"]["pos"])}},
            "numpy_key": numpy["state"]["key"],
            "torch": torch.get_rng_state(),
            **{f"cuda-{number}": state for number, state in enumerate(devices)},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Draw what would have been drawn. States of devices that are not there any more are left out."""
        kind, words, gauss = state["python"]
        random.setstate((kind, tuple(words), gauss))
        numpy = state["numpy"]
        np.random.set_state({**numpy, "state": {**numpy["state"], "key": state["numpy_key"]}})  # noqa: NPY002
        torch.set_rng_state(torch.from_numpy(state["torch"]))
        for number in range(torch.cuda.device_count()):
            if f"cuda-{number}" in state:
                torch.cuda.set_rng_state(torch.from_numpy(state[f"cuda-{number}"]), number)
