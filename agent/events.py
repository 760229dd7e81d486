"""A conversation as JSON, one object a line, for programs. Owns the fields, which docs/agent.md lists.

Every object has `event`. Text in it is as the model and the tools said it, which is not cleaned: JSON escapes it.
"""

import json
from collections.abc import Sequence
from types import TracebackType
from typing import IO, Any, Self

from agent.approval import Request
from agent.state import Notice, Outcome, Repair, Usage
from agent.toolbox import Result
from thaud.domain import ToolCall


class Events:
    """A front that writes events to a stream, each at once."""

    def __init__(self, sink: IO[str]) -> None:
        self._sink = sink
        self.usage: Usage | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is left open."""

    def emit(self, event: str, **fields: Any) -> None:
        """Write one object."""
        self._sink.write(json.dumps({"event": event, **fields}, ensure_ascii=True) + "\n")
        self._sink.flush()

    def ready(self, model: str, context_tokens: int) -> None:
        """`ready`: a model is loaded."""
        self.emit("ready", version=model, context_tokens=context_tokens)

    def text(self, piece: str) -> None:
        """`text`: a piece of the answer."""
        self.emit("text", text=piece)

    def thinking(self, piece: str) -> None:
        """`thinking`: a piece of what the model says to itself."""
        self.emit("thinking", text=piece)

    def called(self, call: ToolCall) -> None:
        """`call`: a valid call, before it is approved."""
        self.emit("call", tool=call.name, arguments=dict(call.arguments))

    def returned(self, call: ToolCall, result: Result) -> None:
        """`result`: what came of it."""
        self.emit("result", tool=call.name, ok=result.ok, text=result.text)

    def notice(self, notice: Notice, detail: str = "") -> None:
        """`notice`: something on the way."""
        self.emit("notice", notice=notice.value, detail=detail)

    def spent(self, usage: Usage) -> None:
        """`usage`: what a reply took."""
        self.usage = usage
        self.emit(
            "usage",
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            context_tokens=usage.context_tokens,
            seconds=round(usage.seconds, 3),
            first_s=round(usage.first_s, 3),
        )

    def repaired(self, repair: Repair) -> None:
        """`repaired`: a wrong call was made right."""
        self.emit("repaired", problem=repair.problem)

    def line(self, text: str, style: str = "") -> None:  # noqa: ARG002 - programs have no colours
        """`say`: what a command says."""
        self.emit("say", text=text)

    def rows(self, rows: Sequence[tuple[str, str]]) -> None:
        """`say`, for each."""
        for word, meaning in rows:
            self.line(f"{word}  {meaning}")

    def prose(self, text: str) -> None:
        """`say`: an answer of before."""
        self.emit("say", text=text)

    def unfold(self, number: int | None = None) -> None:
        """Nothing is folded here."""

    def failed(self, message: str, exit_code: int) -> None:
        """`error`: what was refused or failed."""
        self.emit("error", message=message, exit_code=exit_code)

    def end(self, outcome: Outcome) -> None:
        """`end`: how the turn ended, and its answer."""
        self.emit("end", ending=outcome.ending.value, answer=outcome.text)

    def show_request(self, request: Request) -> None:
        """Programs decide by rules alone."""

    def go_on(self) -> None:
        """Nothing had stopped."""
