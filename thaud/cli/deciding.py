"""A decision on a proposal: what is wished for, whether it may be, and the doing of it.

Owns that what looks like a secret is accepted only by a word of its own, and that words from outside are left out
unless they are asked for. Refuses to talk.
"""

from dataclasses import dataclass
from typing import Any

from thaud.domain import Example
from thaud.errors import UsageError
from thaud.home import Home
from thaud.proposals import (
    Lesson,
    Proposal,
    accept,
    answered,
    drop,
    example_of,
    keep,
    remains_of,
    suspects_of,
    usual_lesson,
)


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to become of a proposal. `lesson` None: the usual one, without words from outside."""

    lesson: Lesson | None = None
    answer: str | None = None
    accepted: bool = False
    dropped: bool = False
    with_secrets: bool = False

    @property
    def decides(self) -> bool:
        """Whether anything is to be done."""
        return self.accepted or self.dropped or self.answer is not None

    def lesson_of(self, proposal: Proposal) -> Lesson:
        """What is to be taught of it."""
        return self.lesson or usual_lesson(proposal)


@dataclass(frozen=True, slots=True)
class Ready:
    """A proposal that may be decided on as wished. `example` is what goes into the drop-box, if it does."""

    proposal: Proposal
    lesson: Lesson
    example: Example | None = None


@dataclass(frozen=True, slots=True)
class Decided:
    """What became of a proposal. `file`: the new one in the drop-box; `example`: the identity of what is in it."""

    id: str
    dropped: bool = False
    file: str | None = None
    example: str | None = None
    lesson: Lesson | None = None

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        status = "dropped" if self.dropped else "accepted" if self.file else "waiting"
        return {
            "id": self.id,
            "status": status,
            "file": self.file,
            "example": self.example,
            "lesson": self.lesson.value if self.lesson else None,
        }


def wish_of(
    lesson: Lesson | None,
    answer: str | None,
    *,
    accepted: bool,
    keep_outside: bool,
    secrets: bool,
    dropped: bool,
) -> Wish:
    """The command's options as one wish. Raises UsageError where two of them contradict each other."""
    if keep_outside and lesson not in {None, Lesson.WHOLE}:
        raise UsageError(f"--keep-outside teaches all of it, --lesson {lesson} a part: choose one")
    return Wish(Lesson.WHOLE if keep_outside else lesson, answer, accepted, dropped, secrets)


def prepare(proposal: Proposal, wish: Wish, max_bytes: int) -> Ready:
    """Whether the wish may be. Raises RejectedInputError where it is no example, UsageError where it is a secret."""
    written = proposal if wish.answer is None else answered(proposal, wish.answer)
    lesson = wish.lesson_of(written)
    if not wish.accepted:
        return Ready(written, lesson)
    example = example_of(written, remains_of(written, lesson), max_bytes)
    if (suspects := suspects_of(example)) and not wish.with_secrets:
        places = "; ".join(f"{each.kind} in {each.place}, line {each.line}" for each in suspects)
        raise UsageError(f"{proposal.id} holds what looks like a secret ({places}): accept it with --with-secrets")
    return Ready(written, lesson, example)


def carry_out(home: Home, ready: Ready, wish: Wish) -> Decided:
    """Do it. Raises StorageError."""
    proposal = ready.proposal
    if wish.dropped:
        drop(home.proposed, proposal)
        return Decided(proposal.id, dropped=True)
    if wish.answer is not None:
        keep(home.proposed, proposal)
    if ready.example is None:
        return Decided(proposal.id)
    path = accept(home, proposal, ready.example)
    return Decided(proposal.id, file=path.name, example=ready.example.id, lesson=ready.lesson)
