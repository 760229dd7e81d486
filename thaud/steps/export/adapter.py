"""A peft LoRA adapter on disk -> what it adds to each weight of the base. Fails closed: what it does not understand
completely it refuses, so that no part of a training silently vanishes in the merge.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thaud.errors import ModelError
from thaud.steps.export.architectures import EMBEDDING, HEAD
from thaud.steps.tokenizer import read_json

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
# Settings of peft that change what an adapter means, with the values under which it is plain LoRA.
PLAIN: Mapping[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "use_dora": (None, False),
    "modules_to_save": (None, []),
    "bias": (None, "none"),
    "lora_bias": (None, False),
    "rank_pattern": (None, {}),
    "alpha_pattern": (None, {}),
    "fan_in_fan_out": (None, False),
    "layer_replication": (None, []),
    "trainable_token_indices": (None, [], {}),
    "target_parameters": (None, []),
    "use_qalora": (None, False),
    "alora_invocation_tokens": (None, []),
    "arrow_config": (None,),
}


@dataclass(frozen=True, slots=True)
class Adapter:
    """`pairs` maps a base weight's name to its (A [rank, in], B [out, rank]); the weight grows by B @ A * scale."""

    pairs: Mapping[str, tuple[Tensor, Tensor]]
    scale: float

    def merge(self, name: str, weight: Tensor) -> Tensor:
        """The merged weight in float32; the weight itself where the adapter does not touch it.

        Raises ModelError where the shapes do not fit.
        """
        if name not in self.pairs:
            return weight.float()
        down, up = self.pairs[name]
        if (up.shape[0], down.shape[1]) != tuple(weight.shape):
            raise ModelError(
                f"the adapter makes {name} {up.shape[0]}x{down.shape[1]}, the base has {weight.shape[0]}x"
                f"{weight.shape[1]}: it was trained on another base"
            )
        return weight.float() + (up.float() @ down.float()) * self.scale


NO_ADAPTER = Adapter({}, 0.0)


def read_adapter(folder: Path) -> Adapter:
    """Read an adapter's two files. Raises ModelError, naming the setting or the tensor that cannot be merged."""
    config = read_json(folder / "adapter_config.json")
    for setting, plain in PLAIN.items():
        if config.get(setting) not in plain:
            raise ModelError(f"{folder}: cannot merge an adapter with {setting} = {config[setting]!r}, only plain LoRA")
    rank, alpha = int(config["r"]), float(config["lora_alpha"])
    scale = alpha / rank**0.5 if config.get("use_rslora") else alpha / rank
    return Adapter(read_pairs(folder / WEIGHTS, rank), scale)


def read_pairs(path: Path, rank: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Both halves of every adapted weight, by the base weight's name."""
    halves: dict[str, dict[str, Tensor]] = {}
    with open_safetensors(path) as tensors:
        for key in tensors.keys():  # noqa: SIM118 - safetensors' handle is no mapping
            name, _, half = key.removeprefix(PREFIX).rpartition(".lora_")
            if half not in {"A.weight", "B.weight"} or not key.startswith(PREFIX):
                raise ModelError(f"{path}: tensor {key} is no part of plain LoRA")
            halves.setdefault(f"{name}.weight", {})[half[0]] = tensors.get_tensor(key)
    return {name: pair_of(path, name, found, rank) for name, found in halves.items()}


def pair_of(path: Path, name: str, found: Mapping[str, Tensor], rank: int) -> tuple[Tensor, Tensor]:
    """A and B of one weight, checked."""
    if name in {EMBEDDING, HEAD}:
        raise ModelError(f"{path}: an adapter on {name} cannot be merged: it may be shared with the other end")
    if set(found) != {"A", "B"} or found["A"].shape[0] != rank or found["B"].shape[1] != rank:
        raise ModelError(f"{path}: the adapter of {name} is not a pair of rank {rank}")
    if not all(bool(torch.isfinite(half).all()) for half in found.values()):
        raise ModelError(f"{path}: the adapter of {name} holds values that are no numbers")
    return found["A"], found["B"]


def open_safetensors(path: Path) -> AbstractContextManager[Any]:
    """Memory-map a safetensors file. Raises ModelError where it is damaged."""
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415

    opener: Callable[..., AbstractContextManager[Any]] = safe_open
    try:
        return opener(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
