"""The values of one turn: limits, replies, how a turn ends, and who listens. Owns shapes; refuses to act."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from agent.toolbox import CheckedCall, Result
from thaud.domain import Message, ToolCall, canonical_json
from thaud.serving.runtime import DoneReason


@dataclass(frozen=True, slots=True)
class Limits:
    """What one question may cost: model turns, calls in one of them, second tries, tokens of a reply."""

    max_steps: int = 8
    max_calls: int = 8
    max_repairs: int = 2
    max_new_tokens: int = 512


@dataclass(frozen=True, slots=True)
class Usage:
    """What one reply of the model took. `seconds` from the question to the last piece, `first_s` to the first."""

    prompt_tokens: int
    completion_tokens: int
    context_tokens: int
    seconds: float
    first_s: float


@dataclass(frozen=True, slots=True)
class Repair:
    """A reply whose call was wrong, and the one after it whose calls could run: a lesson.

    `prompt` is what the model had been asked when it failed, without the words of the repair.
    """

    prompt: tuple[Message, ...]
    failed: str
    problem: str
    fixed: Message


class Ending(StrEnum):
    """How a turn ended.

    CUT: by the limit of tokens; THOUGHT: by it, before a word of the answer. LOST: tokens were generated and nothing
    of them arrived. LOOPED: it said the same again and again. STOPPED: by Ctrl-C. FAILED: by an error.
    """

    ANSWERED = "answered"
    EMPTY = "empty"
    LOST = "lost"
    CUT = "cut"
    THOUGHT = "thought"
    LOOPED = "looped"
    BROKEN = "broken"
    STOPPED = "stopped"
    FAILED = "failed"


class Notice(StrEnum):
    """What happened on the way to an answer, for people to know."""

    REPAIR = "repair"
    REPEATED = "repeated"
    LIMIT = "limit"
    SHORTENED = "shortened"
    SUMMARISED = "summarised"
    FORGOT = "forgot"
    NO_TOOLS = "no_tools"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A turn's answer, possibly in part, and how it ended. `usage` is its last reply's."""

    text: str
    ending: Ending
    usage: Usage | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Filled:
    """How full the context is: tokens of the prompt so far, and what there is room for."""

    used: int
    of: int

    def __str__(self) -> str:
        return f"{self.used:,}/{self.of:,}"


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question and what came of it. Begins with the user's turn; where it was answered, ends with the assistant's.

    messages: the turns without failed tries and without words of the loop's own: what could be learned from.
    tools:    the definitions that were offered. foreign: names of the tools whose results hold words from outside.
    """

    messages: tuple[Message, ...]
    ending: Ending
    tools: tuple[Mapping[str, Any], ...] = ()
    repairs: tuple[Repair, ...] = ()
    foreign: tuple[str, ...] = ()

    @property
    def question(self) -> str:
        """What the user asked."""
        return self.messages[0].content

    @property
    def answer(self) -> str:
        """What the model said in the end, perhaps in part; empty where it said nothing."""
        return self.messages[-1].content if len(self.messages) > 1 else ""

    @property
    def remembered(self) -> tuple[Message, ...]:
        """What later prompts hold of it: nothing, where nothing was answered."""
        return self.messages if len(self.messages) > 1 else ()


def settled(question: str, messages: Sequence[Message], outcome: Outcome) -> tuple[Message, ...]:
    """What is kept of a turn: all of it where it was answered, else the question and what was said of an answer."""
    if outcome.ending is Ending.ANSWERED:
        return tuple(messages)
    asked = Message("user", question)
    return (asked, Message("assistant", outcome.text)) if outcome.text else (asked,)


@dataclass(frozen=True, slots=True)
class Reply:
    """One whole reply of the model. `text` is raw; `calls` are those that the server took out of it.

    `looping`: it was stopped because it said the same again and again.
    """

    text: str
    calls: tuple[ToolCall, ...]
    done: DoneReason
    thinking: str = ""
    looping: bool = False
    usage: Usage | None = None

    @property
    def raw(self) -> str:
        """All that was said in it, calls that the server took out included."""
        return "\n".join([*filter(None, [self.text]), *(canonical_json(call.to_json()) for call in self.calls)])


@dataclass(frozen=True, slots=True)
class Step:
    """A reply understood: what it says, the calls that may run, and what was wrong with the others."""

    content: str
    calls: tuple[CheckedCall, ...]
    problems: tuple[str, ...]

    @property
    def signature(self) -> str:
        """Equal for steps that call the same tools with the same arguments in the same order."""
        return "\n".join(checked.canonical for checked in self.calls)


class Listener(Protocol):
    """Who looks on: a terminal, a log, nobody. What it gets as text is the model's and is not cleaned."""

    def text(self, piece: str) -> None:
        """A piece of the answer, without the text of calls."""
        ...

    def thinking(self, piece: str) -> None:
        """A piece of what the model says to itself."""
        ...

    def called(self, call: ToolCall) -> None:
        """A valid call, before it is approved and run."""
        ...

    def returned(self, call: ToolCall, result: Result) -> None:
        """What came of it."""
        ...

    def notice(self, notice: Notice, detail: str = "") -> None:
        """Something that people should know."""
        ...

    def spent(self, usage: Usage) -> None:
        """A reply is whole: what it took, and how full the context is."""
        ...

    def repaired(self, repair: Repair) -> None:
        """A wrong call was made right."""
        ...


class Silence:
    """A listener that does nothing."""

    def text(self, piece: str) -> None:
        """Ignore it."""

    def thinking(self, piece: str) -> None:
        """Ignore it."""

    def called(self, call: ToolCall) -> None:
        """Ignore it."""

    def returned(self, call: ToolCall, result: Result) -> None:
        """Ignore it."""

    def notice(self, notice: Notice, detail: str = "") -> None:
        """Ignore it."""

    def spent(self, usage: Usage) -> None:
        """Ignore it."""

    def repaired(self, repair: Repair) -> None:
        """Ignore it."""
