"""The door of the train step: python -m thaud.steps.train WORKDIR."""

import hashlib
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from thaud.errors import StepError
from thaud.steps.bases import context_of
from thaud.steps.contract import TrainResult, TrainSpec, emit, run_step, throttle, usable_cores
from thaud.steps.tokenizer import read_json, read_tokenizer
from thaud.steps.train.data import Lesson, SetAside, prepare, read_examples


def work(spec: TrainSpec) -> TrainResult:
    """Train one adapter. Raises StepError where no example can be trained or the loss is no number."""
    base = Path(spec.base_dir)
    context = min(spec.context_tokens, context_of(read_json(base / "config.json")))
    lessons, aside = prepare(read_examples(Path(spec.examples)), read_tokenizer(base), context)
    if not lessons:
        reason = f": {aside[0].reason}" if aside else ""
        raise StepError(f"none of the {len(aside)} examples can be trained{reason}")
    try:
        return fit(spec, lessons, aside)
    except RuntimeError as error:
        if "allocate" in str(error):  # how torch says that memory is out, on a CPU and on a GPU
            raise MemoryError from error
        raise


def fit(spec: TrainSpec, lessons: Sequence[Lesson], aside: Sequence[SetAside]) -> TrainResult:
    """Load the base, train on the lessons and save the adapter."""
    import torch  # noqa: PLC0415 - seconds to import; a spec that cannot be trained is refused before

    from thaud.steps.train.loop import Recipe, describe, train  # noqa: PLC0415
    from thaud.steps.train.model import add_adapter, load_base, save_adapter  # noqa: PLC0415

    began = time.perf_counter()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(usable_cores(spec.threads))
    model = add_adapter(load_base(Path(spec.base_dir), device), spec.rank, spec.alpha, spec.seed)
    recipe = Recipe(spec.seed, spec.learning_rate, spec.epochs, spec.batch_examples)
    steps = spec.epochs * -(-len(lessons) // spec.batch_examples)
    tokens = spec.epochs * sum(len(lesson.ids) for lesson in lessons)
    emit("start", total=steps, examples=len(lessons), tokens=tokens, set_aside=len(aside))
    losses, seen, say = [], 0, throttle(emit)
    for step in train(model, lessons, recipe, device):
        losses.append(step.loss)
        seen += step.tokens
        say("step", last=step.number == steps, **describe(step, seen))
    weights = save_adapter(model, Path(spec.out_dir))
    return TrainResult(
        adapter_dir=spec.out_dir,
        adapter_sha256=hashlib.sha256(weights.read_bytes()).hexdigest(),
        steps=steps,
        tokens=tokens,
        supervised_tokens=spec.epochs * sum(len(lesson.targets) for lesson in lessons),
        first_loss=losses[0],
        last_loss=losses[-1],
        seconds=time.perf_counter() - began,
        peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        set_aside=[{"id": each.id, "reason": each.reason} for each in aside],
    )


if __name__ == "__main__":
    sys.exit(run_step(TrainSpec, work, sys.argv))
