"""Tensors in safetensors files, sharded or not: read a part at a time into memory that is used again.

Not memory-mapped: pages of a map count as the process's own memory until they are given back, and a read into a buffer
that stays in the cache is as fast. Refuses to hold a model. Format: the safetensors README, "Format".
"""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from thaud.errors import ModelError
from thaud.steps.bases import weight_files
from thaud.steps.export.preflight import Stored, read_header

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Weights:
    """Open files, and where in them each tensor is."""

    stored: Mapping[str, Stored]
    descriptors: Mapping[Path, int]

    def shape(self, name: str) -> tuple[int, ...]:
        """Rows first. Raises ModelError where there is no such tensor, or not as plain floats."""
        if name not in self.stored:
            raise ModelError(f"the base has no tensor {name}")
        found = self.stored[name]
        if found.dtype not in DTYPES:
            raise ModelError(f"the base's {name} is {found.dtype}, not one of {', '.join(sorted(DTYPES))}")
        return found.shape

    def read(self, name: str, start: int = 0, end: int | None = None, into: Tensor | None = None) -> Tensor:
        """Rows [start, end) of a tensor, in the type they are stored in, in `into` (bytes) where it is given.

        Raises ModelError where the file has become shorter, OSError where it cannot be read.
        """
        found, dtype = self.stored[name], DTYPES[self.stored[name].dtype]
        shape = ((found.shape[0] if end is None else end) - start, *found.shape[1:])
        row = math.prod(shape[1:]) * dtype.itemsize
        memory = torch.empty(shape[0] * row, dtype=torch.uint8) if into is None else into[: shape[0] * row]
        fill(self.descriptors[found.path], memory, found.start + start * row, found.path)
        return memory.view(dtype).view(shape)

    def expect(self, name: str) -> None:
        """Say that a tensor will soon be read, so that the disk begins. See posix_fadvise(2)."""
        found = self.stored[name]
        os.posix_fadvise(self.descriptors[found.path], found.start, found.end - found.start, os.POSIX_FADV_WILLNEED)


def fill(descriptor: int, memory: Tensor, place: int, path: Path) -> None:
    """Read bytes of a file, from `place` on, until `memory` is full."""
    left = memory.numpy().data
    while left:
        count = os.preadv(descriptor, [left], place)
        if not count:
            raise ModelError(f"{path} cannot be read: it has become shorter; copy or fetch it again")
        left, place = left[count:], place + count


@contextmanager
def open_files(paths: Sequence[Path]) -> Iterator[Weights]:
    """Open safetensors files for the duration. Raises ModelError where one is damaged or not there."""
    with ExitStack() as stack:
        stored: dict[str, Stored] = {}
        descriptors: dict[Path, int] = {}
        for path in paths:
            try:
                stored |= read_header(path)
                descriptors[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except (OSError, ValueError, KeyError, TypeError, AttributeError, ModelError) as error:
                raise ModelError(f"{path} cannot be read: {error}") from error
            stack.callback(os.close, descriptors[path])
        yield Weights(stored, descriptors)


@contextmanager
def open_weights(folder: Path) -> Iterator[Weights]:
    """Open all weight files of a base."""
    with open_files([folder / name for name in weight_files(folder)]) as weights:
        yield weights
