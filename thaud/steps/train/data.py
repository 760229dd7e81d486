"""examples.jsonl -> lessons: token ids, and which of them are learned.

Owns tokenisation, the mask and the cuts: a conversation that is longer than the context keeps its longest beginning
that ends with an assistant turn, and what cannot be trained is set aside, each with a reason. Refuses to drop anything
in silence, or to keep a Python object per token.
"""

import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from thaud.domain import Example, Message
from thaud.errors import ModelError, StepError
from thaud.steps.tokenizer import BaseTokenizer
from thaud.steps.train.cache import KEY_BYTES, TURN, Table, Tokens, digest_of, keep, key_of, load

Ids = Sequence[int] | NDArray[np.int32]


class Row(NamedTuple):
    """An example of a run. `new`: no earlier version was taught it."""

    id: str
    example: Example
    new: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """One tokenised conversation, or its beginning. `targets` are the positions whose token is learned: the assistant's
    words, with end of turn; the last token is one. `id` is the example's, which may have several lessons.
    """

    id: str
    ids: Ids
    targets: Ids


@dataclass(frozen=True, slots=True)
class SetAside:
    """An example that cannot be trained, and why."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Cut:
    """An example that is not trained to its end, how far it is, and why."""

    id: str
    reason: str


class Choice:
    """What is trained of a table's examples: of each lesson the example, where its ids begin and how many there are,
    and from which to which turn it goes; flat, as the table is.
    """

    def __init__(self) -> None:
        self.names, self.name_ends = bytearray(), array("q", [0])
        self.new = array("b")
        self.lessons = array("q")

    def add(self, row: Row, lessons: Iterable[tuple[int, int, int, int]]) -> None:
        """Add an example's lessons: begin, length, first turn, the one after the last."""
        for lesson in lessons:
            self.lessons.append(len(self.new))
            self.lessons.extend(lesson)
        self.names += row.id.encode("utf-8", "surrogatepass")
        self.name_ends.append(len(self.names))
        self.new.append(row.new)


class Lessons(Sequence[Lesson]):
    """All lessons of a run, made from flat arrays as they are asked for.

    lengths, supervised: int64, tokens and learned tokens of each lesson. new: bool, whether its example is. Raises
    StepError where one has nothing to learn.
    """

    def __init__(self, table: Table, choice: Choice) -> None:
        self._ids = flat(table.ids, np.int32)
        self._spans = flat(table.turns, np.int32).reshape(-1, TURN)[:, 1:3]
        self._names, self._name_ends = bytes(choice.names), flat(choice.name_ends, np.int64)
        columns = flat(choice.lessons, np.int64).reshape(-1, 5).T
        self._examples, self._begins, self.lengths, self._firsts, self._afters = columns
        self.new = flat(choice.new, np.int8).astype(bool)[self._examples]
        learned = np.concatenate([[0], np.cumsum(self._spans[:, 1] - self._spans[:, 0], dtype=np.int64)])
        self.supervised = learned[self._afters] - learned[self._firsts]
        if len(self) and self.supervised.min() < 1:
            raise StepError(f"example {self[int(self.supervised.argmin())].id} has no supervised token: report this")

    def only(self, numbers: Sequence[int]) -> "Lessons":
        """Some of the lessons, which share the memory of all."""
        some, chosen = copy(self), np.asarray(numbers, dtype=np.int64)
        for name in ("_examples", "_begins", "_firsts", "_afters", "lengths", "supervised", "new"):
            setattr(some, name, getattr(self, name)[chosen])
        return some

    def __len__(self) -> int:
        return len(self._begins)

    @overload
    def __getitem__(self, place: int) -> Lesson: ...
    @overload
    def __getitem__(self, place: slice) -> list[Lesson]: ...
    def __getitem__(self, place: int | slice) -> Lesson | list[Lesson]:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        number = range(len(self))[place]
        example, begin = int(self._examples[number]), int(self._begins[number])
        name = self._names[self._name_ends[example] : self._name_ends[example + 1]]
        spans = self._spans[self._firsts[number] : self._afters[number]]
        return Lesson(
            name.decode("utf-8", "surrogatepass"),
            self._ids[begin : begin + int(self.lengths[number])],
            np.concatenate([np.arange(start, end, dtype=np.int32) for start, end in spans]),
        )


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a run trains, what it does not, and what it trains only in part. `reused` counts examples whose tokens were
    kept from an earlier run; `complaint` says why those of this one could not be kept, None where they are or need not.
    """

    lessons: Lessons
    aside: list[SetAside]
    cut: list[Cut]
    reused: int = 0
    complaint: str | None = None


def read_examples(path: Path) -> Iterator[Row]:
    """The rows of a step's JSONL file, in its order."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            messages = tuple(Message.from_json(each) for each in row["messages"])
            yield Row(row["id"], Example(messages, tuple(row.get("tools", ()))), bool(row.get("new")))


def prepare(rows: Iterable[Row], tokenizer: BaseTokenizer, context_tokens: int, cache: Path | None = None) -> Prepared:
    """Tokenise all examples, or find their tokens in the folder `cache`, and part those that can be trained from those
    that cannot, or only in part. The lessons are the same with and without a cache.
    """
    digest = digest_of(tokenizer) if cache else b""
    shelf = load(cache, digest) if cache else None
    table, choice, aside, cut, reused = Table(), Choice(), [], [], 0
    for row in rows:
        key = key_of(row.example.content) if cache else bytes(KEY_BYTES)
        found = shelf.find(key, context_tokens) if shelf else None
        try:
            tokens = found or tokenise(row.example, tokenizer, context_tokens)
        except ModelError as error:
            aside.append(SetAside(row.id, str(error)))
            continue
        reused += found is not None
        turns = reached(tokens.turns, context_tokens)
        lessons = fitting(turns, context_tokens)
        at, first = len(table.ids), len(table.turns) // TURN
        table.add(key, tokens)
        choice.add(row, ((at + begin, length, first + one, first + after) for begin, length, one, after in lessons))
        if not lessons:
            aside.append(SetAside(row.id, unfit(turns, context_tokens)))
        elif reason := shortened(row.example, turns, context_tokens):
            cut.append(Cut(row.id, reason))
    unchanged = shelf is not None and reused == len(table) == len(shelf)
    complaint = keep(cache, digest, table) if cache and not unchanged else None
    return Prepared(Lessons(table, choice), aside, cut, reused, complaint)


def tokenise(example: Example, tokenizer: BaseTokenizer, limit: int) -> Tokens:
    """A conversation's assistant turns, each in its lesson. What ends beyond `limit` tokens is counted and not kept;
    where the next turn could not fit either, no further one is looked at.

    Raises ModelError where the template refuses the conversation.
    """
    ids: list[int] = []
    turns: list[tuple[int, int, int, int]] = []
    begin = length = beyond = 0
    for turn in tokenizer.renderer.turns(example.messages, example.tools):
        if turn.fresh:
            begin, length = len(ids), 0
        header = [piece for piece in turn.pieces if not piece.supervised]
        shown, after_text = tokenizer.encode_all(header), bool(header) and not header[-1].control
        said = tokenizer.encode_all((piece for piece in turn.pieces if piece.supervised), continues=after_text)
        start, length = length + len(shown), length + len(shown) + len(said)
        if length > max(start, 1):  # nothing comes before a first token, so it cannot be learned
            turns.append((begin, max(start, 1), length, turn.messages))
        if length <= limit:
            ids += [*shown, *said]
            continue
        beyond = limit
        if start > limit:
            break
    return Tokens(ids, turns, beyond)


def reached(turns: Sequence[Sequence[int]], context_tokens: int) -> Sequence[Sequence[int]]:
    """The turns that `tokenise` would look at in this context: tokens that were kept for a longer one may have more."""
    beyond = (number for number, (_, start, _, _) in enumerate(turns, 1) if start > context_tokens)
    return turns[: next(beyond, len(turns))]


def fitting(turns: Sequence[Sequence[int]], context_tokens: int) -> list[tuple[int, int, int, int]]:
    """The lessons of an example as far as they fit: begin, length, first turn, the one after the last."""
    found: list[tuple[int, int, int, int]] = []
    for number, (begin, _, end, _) in enumerate(turns):
        if end > context_tokens:
            continue
        first = found.pop()[2] if found and found[-1][0] == begin else number
        found.append((begin, end, first, number + 1))
    return found


def unfit(turns: Sequence[Sequence[int]], context_tokens: int) -> str:
    """Why nothing of an example can be trained."""
    if not turns:
        return "no supervised token: it has no assistant turn"
    _, _, end, _ = turns[0]
    return f"its first assistant turn ends after {end} tokens, the context of the stage is {context_tokens}"


def shortened(example: Example, turns: Sequence[Sequence[int]], context_tokens: int) -> str | None:
    """Why an example of which something is trained is not trained as a whole; None where it is."""
    missed = [(end, messages) for _, _, end, messages in turns if end > context_tokens]
    if not missed:
        return None
    end, messages = missed[0]
    kept = max(messages for _, _, end, messages in turns if end <= context_tokens)
    why = f"message {messages} ends after {end} tokens, the context of the stage is {context_tokens}"
    if kept > messages:  # the template dropped what made it long from what comes later
        unlearned = sum(messages < kept for _, messages in missed)
        return f"{kept} of {len(example.messages)} messages kept, of them {unlearned} unlearned: {why}"
    return f"{kept} of {len(example.messages)} messages kept: {why}"


def flat(values: "array[Any]", kind: type[np.generic]) -> NDArray[Any]:
    """An array's memory as numpy's."""
    return np.frombuffer(values, kind) if values else np.zeros(0, kind)
