"""A new adapter, or the champion's trained on: which, why, and on which examples. Pure.

Owns the choice, its reason in figures, and the mix of new and old examples; refuses to ask the ledger and the disk
(freezing.py does) and to say it in another language (cli/strategy_words.py).

Training on from an adapter costs what is new and forgets some of what is old; replaying a share of it is what keeps
most (Ibrahim et al. 2024, "Simple and Scalable Strategies to Continually Pre-train Large Language Models"). A fresh
start forgets nothing and costs everything, so it is taken where it can be paid, and once in a while where it cannot.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from thaud.curriculum import interleave
from thaud.domain import Strategy

Wanted = Literal["auto", "fresh", "continue"]
ROUNDING = 1e-9

ASKED_FOR = "training.strategy asks for it"
CHEAP = "a fresh start fits the budget"
DEAR = "a fresh start does not fit the budget"
UNKNOWN = "no run has told yet what a fresh start takes"
NO_CHAMPION = "there is no version to continue"
NOTHING_NEW = "there is nothing that {champion} was not taught"
REBASED = "{n} versions in a row continued (training.rebase_every = {every})"
ADAPTER_GONE = "the adapter of {champion} is gone"
ADAPTER_DAMAGED = "the adapter of {champion} is damaged"
OTHER_BASE = "{champion} stands on another base"
OTHER_SHAPE = "{champion} has rank {rank} and alpha {alpha}, not {other_rank} and {other_alpha}"
FIGURES = (
    "a fresh start takes about {minutes} min, the budget is {budget} ({examples} examples x {epochs} epochs x {tokens}"
    " tokens, {speed} tokens/s in {run})"
)
SENTENCES = (
    ASKED_FOR,
    CHEAP,
    DEAR,
    UNKNOWN,
    NO_CHAMPION,
    NOTHING_NEW,
    REBASED,
    ADAPTER_GONE,
    ADAPTER_DAMAGED,
    OTHER_BASE,
    OTHER_SHAPE,
    FIGURES,
)


@dataclass(frozen=True, slots=True)
class Pace:
    """What the last run that trained has measured: tokens of an example in one pass, and tokens a second."""

    run: str
    tokens_per_example: float
    tokens_per_s: float


@dataclass(frozen=True, slots=True)
class Cost:
    """What a fresh start takes: on how many examples, for how many passes, at which pace."""

    examples: int
    epochs: int
    pace: Pace

    @property
    def minutes(self) -> float:
        """The projection."""
        return self.examples * self.epochs * self.pace.tokens_per_example / self.pace.tokens_per_s / 60

    def within(self, budget_minutes: float) -> str:
        """The figures, for the record."""
        return FIGURES.format(
            minutes=f"{self.minutes:.1f}",
            budget=f"{budget_minutes:g}",
            examples=self.examples,
            epochs=self.epochs,
            tokens=f"{self.pace.tokens_per_example:.1f}",
            speed=f"{self.pace.tokens_per_s:.0f}",
            run=self.pace.run,
        )


@dataclass(frozen=True, slots=True)
class Terms:
    """What the settings ask for, and what a fresh start would cost; None where no run has told."""

    wanted: Wanted
    budget_minutes: float
    rebase_every: int
    cost: Cost | None

    def choice(self, strategy: Strategy, why: str) -> "Choice":
        """A choice with its figures."""
        figures = self.cost.within(self.budget_minutes) if self.cost else UNKNOWN
        return Choice(strategy, why if why == figures else f"{why}; {figures}")


@dataclass(frozen=True, slots=True)
class Champion:
    """The version that answers, as something to continue.

    `obstacle` says why it cannot be, None where it can; `in_a_row` counts the versions that continued, up to this one;
    `new` the examples that its lineage was not taught and that can be.
    """

    name: str
    obstacle: str | None
    in_a_row: int
    new: int


@dataclass(frozen=True, slots=True)
class Choice:
    """What is chosen. `reason` is one line: why, and the figures."""

    strategy: Strategy
    reason: str


def settled(terms: Terms) -> Choice | None:
    """The choice where it does not depend on the champion, which is costly to look at; else None."""
    if terms.wanted == "fresh":
        return terms.choice("fresh", ASKED_FOR)
    if terms.wanted == "auto" and terms.cost is None:
        return terms.choice("fresh", UNKNOWN)
    if terms.wanted == "auto" and terms.cost and terms.cost.minutes <= terms.budget_minutes:
        return terms.choice("fresh", CHEAP)
    return None


def choose(terms: Terms, champion: Champion | None) -> Choice:
    """The choice. What cannot be continued, or has nothing new to be taught, is a fresh start whatever it costs."""
    if (choice := settled(terms)) is not None:
        return choice
    if champion is None:
        return terms.choice("fresh", NO_CHAMPION)
    if champion.obstacle is not None:
        return terms.choice("fresh", champion.obstacle)
    if not champion.new:
        return terms.choice("fresh", NOTHING_NEW.format(champion=champion.name))
    if terms.wanted == "auto" and champion.in_a_row >= terms.rebase_every:
        return terms.choice("fresh", REBASED.format(n=champion.in_a_row, every=terms.rebase_every))
    return terms.choice("continue", DEAR if terms.wanted == "auto" else ASKED_FOR)


# What is trained


@dataclass(frozen=True, slots=True)
class Mix:
    """Examples in the order of training, and how many of them are replayed."""

    ids: tuple[str, ...]
    replayed: int


def mix(
    new: Mapping[int, Sequence[str]], old: Mapping[int, Sequence[str]], replay_share: float, seed: int, usable: int
) -> Mix:
    """All that is new and a sample of what is old, interleaved. Both are ids by age.

    `usable`: how many of the new ones can be trained, as far as is known; the sample is `replay_share` of it and them.
    """
    again = sample(old, replay_count(usable, replay_share), seed)
    ages = new.keys() | again.keys()
    together = {age: [*new.get(age, ()), *again.get(age, ())] for age in ages}
    return Mix(interleave(together, seed), sum(map(len, again.values())))


def replay_count(new: int, replay_share: float) -> int:
    """How many old examples make up at least `replay_share` of the mix, and no more than that takes."""
    return math.ceil(replay_share * new / (1 - replay_share) - ROUNDING)


def sample(by_age: Mapping[int, Sequence[str]], count: int, seed: int) -> dict[int, list[str]]:
    """`count` ids, or all where there are fewer, from each age in proportion; the same for the same seed."""
    sizes = {age: len(ids) for age, ids in by_age.items() if ids}
    return {age: draw(by_age[age], n, seed) for age, n in shares(sizes, count).items() if n}


def shares(sizes: Mapping[int, int], count: int) -> dict[int, int]:
    """How many of `count` each age gives: in proportion, by largest remainder; at least one where that can be."""
    total = sum(sizes.values())
    count, least = min(count, total), int(count >= len(sizes))
    exact = {age: count * size / total for age, size in sizes.items()}
    given = {age: max(least, math.floor(value)) for age, value in exact.items()}
    while (apart := count - sum(given.values())) != 0:
        step = 1 if apart > 0 else -1
        able = [age for age in given if least <= given[age] + step <= sizes[age]]
        given[max(able, key=lambda age: step * (exact[age] - given[age]))] += step
    return given


def draw(ids: Sequence[str], count: int, seed: int) -> list[str]:
    """`count` of the ids by the order of their digests under a seed."""
    return sorted(ids, key=lambda each: hashlib.sha256(f"replay:{seed}:{each}".encode()).digest())[:count]
