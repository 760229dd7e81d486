"""What a model says to itself, told from what it says: `<think>...</think>` at the beginning of a reply.

Owns the split of a text that arrives in pieces, wherever the tags are cut. After the thought, tags are text; a reply
that begins otherwise has no thought. Blank space around the tags belongs to neither. As Ollama tells them apart.
"""

from typing import Literal, NamedTuple

OPEN, CLOSE = "<think>", "</think>"


class Split(NamedTuple):
    """Pieces of a reply: of what is said, and of what is thought."""

    text: str = ""
    thinking: str = ""


class Splitter:
    """Splits one reply. `inside`: the prompt ends within a thought already (templates that write `<think>`)."""

    def __init__(self, *, inside: bool = False) -> None:
        self._held = ""
        self._state: Literal["before", "inside", "after", "said"] = "inside" if inside else "before"
        self._begun = False

    @property
    def thinking(self) -> bool:
        """Whether what has come so far ends inside of a thought."""
        return self._state == "inside"

    def feed(self, piece: str) -> Split:
        """Take a piece; what is certain of either."""
        self._held += piece
        thought = ""
        if self._state == "before":
            self._open()
        if self._state == "inside":
            thought = self._think()
        if self._state == "after":
            self._held = self._held.lstrip()
            self._state = "said" if self._held else "after"
        said = ""
        if self._state == "said":
            said, self._held = self._held, ""
        return Split(said, thought)

    def finish(self) -> Split:
        """What was held back, when the reply is over. Blank space at the end of a thought stays its own."""
        held, self._held = self._held, ""
        return Split(thinking=held.rstrip()) if self._state == "inside" else Split(held)

    def _open(self) -> None:
        begun = self._held.lstrip()
        if begun.startswith(OPEN):
            self._held, self._state = begun.removeprefix(OPEN), "inside"
        elif not OPEN.startswith(begun):
            self._state = "said"

    def _think(self) -> str:
        """The part of a thought that is certain: up to its end, or to what may be the beginning of its end."""
        if not self._begun:
            self._held = self._held.lstrip()
            self._begun = bool(self._held)
        before, closed, after = self._held.partition(CLOSE)
        if closed:
            self._held, self._state = after, "after"
            return before.rstrip()
        size = next((size for size in range(len(CLOSE) - 1, 0, -1) if before.endswith(CLOSE[:size])), 0)
        sure = before[: len(before) - size].rstrip()
        self._held = before[len(sure) :]
        return sure
