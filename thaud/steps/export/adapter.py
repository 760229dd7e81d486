"""A peft LoRA adapter on disk -> what it adds to each weight of the base. Fails closed: what it does not understand
completely it refuses, so that no part of a training silently vanishes in the merge.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thaud.errors import ModelError
from thaud.steps.export.architectures import EMBEDDING, HEAD
from thaud.steps.export.convert import F16_MAX
from thaud.steps.export.weights import Weights, open_files
from thaud.steps.tokenizer import read_json

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
OFF: tuple[Any, ...] = (None, False, [], {})
# Settings of peft that change what an adapter means: the values under which it is plain LoRA, and what else it were.
PLAIN: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "peft_type": (("LORA",), "an adapter of another kind is no product of two matrices"),
    "use_dora": (OFF, "DoRA rescales the merged weights by magnitudes of its own"),
    "modules_to_save": (OFF, "whole modules trained beside it (embeddings, head) are no LoRA"),
    "bias": ((None, "none"), "trained biases are no LoRA"),
    "lora_bias": (OFF, "trained biases are no LoRA"),
    "rank_pattern": (OFF, "ranks differ from layer to layer"),
    "alpha_pattern": (OFF, "scales differ from layer to layer"),
    "fan_in_fan_out": (OFF, "its weights are transposed"),
    "layer_replication": (OFF, "it has layers that the base has not"),
    "trainable_token_indices": (OFF, "it has trained or added tokens, which are rows of the embedding"),
    "target_parameters": (OFF, "it adapts parameters that are no linear layers"),
    "use_qalora": (OFF, "QA-LoRA pools its inputs"),
    "use_bdlora": (OFF, "its matrices are block-diagonal"),
    "kasa_config": (OFF, "KaSA changes the base"),
    "monteclora_config": (OFF, "it is a mixture"),
    "velora_config": (OFF, "VeLoRA is not plain LoRA"),
    "alora_invocation_tokens": (OFF, "it is switched on by tokens"),
    "arrow_config": (OFF, "it is a mixture"),
}
REMEDY = "train it again as plain LoRA or rsLoRA on the attention and feed-forward projections"


@dataclass(frozen=True, slots=True)
class Adapter:
    """`halves` maps a base weight's name to those of A [rank, in] and B [out, rank]; it grows by B @ A * scale."""

    halves: Mapping[str, Mapping[str, str]]
    scale: float
    rank: int
    tensors: Weights = field(repr=False)

    def shape(self, name: str) -> tuple[int, ...]:
        """Of the weight that it adapts."""
        return tuple(self.tensors.shape(self.halves[name][half])[axis] for half, axis in (("B", 0), ("A", 1)))

    def pair(self, name: str) -> tuple[Tensor, Tensor]:
        """A and B of one weight, in float32."""
        down, up = (self.tensors.read(self.halves[name][half]).float() for half in "AB")
        return down, up

    def product(self, name: str, into: Tensor) -> Tensor:
        """B @ A * scale in float32, made whole, as a merge in memory makes it, in `into` (float32)."""
        down, up = self.pair(name)
        grown = into[: up.shape[0] * down.shape[1]].view(up.shape[0], down.shape[1])
        return torch.mm(up, down, out=grown).mul_(self.scale)


NO_ADAPTER = Adapter({}, 0.0, 0, Weights({}, {}))


@contextmanager
def open_adapter(folder: Path) -> Iterator[Adapter]:
    """Open an adapter for the duration, checked. Raises ModelError, naming what cannot be merged and the way out."""
    config = read_json(folder / "adapter_config.json")
    for setting, (plain, otherwise) in PLAIN.items():
        if config.get(setting) not in plain:
            raise ModelError(
                f"{folder}: cannot merge an adapter with {setting} = {config[setting]!r}: {otherwise}; {REMEDY}"
            )
    rank, alpha = int(config["r"]), float(config["lora_alpha"])
    scale = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
    with open_files([folder / WEIGHTS]) as tensors:
        adapter = Adapter(read_halves(folder / WEIGHTS, tensors), scale, rank, tensors)
        for name in adapter.halves:
            check_pair(folder / WEIGHTS, name, adapter)
        yield adapter


def read_halves(path: Path, tensors: Weights) -> dict[str, dict[str, str]]:
    """The names of both halves of every adapted weight, by the base weight's name."""
    halves: dict[str, dict[str, str]] = {}
    for key in tensors.stored:
        name, _, half = key.removeprefix(PREFIX).rpartition(".lora_")
        if half not in {"A.weight", "B.weight"} or not key.startswith(PREFIX):
            raise ModelError(f"{path}: tensor {key} is no part of plain LoRA; {REMEDY}")
        halves.setdefault(f"{name}.weight", {})[half[0]] = key
    return halves


def check_pair(path: Path, name: str, adapter: Adapter) -> None:
    """Raises ModelError where a pair is none, or where its training ran away."""
    if name in {EMBEDDING, HEAD}:
        raise ModelError(f"{path}: an adapter on {name} cannot be merged: the other end may share it; {REMEDY}")
    found = {half: adapter.tensors.shape(key) for half, key in adapter.halves[name].items()}
    if (set(found), *(len(each) for each in found.values())) != ({"A", "B"}, 2, 2) or (
        (found["A"][0], found["B"][1]) != (adapter.rank, adapter.rank)
    ):
        raise ModelError(f"{path}: the adapter of {name} is not a pair of rank {adapter.rank}: it is damaged")
    down, up = adapter.pair(name)
    check_learned(path, name, largest(down, up, adapter.scale))


def largest(down: Tensor, up: Tensor, scale: float) -> float:
    """How far the adapter moves a value at most, or a bound on it (Cauchy and Schwarz) where that is low enough."""
    bound = float(up.norm(dim=1).max() * down.norm(dim=0).max()) * scale
    return bound if bound <= F16_MAX else float((up @ down).abs().max()) * scale


def check_learned(path: Path, name: str, most: float) -> None:
    """Raises ModelError for what no training that went well leaves."""
    remedy = "the training diverged; lower training.learning_rate and train again"
    if math.isnan(most):
        raise ModelError(f"{path}: the adapter of {name} holds values that are no numbers: {remedy}")
    if most > F16_MAX:
        raise ModelError(f"{path}: the adapter moves {name} by up to {most:.4g}: {remedy}")


def check_fit(adapter: Adapter, shape_of: Callable[[str], tuple[int, ...]]) -> None:
    """Raises ModelError where an adapter and the weights of the base, by their shapes, do not go together."""
    for name in adapter.halves:
        made, wanted = adapter.shape(name), shape_of(name)
        if made != wanted:
            raise ModelError(
                f"the adapter makes {name} {made[0]}x{made[1]}, the base has {'x'.join(map(str, wanted))}: it was "
                "trained on another base; choose that one, or train again"
            )
