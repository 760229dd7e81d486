"""Looking at a model without training it: its loss on examples, and how far it has gone from its base.

Refuses to change anything: no weight, no gradient, no random state.
"""

import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thaud.errors import StepError
from thaud.steps.train.data import Lesson, Lessons
from thaud.steps.train.loss import CHUNK_LOGITS, NO_TARGET, positions_at_once
from thaud.steps.train.model import Row, make_row, row_states
from thaud.steps.train.packing import best_fit, padded_length
from thaud.steps.train.parallel import ALONE, World
from thaud.steps.train.sharding import whole_head

AT_ONCE = 64  # lessons that are packed together
SAMPLE_LESSONS, SAMPLE_TOKENS = 64, 8192


def mean_loss(model: Any, lessons: Sequence[Lesson], row_tokens: int, world: World = ALONE) -> float:
    """Cross-entropy in nats, the mean over all supervised tokens of the lessons; the same number in all processes.

    Raises StepError where it is no number.
    """
    causal = model.get_base_model()
    embedding = causal.get_input_embeddings().weight
    total, count = 0.0, 0
    with only_looking(model):
        for row in rows_of(lessons, row_tokens, embedding):
            states = row_states(model, row)
            with whole_head(causal) as head:
                for hidden, targets in parts_of(states, row.targets, len(head)):
                    logarithms = torch.log_softmax((hidden @ head.T).float(), dim=-1)
                    total -= float(logarithms.gather(1, targets[:, None]).sum(dtype=torch.float64))
                    count += len(targets)
    mean = torch.tensor([total / count], dtype=torch.float64)
    world.add_up([mean])  # each takes all of it, and the last bits may differ where machines do
    return expected_number(float(mean) / world.size, "the loss on what is held back")


def kl_to_base(model: Any, lessons: Sequence[Lesson], row_tokens: int) -> float | None:
    """How far an adapter has taken a model from its base: KL(base || adapted) in nats, the mean over all supervised
    tokens of the lessons, each predicted from what stands before it there. None without lessons.

    This direction, on what is newly learned, tells how much is forgotten elsewhere (Shenfeld, Pari and Agrawal 2025,
    "RL's Razor", arXiv 2509.04259: KL(pi_0 || pi) on the new task). Exact over the vocabulary, not sampled. Raises
    StepError where it is no number.
    """
    if not lessons:
        return None
    causal = model.get_base_model()
    embedding = causal.get_input_embeddings().weight
    total, count = 0.0, 0
    with only_looking(model):
        for row in rows_of(lessons, row_tokens, embedding):
            adapted = row_states(model, row)
            with model.disable_adapter():
                base = row_states(model, row)
            both = torch.cat([base, adapted], dim=-1)
            with whole_head(causal) as head:
                for hidden, targets in parts_of(both, row.targets, 2 * len(head)):
                    halves = hidden.chunk(2, dim=-1)
                    ours, theirs = (torch.log_softmax((half @ head.T).float(), dim=-1) for half in halves)
                    total += float(torch.nn.functional.kl_div(theirs, ours, reduction="sum", log_target=True))
                    count += len(targets)
    return max(0.0, expected_number(total / count, "the divergence from the base"))


def sample_of_new(lessons: Lessons, seed: int) -> Lessons:
    """New lessons to take the divergence on: SAMPLE_LESSONS at most with SAMPLE_TOKENS at most, drawn by the seed."""
    numbers: list[int] = np.flatnonzero(lessons.new).tolist()
    random.Random(f"{seed}:new").shuffle(numbers)  # noqa: S311 - repeatable, not secret
    chosen: list[int] = []
    room = SAMPLE_TOKENS
    for number in numbers:
        if len(chosen) < SAMPLE_LESSONS and lessons.lengths[number] <= room:
            chosen.append(number)
            room -= int(lessons.lengths[number])
    return lessons.only(chosen)


def expected_number(value: float, what: str) -> float:
    """The value. Raises StepError where it is no number: weights that are finite may still be too large to compute."""
    if not math.isfinite(value):
        raise StepError(
            f"{what} is no number: lower the learning rate (learning_rate of [training] or [stages.N] in thau.toml)"
        )
    return value


@contextmanager
def only_looking(model: Any) -> Iterator[None]:
    """No gradients, nothing that a training does at random; afterwards the model is in the mode that it was in."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def rows_of(lessons: Sequence[Lesson], row_tokens: int, weight: Tensor) -> Iterator[Row]:
    """The lessons packed into rows, in the dtype and on the device of a weight."""
    for start in range(0, len(lessons), AT_ONCE):
        some = lessons[start : start + AT_ONCE]
        for chosen in best_fit([len(lesson.ids) for lesson in some], row_tokens):
            packed = [some[number] for number in chosen]
            length = padded_length(sum(len(lesson.ids) for lesson in packed), row_tokens)
            yield make_row(packed, length, weight.dtype, weight.device)


def parts_of(hidden: Tensor, targets: Tensor, vocabulary: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Supervised positions, so many at a time as frozen_head_loss takes."""
    known = targets != NO_TARGET
    step = positions_at_once(vocabulary, CHUNK_LOGITS[hidden.device.type])
    yield from zip(torch.split(hidden[known], step), torch.split(targets[known], step), strict=True)
