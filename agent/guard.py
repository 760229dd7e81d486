"""What goes round in circles: calls that come again, and text that repeats itself. Owns the noticing; refuses to act.

Calls are compared by their canonical form; a cycle of up to four steps that has gone round twice is one too many.
A text repeats itself where its end is the same passage at least four times over, and long enough that no ruler,
table or list of zeros is meant.
"""

from collections.abc import Sequence

LONGEST_CYCLE = 4
LONGEST_PASSAGE = 300
FEWEST_TIMES = 4
FEWEST_CHARACTERS = 480
EVERY_CHARACTERS = 32
KEPT_CHARACTERS = LONGEST_PASSAGE * FEWEST_TIMES + EVERY_CHARACTERS


def goes_round(steps: Sequence[str]) -> bool:
    """Whether the last steps are a cycle of one to four that comes for the second time in a row."""
    return any(
        len(steps) >= 2 * period and steps[-period:] == steps[-2 * period : -period]
        for period in range(1, LONGEST_CYCLE + 1)
    )


def passage(text: str, fewest: int = FEWEST_CHARACTERS) -> int:
    """The length of the passage that the end of a text repeats, for so many characters; 0 where it repeats none."""
    for size in range(1, LONGEST_PASSAGE + 1):
        span = max(fewest, size * FEWEST_TIMES)
        if len(text) >= span and text[-span:-size] == text[-span + size :]:
            return size
    return 0


def said_once(text: str) -> str:
    """A text that was stopped for its repetitions, without them: of the repeated passage one is left."""
    text = text.rstrip()
    size = passage(text, FEWEST_CHARACTERS // 2)  # what was shown of it may be less than what was heard
    start = len(text) - size
    while size and start > 0 and text[start - 1] == text[start - 1 + size]:
        start -= 1
    return text[: start + size].rstrip()


class Tail:
    """Watches a text that arrives in pieces."""

    def __init__(self) -> None:
        self._kept = ""
        self._unseen = 0

    def repeats(self, piece: str) -> bool:
        """Take a piece, and say whether the text repeats itself by now."""
        self._kept = (self._kept + piece)[-max(KEPT_CHARACTERS, len(piece)) :]
        self._unseen += len(piece)
        if self._unseen < EVERY_CHARACTERS:
            return False
        self._unseen = 0
        return passage(self._kept) > 0
