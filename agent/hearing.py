"""One reply of the model, heard as it comes. Owns the putting together of its pieces, and stopping it where it repeats
itself; refuses to understand it.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from agent.dialects.curtain import Screen
from agent.guard import Tail
from agent.state import Listener, Reply, Usage
from thaud.domain import ToolCall
from thaud.serving.runtime import Delta, DoneReason

Timer = Callable[[], float]


@dataclass(slots=True)
class Hearing:
    """A reply so far. `shown`: what of its text the listener got; `screen` holds back the text of calls."""

    listener: Listener
    screen: Screen
    context_tokens: int
    timer: Timer = time.monotonic
    shown: str = ""
    text: str = ""
    thinking: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    done: DoneReason = "aborted"
    looping: bool = False
    usage: Usage | None = None
    _tails: tuple[Tail, Tail] = field(default_factory=lambda: (Tail(), Tail()))

    def listen(self, deltas: Iterator[Delta]) -> Reply:
        """Hear it to its end, or until it repeats itself; the generation is stopped in any case."""
        began = self.timer()
        first = None
        try:
            for delta in deltas:
                first = self.timer() if first is None else first
                self._take(delta)
                if delta.done:
                    now = self.timer()
                    spent = (delta.prompt_tokens, delta.completion_tokens, self.context_tokens)
                    self.usage = Usage(*spent, seconds=now - began, first_s=first - began)
                if self.looping or delta.done:
                    break
            self._show(self.screen.finish())
        finally:
            hang_up(deltas)
        return self.reply

    @property
    def reply(self) -> Reply:
        """What was heard."""
        return Reply(self.text, tuple(self.calls), self.done, self.thinking, self.looping, self.usage)

    def _take(self, delta: Delta) -> None:
        self.text += delta.text
        self.thinking += delta.thinking
        self.calls += delta.tool_calls
        self.done = delta.done or self.done
        if delta.thinking:
            self.listener.thinking(delta.thinking)
        self._show(self.screen.feed(delta.text))
        speech, thought = self._tails
        self.looping = not delta.done and (speech.repeats(delta.text) or thought.repeats(delta.thinking))

    def _show(self, piece: str) -> None:
        if piece:
            self.shown += piece
            self.listener.text(piece)


def hang_up(deltas: Iterator[Delta]) -> None:
    """Stop a generation; a generator is told so, any other iterator is merely left."""
    if callable(close := getattr(deltas, "close", None)):
        close()
