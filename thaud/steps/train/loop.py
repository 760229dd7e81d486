"""The training loop: AdamW over the adapter, warm-up and linear decay, loss per supervised token. Knows no files."""

import ctypes
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from thaud.errors import StepError
from thaud.steps.train.data import Lesson
from thaud.steps.train.model import make_row, row_loss
from thaud.steps.train.packing import batches, best_fit

ROW_TOKENS = range(256, 2048 + 1)  # from where a matrix product is fast, to where longer rows gain nothing more
ROW_BYTES = 2 << 30  # what a row's activations may take on a CPU, where they share the memory with everything else
WARM_UP = 0.05
CLIP = 1.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """What decides a training, beside its lessons and the model."""

    seed: int
    learning_rate: float
    epochs: int
    batch_examples: int


@dataclass(frozen=True, slots=True)
class Step:
    """One finished optimiser step. `loss` is the mean over its supervised tokens, in nats; `tokens` counts all."""

    number: int
    steps: int
    epoch: int
    loss: float
    tokens: int
    supervised: int
    seconds: float


def rate_at(step: int, steps: int) -> float:
    """The share of the learning rate at `step` of `steps`, from 0: up over the first twentieth, then down to zero."""
    warm = max(1, math.ceil(steps * WARM_UP))
    return min((step + 1) / warm, (steps - step) / max(1, steps - warm))


def train(model: Any, lessons: Sequence[Lesson], recipe: Recipe, device: torch.device) -> Iterator[Step]:
    """Train the adapter of `model` in place, yielding after each optimiser step.

    Raises StepError where a loss is no number, naming the step and its examples.
    """
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=recipe.learning_rate, betas=(0.9, 0.999), weight_decay=0.0, fused=True)
    plan = batches(len(lessons), recipe.batch_examples, recipe.epochs, recipe.seed)
    capacity = row_tokens(model.get_base_model().config, device)
    model.train()
    began = time.perf_counter()
    for number, (epoch, chosen) in enumerate(plan):
        batch = [lessons[index] for index in chosen]
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * rate_at(number, len(plan))
        loss = accumulate(model, batch, capacity, device)
        norm = torch.nn.utils.clip_grad_norm_(weights, CLIP)
        if not math.isfinite(loss) or not math.isfinite(float(norm)):
            names = ", ".join(lesson.id for lesson in batch)
            remedy = "lower the learning rate" if number else "nothing was learned yet, so the base is damaged"
            raise StepError(f"the loss of step {number + 1} is no number: {remedy}; examples {names}")
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        yield Step(
            number + 1,
            len(plan),
            epoch,
            loss,
            sum(len(lesson.ids) for lesson in batch),
            sum(len(lesson.targets) for lesson in batch),
            time.perf_counter() - began,
        )


def row_tokens(config: Any, device: torch.device) -> int:
    """How many tokens share a row. An example that is longer has a row alone, whatever it takes.

    A token keeps about 30 values of the hidden width and 4 of the inner one for each layer's way back: 4.4 MB in 0.5b,
    as measured with what the allocator keeps. On a GPU, whose products want long rows, the longest row is taken.
    """
    token_bytes = 4 * config.num_hidden_layers * (30 * config.hidden_size + 4 * config.intermediate_size)
    fitting = ROW_BYTES // token_bytes if device.type == "cpu" else ROW_TOKENS[-1]
    return max(ROW_TOKENS[0], min(fitting, ROW_TOKENS[-1]))


def accumulate(model: Any, batch: Sequence[Lesson], row_tokens: int, device: torch.device) -> float:
    """Add the gradients of the batch's mean loss, row by row. Returns that loss."""
    supervised = sum(len(lesson.targets) for lesson in batch)
    total = 0.0
    for chosen in best_fit([len(lesson.ids) for lesson in batch], row_tokens):
        row = make_row([batch[index] for index in chosen], device)
        with precision(device):
            loss = row_loss(model, row) / supervised
        torch.autograd.backward(loss)
        total += float(loss.detach())
        if row_tokens < ROW_TOKENS[-1]:
            return_freed_memory()
    return total


def return_freed_memory() -> None:
    """Have glibc give what was freed back to the system; nothing where the C library is another.

    It keeps freed blocks of up to 32 MiB, and the next row's do not fit into them: two rows of 480 tokens took 6.6 GB
    in 0.5b, and 4.9 GB with this. Models with the longest rows are small, and do without.
    """
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


def precision(device: torch.device) -> AbstractContextManager[Any]:
    """bfloat16 products on a GPU, float32 on a CPU."""
    return nullcontext() if device.type == "cpu" else torch.autocast(device.type, dtype=torch.bfloat16)


def describe(step: Step, tokens: int) -> dict[str, float | int]:
    """A step as progress for people; `tokens` were trained so far."""
    return {
        "done": step.number,
        "total": step.steps,
        "epoch": step.epoch + 1,
        "loss": round(step.loss, 4),
        "tokens_per_s": round(tokens / max(step.seconds, 1e-9)),
        "eta_s": round(step.seconds / step.number * (step.steps - step.number), 1),
    }
