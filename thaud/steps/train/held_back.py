"""Early stop: examples that are held back from a training, and how long it goes on without getting better on them.

Only where both `held_back_share` and `patience` are set. Owns which examples are held back, and the best epoch's
adapter, which is the one that is saved. Refuses to know how the loss on them is taken.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from thaud.steps.contract import HELD_BACK
from thaud.steps.train.data import Lessons, Prepared, SetAside


def hold_back(prepared: Prepared, share: float, seed: int) -> tuple[Prepared, Lessons]:
    """What is trained, and what is held back: a share of the examples, one at least, all but one at most; drawn by the
    seed and each example's id, so that the same are held back whatever else there is. They are set aside with a reason.

    Nothing is held back of a single example, or where the share is 0, and then nothing stops early.
    """
    lessons = prepared.lessons
    if share <= 0:
        return prepared, lessons.only([])
    names = [lesson.id for lesson in lessons]
    drawn = sorted(set(names), key=lambda name: hashlib.sha256(f"{seed}:{name}".encode("utf-8", "replace")).digest())
    held = set(drawn[: min(max(1, round(share * len(drawn))), len(drawn) - 1)])
    kept = [number for number, name in enumerate(names) if name not in held]
    aside = [SetAside(name, HELD_BACK) for name in drawn if name in held]
    trained = replace(
        prepared,
        lessons=lessons.only(kept),
        aside=[*prepared.aside, *aside],
        cut=[each for each in prepared.cut if each.id not in held],
    )
    return trained, lessons.only([number for number, name in enumerate(names) if name in held])


@dataclass
class Patience:
    """How long a training goes on: `epochs` without a better `loss` on what is held back, taken after every
    `epoch_steps` steps; for ever where `loss` is None. `weights` are the adapter's, and the best epoch's are kept.
    """

    epochs: int
    epoch_steps: int
    weights: Mapping[str, Tensor]
    loss: Callable[[], float] | None
    best_loss: float | None = None
    last_loss: float | None = None
    waited: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)

    def after(self, steps: int) -> dict[str, float]:
        """Look at what is held back where an epoch is over with so many steps; {"held_back_loss": nats}, or nothing."""
        if self.loss is None or steps % self.epoch_steps:
            return {}
        self.note(self.loss())
        return self.said()

    def said(self) -> dict[str, float]:
        """The loss on what is held back, after the last epoch that is over; nothing where there is none."""
        return {} if self.last_loss is None else {"held_back_loss": self.last_loss}

    def note(self, loss: float) -> None:
        """Keep the adapter where the loss is better than ever."""
        self.last_loss = loss
        if self.best_loss is None or loss < self.best_loss:
            self.best_loss, self.waited = loss, 0
            self.best = {name: weight.detach().to("cpu", copy=True) for name, weight in self.weights.items()}
        else:
            self.waited += 1

    @property
    def is_over(self) -> bool:
        """Whether the training is to end."""
        return self.loss is not None and self.waited >= self.epochs

    def give_back(self) -> None:
        """Give the adapter the weights of the best epoch, where there was one."""
        with torch.no_grad():
            for name, weight in self.best.items():
                self.weights[name].copy_(weight)

    def state(self) -> dict[str, Any]:
        """JSON values and tensors, for a checkpoint."""
        return {"best_loss": self.best_loss, "last_loss": self.last_loss, "waited": self.waited, **self.best}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, whose arrays are numpy's."""
        self.best_loss, self.last_loss, self.waited = state["best_loss"], state["last_loss"], state["waited"]
        self.best = {name: torch.from_numpy(state[name]).clone() for name in self.weights if name in state}
