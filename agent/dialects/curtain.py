"""Hides calls from a text that arrives in pieces. Owns what may be shown; refuses to decide what is run."""

import re
from typing import Protocol

from agent.dialects.every import parse
from agent.dialects.hermes import CLOSE, OPEN, read_block
from agent.dialects.reading import Offered, UnreadableCallError

FENCE = re.compile(r"```[\w-]*\s*")
OPENINGS = re.compile(r"[\[{\s]*")
KEYS = ("name", "arguments", "parameters", "function", "function_call", "tool_calls", "type", "id", "role", "content")
LINE = re.compile(r"^[ \t]*(?=[\[{`])", re.MULTILINE)


class Screen(Protocol):
    """What stands between a reply and who looks on; see Curtain and agent.actions.AnswerScreen."""

    def feed(self, piece: str) -> str:
        """Take a piece and give what is certain to be shown."""
        ...

    def finish(self) -> str:
        """What was held back and turned out to be no part of a call."""
        ...


class Curtain:
    """Hides calls from a text that arrives in pieces: `feed` gives what may be shown, `finish` what was held back.

    A block that is never closed stays hidden to the end: half a call is nothing to read. JSON that may be a call is
    held back until the reply is over, because only there it is one. `offered`: as `parse` has it.
    """

    def __init__(self, offered: Offered) -> None:
        self._offered = offered
        self._held = ""
        self._inside = False
        self._line = True
        self._behind = False  # a block, with nothing but blank space since

    def feed(self, piece: str) -> str:
        """Take a piece and give what is certain to be no part of a call."""
        self._held += piece
        shown = ""
        while True:
            if self._inside and not self._leave_block():
                return shown
            sure, entered = self._outside()
            shown += sure
            if not entered:
                return shown

    def finish(self) -> str:
        """What looked like the beginning of a call and was none."""
        held, self._held = self._held, ""
        if self._behind and not held.strip():
            return ""
        if self._inside:
            self._inside = False
            return parse(OPEN + held, self._offered).content
        parsed = parse(held, self._offered)
        return parsed.content if parsed.calls or parsed.problems else held

    def _leave_block(self) -> bool:
        """Go on behind a block that is whole; a closing tag within its JSON closes nothing."""
        if CLOSE not in self._held:
            return False
        try:
            _, rest = read_block(self._held)
        except UnreadableCallError:
            return False
        if not rest:  # what closes it has not come: the tag that there is stands within its JSON
            return False
        self._held = rest.removeprefix(CLOSE)
        self._inside, self._line, self._behind = False, False, True
        return True

    def _outside(self) -> tuple[str, bool]:
        """What may be shown up to a tag or to what may be a call, and whether a block begins there."""
        if self._behind and OPEN.startswith((blank := self._held.lstrip())[: len(OPEN)]):
            if len(blank) < len(OPEN):
                return "", False
            self._held = blank
        self._behind = False
        before, tag, after = self._held.partition(OPEN)
        at = self._suspect(before)
        if at is None and tag:
            self._held, self._inside = after, True
            return before, True
        end = len(self._held) - overlap(self._held, OPEN) if at is None else at
        shown, self._held = self._held[:end], self._held[end:]
        if shown:
            self._line = not shown.rpartition("\n")[2].strip(" \t") and ("\n" in shown or self._line)
        return shown, False

    def _suspect(self, text: str) -> int | None:
        """Where a line begins as a call may begin."""
        for found in LINE.finditer(text):
            if (found.start() or self._line) and suspicious(text[found.end() :]):
                return found.start()
        return None


def suspicious(text: str) -> bool:
    """Whether a text may be the beginning of a call in JSON, fenced or not."""
    if text.startswith("`"):
        if "```".startswith(text):
            return True
        fence = FENCE.match(text)
        if not fence:
            return False
        text = text[fence.end() :]
        if text and text[0] not in "[{":
            return False
    rest = text[len(OPENINGS.match(text)[0]) :]  # type: ignore[index]  # it matches anything
    if not rest:
        return True
    key, closed, _ = rest[1:].partition('"')
    return rest[0] == '"' and (key in KEYS if closed else any(each.startswith(key) for each in KEYS))


def overlap(text: str, tag: str) -> int:
    """How many characters at the end of a text may be the beginning of a tag."""
    return next((size for size in range(min(len(text), len(tag) - 1), 0, -1) if tag.startswith(text[-size:])), 0)
