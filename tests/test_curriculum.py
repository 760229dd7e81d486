"""The curriculum's decisions, on plain values."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thaud.config import StageOverride
from thaud.curriculum import (
    STAGES,
    Blocker,
    Members,
    Situation,
    age_of,
    assign_sides,
    group_key,
    interleave,
    next_stage,
    readiness,
    stage_at,
    stages_with,
    when_to_train,
)
from thaud.domain import Example, Message, Score, Side, Trigger

QUIET = Situation(pending=40, unseen=40, trainable=40, quiet_for_s=9, last_run_ago_s=None, failures=0, requested=False)
RULES = {"enabled": True, "min_new_examples": 32, "quiet_s": 5.0, "interval_s": 86_400.0}


def example(prompt: str = "¿Color del cielo?", *, group: str | None = None, age: int | None = None) -> Example:
    return Example((Message("user", prompt), Message("assistant", "azul")), group=group, age=age)


def test_stages_are_the_guides() -> None:
    """Ages, contexts, examples and bars are those that the guide promises."""
    table = [(s.age, s.context_tokens, s.min_examples, s.min_accuracy) for s in STAGES]
    assert table == [
        (0, 128, 100, 0.70),
        (1, 256, 200, 0.75),
        (3, 512, 500, 0.80),
        (6, 1024, 1000, 0.85),
        (11, 2048, 2000, 0.88),
        (13, 3072, 3000, 0.90),
        (15, 4096, 5000, 0.92),
    ]


def test_override_changes_one_field_of_one_stage() -> None:
    """`[stages.3] min_examples = 300` changes that and nothing else, and a bar of 0 is a bar."""
    stages = stages_with({3: StageOverride(min_examples=300), 6: StageOverride(min_accuracy=0.0)})
    assert stage_at(stages, 3) == replace(stage_at(STAGES, 3), min_examples=300)
    assert stage_at(stages, 6).min_accuracy == 0.0
    assert [s for s in stages if s.age not in {3, 6}] == [s for s in STAGES if s.age not in {3, 6}]


@pytest.mark.parametrize(("years", "stage"), [(0, 0), (1, 1), (2, 1), (5, 3), (10, 6), (12, 11), (14, 13), (40, 15)])
def test_years_fall_into_the_guides_stages(years: int, stage: int) -> None:
    """An age in years belongs to the stage that the guide puts it in."""
    assert stage_at(STAGES, years).age == stage


def test_stage_comes_from_the_example_then_the_file_then_now() -> None:
    """An example's own age wins over its file's name, and that over the current stage."""
    assert age_of(example(age=4), 6, 0, STAGES) == 3
    assert age_of(example(), 6, 0, STAGES) == 6
    assert age_of(example(), None, 1, STAGES) == 1


def test_adults_have_no_next_stage() -> None:
    """The last stage is kept."""
    assert next_stage(STAGES, 15) is None
    following = next_stage(STAGES, 1)
    assert following is not None
    assert following.age == 3


def test_near_duplicates_share_a_key() -> None:
    """Case, punctuation and spaces do not make another prompt; another word does."""
    assert group_key(example("¿Color del cielo?")) == group_key(example("  color DEL  cielo "))
    assert group_key(example("¿Color del mar?")) != group_key(example())
    assert group_key(example(group="sky")) == "group:sky"


@given(st.lists(st.text("abcdef", min_size=1, max_size=3), min_size=1, max_size=60, unique=True), st.integers(1, 12))
def test_one_paraphrase_of_three_goes_to_the_exam(ids: list[str], groups: int) -> None:
    """In one batch, a group of three or more has exactly one held out, smaller ones stay whole on one side."""
    newcomers = [(each, f"group:{number % groups}") for number, each in enumerate(ids)]
    sides = assign_sides(newcomers, {}, 0.2)
    assert set(sides) == set(ids)
    for key in {key for _, key in newcomers}:
        members = [sides[each] for each, of in newcomers if of == key]
        if len(members) >= 3:
            assert members.count(Side.HELD_OUT) == 1
        else:
            assert len(set(members)) == 1


def test_a_group_keeps_its_exam_item_when_more_members_come() -> None:
    """Once one paraphrase is held out, all later ones are taught."""
    sides = assign_sides([("x", "group:g"), ("y", "group:g")], {"group:g": Members(taught=2, held_out=1)}, 0.2)
    assert set(sides.values()) == {Side.TAUGHT}


def test_third_member_of_a_taught_group_is_held_out() -> None:
    """Paraphrases that come one at a time give the third to the exam; what was taught stays taught."""
    assert assign_sides([("x", "group:g")], {"group:g": Members(taught=2)}, 0.0) == {"x": Side.HELD_OUT}


def test_duplicates_of_a_held_out_prompt_stay_held_out() -> None:
    """A near-duplicate never straddles the split."""
    assert assign_sides([("x", "prompt:p")], {"prompt:p": Members(held_out=1)}, 0.0) == {"x": Side.HELD_OUT}
    assert assign_sides([("x", "prompt:p")], {"prompt:p": Members(taught=1)}, 1.0) == {"x": Side.TAUGHT}


def test_share_of_ungrouped_examples_is_held_out() -> None:
    """About the configured share of many ungrouped examples goes to the exam."""
    sides = assign_sides([(str(n), f"prompt:{n}") for n in range(5000)], {}, 0.2)
    share = sum(side is Side.HELD_OUT for side in sides.values()) / 5000
    assert 0.18 < share < 0.22


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, Trigger.EXAMPLES),
        ({"unseen": 31}, None),
        ({"quiet_for_s": 4.9}, None),
        ({"pending": 0, "unseen": 0, "last_run_ago_s": 1e9}, None),
        ({"pending": 1, "unseen": 0, "last_run_ago_s": 86_400}, Trigger.INTERVAL),
        ({"pending": 1, "unseen": 0, "last_run_ago_s": 86_399}, None),
        ({"unseen": 0, "failures": 1, "last_run_ago_s": 599}, None),
        ({"unseen": 0, "failures": 1, "last_run_ago_s": 600}, Trigger.INTERVAL),
        ({"unseen": 0, "failures": 3, "last_run_ago_s": 7200}, None),
        ({"requested": True, "pending": 0, "unseen": 0, "quiet_for_s": 0}, Trigger.REQUESTED),
        ({"requested": True, "trainable": 0}, None),
    ],
)
def test_when_to_train(change: dict[str, object], expected: Trigger | None) -> None:
    """The rules of when to train: enough new ones and quiet, or the interval, or a retry, or a request."""
    assert when_to_train(replace(QUIET, **change), **RULES) is expected  # type: ignore[arg-type]


def test_auto_train_off_leaves_only_requests() -> None:
    """AUTO_TRAIN_ENABLED=false turns off the rules, not `thau train`."""
    rules = {**RULES, "enabled": False}
    assert when_to_train(replace(QUIET, last_run_ago_s=1e9), **rules) is None  # type: ignore[arg-type]
    assert when_to_train(replace(QUIET, requested=True), **rules) is Trigger.REQUESTED  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("examples", "score", "blockers"),
    [
        (500, Score(20, 16), ()),
        (499, Score(20, 16), (Blocker.EXAMPLES,)),
        (500, Score(19, 19), (Blocker.EVIDENCE,)),
        (500, Score(100, 79), (Blocker.ACCURACY,)),
        (3, None, (Blocker.NOT_TRAINED, Blocker.EXAMPLES)),
    ],
)
def test_readiness(examples: int, score: Score | None, blockers: tuple[Blocker, ...]) -> None:
    """An age advances with enough examples, enough evidence and enough accuracy; each shortage is named."""
    found = readiness(stage_at(STAGES, 3), examples, score, min_items=20, last=False)
    assert found.blockers == blockers
    assert found.ready is (not blockers)


def test_wilson_interval_is_the_published_one() -> None:
    """Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662 by Wilson's method without correction."""
    low, high = Score(263, 81).interval
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert Score(0, 0).interval == (0.0, 1.0)
    assert (Score(38, 38).interval[1], Score(38, 0).interval[0]) == (1.0, 0.0)


def test_interleave_is_a_fixed_shuffle_of_everything() -> None:
    """The frozen order has each id once, the same for the same seed, another for another, and mixes the ages."""
    by_age = {0: [f"a{n}" for n in range(50)], 1: [f"b{n}" for n in range(50)]}
    order = interleave(by_age, 7)
    assert sorted(order) == sorted(by_age[0] + by_age[1])
    assert order == interleave(by_age, 7)
    assert order != interleave(by_age, 8)
    assert 10 < sum(each.startswith("a") for each in order[:50]) < 40
