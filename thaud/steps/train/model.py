"""The base with a fresh LoRA adapter, and the loss of one packed row under it. The only place that knows peft."""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thaud.durable import fsync_folder
from thaud.errors import ModelError, StorageError
from thaud.failpoints import reach
from thaud.steps.train.attention import NAME, Block, blocks_of, packed_attention
from thaud.steps.train.data import Lesson
from thaud.steps.train.loss import frozen_head_loss


@dataclass(frozen=True, slots=True)
class Row:
    """Packed lessons, longest first. Position p of `hidden` predicts the token at p + 1: `sources` are the positions
    before the supervised ones, `targets` the supervised tokens.
    """

    ids: Tensor
    positions: Tensor
    sources: Tensor
    targets: Tensor
    blocks: Sequence[Block]


def make_row(lessons: Sequence[Lesson], device: torch.device) -> Row:
    """Lay lessons end to end, longest first; positions restart with each."""
    ordered = sorted(lessons, key=lambda lesson: -len(lesson.ids))
    lengths = [len(lesson.ids) for lesson in ordered]
    starts = [sum(lengths[:number]) for number in range(len(lengths))]
    places = [start + place for start, lesson in zip(starts, ordered, strict=True) for place in lesson.targets]
    ids = torch.tensor([token for lesson in ordered for token in lesson.ids])
    learned = torch.tensor(places)
    return Row(
        ids=ids[None].to(device),
        positions=torch.cat([torch.arange(length) for length in lengths])[None].to(device),
        sources=(learned - 1).to(device),
        targets=ids[learned].to(device),
        blocks=blocks_of(lengths, device),
    )


def load_base(folder: Path, device: torch.device) -> Any:
    """The base as a transformers model with packed attention: float32 on a CPU, bfloat16 on a GPU.

    Raises ModelError where its files cannot be read.
    """
    from safetensors import SafetensorError  # noqa: PLC0415 - only to name its error
    from transformers import AttentionInterface, AutoModelForCausalLM  # noqa: PLC0415 - seconds to import
    from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415

    disable_progress_bar()
    AttentionInterface.register(NAME, packed_attention)
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, attn_implementation=NAME, local_files_only=True, use_safetensors=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"the base in {folder} cannot be loaded: {str(error).strip().splitlines()[0]}") from error
    return model.to(device)


def add_adapter(model: Any, rank: int, alpha: int, seed: int) -> Any:
    """A fresh adapter on every linear layer but the head; all other weights are frozen."""
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415 - seconds to import

    torch.manual_seed(seed)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules="all-linear", task_type="CAUSAL_LM")
    with old_names_tolerated():
        return get_peft_model(model, config)


@contextmanager
def old_names_tolerated() -> Iterator[None]:
    """peft 0.21 asks transformers 5.23 for a property by its old name, and is told so each time."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        yield


def row_loss(model: Any, row: Row) -> Tensor:
    """Summed cross-entropy of a row's supervised tokens, in nats."""
    causal = model.get_base_model()
    hidden = causal.model(
        input_ids=row.ids, position_ids=row.positions, use_cache=False, blocks=row.blocks
    ).last_hidden_state
    return frozen_head_loss(hidden[0].index_select(0, row.sources), causal.lm_head.weight, row.targets)


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
    return folder / "adapter_model.safetensors"
