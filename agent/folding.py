"""What a screen shows in one line and keeps whole: results and thoughts, numbered. Owns the cut and the keeping."""

from collections import deque
from dataclasses import dataclass, field

from thaud.domain import ToolCall, canonical_json
from tools.sanitise import spelled_out

MOST_KEPT = 50
MOST_RESULT_LINES = 6
MOST_RESULT_CHARACTERS = 600


@dataclass(frozen=True, slots=True)
class Fold:
    """A text with its number and a title of one line."""

    number: int
    title: str
    text: str


@dataclass(slots=True)
class Folds:
    """The last things folded, numbered from 1 on."""

    kept: deque[Fold] = field(default_factory=lambda: deque(maxlen=MOST_KEPT))
    _count: int = 0

    def keep(self, title: str, text: str) -> Fold:
        """Keep a text; the oldest beyond 50 is let go."""
        self._count += 1
        self.kept.append(Fold(self._count, title, text))
        return self.kept[-1]

    def find(self, number: int | None) -> Fold | None:
        """The fold of a number, or the last one."""
        if number is None:
            return self.kept[-1] if self.kept else None
        return next((fold for fold in self.kept if fold.number == number), None)


def fold(text: str) -> str:
    """The beginning of a text, with an ellipsis where there is more."""
    lines = text[:MOST_RESULT_CHARACTERS].splitlines()[:MOST_RESULT_LINES]
    folded = "\n  ".join(lines)
    return folded if len("\n".join(lines)) >= len(text.rstrip("\n")) else f"{folded} …"


def brief(call: ToolCall) -> str:
    """A call for the eye, in one line: its name and arguments, without the names of arguments where there is one."""
    values = list(call.arguments.items())
    told = ", ".join(f"{name}={plain(value)}" for name, value in values)
    if len(values) == 1:
        told = plain(values[0][1])
    return spelled_out(f"{call.name} {told}".rstrip())


def plain(value: object) -> str:
    """Text as it is, its lines joined; anything else as JSON."""
    return " ⏎ ".join(value.splitlines()) if isinstance(value, str) else canonical_json(value)
