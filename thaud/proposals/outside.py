"""What is left of a proposal without the words of tools, files and pages. Pure; refuses to word it for people.

All that the model said once it had read such words may be made of them, whatever the question: of the exchanges before
the last those are left in which nothing had come back yet. Of the last one of two lessons is left: the question and the
first call, if nothing had come back before it; or the question and the answer, which then stands on what is not there.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from thaud.domain import Example, Message
from thaud.proposals.proposal import Kind, Proposal


class Lesson(StrEnum):
    """What an accepted proposal teaches: all of it, the first call, or the answer without the calls before it."""

    WHOLE = "whole"
    CALLS = "calls"
    ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class Remains:
    """What would be taught. `example` is None where nothing is left that could be.

    exchanges_left_out: earlier questions that go with all that followed them.
    turns_left_out:     calls, results and answers of the last exchange that go.
    on_left_out:        the answer that is taught stands on words that are not there any more.
    """

    lesson: Lesson
    example: Example | None
    exchanges_left_out: int = 0
    turns_left_out: int = 0
    on_left_out: bool = False

    @property
    def answers_the_same(self) -> bool:
        """Whether the turn that is taught is the one that stands beside the rejected answer."""
        return self.lesson is Lesson.WHOLE


def usual_lesson(proposal: Proposal) -> Lesson:
    """Which one is taught where nobody chooses: a person's own answer stays, of the model's words the first call."""
    if not proposal.outside:
        return Lesson.WHOLE
    corrected = proposal.rejected is not None and proposal.kind is not Kind.REPAIR
    return Lesson.ANSWER if corrected or proposal.kind in {Kind.TEACH, Kind.BAD} else Lesson.CALLS


def remains_of(proposal: Proposal, lesson: Lesson) -> Remains:
    """The proposal as the lesson has it. WHOLE keeps the words from outside."""
    if lesson is Lesson.WHOLE or not proposal.outside:
        return Remains(Lesson.WHOLE, proposal.example)
    turns, first = proposal.example.messages, min(proposal.outside)
    asked = [index for index, turn in enumerate(turns) if turn.role == "user"] or [0]
    clean = max((index for index in asked if index <= first), default=0)  # before it nothing had come back
    last = turns[asked[-1] :]
    fixed_call = proposal.kind is Kind.REPAIR
    kept = the_answer(last) if lesson is Lesson.ANSWER else the_first_call(last, fixed_call=fixed_call)
    gone = sum(clean <= index < asked[-1] for index in asked)
    if kept is None or (lesson is Lesson.CALLS and gone):
        return Remains(lesson, None, gone, len(last))
    tools = proposal.example.tools if lesson is Lesson.CALLS else ()
    example = replace(proposal.example, messages=(*turns[:clean], *kept), tools=tools)
    return Remains(lesson, example, gone, len(last) - len(kept), on_left_out=lesson is Lesson.ANSWER)


def the_answer(last: tuple[Message, ...]) -> tuple[Message, ...] | None:
    """The last question with its answer; None where there is none."""
    answer = last[-1]
    is_answer = answer.role == "assistant" and not answer.tool_calls and bool(answer.content)
    return (last[0], answer) if is_answer else None


def the_first_call(last: tuple[Message, ...], *, fixed_call: bool) -> tuple[Message, ...] | None:
    """The last question with its first call; None where there is none. `fixed_call`: the lesson is the last turn."""
    first = next((index for index, turn in enumerate(last) if turn.tool_calls), None)
    return None if first is None or (fixed_call and first != len(last) - 1) else last[: first + 1]
