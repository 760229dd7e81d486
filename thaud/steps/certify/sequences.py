"""The positions that model and file are compared at: held-out prompts with their expected answers, as token ids.

In the items' order, cut to the context. Where a home has no held-out items yet, what was taught stands in, and where
the template takes none of that the fixed conversations, which the certificate says (`source`).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from thaud.domain import Example
from thaud.errors import ModelError
from thaud.rendering import Piece
from thaud.steps.exam.__main__ import read_items
from thaud.steps.tokenizer import BaseTokenizer

MAX_ITEMS, MAX_POSITIONS, MIN_POSITIONS = 32, 2048, 256
SEQUENCE_POSITIONS = 512  # of one item, so that several are looked at
WORK = 2e12  # multiplications of one pass over all positions, which bounds the time that large models take

Source = Literal["held-out", "taught", "fixed"]


@dataclass(frozen=True, slots=True)
class Questions:
    """The person's own, with their expected answers; of what was taught only where nothing is held out."""

    source: Source
    examples: tuple[Example, ...]


def read_questions(items: Path) -> Questions:
    """Of a step's items, in their order."""
    found = [(item.role, Example(item.messages, item.tools)) for item in read_items(items)]
    held_out = tuple(example for role, example in found if role == "held_out")
    return Questions("held-out", held_out) if held_out else Questions("taught", tuple(each for _, each in found))


@dataclass(frozen=True, slots=True)
class Sequences:
    """Token ids, one row an item, and where they come from."""

    source: Source
    rows: tuple[tuple[int, ...], ...]

    @property
    def positions(self) -> int:
        """How many tokens there are in all."""
        return sum(map(len, self.rows))

    def to_json(self) -> dict[str, Any]:
        """Of the certificate's section on fidelity."""
        return {"source": self.source, "items": len(self.rows)}


def most_positions(parameters: int) -> int:
    """How many positions a model of so many parameters is looked at: 2,048 up to a thousand million, 285 of a 7b."""
    return max(MIN_POSITIONS, min(MAX_POSITIONS, int(WORK / max(1, parameters))))


def choose_sequences(
    tokenizer: BaseTokenizer, questions: Questions, fixed: Mapping[str, Example], limit: int, context_tokens: int
) -> Sequences:
    """The person's own where there are any that the template takes, else the fixed conversations.

    Raises ModelError where it takes none of those either.
    """
    longest = min(SEQUENCE_POSITIONS, context_tokens)
    rows = tuple(take(encoded(tokenizer, questions.examples), limit, longest))
    if rows:
        return Sequences(questions.source, rows)
    rows = tuple(take(encoded(tokenizer, fixed.values()), limit, longest))
    if not rows:
        raise ModelError("the base's chat template refuses every conversation: choose another base")
    return Sequences("fixed", rows)


def take(rows: Iterable[list[int]], limit: int, longest: int) -> Iterator[tuple[int, ...]]:
    """At most MAX_ITEMS rows, of at most `longest` tokens each and `limit` in all."""
    left, count = limit, 0
    for row in rows:
        if left <= 0 or count == MAX_ITEMS:
            return
        cut = tuple(row[: min(longest, left)])
        left, count = left - len(cut), count + 1
        yield cut


def encoded(tokenizer: BaseTokenizer, examples: Iterable[Example]) -> Iterator[list[int]]:
    """Each conversation whole; what comes before the last answer where the template cannot show it in one piece; none
    where it refuses that too.
    """
    for example in examples:
        ids = tokenizer.encode_all(pieces_of(tokenizer, example))
        if ids:
            yield ids


def pieces_of(tokenizer: BaseTokenizer, example: Example) -> list[Piece]:
    """What a lesson shows, else what a prompt does, else nothing."""
    renderer = tokenizer.renderer
    answered = example.messages[-1].role == "assistant"
    try:
        if answered:
            return renderer.lesson(example.messages, example.tools)
    except ModelError:
        pass
    try:
        return renderer.prompt(example.messages[:-1] if answered else example.messages, example.tools)
    except ModelError:
        return []
