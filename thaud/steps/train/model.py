"""The base with a LoRA adapter, and the loss of a packed row. With layers.py the only place that knows peft."""

import hashlib
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from thaud.durable import fsync_folder
from thaud.errors import ModelError, StepError, StorageError
from thaud.failpoints import reach
from thaud.steps.train.attention import NAME, Layout, lay_out, packed_attention
from thaud.steps.train.data import Lesson
from thaud.steps.train.heap import return_large_blocks
from thaud.steps.train.layers import make_lean
from thaud.steps.train.loss import NO_TARGET, POSITIONS, frozen_head_loss
from thaud.steps.train.sharding import whole_head

WEIGHTS = "adapter_model.safetensors"
QUANTISER = "bitsandbytes"


@dataclass(frozen=True, slots=True)
class Row:
    """Packed lessons, longest first, and padding as a last lesson that teaches nothing. Position p of `hidden` predicts
    the token at p + 1: `sources` are the positions before the supervised ones, `targets` the supervised tokens.
    """

    ids: Tensor
    positions: Tensor
    sources: Tensor
    targets: Tensor
    layout: Layout


def make_row(lessons: Sequence[Lesson], length: int, dtype: torch.dtype, device: torch.device) -> Row:
    """Lay lessons end to end in a row of `length` tokens, longest first; positions restart with each."""
    ordered = sorted(lessons, key=lambda lesson: -len(lesson.ids))
    lengths = [len(lesson.ids) for lesson in ordered]
    starts = np.cumsum([0, *lengths])
    ids = np.zeros(length, dtype=np.int64)
    ids[: starts[-1]] = np.concatenate([lesson.ids for lesson in ordered])
    learned = np.concatenate(
        [np.asarray(lesson.targets, dtype=np.int64) + start for lesson, start in zip(ordered, starts, strict=False)]
    )
    fill = -len(learned) % POSITIONS
    if starts[-1] < length:
        lengths.append(int(length - starts[-1]))
    return Row(
        ids=torch.from_numpy(ids)[None].to(device),
        positions=torch.cat([torch.arange(each) for each in lengths])[None].to(device),
        sources=torch.from_numpy(np.pad(learned - 1, (0, fill))).to(device),
        targets=torch.from_numpy(np.pad(ids[learned], (0, fill), constant_values=NO_TARGET)).to(device),
        layout=lay_out(lengths, dtype, device),
    )


def load_base(folder: Path, dtype: torch.dtype, device: torch.device, *, four_bit: bool = False) -> Any:
    """The base as a transformers model with packed attention, its weights in `dtype`; `four_bit` (CUDA only) has its
    linear layers, but not the head, in 4 bits.

    Raises ModelError where its files cannot be read, StepError where bitsandbytes is missing.
    """
    from safetensors import SafetensorError  # noqa: PLC0415 - only to name its error
    from transformers import AttentionInterface, AutoModelForCausalLM  # noqa: PLC0415 - seconds to import
    from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415

    disable_progress_bar()
    AttentionInterface.register(NAME, packed_attention)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation=NAME,
            local_files_only=True,
            use_safetensors=True,
            **(quantised(dtype, device) if four_bit else {}),
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"the base in {folder} cannot be loaded: {str(error).strip().splitlines()[0]}") from error
    return model if four_bit else model.to(device)


def quantised(dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """What makes from_pretrained quantise on `device`: NF4 with quantised scales (Dettmers et al. 2023), products in
    `dtype`. Raises StepError where it cannot.
    """
    from transformers import BitsAndBytesConfig  # noqa: PLC0415 - seconds to import

    if device.type != "cuda" or find_spec(QUANTISER) is None:
        raise StepError(f"a base in 4 bits needs CUDA and {QUANTISER} (pip install 'thau[gpu]'); this is {device}")
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=["lm_head"],
    )
    return {"quantization_config": config, "device_map": {"": device}}


def recompute_layers(model: Any) -> None:
    """Have each decoder layer keep its input alone, and compute the rest again on the way back (Chen et al. 2016).

    The bits stay the same. It goes inside of what FSDP does around a layer, so call it before sharding.
    """
    for layer in model.get_base_model().model.layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False)
    return_large_blocks()


def add_adapter(model: Any, rank: int, alpha: int, seed: int) -> Any:
    """A fresh adapter, float32, on every linear layer but the head; all other weights are frozen."""
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415 - seconds to import

    torch.manual_seed(seed)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules="all-linear", task_type="CAUSAL_LM")
    with old_names_tolerated():
        adapted = get_peft_model(model, config)
    for name, weight in adapted.named_parameters():
        if "lora_" in name:
            weight.data = weight.data.float()
    make_lean(adapted)
    return adapted


def continue_adapter(model: Any, folder: Path, sha256: str) -> None:
    """Give the adapter of `model` the weights of an earlier one.

    Raises StepError where they are not those that the digest names, or are of another shape.
    """
    from peft import set_peft_model_state_dict  # noqa: PLC0415 - seconds to import
    from safetensors.torch import load  # noqa: PLC0415

    file = folder / WEIGHTS
    try:
        found = file.read_bytes()
    except OSError as error:
        raise StepError(f"the adapter to continue cannot be read: {file}: {error.strerror}") from error
    if (digest := hashlib.sha256(found).hexdigest()) != sha256:
        raise StepError(f"the adapter to continue, {file}, has SHA-256 {digest} instead of {sha256}")
    wanted = {name: weight.shape for name, weight in adapter_weights(model).items()}
    given = load(found)
    if {name: weight.shape for name, weight in given.items()} != wanted:
        raise StepError(f"the adapter to continue, {file}, is of another base or rank than this run's")
    set_peft_model_state_dict(model, given)


def adapter_weights(model: Any) -> dict[str, Tensor]:
    """The adapter's tensors under the names of peft's files."""
    from peft import get_peft_model_state_dict  # noqa: PLC0415 - seconds to import

    weights: dict[str, Tensor] = get_peft_model_state_dict(model)
    return weights


@contextmanager
def old_names_tolerated() -> Iterator[None]:
    """peft 0.21 asks transformers 5.23 for a property by its old name, and is told so each time."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        yield


def row_loss(model: Any, row: Row) -> Tensor:
    """Summed cross-entropy of a row's supervised tokens, in nats."""
    states = row_states(model, row)
    with whole_head(model.get_base_model()) as head:
        return frozen_head_loss(states, head, row.targets)


def row_states(model: Any, row: Row) -> Tensor:
    """The last hidden states that the row's targets are predicted from: [sources, width]."""
    hidden: Tensor = (
        model.get_base_model()
        .model(input_ids=row.ids, position_ids=row.positions, use_cache=False, layout=row.layout)
        .last_hidden_state
    )
    return hidden[0].index_select(0, row.sources)


def save_adapter(model: Any, folder: Path) -> Path:
    """Write the adapter durably, in peft's format. Returns the file of its weights.

    Raises StorageError where the disk is full.
    """
    from safetensors import SafetensorError  # noqa: PLC0415 - only to name its error

    folder.mkdir(parents=True, exist_ok=True)
    reach("file.adapter.before")
    try:
        model.save_pretrained(folder)
    except SafetensorError as error:
        raise StorageError(f"the adapter cannot be written into {folder}: {error}; make room there") from error
    reach("file.adapter.between")
    for path in sorted(folder.iterdir()):
        with path.open("rb") as written:
            os.fsync(written.fileno())
    fsync_folder(folder)
    reach("file.adapter.after")
    return folder / WEIGHTS
