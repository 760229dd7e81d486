"""What will be in a file: the names of each tensor, its shape, type and place, and the parts it is made in."""

import math
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import torch
from gguf import GGMLQuantizationType
from torch import Tensor

from thaud.domain import ModelKind
from thaud.errors import ModelError
from thaud.steps.export.adapter import Adapter, check_fit
from thaud.steps.export.architectures import HEAD, dimensions_of, plan_of
from thaud.steps.export.convert import size_of
from thaud.steps.export.mixture import choose_types
from thaud.steps.export.rotary import factors
from thaud.steps.export.weights import Weights

PART_VALUES = 1 << 20  # they stay in a core's cache from the first pass over them to the last


@dataclass(frozen=True, slots=True)
class Planned:
    """One tensor to be written: transformers' name and llama.cpp's, shape (rows first) and type.

    `heads`: how many there are where the rows of each are reordered for interleaved rotary embeddings. `given`: float32
    values of a tensor that is in no file.
    """

    source: str | None
    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    heads: int | None = None
    given: Tensor | None = None

    @property
    def values(self) -> int:
        """How many there are."""
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """Bytes in the file, without padding."""
        return size_of(self.shape, self.kind)

    def parts(self) -> Iterator["Part"]:
        """Its rows in order, some at a time; the rows of a head stay together where they change places."""
        rows = self.shape[0]
        unit = rows // self.heads if self.heads else 1
        step = unit * max(1, PART_VALUES // (unit * math.prod(self.shape[1:])))
        for start in range(0, rows, step):
            yield Part(self, start, min(rows, start + step))


@dataclass(frozen=True, slots=True)
class Part:
    """Rows [start, end) of a tensor."""

    of: Planned
    start: int
    end: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows first."""
        return (self.end - self.start, *self.of.shape[1:])

    @property
    def values(self) -> int:
        """How many there are."""
        return math.prod(self.shape)

    @property
    def last(self) -> bool:
        """Whether it ends its tensor."""
        return self.end == self.of.shape[0]

    @property
    def heads(self) -> int | None:
        """How many are in it, where their rows change places."""
        return self.of.heads and self.of.heads * (self.end - self.start) // self.of.shape[0]


def plan_tensors(kind: ModelKind, config: Mapping[str, Any], weights: Weights, adapter: Adapter) -> list[Planned]:
    """Every tensor of the file, in order. Raises ModelError where base, architecture and adapter do not agree."""
    rows = plan_of(config)
    check_names({row.source for row in rows}, weights, adapter)
    for row in rows:
        if row.source is not None and weights.shape(row.source) != row.shape:
            raise ModelError(
                f"the base's {row.source} is {weights.shape(row.source)}, its config.json makes it {row.shape}: one of "
                "them is another model's; copy or fetch the base again"
            )
    check_fit(adapter, weights.shape)
    shapes = [(row.name, row.shape) for row in rows]
    types = choose_types(kind, shapes, str(config["model_type"]), dimensions_of(config))
    return [
        Planned(
            row.source,
            row.name,
            row.shape,
            types[row.name],
            row.heads or None,
            None if row.source else torch.as_tensor(factors(config), dtype=torch.float32),
        )
        for row in rows
    ]


def check_names(known: AbstractSet[str | None], weights: Weights, adapter: Adapter) -> None:
    """Raises ModelError where the base or the adapter has what the other, or the architecture, does not know."""
    extra = [name for name in weights.stored if name not in known and name != HEAD and "rotary_emb" not in name]
    if extra:
        raise ModelError(f"the base has {len(extra)} tensors that its config.json does not mention: {extra[0]}")
    if lost := sorted(set(adapter.halves) - known):
        raise ModelError(
            f"the adapter changes {lost[0]}, which the base does not have: it was trained on another base; choose that "
            "one, or train again"
        )


def arrange(values: Tensor, heads: int | None, *, back: bool = False) -> Tensor:
    """A view of rows in which those of transformers' order (a head's two halves) and, with `back`, those of llama.cpp's
    (pairs) have the same place, so that copying one to the other puts each head's halves in turn: transformers rotates
    row i with row i + half, llama.cpp's llama row 2i with row 2i + 1.
    """
    if heads is None:
        return values
    half = values.shape[0] // heads // 2
    if back:
        return values.view(heads, half, 2, *values.shape[1:])
    return values.view(heads, 2, half, *values.shape[1:]).transpose(1, 2)
