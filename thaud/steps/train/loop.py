"""The training loop: AdamW over the adapter, warm-up and cosine decay, loss per supervised token. Knows no files."""

import ctypes
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from thaud.errors import StepError
from thaud.steps.contract import Emit
from thaud.steps.train.data import Lesson
from thaud.steps.train.divergence import LONG, Watch
from thaud.steps.train.metrics import peak_memory_bytes
from thaud.steps.train.model import make_row, row_loss
from thaud.steps.train.packing import Order, best_fit, padded_length
from thaud.steps.train.parallel import ALONE, World, gradient_of
from thaud.steps.train.preflight import ROW_TOKENS, Arrangement

WARM_UP = 0.05
CLIP = 1.0
SHORTEST_ROW = 64


@dataclass(frozen=True, slots=True)
class Recipe:
    """What decides a training, beside its lessons and the model."""

    seed: int
    learning_rate: float
    epochs: int
    batch_examples: int


@dataclass(frozen=True, slots=True)
class Step:
    """One finished optimiser step. `loss` is the mean over its supervised tokens, in nats; `norm` that of the gradient
    before it was clipped; `tokens` counts all; `seconds` is what it took.
    """

    number: int
    steps: int
    epoch: int
    rate: float
    loss: float
    norm: float
    tokens: int
    supervised: int
    seconds: float


def rate_at(step: int, steps: int) -> float:
    """The share of the learning rate at `step` of `steps`, from 0: up over the first twentieth, then a cosine to zero
    (Loshchilov and Hutter 2017).
    """
    warm = max(1, math.ceil(steps * WARM_UP))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step + 1 - warm) / max(1, steps + 1 - warm)))


class Trainer:
    """One adapter in training: it stands between two optimiser steps, `done` of which are over. `tell` hears that rows
    were halved.
    """

    def __init__(
        self,
        model: Any,
        lessons: Sequence[Lesson],
        recipe: Recipe,
        arrangement: Arrangement,
        world: World = ALONE,
        tell: Emit = lambda *_, **__: None,
    ) -> None:
        self.model, self.lessons, self.recipe, self.arrangement, self.world = model, lessons, recipe, arrangement, world
        self.tell = tell
        self.order = Order(len(lessons), recipe.batch_examples, recipe.epochs, recipe.seed)
        self.named = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self.weights = list(self.named.values())
        self.optimiser = torch.optim.AdamW(
            self.weights, lr=recipe.learning_rate, betas=(0.9, 0.999), weight_decay=0.0, fused=True
        )
        self.row_tokens = arrangement.row_tokens
        self.halved = False
        self.watch = Watch()
        self.done = 0
        model.train()

    @property
    def steps(self) -> int:
        """How many optimiser steps the whole training has."""
        return self.order.steps

    def step(self) -> Step:
        """Do the next optimiser step.

        Raises StepError, naming the step and its examples, where its loss is no number or has diverged, and where
        memory runs out with halved rows too.
        """
        began = time.perf_counter()
        epoch, chosen = self.order.at(self.done)
        batch = [self.lessons[index] for index in chosen]
        rate = self.recipe.learning_rate * rate_at(self.done, self.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        loss = self.accumulated(batch)
        norm = float(torch.nn.utils.clip_grad_norm_(self.weights, CLIP))
        self.expect_sense(loss, norm, batch)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.done += 1
        return Step(
            number=self.done,
            steps=self.steps,
            epoch=epoch,
            rate=rate,
            loss=loss,
            norm=norm,
            tokens=sum(len(lesson.ids) for lesson in batch),
            supervised=sum(len(lesson.targets) for lesson in batch),
            seconds=time.perf_counter() - began,
        )

    def accumulated(self, batch: Sequence[Lesson]) -> float:
        """`accumulate`, again with rows of half the length where memory runs out. Raises StepError the second time."""
        try:
            return self.accumulate(batch)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            self.halve_rows(batch, error)
        return self.accumulated(batch)  # here, where nothing holds the activations of the first try any more

    def halve_rows(self, batch: Sequence[Lesson], error: Exception) -> None:
        """Shorten rows for the rest of the training. Raises StepError where they were, or cannot be any shorter."""
        self.optimiser.zero_grad(set_to_none=True)
        before, self.row_tokens = self.row_tokens, max(SHORTEST_ROW, self.row_tokens // 2)
        if self.halved or self.row_tokens >= before or self.world.size > 1:  # the others do not know of it
            longest = max(batch, key=lambda lesson: len(lesson.ids))
            raise StepError(
                f"out of memory in step {self.done + 1}, with rows of {before} tokens:"
                f" {peak_memory_bytes() / 1e9:.1f} GB were in use at most, and the longest of the step's examples,"
                f" {longest.id}, has {len(longest.ids)} tokens; lower context_tokens of the stage ([stages.N] in"
                " thau.toml), choose a smaller size, or free memory and raise training.max_memory_gib"
            ) from error
        self.halved = True
        self.tell("rows_halved", row_tokens=self.row_tokens, before=before, done=self.done)

    def accumulate(self, batch: Sequence[Lesson]) -> float:
        """Add the gradients of the batch's mean loss, row by row. Returns that loss."""
        supervised = sum(len(lesson.targets) for lesson in batch)
        total = torch.zeros(1, device=self.arrangement.device)
        rows = best_fit([len(lesson.ids) for lesson in batch], self.row_tokens)
        costs = [sum(len(batch[index].ids) for index in chosen) for chosen in rows]
        for chosen, weight in self.world.share(rows, costs, even=self.arrangement.shard):
            lessons = [batch[index] for index in chosen]
            length = padded_length(sum(len(lesson.ids) for lesson in lessons), self.row_tokens)
            row = make_row(lessons, length, self.arrangement.dtype, self.arrangement.device)
            loss = row_loss(self.model, row) / supervised * weight
            torch.autograd.backward(loss)
            total += loss.detach()
            if self.row_tokens < ROW_TOKENS[-1]:
                return_freed_memory()
        self.world.add_up([total, *map(gradient_of, self.weights)])
        return float(total)

    def expect_sense(self, loss: float, norm: float, batch: Sequence[Lesson]) -> None:
        """Raises StepError where loss or gradient is no number, or the loss has gone up for good."""
        where = f"the loss of step {self.done + 1}"
        names = f"examples {', '.join(lesson.id for lesson in batch)}"
        if not (math.isfinite(loss) and math.isfinite(norm)):
            remedy = (
                "lower the learning rate"
                if self.done
                else "no step was taken yet, so the base is damaged, or the adapter that it goes on from"
            )
            raise StepError(f"{where} is no number: {remedy}; {names}")
        if self.watch.has_diverged(loss):
            raise StepError(
                f"{where} is {loss:.2f} nats a token: the training has diverged. The last {LONG} were all above"
                f" {self.watch.bound:.2f}, where it had held {self.watch.held:.2f}: lower the learning rate"
                f" (learning_rate of [training] or [stages.N] in thau.toml); {names}"
            )

    def state(self) -> dict[str, Any]:
        """All that decides the rest of the training beside model, lessons and recipe: JSON values, and tensors, which
        are not copied.
        """
        kept = {f"weight/{name}": weight.detach() for name, weight in self.named.items()}
        for name, weight in self.named.items():
            kept.update({f"{kind}/{name}": value for kind, value in self.optimiser.state.get(weight, {}).items()})
        return {
            "done": self.done,
            "row_tokens": self.row_tokens,
            "halved": self.halved,
            "watch": self.watch.state(),
            **kept,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Stand where `state` was taken; its arrays are numpy's, and are looked up one at a time."""
        self.done, self.row_tokens, self.halved = state["done"], state["row_tokens"], state["halved"]
        self.watch.restore(state["watch"])
        kinds = {key.partition("/")[0] for key in state if "/" in key} - {"weight"}
        with torch.no_grad():
            for name, weight in self.named.items():
                weight.copy_(torch.from_numpy(state[f"weight/{name}"]))
                for kind in sorted(kinds):
                    value = torch.from_numpy(state[f"{kind}/{name}"])
                    self.optimiser.state[weight][kind] = value.clone().to(weight.device)


def is_out_of_memory(error: Exception) -> bool:
    """Whether torch, on a CPU or a GPU, or Python says that memory is out."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate" in str(error)


def return_freed_memory() -> None:
    """Have glibc give what was freed back to the system; nothing where the C library is another.

    It keeps freed blocks of up to 32 MiB, and the next row's do not fit into them: two rows of 480 tokens took 6.6 GB
    in 0.5b, and 4.9 GB with this. Models with the longest rows are small, and do without: it takes nano a third of its
    speed.
    """
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
