"""One training, from lessons to an adapter: what is loaded, and what is done, kept and said around each step.

Owns the order in which the other modules are asked; refuses to know how any of them does its part.
"""

import hashlib
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from thaud.steps.contract import CHECKPOINTS, TrainResult, TrainSpec, emit, throttle, usable_cores
from thaud.steps.tokenizer import read_json
from thaud.steps.train.checkpoint import Checkpoints
from thaud.steps.train.data import Cut, Prepared, SetAside
from thaud.steps.train.evaluate import kl_to_base, mean_loss, sample_of_new
from thaud.steps.train.held_back import Patience, hold_back
from thaud.steps.train.loop import Recipe, Trainer, is_out_of_memory
from thaud.steps.train.metrics import FILE, Record, Tally
from thaud.steps.train.model import add_adapter, continue_adapter, load_base, recompute_layers, save_adapter
from thaud.steps.train.parallel import World
from thaud.steps.train.preflight import Arrangement, arrange
from thaud.steps.train.resuming import Randomness, mark_of, stop_asked_for
from thaud.steps.train.sharding import shard


def fit(workdir: Path, spec: TrainSpec, prepared: Prepared, world: World) -> TrainResult:
    """Load the base, train on the lessons from where a checkpoint stands, and save the adapter.

    Raises StepError where the training makes no sense (see Trainer) or fits no memory, MemoryError where that runs out.
    """
    began = time.perf_counter()
    torch.set_num_threads(max(1, usable_cores(spec.threads) // world.local_size))
    try:
        training = Training(workdir, spec, prepared, world)
        training.begin()
        training.go_on()
        return training.finished(began)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise MemoryError from error
        raise


class Training:
    """A model, its lessons, and all that follows the steps, ready to begin."""

    def __init__(self, workdir: Path, spec: TrainSpec, prepared: Prepared, world: World) -> None:
        self.workdir, self.spec, self.world, self.tell = workdir, spec, world, world.voice(emit)
        self.arrangement = arranged(spec, prepared, world)
        self.model = loaded(spec, self.arrangement, world)
        self.prepared, held = hold_back(prepared, spec.held_back_share if spec.patience else 0.0, spec.seed)
        recipe = Recipe(spec.seed, spec.learning_rate, spec.epochs, spec.batch_examples)
        self.trainer = Trainer(self.model, self.prepared.lessons, recipe, self.arrangement, world, self.tell)
        self.tally, self.resumed_at = Tally(), 0
        self.record = Record(workdir / FILE, self.tell, writes=world.leads)
        self.patience = Patience(
            epochs=spec.patience,
            epoch_steps=self.trainer.order.steps_per_epoch,
            weights=self.trainer.named,
            loss=(lambda: mean_loss(self.model, held, self.trainer.row_tokens, world)) if held else None,
        )
        self.checkpoints = self.kept_in(workdir / CHECKPOINTS)

    def kept_in(self, folder: Path) -> Checkpoints:
        """The checkpoints of all that has a state."""
        return Checkpoints(
            folder,
            {"trainer": self.trainer, "tally": self.tally, "patience": self.patience, "random": Randomness()},
            lambda: mark_of(self.spec, self.prepared.lessons, self.arrangement, self.world.size),
            60 * self.spec.checkpoint_minutes,
            self.tell,
            writes=self.world.leads,
        )

    def begin(self) -> None:
        """Say what there is, and stand where the newest sound checkpoint does."""
        self.tell("start", total=self.trainer.steps, **opening(self.prepared, self.arrangement))
        self.resumed_at = self.checkpoints.resume()
        self.record.cut_back(self.resumed_at)
        self.world.agree("the adapter that training begins with", self.trainer.weights)

    @property
    def is_over(self) -> bool:
        """Whether no step follows."""
        return self.trainer.done >= self.trainer.steps or self.patience.is_over

    def go_on(self) -> None:
        """Do the steps that are left. Ends the process where SIGTERM asks for it, with a checkpoint."""
        say = throttle(self.tell)
        with stop_asked_for() as stop:
            while not self.is_over:
                step = self.trainer.step()
                said, looked = self.tally.count(step), self.patience.after(step.number)
                self.record.step(step, **self.tally.memory(), **looked)
                say("step", last=self.is_over, **said, **self.patience.said())
                self.checkpoints.keep_where_due(step.number)
                if self.world.any(flag=stop.is_set()):
                    self.checkpoints.keep(step.number)
                    sys.exit(128 + signal.SIGTERM)

    def finished(self, began: float) -> TrainResult:
        """Save the adapter, the best epoch's where it stops early, and tell the figures. `began`: by perf_counter."""
        self.patience.give_back()
        self.world.agree("the adapter", self.trainer.weights)
        sample = sample_of_new(self.prepared.lessons, self.spec.seed)
        kl = kl_to_base(self.model, sample, self.trainer.row_tokens)
        digest = self.world.said_by_first(saved(self.model, Path(self.spec.out_dir)) if self.world.leads else "")
        stopped = self.trainer.done < self.trainer.steps
        end = {"kl_to_base": kl, "held_back_loss": self.patience.best_loss, "stopped_early": stopped}
        self.record.end(**self.tally.ended(), **end)
        tally = self.tally
        return TrainResult(
            adapter_dir=self.spec.out_dir,
            adapter_sha256=digest,
            steps=self.trainer.done,
            tokens=tally.tokens,
            supervised_tokens=tally.supervised,
            first_loss=tally.first_loss,
            last_loss=tally.last_loss,
            seconds=tally.earlier + time.perf_counter() - began,
            peak_memory_bytes=tally.peak_memory_bytes,
            set_aside=named(self.prepared.aside),
            cut=named(self.prepared.cut),
            tokens_per_s=tally.tokens / tally.seconds,
            supervised_tokens_per_s=tally.supervised / tally.seconds,
            precision=self.arrangement.precision,
            arrangement=self.arrangement.words(),
            resumed_at=self.resumed_at,
            kl_to_base=kl,
            stopped_early=stopped,
        )


def arranged(spec: TrainSpec, prepared: Prepared, world: World) -> Arrangement:
    """How to compute, which the first process decides. Raises StepError where nothing fits."""
    config = read_json(Path(spec.base_dir) / "config.json")
    longest = int(prepared.lessons.lengths.max())
    return world.said_by_first(arrange(spec, config, longest, world.local_size, world.size))


def loaded(spec: TrainSpec, arrangement: Arrangement, world: World) -> Any:
    """The base under the adapter that training begins with. Raises ModelError, and StepError for another adapter."""
    device = torch.device("cpu") if arrangement.shard else arrangement.device
    base = load_base(Path(spec.base_dir), arrangement.dtype, device, four_bit=arrangement.four_bit)
    model = add_adapter(base, spec.rank, spec.alpha, spec.seed)
    if arrangement.recompute:
        recompute_layers(model)
    if spec.start_from is not None:
        continue_adapter(model, Path(spec.start_from), spec.start_sha256 or "")
    if arrangement.shard:
        shard(model, arrangement.device, world.size)
    return model


def opening(prepared: Prepared, arrangement: Arrangement) -> dict[str, Any]:
    """What is said before the first step: how much there is to train, what is not trained, and how it is computed."""
    return {
        "examples": len(prepared.lessons),
        "tokens": int(prepared.lessons.lengths.sum()),
        "set_aside": len(prepared.aside),
        "cut": len(prepared.cut),
        "reused": prepared.reused,
        "not_cached": prepared.complaint,
        "arrangement": arrangement.words(),
        "warning": arrangement.warning,
    }


def named(examples: Sequence[SetAside | Cut]) -> list[dict[str, str]]:
    """Examples with their reasons, as results have them."""
    return [{"id": each.id, "reason": each.reason} for each in examples]


def saved(model: Any, folder: Path) -> str:
    """Write the adapter; SHA-256 of its weights."""
    return hashlib.sha256(save_adapter(model, folder).read_bytes()).hexdigest()
