"""A model that says what it is told: the deterministic stand-in for a Runtime. Owns scripts; refuses to think."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from thaud.domain import Message, ToolCall
from thaud.errors import ModelError
from thaud.serving.runtime import Delta, DoneReason


@dataclass(frozen=True, slots=True)
class Request:
    """What a scripted model was asked."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...]
    max_new_tokens: int


@dataclass(slots=True)
class ScriptedRuntime:
    """Gives one reply per question, in order, and remembers the questions. Raises ModelError when they are used up."""

    replies: Iterable[Iterable[Delta]]
    name: str = "scripted"
    context_tokens: int = 4096
    requests: list[Request] = field(default_factory=list)
    _left: Iterator[Iterable[Delta]] | None = None

    def chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        max_new_tokens: int = 512,
        temperature: float = 0.0,  # noqa: ARG002 - the interface's
    ) -> Iterator[Delta]:
        """Stream the next reply."""
        self.requests.append(Request(tuple(messages), tuple(tools), max_new_tokens))
        if self._left is None:
            self._left = iter(self.replies)
        reply = next(self._left, None)
        if reply is None:
            raise ModelError("the script has no further reply")
        yield from reply


def says(text: str, *, piece: int = 5, done: DoneReason | None = "stop") -> list[Delta]:
    """A reply in pieces of so many characters. `done=None` leaves the end out, as a broken stream does."""
    pieces = [Delta(text[at : at + piece]) for at in range(0, len(text), piece)]
    return pieces if done is None else [*pieces, Delta(done=done, prompt_tokens=1, completion_tokens=len(pieces))]


def calls(*tool_calls: ToolCall) -> list[Delta]:
    """A reply of native tool calls, as Ollama gives them."""
    return [Delta(tool_calls=tool_calls), Delta(done="stop", prompt_tokens=1, completion_tokens=1)]
