"""examples.jsonl -> lessons: token ids, and which of them are learned.

Owns tokenisation and the mask. What cannot be trained is set aside with a reason; refuses to cut: an example that does
not fit is set aside whole.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from thaud.domain import Example, Message
from thaud.errors import ModelError
from thaud.steps.tokenizer import BaseTokenizer


@dataclass(frozen=True, slots=True)
class Lesson:
    """One tokenised example. `targets` are the positions whose token is learned: the assistant's, with end of turn."""

    id: str
    ids: tuple[int, ...]
    targets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SetAside:
    """An example that cannot be trained, and why."""

    id: str
    reason: str


def read_examples(path: Path) -> Iterator[tuple[str, Example]]:
    """Ids and examples of a step's JSONL file, in its order."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            messages = tuple(Message.from_json(each) for each in row["messages"])
            yield row["id"], Example(messages, tuple(row.get("tools", ())))


def prepare(
    examples: Iterable[tuple[str, Example]], tokenizer: BaseTokenizer, context_tokens: int
) -> tuple[list[Lesson], list[SetAside]]:
    """Tokenise all examples and part those that can be trained from those that cannot."""
    lessons: list[Lesson] = []
    aside: list[SetAside] = []
    for number, example in examples:
        try:
            lesson = tokenize(number, example, tokenizer)
        except ModelError as error:
            aside.append(SetAside(number, str(error)))
            continue
        reason = unfit(lesson, context_tokens)
        if reason is None:
            lessons.append(lesson)
        else:
            aside.append(SetAside(number, reason))
    return lessons, aside


def tokenize(number: str, example: Example, tokenizer: BaseTokenizer) -> Lesson:
    """The whole conversation as ids. Raises ModelError where the template refuses it."""
    ids: list[int] = []
    targets: list[int] = []
    for piece in tokenizer.renderer.lesson(example.messages, example.tools):
        tokens = tokenizer.encode(piece)
        if piece.supervised:
            targets.extend(range(len(ids), len(ids) + len(tokens)))
        ids.extend(tokens)
    return Lesson(number, tuple(ids), tuple(place for place in targets if place > 0))


def unfit(lesson: Lesson, context_tokens: int) -> str | None:
    """Why a lesson cannot be trained; None where it can."""
    if not lesson.targets:
        return "no supervised token: it has no assistant turn"
    if len(lesson.ids) > context_tokens:
        return f"{len(lesson.ids)} tokens, the context of the stage is {context_tokens}"
    return None
