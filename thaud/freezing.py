"""What a run is fixed to before it starts: ordered examples, exam, seed, hyperparameters, base, champion, strategy.

Owns what the choice rests on; refuses to choose between fresh and continued (strategy.py), to commit the spec (the
ledger) and to run it (pipeline.py).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar

from thaud import curriculum, strategy
from thaud.config import Settings, StageOverride
from thaud.domain import RunSpec, Side, Stage, Trigger, Version
from thaud.errors import StorageError
from thaud.ledger import LedgerReader, RunIds, RunRow
from thaud.ledger.lineages import Lineage, lineage_of, pace_of
from thaud.sizes import find_size
from thaud.steps.contract import BaseResult
from thaud.strategy import Champion, Choice, Cost, Mix, Terms
from thaud.workdir import WEIGHTS, adapter_of, stands

ValueT = TypeVar("ValueT")
ByAge = Mapping[int, Sequence[str]]


def compose(
    settings: Settings, ledger: LedgerReader, runs: Path, run_id: str, trigger: Trigger, base: BaseResult
) -> RunSpec:
    """The spec of a run on what was taken in so far, up to the current stage. `runs`: where the runs' folders are.

    Raises StorageError where a held-out example would be taught, which no ledger that is whole can bring about.
    """
    stage = curriculum.stage_at(curriculum.stages_with(settings.stages), ledger.age)
    seed = settings.training.seed + ledger.run_count()
    taught = ledger.ids_by_age(Side.TAUGHT, stage.age)
    recipe, champion = Recipe.at(settings, stage.age), ledger.champion(settings.family)
    ground = Ground(ledger, runs, base, recipe, stage, champion)
    spec = written(settings, run_id, trigger, ground, plot(settings, ground, taught, seed), taught, seed)
    refuse_held_out(ledger, spec)
    return spec


def written(
    settings: Settings, run_id: str, trigger: Trigger, ground: "Ground", course: "Course", taught: ByAge, seed: int
) -> RunSpec:
    """All that was settled, in one spec."""
    base, stage, recipe, champion = ground.base, ground.stage, ground.recipe, ground.champion
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
        example_ids=course.mix.ids,
        exam_ids=tuple(exam_items(ground.ledger, stage.age, settings.exam.max_items)),
        recall_ids=tuple(sorted(taught.get(stage.age, ()))[: settings.exam.recall_items]),
        champion=champion.n if champion else None,
        learning_rate=first(recipe.learning_rate, find_size(settings.size).rate(course.choice.strategy)),
        epochs=recipe.epochs,
        rank=recipe.rank,
        alpha=recipe.alpha,
        batch_examples=recipe.batch_examples,
        export_kind=settings.export.kind,
        base_kind=settings.export.base_kind,
        strategy=course.choice.strategy,
        strategy_reason=course.choice.reason,
        parent=course.parent.n if course.parent else None,
        parent_sha256=course.parent_sha256,
        replayed=course.mix.replayed,
        precision=settings.training.precision,
        held_back_share=settings.training.held_back_share,
        patience=settings.training.patience,
    )


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a stage is trained. `learning_rate` is None where only the size decides it."""

    learning_rate: float | None
    epochs: int
    rank: int
    alpha: int
    batch_examples: int

    @classmethod
    def at(cls, settings: Settings, age: int) -> "Recipe":
        """What is set for the stage, else for all, else by the size."""
        training, override = settings.training, settings.stages.get(age, StageOverride())
        return cls(
            learning_rate=override.learning_rate or training.learning_rate,
            epochs=first(override.epochs, training.epochs, find_size(settings.size).epochs[age]),
            rank=first(override.rank, training.rank),
            alpha=first(override.alpha, training.alpha),
            batch_examples=first(override.batch_examples, training.batch_examples),
        )


# A fresh start, or one from the champion


@dataclass(frozen=True, slots=True)
class Ground:
    """What the choice stands on."""

    ledger: LedgerReader
    runs: Path
    base: BaseResult
    recipe: Recipe
    stage: Stage
    champion: Version | None


@dataclass(frozen=True, slots=True)
class Course:
    """What was chosen, and on which examples."""

    choice: Choice
    mix: Mix
    parent: Version | None = None
    parent_sha256: str | None = None


def plot(settings: Settings, ground: Ground, taught: ByAge, seed: int) -> Course:
    """Choose, and name the examples. The champion is looked at only where the choice may depend on it."""
    training, count = settings.training, sum(map(len, taught.values()))
    pace = pace_of(ground.ledger, settings.family)
    cost = Cost(count, ground.recipe.epochs, pace) if pace else None
    terms = Terms(training.strategy, training.budget_minutes, training.rebase_every, cost)
    fresh = Mix(curriculum.interleave(taught, seed), 0)
    if (choice := strategy.settled(terms)) is not None or ground.champion is None:
        return Course(choice or strategy.choose(terms, None), fresh)
    lineage = lineage_of(ground.ledger, ground.champion.run_id)
    new = {age: [each for each in ids if each not in lineage.taught] for age, ids in taught.items()}
    usable = sum(lineage.may_learn(each, ground.stage.context_tokens) for ids in new.values() for each in ids)
    choice = strategy.choose(terms, candidate(ground, ground.champion, lineage, usable))
    if choice.strategy == "fresh":
        return Course(choice, fresh)
    old = {age: [each for each in ids if each in lineage.taught] for age, ids in taught.items()}
    mixed = strategy.mix(new, old, training.replay_share, seed, usable)
    return Course(choice, mixed, ground.champion, digest_of(ground, ground.champion))


def candidate(ground: Ground, version: Version, lineage: Lineage, usable: int) -> Champion:
    """The champion as the choice wants it."""
    return Champion(version.name, obstacle(ground, version), lineage.in_a_row, usable)


def obstacle(ground: Ground, version: Version) -> str | None:
    """Why the version's adapter cannot be trained on: another base or shape, gone, or not what it was."""
    run, recipe = ground.ledger.run(version.run_id), ground.recipe
    weights, digest = adapter_of(ground.runs, version.run_id) / WEIGHTS, digest_of(ground, version)
    if run is None or digest is None or not weights.exists():
        return strategy.ADAPTER_GONE.format(champion=version.name)
    had = run.spec
    if had["base_digest"] != ground.base.digest:
        return strategy.OTHER_BASE.format(champion=version.name)
    if (had["rank"], had["alpha"]) != (recipe.rank, recipe.alpha):
        return strategy.OTHER_SHAPE.format(
            champion=version.name,
            rank=had["rank"],
            alpha=had["alpha"],
            other_rank=recipe.rank,
            other_alpha=recipe.alpha,
        )
    return None if stands(weights, digest) else strategy.ADAPTER_DAMAGED.format(champion=version.name)


def digest_of(ground: Ground, version: Version) -> str | None:
    """SHA-256 of the version's adapter, as its training said."""
    receipt = ground.ledger.receipt(version.run_id, "train")
    return receipt["adapter_sha256"] if receipt else None


# The exam, and the rest


def refuse_held_out(ledger: LedgerReader, spec: RunSpec) -> None:
    """Raise StorageError where the spec would have a held-out example taught."""
    held_out = {each for ids in ledger.ids_by_age(Side.HELD_OUT, spec.age).values() for each in ids}
    held_out.update(spec.exam_ids)
    if leaked := held_out.intersection(spec.example_ids):
        raise StorageError(
            f"{ledger.path}: {len(leaked)} held-out examples would be taught, {min(leaked)} for one: see `thau doctor`"
        )


def exam_items(ledger: LedgerReader, age: int, most: int) -> Iterator[str]:
    """At most `most` held-out ids of each age; ids are digests, so the first by id are a fair sample."""
    held_out = ledger.ids_by_age(Side.HELD_OUT, age)
    for each in sorted(held_out):
        yield from sorted(held_out[each])[:most]


def first(*values: ValueT | None) -> ValueT:
    """The first value that is not None."""
    return next(value for value in values if value is not None)


def read_spec(ledger: LedgerReader, row: RunRow) -> RunSpec:
    """The frozen spec of a run. Raises ValueError, LookupError or TypeError where it is none."""
    ids = ledger.run_ids(row.id)
    lists = {each.name: getattr(ids, each.name) for each in fields(RunIds)}
    return RunSpec(**{**row.spec, **lists, "trigger": Trigger(row.trigger)})
