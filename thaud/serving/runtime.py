"""What the agent and `thau ask` need from a served model. Owns the interface; refuses to know who serves it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from thaud.domain import Message, ToolCall

DoneReason = Literal["stop", "length", "aborted"]
Calling = Literal["tagged", "native", "schema"]


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a streamed reply. The last one has `done`; `aborted` means the stream broke off before its end.

    `thinking` is what the model says to itself, never mixed into `text`.
    """

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    done: DoneReason | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    thinking: str = ""


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

    @property
    def calling(self) -> Calling:
        """How this model calls tools.

        tagged: it writes `<tool_call>` blocks into its text, and the runtime lets nothing into them but a call that
        `actions` allows. native: the server takes calls out of the text (Delta.tool_calls). schema: the runtime lets
        nothing into the whole reply but JSON that `actions` allows; the template knows no tools.
        """
        ...

    @property
    def thinks(self) -> bool:
        """Whether the template can have thinking switched on and off."""
        ...

    def count(
        self, messages: Sequence[Message], *, tools: Sequence[Mapping[str, Any]] = (), think: bool = False
    ) -> int:
        """How many tokens the prompt of such a chat has: exactly where llama.cpp is here, else an estimate that errs
        upwards and learns from the server's own figures.
        """
        ...

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
        """Stream the assistant's next turn.

        tools:   OpenAI-style definitions, for the template.
        actions: JSON schema of what may be called: `anyOf` of objects with `name` (a constant) and `arguments` (see
                 agent/actions.py). With `calling` "schema" one of them is the answer itself.
        Raises OverfullError where the prompt does not fit, ModelError where the schema cannot be made a grammar,
        ServerError where a server fails. Closing the iterator stops the generation.
        """
        ...
