"""What a conversation is shown on: the listener of a turn that commands can speak through too. Owns the interface."""

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from agent.approval import Request
from agent.state import Listener, Outcome, Usage


class Front(Listener, Protocol):
    """A screen, or a stream of events. As a context manager it is a turn."""

    @property
    def usage(self) -> Usage | None:
        """What the last reply took."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def line(self, text: str, style: str = "") -> None:
        """Say a line to the person."""
        ...

    def rows(self, rows: Sequence[tuple[str, str]]) -> None:
        """Say a word and what it means, several times."""
        ...

    def prose(self, text: str) -> None:
        """Show an answer that was given before."""
        ...

    def unfold(self, number: int | None = None) -> None:
        """Show something folded as a whole."""
        ...

    def failed(self, message: str, exit_code: int) -> None:
        """Something was refused or failed."""
        ...

    def ready(self, model: str, context_tokens: int) -> None:
        """A model is loaded, and answers from now on."""
        ...

    def end(self, outcome: Outcome) -> None:
        """A turn is over."""
        ...

    def show_request(self, request: Request) -> None:
        """A call that somebody has to decide on."""
        ...

    def go_on(self) -> None:
        """It was decided."""
        ...
