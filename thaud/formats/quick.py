"""The same as strict.py and the general way through a row, sooner, where that can be proved; None where it cannot.

Owns the proof; refuses to say why a line is bad: whatever is not proven goes the strict way, which has the words.
"""

from typing import Any

import orjson

from thaud.domain import Example, Message
from thaud.formats.fields import read_age, read_grader, read_group, read_metadata
from thaud.formats.turns import says_nothing, tidy

UNPROVEN = -1
TEXTS = frozenset((str,))
ESCAPED_NUL = b"\\u0000"
ELSEWHERE = frozenset(("messages", "conversations", "system", "tools"))


def decoded(raw: bytes, max_depth: int) -> Any | None:
    """The JSON value that `strict.decode` gives for these bytes, or None where that is not proven. Never raises.

    orjson takes what RFC 8259 has, and half a surrogate pair no more than strict.py does. Where the two differ: orjson
    keeps the last of equal keys (then the text has more strings than the value), makes floats of long integers and
    reads floats by its own code (no float is taken), lets an escaped NUL through, and nests deeper.
    """
    if ESCAPED_NUL in raw or raw.count(b"{") + raw.count(b"[") > max_depth:
        return None
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    return value if quotes_in(raw) == 2 * strings_in(value) else None


def quotes_in(raw: bytes) -> int:
    """How many quotes of a JSON text open or close a string."""
    if b"\\" in raw:
        raw = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    return raw.count(b'"')


def strings_in(value: Any) -> int:
    """How many strings a JSON value holds, keys included; UNPROVEN where it holds a float."""
    if type(value) is dict and TEXTS.issuperset(map(type, value.values())):  # most are flat
        return 2 * len(value)
    total, stack = 0, [value]
    while stack:
        node = stack.pop()
        kind = type(node)
        if kind is str:
            total += 1
        elif kind is dict:
            total += len(node)
            stack += node.values()
        elif kind is list:
            stack += node
        elif kind is float:
            return UNPROVEN
    return total


def read_pair(row: Any) -> Example | None:
    """A row of one question and one answer in texts, as most are; None for every other, and for a bad one.

    Raises MalformedError for a field beside them that is bad.
    """
    if type(row) is not dict or not ELSEWHERE.isdisjoint(row):
        return None
    asked, said = row.get("instruction"), row.get("output")
    used = 2
    if asked is None and said is None:
        asked, said = row.get("prompt"), row.get("completion")
    elif "prompt" in row:
        return None
    elif "input" in row:
        asked, used = with_input(asked, row["input"]), 3
    if (
        type(asked) is not str
        or type(said) is not str
        or not (asked := tidy(asked))
        or says_nothing(said := tidy(said))
    ):
        return None
    turns = (Message("user", asked), Message("assistant", said))
    if len(row) == used:
        return Example(turns)
    return Example(turns, (), read_age(row), read_group(row), read_grader(row), read_metadata(row))


def with_input(asked: Any, given: Any) -> Any:
    """Alpaca's question with its input after a blank line; None where either is no text."""
    if type(asked) is not str or not (given is None or type(given) is str):
        return None
    asked, given = tidy(asked), tidy(given or "")
    return f"{asked}\n\n{given}" if asked and given else asked or given
