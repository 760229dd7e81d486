"""The door of the train step: python -m thaud.steps.train WORKDIR."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from thaud.errors import StepError
from thaud.steps.bases import context_of
from thaud.steps.contract import Place, TrainResult, TrainSpec, place_of_this_process, run_step
from thaud.steps.tokenizer import read_json, read_tokenizer
from thaud.steps.train.checkpoint import discard
from thaud.steps.train.data import Prepared, prepare, read_examples
from thaud.steps.train.parallel import World, joined, leave


def work(workdir: Path, place: Place, spec: TrainSpec) -> TrainResult:
    """Train one adapter. Raises StepError where no example can be trained or the loss is no number."""
    with joined(place, workdir) as world:
        prepared = tokenised(spec, world)
        if not prepared.lessons:
            reason = f": {prepared.aside[0].reason}" if prepared.aside else ""
            raise StepError(f"none of the {len(prepared.aside)} examples can be trained{reason}")
        from thaud.steps.train.training import fit  # noqa: PLC0415 - seconds to import; the above is refused before

        return fit(workdir, spec, prepared, world)


def tokenised(spec: TrainSpec, world: World) -> Prepared:
    """All examples; the first of several processes fills the cache, the others read it."""
    base = Path(spec.base_dir)
    context = min(spec.context_tokens, context_of(read_json(base / "config.json")))
    cache = Path(spec.cache) if spec.cache is not None else None
    read, tokenizer = partial(read_examples, Path(spec.examples)), read_tokenizer(base)
    prepared = prepare(read(), tokenizer, context, cache) if world.leads else None
    kept = world.said_by_first(prepared is not None and prepared.complaint is None)
    return prepared or prepare(read(), tokenizer, context, cache if kept else None)


def main(argv: Sequence[str]) -> int:
    """Be the step; once it has its result, nothing goes on from its checkpoints. Returns the exit code."""
    workdir = Path(argv[1])
    place = place_of_this_process()
    code = run_step(TrainSpec, partial(work, workdir, place), list(argv), place)
    if code == 0 and place.rank == 0:
        discard(workdir)
    return code if place.size == 1 else leave(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
