"""What the file holds, tensor by tensor, before any logits are computed: some rows of every weight of the base, whole
vectors, and the adapter's change in each.

Logits are a poor witness where training changed little: there the rounding of a small type moves them further than the
adapter does, and an adapter that one layer lacks is not seen. The weights tell. With W, D and F the base's weight,
scale B A and the file's weight, F is as near W + D as its type rounds, and the share <F - W, D> / <D, D>, across which
rounding is noise that does not know the adapter, is near 1, over all and in each.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thaud.errors import ModelError
from thaud.steps.certify.lora import Lora
from thaud.steps.certify.reference import HEAD
from thaud.steps.certify.stored import Stored

PLACES, TOGETHER = 4, 16  # of each matrix, so many rows at so many places
ROTARY, FACTORS = "rotary_emb", "rope_freqs.weight"
# How far a tensor may be from what was trained, relative to its length, by the type that it has in the file: what is
# seen of right files (F16 2e-4, Q8_0 6e-3, Q6_K 2e-2, Q5_K 4e-2, Q4_K 8e-2), times three or more.
NEARNESS: Mapping[str, float] = {"F32": 1e-5, "F16": 1e-3, "BF16": 8e-3, "Q8_0": 0.03, "Q6_K": 0.08}
ROUNDEST = 0.25  # of all others
LEAST = 1e-7  # what F16 leaves of a value that is nearly zero
SHARE_BAR, DEVIATIONS = 0.5, 5.0  # of one tensor's share; chance may explain so many standard deviations more


@dataclass
class Inside:
    """What was found. `share`: 0 of a file without the adapter, about 1 of one with it, of a GGUF LoRA as of a merged
    model; None where none of the adapted weights can be compared.
    """

    tensors: int = 0
    along: float = 0.0
    change: float = 0.0
    differences: list[str] = field(default_factory=list)

    @property
    def share(self) -> float | None:
        """Of all that was looked at."""
        return self.along / self.change if self.change else None

    def add_share(self, name: str, change: Tensor, found: Tensor) -> None:
        """Take in what the adapter changes in a tensor, and what the file does."""
        along, size = float((found * change).sum()), float((change**2).sum())
        self.along, self.change = self.along + along, self.change + size
        noise = float((found - change).norm()) / change.numel() ** 0.5
        if size and not abs(along / size - 1) <= SHARE_BAR + DEVIATIONS * noise / size**0.5:
            self.differences.append(f"{name} has {100 * along / size:.0f}% of the change that the adapter makes to it")

    def add_tensor(self, name: str, kind: str, wanted: Tensor, found: Tensor) -> None:
        """Take in a tensor: how it is to be, and how it is."""
        self.tensors += 1
        away, length = float((found - wanted).norm()), float(wanted.norm())
        if not away <= NEARNESS.get(kind, ROUNDEST) * length + LEAST * wanted.numel() ** 0.5:
            self.differences.append(
                f"{name} is {100 * away / length if length else 100:.2g}% away from base plus adapter, further than "
                f"{kind} rounds"
            )


class File:
    """A GGUF by gguf's own reader. Raises ModelError where it is none."""

    def __init__(self, path: Path) -> None:
        from gguf import GGUFReader  # noqa: PLC0415 - only where a file is compared

        try:
            reader = GGUFReader(path)
            self.fields: Mapping[str, Any] = reader.fields
            self.tensors = {tensor.name: tensor for tensor in reader.tensors}
        except (ValueError, KeyError, IndexError, OSError) as error:
            raise ModelError(f"{path} is no GGUF: {error}") from error

    def value(self, key: str) -> Any:
        """Of a key; None where there is none."""
        return self.fields[key].contents() if key in self.fields else None


@dataclass(frozen=True, slots=True)
class Compared:
    """The base's side: its tensors, transformers' configuration of it, the adapter."""

    weights: Stored
    config: Any
    lora: Lora


def look_inside(file: File, base: File | None, right: Compared) -> Inside:
    """Compare `file`, or where it is a GGUF LoRA, it and the GGUF of the base under it."""
    found, whole = Inside(), base or file
    names = dict(names_of(whole, right))
    if extra := whole.tensors.keys() - names.values() - {FACTORS}:
        found.differences.append(f"{min(extra)} is of no tensor of the base")
    for source, name in names.items():
        if (tensor := whole.tensors.get(name)) is None:
            found.differences.append(f"{name} is not there")
        else:
            compare(found, tensor, source, right, merged=base is None)
    if base is not None:
        compare_lora(found, file, right, names)
    return found


def names_of(file: File, right: Compared) -> Iterator[tuple[str, str]]:
    """transformers' name -> llama.cpp's, of the base's tensors that a GGUF has."""
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map  # noqa: PLC0415 - see File

    said = file.value("general.architecture")
    arch = next((arch for arch, name in MODEL_ARCH_NAMES.items() if name == said), None)
    if arch is None or said != right.config.model_type:
        return
    names = get_tensor_name_map(arch, right.config.num_hidden_layers)
    for source in right.weights.names:
        module, _, suffix = source.rpartition(".")
        if (source == HEAD and right.config.tie_word_embeddings) or ROTARY in source:
            continue
        yield source, f"{names.get_name(module) or module}.{suffix}"


def compare(found: Inside, tensor: Any, source: str, right: Compared, *, merged: bool) -> None:
    """Take in one tensor of a model's file."""
    shape = right.weights.shape(source)
    if tuple(int(size) for size in reversed(tensor.shape)) != shape:
        found.differences.append(f"{tensor.name} has another shape than {source} of the base")
        return
    rows = rows_of(shape)
    plain = right.weights.some(source, rows)
    served = values(tensor, places_in_file(rows, source, right.config))
    pair = right.lora.pairs.get(source.removesuffix(".weight")) if merged else None
    change = pair[1][rows] @ pair[0] * right.lora.scale if pair else torch.zeros(())
    found.add_tensor(tensor.name, tensor.tensor_type.name, plain + change, served)
    if pair:
        found.add_share(tensor.name, change.double(), (served - plain).double())


def compare_lora(found: Inside, file: File, right: Compared, names: Mapping[str, str]) -> None:
    """Take in the pairs of a GGUF LoRA."""
    wanted = {name: names.get(f"{name}.weight", name) for name in right.lora.pairs}
    known = {f"{name}.lora_{half}" for name in wanted.values() for half in "ab"}
    if extra := file.tensors.keys() - known:
        found.differences.append(f"{min(extra)} is no part of the adapter")
    for module, name in wanted.items():
        halves = [file.tensors.get(f"{name}.lora_{half}") for half in "ab"]
        if None in halves:
            found.differences.append(f"{name}.lora_a and lora_b are not both there")
            continue
        down, up = right.lora.pairs[module]
        rows = rows_of(up.shape)
        low, high = values(halves[0], None), values(halves[1], places_in_file(rows, f"{module}.weight", right.config))
        change, there = up[rows] @ down * right.lora.scale, high @ low
        there = there * (float(file.value("adapter.lora.alpha") or 0.0) / len(low))
        if there.shape != change.shape:
            found.differences.append(f"{name}'s adapter has another shape")
            continue
        found.add_tensor(f"{name}.lora", "F32", change, there)
        found.add_share(f"{name}.lora", change.double(), there.double())


def rows_of(shape: tuple[int, ...] | torch.Size) -> Tensor:
    """Which rows are looked at: all of a vector, some at a few places of a matrix, first and last ones among them."""
    if len(shape) == 1 or shape[0] <= PLACES * TOGETHER:
        return torch.arange(shape[0])
    starts = torch.linspace(0, shape[0] - TOGETHER, PLACES).long()
    return (starts[:, None] + torch.arange(TOGETHER)).flatten()


def places_in_file(rows: Tensor, source: str, config: Any) -> Tensor:
    """Where the file has them: Llama's queries and keys have the halves of each head in turn, row by row."""
    if config.model_type != "llama" or source.split(".")[-2] not in {"q_proj", "k_proj"}:
        return rows
    head = int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
    first, inside = rows // head * head, rows % head
    return first + inside % (head // 2) * 2 + inside // (head // 2)


def values(tensor: Any, rows: Tensor | None) -> Tensor:
    """Rows of a tensor of a GGUF, or all of it, as float32."""
    from gguf.quants import dequantize  # noqa: PLC0415 - see File

    data = tensor.data if rows is None else tensor.data[rows.numpy()]
    plain = dequantize(np.ascontiguousarray(data), tensor.tensor_type)
    return torch.from_numpy(np.array(plain, dtype=np.float32))
