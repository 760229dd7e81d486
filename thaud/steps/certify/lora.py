"""A peft LoRA as training left it: pairs of matrices and their scale, read without the export's code."""

import hashlib
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from thaud.errors import ModelError
from thaud.steps.tokenizer import read_json

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."


@dataclass(frozen=True, slots=True)
class Lora:
    """`pairs`: a module's name in the base -> A [rank, in], B [out, rank], float32. Its output grows by scale B A x."""

    pairs: Mapping[str, tuple[Tensor, Tensor]]
    scale: float
    sha256: str

    def check(self, weights: Container[str]) -> None:
        """Raises ModelError where the base has no weights of a module that the adapter changes."""
        for name in self.pairs:
            if f"{name}.weight" not in weights:
                raise ModelError(f"the adapter changes {name}, which the base does not have")


def read_lora(folder: Path) -> Lora:
    """Read an adapter. Raises ModelError where it is damaged, or more than LoRA or rsLoRA on linear layers."""
    from safetensors import SafetensorError  # noqa: PLC0415 - only where an adapter is read
    from safetensors.torch import load  # noqa: PLC0415

    config, file = read_json(folder / "adapter_config.json"), folder / WEIGHTS
    if config.get("peft_type") != "LORA" or config.get("use_dora") or config.get("modules_to_save"):
        raise ModelError(f"{folder} is no plain LoRA adapter")
    try:
        data = file.read_bytes()
        tensors = load(data)
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{file} cannot be read: {error}") from error
    downs = {name: half for name, half in tensors.items() if name.endswith(".lora_A.weight")}
    pairs = {}
    for name, down in downs.items():
        up = tensors.pop(name.replace(".lora_A.", ".lora_B."), None)
        if up is None or not name.startswith(PREFIX):
            raise ModelError(f"{file}: {name} is no half of a LoRA pair")
        pairs[name.removeprefix(PREFIX).removesuffix(".lora_A.weight")] = (down.float(), up.float())
    if left := tensors.keys() - downs.keys():
        raise ModelError(f"{file}: tensor {min(left)} is no part of plain LoRA")
    scale = alpha / rank**0.5 if config.get("use_rslora") else alpha / rank
    return Lora(pairs, scale, hashlib.sha256(data).hexdigest())
