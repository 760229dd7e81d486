"""What a run is fixed to before it starts: ordered examples, exam, seed, hyperparameters, base and champion.

Owns the choice; refuses to commit it (the ledger) and to run it (pipeline.py).
"""

from collections.abc import Iterator
from typing import TypeVar

from thaud import curriculum
from thaud.config import Settings, StageOverride
from thaud.domain import RunSpec, Side, Trigger
from thaud.ledger import LedgerReader, RunRow
from thaud.sizes import find_size
from thaud.steps.contract import BaseResult

ValueT = TypeVar("ValueT")


def compose(settings: Settings, ledger: LedgerReader, run_id: str, trigger: Trigger, base: BaseResult) -> RunSpec:
    """The spec of a run on everything taken in so far, up to the current stage."""
    size = find_size(settings.size)
    stage = curriculum.stage_at(curriculum.stages_with(settings.stages), ledger.age)
    override = settings.stages.get(stage.age, StageOverride())
    seed = settings.training.seed + ledger.run_count()
    taught = ledger.ids_by_age(Side.TAUGHT, stage.age)
    champion = ledger.champion(settings.family)
    return RunSpec(
        id=run_id,
        family=settings.family,
        size=settings.size,
        base=base.base_dir,
        base_digest=base.digest,
        age=stage.age,
        context_tokens=stage.context_tokens,
        seed=seed,
        trigger=trigger,
        example_ids=curriculum.interleave(taught, seed),
        exam_ids=tuple(exam_items(ledger, stage.age, settings.exam.max_items)),
        recall_ids=tuple(sorted(taught.get(stage.age, ()))[: settings.exam.recall_items]),
        champion=champion.n if champion else None,
        learning_rate=first(override.learning_rate, settings.training.learning_rate, size.learning_rate),
        epochs=first(override.epochs, settings.training.epochs, size.epochs[stage.age]),
        rank=settings.training.rank,
        alpha=settings.training.alpha,
        batch_examples=settings.training.batch_examples,
        export_kind=settings.export.kind,
    )


def exam_items(ledger: LedgerReader, age: int, most: int) -> Iterator[str]:
    """At most `most` held-out ids of each age; ids are digests, so the first by id are a fair sample."""
    held_out = ledger.ids_by_age(Side.HELD_OUT, age)
    for each in sorted(held_out):
        yield from sorted(held_out[each])[:most]


def first(*values: ValueT | None) -> ValueT:
    """The first value that is not None."""
    return next(value for value in values if value is not None)


def read_spec(row: RunRow) -> RunSpec:
    """The frozen spec of a run."""
    spec = row.spec
    lists = {name: tuple(spec[name]) for name in ("example_ids", "exam_ids", "recall_ids")}
    return RunSpec(**{**spec, **lists, "trigger": Trigger(row.trigger)})
