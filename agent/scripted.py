"""A model that says what it is told: the deterministic stand-in for a Runtime. Owns scripts; refuses to think."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from thaud.domain import Message, ToolCall, canonical_json
from thaud.errors import ModelError
from thaud.serving.runtime import Calling, Delta, DoneReason

CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Request:
    """What a scripted model was asked."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...]
    max_new_tokens: int
    actions: Mapping[str, Any] | None = None
    think: bool = False
    temperature: float = 0.0
    seed: int = 0


@dataclass(slots=True)
class ScriptedRuntime:
    """Gives one reply per question, in order, and remembers the questions. Raises ModelError when they are used up."""

    replies: Iterable[Iterable[Delta]]
    name: str = "scripted"
    context_tokens: int = 4096
    calling: Calling = "tagged"
    thinks: bool = False
    requests: list[Request] = field(default_factory=list)
    _left: Iterator[Iterable[Delta]] | None = None

    def count(
        self, messages: Sequence[Message], *, tools: Sequence[Mapping[str, Any]] = (), think: bool = False
    ) -> int:
        """A token for each four characters of content, calls and definitions."""
        del think
        called = (canonical_json(call.to_json()) for message in messages for call in message.tool_calls)
        said = sum(map(len, (*called, *(message.content for message in messages))))
        return (said + sum(len(canonical_json(dict(tool))) for tool in tools)) // CHARACTERS_PER_TOKEN

    def chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        actions: Mapping[str, Any] | None = None,
        think: bool = False,
        max_new_tokens: int = 512,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Iterator[Delta]:
        """Stream the next reply."""
        self.requests.append(Request(tuple(messages), tuple(tools), max_new_tokens, actions, think, temperature, seed))
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


def thinks(thought: str, text: str, *, done: DoneReason = "stop") -> list[Delta]:
    """A reply after some thinking."""
    return [Delta(thinking=thought), *says(text, done=done)]


def calls(*tool_calls: ToolCall) -> list[Delta]:
    """A reply of native tool calls, as Ollama gives them."""
    return [Delta(tool_calls=tool_calls), Delta(done="stop", prompt_tokens=1, completion_tokens=1)]
