"""From an exchange to a proposed example: what `/teach`, `/good`, `/bad` and a mended call have to say.

Owns which turns of a conversation become an example: the system's, those of earlier answered questions as a person has
corrected them (what was said to be bad is left out), and the last question's, without thinking. Refuses to decide on it
(`thau review`) and to train.
"""

import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from agent.state import Ending, Exchange, Repair
from thaud.domain import Example, Message, canonical_json
from thaud.errors import RejectedInputError, UsageError
from thaud.formats import reduce_tool
from thaud.proposals import (
    Kind,
    Origin,
    Proposal,
    as_the_drop_box_reads,
    drop,
    keep,
    look_for_suspects,
    name_for,
    outside_of,
    read_all,
    waiting_like,
)

THOUGHTS = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)


class Named(Protocol):
    """A served model's name."""

    @property
    def name(self) -> str:
        """E.g. `thau-nano-v2`."""
        ...


class Written(Protocol):
    """A transcript's place."""

    @property
    def path(self) -> Path:
        """Its file."""
        ...

    def add(self, event: str, **fields: Any) -> None:
        """Append a line. Raises StorageError."""
        ...

    def save(self) -> None:
        """See that it is kept. Raises StorageError."""
        ...


class Conversation(Protocol):
    """What is taught from: an Agent."""

    @property
    def runtime(self) -> Named:
        """Who answers."""
        ...

    @property
    def transcript(self) -> Written:
        """The record."""
        ...

    @property
    def system(self) -> str:
        """What stands before the conversation."""
        ...

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """The questions so far, and what came of each."""
        ...


@dataclass(slots=True)
class Teacher:
    """Proposes examples of a conversation into a folder (home.proposed). `clock` gives an aware time.

    Every method writes durably and returns the proposal; the same one again returns the one that waits. Raises
    UsageError where there is nothing to say it of, RejectedInputError where it is no example (an empty answer),
    StorageError where it cannot be written.
    """

    folder: Path
    clock: Callable[[], datetime]

    def teach(self, agent: Conversation, answer: str) -> Proposal:
        """The last question's right answer, in a person's words."""
        return self._correct(agent, answer, Kind.TEACH)

    def good(self, agent: Conversation) -> Proposal:
        """The last answer was good as it is. One that broke off or was cut is not."""
        last = last_of(agent)
        if last.ending is not Ending.ANSWERED:
            raise UsageError("the last answer is not whole: write the right one with /teach")
        turns = tuple(map(spoken, last.messages))
        return self._propose(agent, Kind.GOOD, Example(turns, tools_of(last)), None)

    def bad(self, agent: Conversation, correction: str = "") -> Proposal:
        """The last answer was bad; without a correction the proposal waits for an answer."""
        if correction.strip():
            return self._correct(agent, correction, Kind.BAD)
        last = last_of(agent)
        turns, given = split(last)
        if given is None:
            raise UsageError("there is no answer that could be bad: ask something first")
        judge(agent, last, None)
        return self._propose(agent, Kind.BAD, Example(turns, tools_of(last)), given)

    def mend(self, agent: Conversation) -> tuple[Proposal, ...]:
        """The calls of the last exchange that a repair made right, if there were any. For after each answer."""
        if not agent.exchanges:
            return ()
        last = agent.exchanges[-1]
        lessons = [repair for repair in last.repairs if is_lesson(repair) and up_to(repair.fixed, last)]
        return tuple(self._mended(agent, last, repair) for repair in lessons)

    def _correct(self, agent: Conversation, answer: str, kind: Kind) -> Proposal:
        last = last_of(agent)
        if not answer.strip():
            raise RejectedInputError("the right answer is empty: write it")
        turns, given = split(last)
        right = Message("assistant", answer.strip())
        if given == right:
            given = None
        judge(agent, last, right)
        return self._propose(agent, kind, Example((*turns, right), tools_of(last)), given)

    def _mended(self, agent: Conversation, last: Exchange, repair: Repair) -> Proposal:
        """The prompt with the call as it was made right, beside the reply that was wrong."""
        example = Example(up_to(repair.fixed, last), tools_of(last))
        failed = Message("assistant", without_thoughts(repair.failed))
        return self._propose(agent, Kind.REPAIR, example, failed, repair.problem)

    def _propose(
        self,
        agent: Conversation,
        kind: Kind,
        said: Example,
        rejected: Message | None,
        problem: str = "",
    ) -> Proposal:
        """Put what came before in front of it, and write it."""
        example = replace(said, messages=(*self._before(agent), *said.messages))
        if example.messages[-1].role == "assistant":
            example = as_the_drop_box_reads(example)
        origin = Origin(agent.runtime.name, agent.transcript.path.name, len(agent.exchanges))
        at = self.clock().astimezone(UTC).isoformat(timespec="seconds")
        proposal = Proposal("", at, kind, example, origin, rejected, outside_of(example), problem=problem)
        if (waiting := waiting_like(self.folder, proposal)) is not None:
            return waiting
        proposal = replace(proposal, id=name_for(at, proposal), suspects=look_for_suspects(proposal))
        keep(self.folder, proposal)
        if not proposal.needs_answer:
            self._supersede(proposal)
        return proposal

    def _supersede(self, proposal: Proposal) -> None:
        """What waited for this very answer need not wait any more: its bad answer is in the new one too."""
        for each in read_all(self.folder)[0]:
            if each.needs_answer and each.origin == proposal.origin and each.rejected == proposal.rejected:
                drop(self.folder, each)

    def _before(self, agent: Conversation) -> tuple[Message, ...]:
        """The system's words, and the earlier exchanges that may be learned from: answered, and not called bad."""
        system = (Message("system", agent.system.strip()),) if agent.system.strip() else ()
        judged = judgements(agent.transcript.path) if len(agent.exchanges) > 1 else {}
        return (*system, *(turn for each in agent.exchanges[:-1] for turn in as_judged(each, judged)))


def judge(agent: Conversation, exchange: Exchange, right: Message | None) -> None:
    """Write into the transcript what a person said of an answer, so that a resumed conversation knows it too: the right
    one, or None for one that is bad.
    """
    said = [turn.to_json() for turn in exchange.messages]
    agent.transcript.add("judged", messages=said, right=right.content if right is not None else None)
    agent.transcript.save()


def judgements(path: Path) -> Mapping[str, str | None]:
    """The right answers by the exchanges, None for a bad one, of a transcript; what cannot be read was not said."""
    judged: dict[str, str | None] = {}
    with suppress(OSError):
        for line in path.read_text("utf-8", "replace").splitlines():
            with suppress(ValueError, LookupError, TypeError):
                row = json.loads(line)
                if row["event"] == "judged":
                    judged[canonical_json(row["messages"])] = row["right"]
    return judged


def as_judged(exchange: Exchange, judged: Mapping[str, str | None]) -> tuple[Message, ...]:
    """What may be learned of an earlier exchange: nothing of one that is bad or was never answered."""
    said = canonical_json([turn.to_json() for turn in exchange.messages])
    if said not in judged:
        return tuple(map(spoken, exchange.messages)) if exchange.ending is Ending.ANSWERED else ()
    right = judged[said]
    return (*split(exchange)[0], Message("assistant", right)) if right is not None else ()


def last_of(agent: Conversation) -> Exchange:
    """The last exchange. Raises UsageError where nothing was asked."""
    if not agent.exchanges:
        raise UsageError("nothing was asked yet: ask something first")
    return agent.exchanges[-1]


def split(exchange: Exchange) -> tuple[tuple[Message, ...], Message | None]:
    """What came before the answer, without calls that nothing came back for, and the answer, if there is one."""
    turns = tuple(map(spoken, exchange.messages))
    given = turns[-1] if len(turns) > 1 and turns[-1].role == "assistant" and not turns[-1].tool_calls else None
    before = list(turns[:-1] if given is not None else turns)
    while before and before[-1].tool_calls:
        before.pop()
    return tuple(before), given if given is not None and given.content else None


def up_to(call: Message, exchange: Exchange) -> tuple[Message, ...]:
    """An exchange's turns up to and with a call made in it, of like ones the last. Not what the model was shown:
    there results may be cut short, and a summary may stand before the question.
    """
    turns = tuple(map(spoken, exchange.messages))
    made = max((index for index, turn in enumerate(turns) if turn == spoken(call)), default=-1)
    return turns[: made + 1]


def is_lesson(repair: Repair) -> bool:
    """Whether there is a call to be learned, and a reply that was not it."""
    return bool(repair.fixed.tool_calls and without_thoughts(repair.failed))


def spoken(turn: Message) -> Message:
    """A turn without what the model said to itself."""
    content = without_thoughts(turn.content) if turn.role == "assistant" else turn.content
    return replace(turn, content=content, thinking="")


def without_thoughts(text: str) -> str:
    """Text without thoughts that a template left in it."""
    return THOUGHTS.sub("", text).strip()


def tools_of(exchange: Exchange) -> tuple[Mapping[str, Any], ...]:
    """The definitions that were offered, where calls occur."""
    called = any(turn.tool_calls for turn in exchange.messages) or exchange.repairs
    return tuple(map(reduce_tool, exchange.tools)) if called else ()
