"""What a proposal is, as a value and as JSON. Owns the form; refuses to read or write files."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Self

from thaud.domain import Example, Message, Rejection, canonical_json
from thaud.errors import RejectedInputError
from thaud.formats import example_to_line, parse_line, parse_object

FORMAT = 1
HOLD = "."  # what stands for an answer that nobody has written, where a conversation is checked without one


class Kind(StrEnum):
    """Why it was proposed: a corrected answer, a good one, a bad one, a call that was made right."""

    TEACH = "teach"
    GOOD = "good"
    BAD = "bad"
    REPAIR = "repair"


@dataclass(frozen=True, slots=True)
class Suspect:
    """Something that looks like a secret: its kind and its place, never itself. `line` counts from 1 in the place.

    `place` names a text of the proposal: `messages[2].content`, `rejected.content`, `messages[1].tool_calls[0].path`.
    """

    kind: str
    place: str
    line: int


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a proposal comes from. `question` counts from 1 within the conversation that `transcript` names."""

    model: str
    transcript: str
    question: int


@dataclass(frozen=True, slots=True)
class Proposal:
    """An example that waits for a person's word.

    example:  the conversation with its good answer last; of one that `needs_answer`, the conversation up to it.
    rejected: the answer that was not good, where there is one: the other side of the pair.
    outside:  indices of the turns of `example` that hold words from outside, each with the tool they came through.
    suspects: what looked like a secret when it was proposed or edited.
    problem:  what was wrong with the rejected answer, where a machine said it.
    `at` is ISO 8601, UTC. Thinking is in none of it.
    """

    id: str
    at: str
    kind: Kind
    example: Example
    origin: Origin
    rejected: Message | None = None
    outside: Mapping[int, str] = field(default_factory=dict)
    suspects: tuple[Suspect, ...] = ()
    problem: str = ""

    @property
    def needs_answer(self) -> bool:
        """Whether somebody has to write the good answer before it can be accepted."""
        return self.example.messages[-1].role != "assistant"

    @property
    def question(self) -> str:
        """What was asked last; empty where nobody asked."""
        return next((turn.content for turn in reversed(self.example.messages) if turn.role == "user"), "")

    def with_answer(self, answer: Message) -> Self:
        """The same with another good answer. One that replaces an answer which nobody had rejected rejects it."""
        turns = self.example.messages
        was = None if self.needs_answer else turns[-1]
        prompt = turns if was is None else turns[:-1]
        rejected = self.rejected or (was if was != answer else None)
        return replace(self, example=replace(self.example, messages=(*prompt, answer)), rejected=rejected)

    def to_json(self) -> dict[str, Any]:
        """The file's contents."""
        return {
            "format": FORMAT,
            "id": self.id,
            "at": self.at,
            "kind": self.kind.value,
            "origin": asdict(self.origin),
            "example": {**self.example.content, "metadata": dict(self.example.metadata)},
            "rejected": self.rejected.to_json() if self.rejected else None,
            "problem": self.problem,
            "outside": {str(turn): tool for turn, tool in self.outside.items()},
            "suspects": [asdict(each) for each in self.suspects],
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        """Read back what `to_json` wrote. Raises RejectedInputError, LookupError, TypeError or ValueError."""
        if row["format"] != FORMAT:
            raise ValueError(f"it has the format {row['format']!r}; this release reads {FORMAT}")
        example = read_conversation(row["example"])
        outside = outside_of(example)
        if {int(turn): str(tool) for turn, tool in row["outside"].items()} != outside:
            raise ValueError("it is wrong about which of its turns are from outside")
        origin = Origin(str(row["origin"]["model"]), str(row["origin"]["transcript"]), int(row["origin"]["question"]))
        suspects = tuple(Suspect(str(each["kind"]), str(each["place"]), int(each["line"])) for each in row["suspects"])
        rejected = Message.from_json(row["rejected"]) if row["rejected"] else None
        return cls(
            str(row["id"]),
            str(row["at"]),
            Kind(row["kind"]),
            example,
            origin,
            rejected,
            outside,
            suspects,
            str(row["problem"]),
        )


def read_conversation(row: Mapping[str, Any]) -> Example:
    """An example, or the conversation up to an answer that is missing. Raises RejectedInputError with the reason."""
    turns = row.get("messages")
    if not isinstance(turns, list) or not turns or not isinstance(turns[-1], dict) or turns[-1]["role"] == "assistant":
        return checked(parse_object(dict(row)))
    example = checked(parse_object({**row, "messages": [*turns, {"role": "assistant", "content": HOLD}]}))
    return replace(example, messages=example.messages[:-1])


def checked(judged: Example | Rejection) -> Example:
    """An example that the drop-box would take. Raises RejectedInputError with the reason where it would not."""
    if isinstance(judged, Rejection):
        raise RejectedInputError(f"this is no example: {judged.reason}")
    return judged


def outside_of(example: Example) -> dict[int, str]:
    """Which turns hold words from outside: every result of a tool, whoever wrote it, with the tool's name."""
    return {index: turn.tool_name or "" for index, turn in enumerate(example.messages) if turn.role == "tool"}


def as_the_drop_box_reads(example: Example) -> Example:
    """The example as a line of the drop-box comes back. Raises RejectedInputError where it would be rejected."""
    return checked(parse_line(example_to_line(example)))


def fingerprint(proposal: Proposal) -> str:
    """Eight hex digits of what it says, whenever and in which chat it was said: twice the same is one proposal."""
    said = [proposal.kind.value, proposal.example.content, proposal.rejected and proposal.rejected.to_json()]
    return hashlib.sha256(canonical_json(said).encode()).hexdigest()[:8]
