"""The curriculum's decisions: whose stage, which side of the split, when to train, when to advance. All pure.

Refuses the clock, the ledger and the file system: what it decides on arrives as arguments.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from thaud.config import StageOverride
from thaud.domain import Example, Score, Side, Stage, Trigger

STAGES: tuple[Stage, ...] = (
    Stage(0, "newborn", 128, 100, 0.70),
    Stage(1, "infant", 256, 200, 0.75),
    Stage(3, "toddler", 512, 500, 0.80),
    Stage(6, "child", 1024, 1000, 0.85),
    Stage(11, "preteen", 2048, 2000, 0.88),
    Stage(13, "teen", 3072, 3000, 0.90),
    Stage(15, "adult", 4096, 5000, 0.92),
)
RETRY_AFTER_S = (600.0, 3600.0)
SMALLEST_SPLIT_GROUP = 3
PUNCTUATION = re.compile(r"[^\w\s]|_")
# The same, and any space as a blank, for text of one byte a character: each byte of Latin-1 as `normalise` leaves it.
LATIN_1 = bytes(32 if char.isspace() or PUNCTUATION.match(char) else ord(char) for char in map(chr, range(256)))


def stages_with(overrides: Mapping[int, StageOverride]) -> tuple[Stage, ...]:
    """The stages with thau.toml's `[stages.N]` applied."""
    return tuple(apply_override(stage, overrides.get(stage.age)) for stage in STAGES)


def apply_override(stage: Stage, override: StageOverride | None) -> Stage:
    """One stage with the fields that its override names."""
    if override is None:
        return stage
    return replace(
        stage,
        context_tokens=override.context_tokens or stage.context_tokens,
        min_examples=override.min_examples or stage.min_examples,
        min_accuracy=stage.min_accuracy if override.min_accuracy is None else override.min_accuracy,
    )


def stage_at(stages: Sequence[Stage], age: int) -> Stage:
    """The stage that an age in years falls into: 4 is in the stage of 3."""
    return max((stage for stage in stages if stage.age <= age), key=lambda stage: stage.age)


def next_stage(stages: Sequence[Stage], age: int) -> Stage | None:
    """The stage after the one of `age`, or None for an adult."""
    return min((stage for stage in stages if stage.age > age), key=lambda stage: stage.age, default=None)


def age_of(example: Example, file_age: int | None, current_age: int, stages: Sequence[Stage]) -> int:
    """The example's own age, else its file's, else the current one, as the age of a stage."""
    age = next((age for age in (example.age, file_age) if age is not None), current_age)
    return stage_at(stages, age).age


def group_key(example: Example) -> str:
    """What must not straddle the split: the named group, else the normalised prompt."""
    if example.group is not None:
        return f"group:{example.group}"
    prompt = " ".join([message.content for message in example.messages[:-1]])
    return "prompt:" + hashlib.sha256(normalise(prompt).encode()).hexdigest()


def normalise(text: str) -> str:
    """NFC, casefold, no punctuation, one space: what two near-duplicates have in common."""
    folded = unicodedata.normalize("NFC", text).casefold()
    try:
        words = folded.encode("latin-1").translate(LATIN_1).split()
    except UnicodeEncodeError:
        return " ".join(PUNCTUATION.sub(" ", folded).split())
    return b" ".join(words).decode("latin-1")


@dataclass(frozen=True, slots=True)
class Members:
    """How many examples of a group are on each side already."""

    taught: int = 0
    held_out: int = 0


def assign_sides(
    newcomers: Iterable[tuple[str, str]], known: Mapping[str, Members], held_out_share: float
) -> dict[str, Side]:
    """Decide the side of each newcomer, an (id, group key) pair, given the members already decided."""
    groups: dict[str, list[str]] = {}
    for example_id, key in newcomers:
        groups.setdefault(key, []).append(example_id)
    sides: dict[str, Side] = {}
    for key, ids in groups.items():
        if len(ids) == 1 and key not in known:  # most: alone, and the first of its kind
            sides[ids[0]] = side_by_hash(key, held_out_share)
        else:
            sides.update(split_group(key, ids, known.get(key, Members()), held_out_share))
    return sides


def split_group(key: str, ids: Sequence[str], known: Members, held_out_share: float) -> dict[str, Side]:
    """One group: it keeps to its side, but three or more paraphrases give one of them to the exam."""
    paraphrases = key.startswith("group:") and known.taught + len(ids) >= SMALLEST_SPLIT_GROUP
    if not known.held_out and paraphrases:
        chosen = min(ids)
        return {each: Side.HELD_OUT if each == chosen else Side.TAUGHT for each in ids}
    if known.taught:
        side = Side.TAUGHT
    elif known.held_out:
        side = Side.HELD_OUT
    else:
        side = side_by_hash(key, held_out_share)
    return dict.fromkeys(ids, side)


def side_by_hash(key: str, held_out_share: float) -> Side:
    """The side of a group of which nothing is known."""
    return Side.HELD_OUT if share_of(key) < held_out_share else Side.TAUGHT


def share_of(key: str) -> float:
    """A number in [0, 1) that depends on the key alone."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:7], "big") / (1 << 56)


@dataclass(frozen=True, slots=True)
class Situation:
    """What decides whether to train now. `pending` counts taught examples that no promoted version knows, `unseen`
    those among them that no run has tried; times are seconds ago, None where it never happened.
    """

    pending: int
    unseen: int
    trainable: int
    quiet_for_s: float
    last_run_ago_s: float | None
    failures: int
    requested: bool


def when_to_train(
    now: Situation, *, enabled: bool, min_new_examples: int, quiet_s: float, interval_s: float
) -> Trigger | None:
    """The reason to start a run now, or None."""
    if now.requested:
        return Trigger.REQUESTED if now.trainable else None
    if not enabled or not now.pending or now.quiet_for_s < quiet_s:
        return None
    if now.unseen >= min_new_examples:
        return Trigger.EXAMPLES
    if now.last_run_ago_s is None:
        return None
    if 0 < now.failures <= len(RETRY_AFTER_S) and now.last_run_ago_s >= RETRY_AFTER_S[now.failures - 1]:
        return Trigger.INTERVAL
    return Trigger.INTERVAL if now.last_run_ago_s >= interval_s else None


class Blocker(StrEnum):
    """What keeps THAU at its age."""

    NOT_TRAINED = "not_trained"
    EXAMPLES = "examples"
    EVIDENCE = "evidence"
    ACCURACY = "accuracy"
    LAST_STAGE = "last_stage"


@dataclass(frozen=True, slots=True)
class Readiness:
    """How far a stage's criteria are met by the champion."""

    examples: int
    min_examples: int
    score: Score | None
    min_accuracy: float
    min_items: int
    blockers: tuple[Blocker, ...]

    @property
    def ready(self) -> bool:
        """Whether the age advances."""
        return not self.blockers


def readiness(stage: Stage, examples: int, score: Score | None, *, min_items: int, last: bool) -> Readiness:
    """Compare what the champion was taught of a stage, and its score there, with the stage's criteria."""
    checks = {
        Blocker.NOT_TRAINED: score is None,
        Blocker.EXAMPLES: examples < stage.min_examples,
        Blocker.EVIDENCE: score is not None and score.n < min_items,
        Blocker.ACCURACY: score is not None and score.n >= min_items and score.accuracy < stage.min_accuracy,
        Blocker.LAST_STAGE: last,
    }
    blockers = tuple(blocker for blocker, applies in checks.items() if applies)
    return Readiness(examples, stage.min_examples, score, stage.min_accuracy, min_items, blockers)


def interleave(by_age: Mapping[int, Sequence[str]], seed: int) -> tuple[str, ...]:
    """One fixed order for all examples, shuffled by seed over all ages, so that no stage comes as a block."""
    everything = [example_id for age in sorted(by_age) for example_id in by_age[age]]
    return tuple(sorted(everything, key=lambda each: hashlib.sha256(f"{seed}:{each}".encode()).digest()))
