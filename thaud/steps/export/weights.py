"""The base's safetensors files, sharded or not, memory-mapped: a tensor at a time, never the whole model."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from thaud.errors import ModelError
from thaud.steps.bases import weight_files
from thaud.steps.export.adapter import open_safetensors
from thaud.steps.export.architectures import FLOATS


@dataclass(frozen=True, slots=True)
class BaseWeights:
    """Open files of a base. `owners` maps a tensor's name to the handle of its file."""

    owners: dict[str, Any]

    def shape(self, name: str) -> tuple[int, ...]:
        """Raises ModelError where the base has no such tensor, or not as plain floats."""
        if name not in self.owners:
            raise ModelError(f"the base has no tensor {name}")
        part = self.owners[name].get_slice(name)
        if part.get_dtype() not in FLOATS:
            raise ModelError(f"the base's {name} is {part.get_dtype()}, not one of {', '.join(sorted(FLOATS))}")
        return tuple(part.get_shape())

    def read(self, name: str, start: int = 0, end: int | None = None) -> Tensor:
        """A tensor, or its rows [start, end)."""
        part = self.owners[name].get_slice(name)
        rows: Tensor = part[start : end if end is not None else part.get_shape()[0]]
        return rows


@contextmanager
def open_weights(folder: Path) -> Iterator[BaseWeights]:
    """Map all weight files of a base for the duration."""
    with ExitStack() as stack:
        owners: dict[str, Any] = {}
        for name in weight_files(folder):
            handle = stack.enter_context(open_safetensors(folder / name))
            owners |= dict.fromkeys(handle.keys(), handle)
        yield BaseWeights(owners)
