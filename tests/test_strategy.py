"""Fresh or continued: the choice, the mix, and what the ledger then says that a version was taught."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.seeded import freeze, make_home, open_ledger, promote, take_in
from tests.test_pipeline import ScriptedSteps, feed
from thaud.cli.strategy_words import EN, ES, strategy_sentence
from thaud.config import Settings
from thaud.domain import RunSpec, RunState, Score, Side, Strategy, Trigger
from thaud.errors import StorageError
from thaud.freezing import compose, read_spec, refuse_held_out
from thaud.home import Home
from thaud.ledger import Ledger, LedgerReader
from thaud.ledger.lineages import Lineage, lineage_of, pace_of
from thaud.pipeline import Pipeline
from thaud.sizes import SIZES
from thaud.status import report_run, report_version
from thaud.steps.contract import BaseResult, TrainSpec
from thaud.strategy import SENTENCES, Champion, Choice, Cost, Pace, Terms, Wanted, choose, mix, replay_count, sample

FAMILY = "thau-nano"
PACE = Pace("run-0001", 40.0, 1000.0)
SOUND = Champion("thau-nano-v3", None, in_a_row=2, new=10)


def terms(wanted: Wanted = "auto", examples: int = 1000, *, pace: Pace | None = PACE) -> Terms:
    """A fresh start of `examples` takes examples * 3 * 40 / 1000 seconds; the budget is 2 minutes."""
    return Terms(wanted, 2.0, 5, Cost(examples, 3, pace) if pace else None)


@pytest.mark.parametrize(
    ("now", "champion", "strategy", "why"),
    [
        (terms(pace=None), None, "fresh", "no run has told yet"),
        (terms(pace=None), SOUND, "fresh", "no run has told yet"),
        (terms(), SOUND, "fresh", "fits the budget"),
        (terms(examples=1001), SOUND, "continue", "does not fit the budget"),
        (terms(examples=1001), None, "fresh", "no version to continue"),
        (terms(examples=1001), replace(SOUND, new=0), "fresh", "nothing that thau-nano-v3 was not taught"),
        (terms(examples=1001), replace(SOUND, obstacle="the adapter is gone"), "fresh", "the adapter is gone"),
        (terms(examples=1001), replace(SOUND, in_a_row=4), "continue", "does not fit the budget"),
        (terms(examples=1001), replace(SOUND, in_a_row=5), "fresh", "5 versions in a row continued"),
        (terms("fresh", 9000), SOUND, "fresh", "asks for it"),
        (terms("continue", 1), replace(SOUND, in_a_row=99), "continue", "asks for it"),
        (terms("continue", 1, pace=None), SOUND, "continue", "asks for it"),
        (terms("continue", 1), None, "fresh", "no version to continue"),
        (terms("continue", 1), replace(SOUND, new=0), "fresh", "nothing that thau-nano-v3 was not taught"),
    ],
)
def test_the_choice(now: Terms, champion: Champion | None, strategy: Strategy, why: str) -> None:
    """Fresh while it can be paid, then continued, and fresh again after so many; what cannot continue is fresh."""
    choice = choose(now, champion)
    assert choice.strategy == strategy
    assert why in choice.reason


def test_the_reason_has_the_figures() -> None:
    """Minutes, budget, examples, epochs, tokens and speed with the run that measured it, in one line."""
    assert choose(terms(examples=2000), SOUND) == Choice(
        "continue",
        "a fresh start does not fit the budget; a fresh start takes about 4.0 min, the budget is 2 (2000 examples x 3"
        " epochs x 40.0 tokens, 1000 tokens/s in run-0001)",
    )


def test_every_reason_is_said_in_spanish() -> None:
    """Each sentence has its translation with the same values, also where several make one reason."""
    assert ES.reasons.keys() == set(SENTENCES)
    for now, champion in (
        (terms(), SOUND),
        (terms(examples=2000), replace(SOUND, in_a_row=7)),
        (terms(pace=None), None),
    ):
        report = {"strategy": "fresh", "parent": None, "strategy_reason": choose(now, champion).reason}
        said = strategy_sentence(report, ES)
        assert said.startswith("Se entrena desde cero: ")
        assert not any(english in said for english in ("a fresh", "budget is", "in a row", "run has"))
        assert strategy_sentence(report, EN) == f"Trained afresh: {report['strategy_reason']}"


def test_a_continued_adapter_learns_at_a_quarter_of_the_rate() -> None:
    """5e-5 of 2e-4, for every size."""
    assert SIZES["1.5b"].rate("fresh") == 2e-4
    assert {size.rate("continue") / size.rate("fresh") for size in SIZES.values()} == {0.25}


# The mix


def ids(age: int, count: int) -> list[str]:
    return [f"{age}-{number:05}" for number in range(count)]


@pytest.mark.parametrize(("new", "share", "old"), [(32, 0.2, 8), (100, 0.2, 25), (1, 0.2, 1), (10, 0.5, 10), (7, 0, 0)])
def test_replay_is_its_share_of_the_mix(new: int, share: float, old: int) -> None:
    """As many old ones as make up the share, rounded up."""
    assert replay_count(new, share) == old


def test_old_examples_come_from_each_age_in_proportion() -> None:
    """Of 8,000, 1,900 and 2 old ones a hundred are 80, 19 and, few as they are, 1."""
    found = sample({0: ids(0, 8000), 1: ids(1, 1900), 3: ids(3, 2), 6: []}, 100, seed=1)
    assert {age: len(drawn) for age, drawn in found.items()} == {0: 80, 1: 19, 3: 1}


@given(
    st.dictionaries(st.sampled_from([0, 1, 3, 6, 11, 13, 15]), st.integers(0, 50)), st.integers(0, 200), st.integers()
)
def test_a_sample_is_what_was_asked_for(sizes: dict[int, int], count: int, seed: int) -> None:
    """So many, or all; none twice, each of its own age; one of each age where there is room; alike for a seed."""
    old = {age: ids(age, size) for age, size in sizes.items()}
    found = sample(old, count, seed)
    drawn = [each for several in found.values() for each in several]
    assert len(drawn) == len(set(drawn)) == min(count, sum(sizes.values()))
    assert all(set(found[age]) <= set(old[age]) for age in found)
    ages = {age for age, size in sizes.items() if size}
    assert len(found) == (len(ages) if count >= len(ages) else min(count, len(found)))
    assert sample(old, count, seed) == found


def test_new_and_old_are_interleaved_by_seed() -> None:
    """All new ones and a fifth of old ones in one order that only the seed decides; another seed draws others."""
    new, old = {0: ids(9, 80)}, {0: ids(0, 500), 1: ids(1, 500)}
    mixed = mix(new, old, 0.2, seed=3, usable=80)
    assert (len(mixed.ids), mixed.replayed) == (100, 20)
    assert set(new[0]) < set(mixed.ids)
    assert mixed == mix(new, old, 0.2, seed=3, usable=80)
    assert set(mixed.ids) != set(mix(new, old, 0.2, seed=4, usable=80).ids)
    first_half = [each for each in mixed.ids[:50] if each in set(new[0])]
    assert 20 < len(first_half) < 50


# What versions were taught


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path)


@pytest.fixture
def ledger(home: Home):  # noqa: ANN201
    with open_ledger(home) as opened:
        yield opened


class MeasuringSteps(ScriptedSteps):
    """Steps whose trainer also measures, and whose adapter depends on the one that is continued."""

    def train(self, spec: TrainSpec) -> dict[str, Any]:
        self.asked_to_train = spec
        result = super().train(spec)
        if spec.start_from:
            parent = Path(spec.start_from) / "adapter_model.safetensors"
            self.began_on = parent.read_bytes()
        tokens = 50 * spec.epochs * len(rows_of(spec))
        return {**result, "tokens": tokens, "tokens_per_s": 10.0}


def rows_of(spec: TrainSpec) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(spec.examples).read_text(encoding="utf-8").splitlines()]


def run(home: Home, ledger: Ledger, steps: ScriptedSteps, **training: Any) -> RunSpec:
    """Freeze and finish one run that is promoted; its spec as the ledger has it."""
    settings = Settings(training=training, stages={0: {"min_examples": 100_000}})  # type: ignore[arg-type]
    pipeline = Pipeline(home, settings, ledger, steps)

    async def whole() -> RunState:
        return await pipeline.finish((await pipeline.freeze(Trigger.EXAMPLES)).id)

    assert asyncio.run(whole()) is RunState.PROMOTED
    return read_spec(ledger, ledger.runs(1)[0])


def test_a_version_that_continues(home: Home, ledger: Ledger) -> None:
    """The new examples and a fifth of old ones, from the champion's adapter, at a quarter of the rate; taught: all."""
    steps = MeasuringSteps()
    feed(ledger, range(400))
    first = run(home, ledger, steps)
    feed(ledger, range(400, 528))
    second = run(home, ledger, steps, strategy="continue")
    assert (first.strategy, first.parent, first.replayed) == ("fresh", None, 0)
    assert (second.strategy, second.parent, second.replayed) == ("continue", 1, 24)
    assert second.learning_rate == first.learning_rate / 4
    assert len(second.example_ids) == 96 + 24
    assert len(set(second.example_ids) & set(first.example_ids)) == 24
    asked = steps.asked_to_train
    assert asked.start_from == str(home.runs / "run-0001" / "train" / "adapter")
    assert asked.start_sha256 == ledger.receipt("run-0001", "train")["adapter_sha256"]  # type: ignore[index]
    assert {row["id"] for row in rows_of(asked) if row.get("new")} == set(second.example_ids) - set(first.example_ids)
    assert [version.examples for version in ledger.versions()] == [300, 396]
    assert lineage_of(ledger, "run-0002").taught == {*first.example_ids, *second.example_ids}
    assert ledger.trained_count(FAMILY) == len(list(ledger.trained_examples(FAMILY))) == 396
    assert ledger.pending(FAMILY, 0) == (0, 0)
    assert set(second.recall_ids) <= lineage_of(ledger, "run-0002").taught


def test_all_examples_of_a_fresh_run_are_new_only_once(home: Home, ledger: Ledger) -> None:
    """Rows of the first run are all new; of a second fresh one those that came since."""
    steps = MeasuringSteps()
    feed(ledger, range(40))
    run(home, ledger, steps)
    assert all(row["new"] is True for row in rows_of(steps.asked_to_train))
    feed(ledger, range(40, 60))
    run(home, ledger, steps, strategy="fresh")
    assert len([row for row in rows_of(steps.asked_to_train) if "new" in row]) == 15
    assert len(rows_of(steps.asked_to_train)) == 45


def test_readiness_counts_the_lineage(home: Home, ledger: Ledger) -> None:
    """An age advances when the version and those that it continues were taught enough, not its last run alone."""
    steps = MeasuringSteps()
    settings = Settings(training={"strategy": "continue"}, stages={0: {"min_examples": 100}})  # type: ignore[arg-type]
    pipeline = Pipeline(home, settings, ledger, steps)

    async def whole() -> RunState:
        return await pipeline.finish((await pipeline.freeze(Trigger.EXAMPLES)).id)

    feed(ledger, range(120))
    assert asyncio.run(whole()) is RunState.PROMOTED
    assert ledger.age == 0
    feed(ledger, range(120, 136))
    assert asyncio.run(whole()) is RunState.PROMOTED
    assert read_spec(ledger, ledger.runs(1)[0]).strategy == "continue"
    assert ledger.age == 1


def test_what_was_refused_is_still_new(home: Home, ledger: Ledger) -> None:
    """What a refused run was taught no version knows: the next one that continues is taught it."""
    steps = MeasuringSteps()
    feed(ledger, range(136))
    run(home, ledger, steps)
    feed(ledger, range(136, 200))
    steps.right = False
    with pytest.raises(AssertionError):
        run(home, ledger, steps, strategy="continue")
    steps.right = True
    feed(ledger, range(200, 220))
    third = run(home, ledger, steps, strategy="continue")
    assert (third.parent, third.strategy) == (1, "continue")
    assert len(third.example_ids) - third.replayed == 48 + 15


def test_what_was_set_aside_is_not_known(home: Home, ledger: Ledger) -> None:
    """It is not in the lineage, is tried again beside new ones, and alone is no reason to continue."""
    feed(ledger, range(136))
    too_long = min(ledger.ids_by_age(Side.TAUGHT, 0)[0])
    steps = MeasuringSteps(set_aside=[{"id": too_long, "reason": "200 tokens, the stage has 128"}])
    run(home, ledger, steps)
    assert too_long not in lineage_of(ledger, "run-0001").taught
    second = run(home, ledger, steps, strategy="continue")
    assert (second.strategy, "nothing that thau-nano-v1" in second.strategy_reason) == ("fresh", True)
    feed(ledger, range(136, 140))
    third = run(home, ledger, steps, strategy="continue")
    assert (third.strategy, len(third.example_ids), third.replayed) == ("continue", 1 + 3 + 1, 1)
    assert too_long in third.example_ids
    assert ledger.versions()[-1].examples == 104
    assert Lineage(set(), {too_long: 128}).may_learn(too_long, 256)


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


@pytest.mark.parametrize(
    ("harm", "training", "why"),
    [
        (Path.unlink, {}, "the adapter of thau-nano-v1 is gone"),
        (damage, {}, "the adapter of thau-nano-v1 is damaged"),
        (lambda _: None, {"rank": 8}, "thau-nano-v1 has rank 32 and alpha 64, not 8 and 64"),
        (lambda _: None, {"alpha": 16}, "thau-nano-v1 has rank 32 and alpha 64, not 32 and 16"),
    ],
)
def test_what_cannot_be_continued_begins_afresh(
    home: Home, ledger: Ledger, harm: Any, training: dict[str, Any], why: str
) -> None:
    """An adapter that is gone, damaged or of another shape: a fresh run on everything, and the reason says so."""
    feed(ledger, range(136))
    run(home, ledger, MeasuringSteps())
    harm(home.runs / "run-0001" / "train" / "adapter" / "adapter_model.safetensors")
    feed(ledger, range(136, 140))
    spec = run(home, ledger, MeasuringSteps(), strategy="continue", **training)
    assert (spec.strategy, spec.parent, len(spec.example_ids)) == ("fresh", None, 105)
    assert spec.strategy_reason.startswith(why)


def test_another_base_begins_afresh(home: Home, ledger: Ledger) -> None:
    """An adapter is continued on the base that it was made for."""
    feed(ledger, range(136))
    run(home, ledger, MeasuringSteps())
    feed(ledger, range(136, 140))
    steps = MeasuringSteps()
    steps.bases = lambda spec: {  # type: ignore[method-assign]
        "base_dir": f"/bases/{spec.base}", "digest": "other", "architecture": "qwen2", "context_tokens": 4096
    }  # fmt: skip
    assert run(home, ledger, steps, strategy="continue").strategy_reason.startswith("thau-nano-v1 stands on another")


def test_an_adapter_that_is_lost_after_the_freeze_ends_the_run(home: Home, ledger: Ledger) -> None:
    """The run fails and says why; the next one begins afresh."""
    feed(ledger, range(136))
    run(home, ledger, MeasuringSteps())
    feed(ledger, range(136, 140))
    pipeline = Pipeline(home, Settings(training={"strategy": "continue"}), ledger, MeasuringSteps())  # type: ignore[arg-type]
    spec = asyncio.run(pipeline.freeze(Trigger.EXAMPLES))
    damage(home.runs / "run-0001" / "train" / "adapter" / "adapter_model.safetensors")
    assert asyncio.run(pipeline.finish(spec.id)) is RunState.FAILED
    assert "the adapter to go on from is lost" in ledger.runs(1)[0].reasons[0]
    assert run(home, ledger, MeasuringSteps(), strategy="continue").strategy == "fresh"


def test_auto_by_measured_pace(home: Home, ledger: Ledger) -> None:
    """Fresh first, for nobody knows; then by the last run's tokens and speed; fresh again after two that continued.

    102 examples x 15 epochs x 50 tokens at 10 tokens/s are 127.5 minutes.
    """
    steps, chosen = MeasuringSteps(), []
    for number in range(6):
        feed(ledger, range(number * 136, (number + 1) * 136))
        budget = 255.0 if number < 2 else 254.0
        chosen.append(run(home, ledger, steps, budget_minutes=budget, rebase_every=2))
    assert [each.strategy for each in chosen] == ["fresh", "fresh", "continue", "continue", "fresh", "continue"]
    assert [each.parent for each in chosen] == [None, None, 2, 3, None, 5]
    assert "about 255.0 min, the budget is 255 (204 examples x 15 epochs x 50.0 tokens, 10 tokens/s in run-0001)" in (
        chosen[1].strategy_reason
    )
    assert chosen[4].strategy_reason.startswith("2 versions in a row continued (training.rebase_every = 2); a fresh")
    assert pace_of(ledger, FAMILY) == Pace("run-0006", 50.0, 10.0)


def test_the_settings_of_a_stage_are_kept(home: Home, ledger: Ledger) -> None:
    """Rank, alpha and batch of `[stages.0]` win; what is set as a learning rate is that of either strategy."""
    feed(ledger, range(20))
    stage = {"rank": 4, "alpha": 8, "batch_examples": 2, "learning_rate": 1e-4}
    steps = MeasuringSteps()
    pipeline = Pipeline(home, Settings(stages={0: stage}, training={"max_memory_gib": 1.5}), ledger, steps)  # type: ignore[arg-type]
    spec = asyncio.run(pipeline.freeze(Trigger.EXAMPLES))
    asyncio.run(pipeline.finish(spec.id))
    asked = steps.asked_to_train
    assert (asked.rank, asked.alpha, asked.batch_examples, asked.learning_rate) == (4, 8, 2, 1e-4)
    assert asked.max_memory_bytes == 3 << 29
    assert asked.cache == str(home.cache)


def test_nothing_held_out_is_taught(home: Home, ledger: Ledger) -> None:
    """A spec that names one is refused before it is committed; none that is composed names one, replay included."""
    steps = MeasuringSteps()
    feed(ledger, range(200))
    first = run(home, ledger, steps)
    feed(ledger, range(200, 300))
    second = run(home, ledger, steps, strategy="continue")
    held_out = ledger.ids_by_age(Side.HELD_OUT, 15)[0]
    assert not set(held_out) & {*first.example_ids, *second.example_ids}
    with pytest.raises(StorageError, match="1 held-out examples would be taught"):
        refuse_held_out(ledger, replace(second, example_ids=(*second.example_ids, held_out[-1])))


class LeakyReader(LedgerReader):
    """A reader that takes what is held out for taught."""

    def ids_by_age(self, side: Side, up_to_age: int) -> dict[int, list[str]]:
        own, other = super().ids_by_age(side, up_to_age), super().ids_by_age(Side.HELD_OUT, up_to_age)
        return {age: sorted({*own[age], *other[age]}) for age in own}


def test_a_spec_is_looked_at_before_it_is_handed_out(home: Home, ledger: Ledger) -> None:
    """Whatever went wrong on the way to it: composing ends in a refusal, not in a run on its own exam."""
    feed(ledger, range(40))
    base = BaseResult(base_dir="/b", digest="d", architecture="qwen2", context_tokens=4096)
    with LeakyReader.open(home.ledger) as leaky, pytest.raises(StorageError, match="10 held-out examples would be"):
        compose(Settings(), leaky, home.runs, "run-0001", Trigger.EXAMPLES, base)


def test_a_spec_from_before_there_was_a_choice(ledger: Ledger) -> None:
    """A run without the new fields is read as a fresh one, by the pipeline and by the reports."""
    old = take_in(ledger, 0, 5, "a.jsonl")
    version = promote(ledger, freeze(ledger, old, 0, FAMILY), 1, Score(20, 18), None)
    gone = ("strategy", "strategy_reason", "parent", "parent_sha256", "replayed", "precision", "patience")
    paths = ", ".join(f"'$.{name}'" for name in (*gone, "held_back_share"))
    ledger.connection.execute(f"UPDATE runs SET spec = json_remove(spec, {paths})")
    row = ledger.runs(1)[0]
    assert gone[0] not in row.spec
    assert (read_spec(ledger, row).strategy, read_spec(ledger, row).example_ids) == ("fresh", tuple(old))
    assert report_run(row)["strategy"] == report_version(version, ledger)["strategy"] == "fresh"
    assert lineage_of(ledger, row.id) == Lineage(set(old), {}, 0)
