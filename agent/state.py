"""The values of one turn: limits, replies, how a turn ends, and who listens. Owns shapes; refuses to act."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from agent.toolbox import CheckedCall, Result
from thaud.domain import ToolCall, canonical_json
from thaud.serving.runtime import DoneReason


@dataclass(frozen=True, slots=True)
class Limits:
    """What one question may cost: model turns, calls in one of them, second tries, tokens of a reply."""

    max_steps: int = 8
    max_calls: int = 8
    max_repairs: int = 2
    max_new_tokens: int = 512


class Ending(StrEnum):
    """How a turn ended."""

    ANSWERED = "answered"
    EMPTY = "empty"
    CUT = "cut"
    BROKEN = "broken"
    STOPPED = "stopped"


class Notice(StrEnum):
    """What happened on the way to an answer, for people to know."""

    REPAIR = "repair"
    REPEATED = "repeated"
    LIMIT = "limit"
    FORGOT = "forgot"
    NO_TOOLS = "no_tools"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A turn's answer, possibly in part, and how it ended."""

    text: str
    ending: Ending


@dataclass(frozen=True, slots=True)
class Reply:
    """One whole reply of the model. `text` is raw; `calls` are those that the server took out of it."""

    text: str
    calls: tuple[ToolCall, ...]
    done: DoneReason


@dataclass(frozen=True, slots=True)
class Step:
    """A reply understood: what it says, the calls that may run, and what was wrong with the others."""

    content: str
    calls: tuple[CheckedCall, ...]
    problems: tuple[str, ...]

    @property
    def signature(self) -> str:
        """Equal for steps that call the same tools with the same arguments in the same order."""
        return canonical_json([checked.call.to_json() for checked in self.calls])


class Listener(Protocol):
    """Who looks on: a terminal, a log, nobody. What it gets as text is the model's and is not cleaned."""

    def text(self, piece: str) -> None:
        """A piece of the answer, without the text of calls."""
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


class Silence:
    """A listener that does nothing."""

    def text(self, piece: str) -> None:
        """Ignore it."""

    def called(self, call: ToolCall) -> None:
        """Ignore it."""

    def returned(self, call: ToolCall, result: Result) -> None:
        """Ignore it."""

    def notice(self, notice: Notice, detail: str = "") -> None:
        """Ignore it."""
