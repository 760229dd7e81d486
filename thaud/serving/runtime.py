"""What the agent and `thau ask` need from a served model. Owns the interface; refuses to know who serves it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from thaud.domain import Message, ToolCall

DoneReason = Literal["stop", "length", "aborted"]


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a streamed reply. The last one has `done`; `aborted` means the stream broke off before its end."""

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    done: DoneReason | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Runtime(Protocol):
    """A served model."""

    @property
    def name(self) -> str:
        """What is served, e.g. `thau-nano-v2`."""
        ...

    @property
    def context_tokens(self) -> int:
        """The context it is served with."""
        ...

    def chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        max_new_tokens: int = 512,
        temperature: float = 0.0,
    ) -> Iterator[Delta]:
        """Stream the assistant's next turn. `tools` are OpenAI-style definitions.

        Raises ModelError where the prompt does not fit, ServerError where a server fails.
        """
        ...
