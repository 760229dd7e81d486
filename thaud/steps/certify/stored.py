"""The base's tensors by safetensors' own reader, sharded or not: one at a time, as float32.

The export has a reader of its own, which is part of what a certificate judges.
"""

from collections.abc import Iterator, KeysView, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thaud.errors import ModelError
from thaud.steps.bases import weight_files


@dataclass(frozen=True, slots=True)
class Stored:
    """Open files. `owners`: a tensor's name -> the handle of its file."""

    owners: Mapping[str, Any]

    @property
    def names(self) -> KeysView[str]:
        """Which tensors there are."""
        return self.owners.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        """Raises ModelError where there is no such tensor."""
        if name not in self.owners:
            raise ModelError(f"the base has no tensor {name}")
        return tuple(self.owners[name].get_slice(name).get_shape())

    def read(self, name: str) -> Tensor:
        """A whole tensor."""
        whole: Tensor = self.owners[name].get_tensor(name)
        return whole.float()

    def rows(self, name: str, start: int, end: int) -> Tensor:
        """Rows [start, end) of a matrix."""
        some: Tensor = self.owners[name].get_slice(name)[start:end]
        return some.float()

    def some(self, name: str, rows: Tensor) -> Tensor:
        """Rows of a matrix, or values of a vector, by their numbers, which are in ascending runs."""
        cuts = (rows.diff() != 1).nonzero().flatten() + 1
        runs = torch.tensor_split(rows, cuts.tolist())
        return torch.cat([self.rows(name, int(run[0]), int(run[-1]) + 1) for run in runs])


@contextmanager
def open_stored(folder: Path) -> Iterator[Stored]:
    """Map all weight files of a base for the duration. Raises ModelError where one is damaged."""
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - only where a base is read

    with ExitStack() as stack:
        owners: dict[str, Any] = {}
        for name in weight_files(folder):
            try:
                handle = stack.enter_context(safe_open(folder / name, framework="pt"))
            except (SafetensorError, OSError) as error:
                raise ModelError(f"{folder / name} cannot be read: {error}") from error
            owners |= dict.fromkeys(handle.keys(), handle)
        yield Stored(owners)
