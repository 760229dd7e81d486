"""How long a prompt will be, where only the server can count. Owns the estimate; refuses to know servers and templates.

It errs upwards: a prompt thought too long is shortened for nothing, one thought too short is refused by the server.
What the server counted once is known exactly as long as a conversation only grows, and says how much text a token is.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

FIRST_RATE = 0.5  # tokens a byte: twice what English and Spanish take in vocabularies of 32,000 tokens and more
MARGIN = 1.15
TURN_BYTES = 24  # the template's marks around a turn, as bytes of text
REMEMBERED = 8


@dataclass(slots=True)
class Gauge:
    """Estimates of prompts as `rows`: the tools, then one text a turn, in the order of the prompt."""

    _rates: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    _rows: tuple[str, ...] = ()
    _tokens: int = 0

    def estimate(self, rows: Sequence[str]) -> int:
        """How many tokens these are, rather too many than too few."""
        known = len(self._rows)
        if known and tuple(rows[:known]) == self._rows:
            return self._tokens + round(size(rows[known:]) * max(self._rate, FIRST_RATE))
        return round(size(rows) * self._rate)

    def learn(self, rows: Sequence[str], tokens: int) -> None:
        """The server counted `tokens` for these; 0 says nothing."""
        if tokens > 0 and rows:
            self._rows, self._tokens = tuple(rows), tokens
            self._rates.append(tokens / size(rows))

    @property
    def _rate(self) -> float:
        return max(self._rates) * MARGIN if self._rates else FIRST_RATE


def size(rows: Sequence[str]) -> int:
    """Bytes of text, the marks around turns included."""
    return sum(len(row.encode("utf-8", "replace")) + TURN_BYTES for row in rows)
