"""JSON as RFC 8259 has it, and stricter: the text layer below the dialects.

Owns decoding of one JSON text and the words of its refusals; refuses to know what an example is.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

MAX_NUMBER_CHARS = 309  # the widest finite double has 309 digits; more is an accident, and int() of it is quadratic
EXCERPT_CHARS = 80


class MalformedError(ValueError):
    """The input is no example. Its message is the reason, one sentence; it never leaves `thaud.formats`
    except from `reduce_tool`.
    """


def excerpt(value: Any) -> str:
    """A value as JSON on one line, at most 80 characters, safe to print and to store."""
    text = json.dumps(value[:EXCERPT_CHARS] if isinstance(value, str) else value, ensure_ascii=False)
    if len(text) > EXCERPT_CHARS:
        text = text[: EXCERPT_CHARS - 3] + "..."
    return text.encode("utf-8", "backslashreplace").decode()


def described(value: Any) -> str:
    """What kind of JSON value it is, in words, with an excerpt."""
    if value is None or isinstance(value, bool):
        return excerpt(value)
    kinds: dict[type, str] = {str: "the text", list: "the list", dict: "the object"}
    return f"{kinds.get(type(value), 'the number')} {excerpt(value)}"


def to_text(raw: bytes | str) -> str:
    """Decode UTF-8, with or without a byte order mark. Raises MalformedError."""
    data = raw.encode("utf-8", "surrogatepass") if isinstance(raw, str) else raw
    if b"\0" in data or data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise MalformedError("it holds NUL bytes or a UTF-16 mark: save the file as UTF-8")
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        where = f"byte 0x{data[error.start]:02x} at position {error.start + 1}"
        raise MalformedError(f"{where} is not valid UTF-8: save the file as UTF-8") from error


def to_raw(raw: bytes | str) -> str:
    """The input as text that can be stored whatever it was: bytes that are no UTF-8 become escapes."""
    if isinstance(raw, str):
        return raw.encode("utf-8", "backslashreplace").decode()
    return raw.decode("utf-8", "backslashreplace")


def decode(text: str, max_depth: int) -> Any:
    """Decode one JSON text. Raises MalformedError for whatever another reader might read differently."""
    try:
        value = DECODER.decode(text)
    except json.JSONDecodeError as error:
        near = excerpt(text[max(0, error.pos - 10) : error.pos + 20])
        what = error.msg[:1].lower() + error.msg[1:]
        raise MalformedError(f"not JSON: {what}, at character {error.pos + 1} near {near}") from error
    except RecursionError as error:
        raise MalformedError(too_deep(max_depth)) from error
    if text.count("{") + text.count("[") > max_depth and deeper_than(value, max_depth):
        raise MalformedError(too_deep(max_depth))
    if "\\u" in text:
        refuse_unprintable(value)
    return value


def too_deep(max_depth: int) -> str:
    """The reason given for nesting."""
    return f"it is nested more than {max_depth} levels deep: flatten it"


def deeper_than(value: Any, levels: int) -> bool:
    """Whether lists and objects are nested in more than so many levels. Iterative: nesting cannot hurt it."""
    layer = [value]
    for _ in range(levels + 1):
        layer = [node for node in layer if isinstance(node, (dict, list))]
        if not layer:
            return False
        layer = [child for node in layer for child in (node.values() if isinstance(node, dict) else node)]
    return True


def refuse_unprintable(value: Any) -> None:
    """Raise MalformedError for a NUL or half a surrogate pair, which valid UTF-8 can hide only behind an escape."""
    for text in texts_of(value):
        if "\0" in text:
            raise MalformedError(f"the NUL character (\\u0000) is in {excerpt(text)}: remove it")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise MalformedError(f"half a surrogate pair is in {excerpt(text)}: write the whole character") from None


def texts_of(value: Any) -> Iterator[str]:
    """Every string and key inside a JSON value, in no particular order."""
    stack = [value]
    while stack:
        node = stack.pop()
        if isinstance(node, str):
            yield node
        elif isinstance(node, dict):
            stack += node.keys()
            stack += node.values()
        elif isinstance(node, list):
            stack += node


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of which no key was silently dropped."""
    row = dict(pairs)
    if len(row) != len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise MalformedError(f"the key {excerpt(twice)} is there twice: keep one of them")
    return row


def whole_number(digits: str) -> int:
    """An integer of sane length."""
    if len(digits) > MAX_NUMBER_CHARS:
        raise MalformedError(f"a number of {len(digits)} digits begins {digits[:12]}: write it as text")
    return int(digits)


def finite_number(digits: str) -> float:
    """A float that is one."""
    value = float(digits)
    if not math.isfinite(value):
        raise MalformedError(f"the number {digits[:EXCERPT_CHARS]} is out of range: write it as text")
    return value


def refuse_constant(name: str) -> None:
    """NaN and the infinities, which Python would take and JSON does not have."""
    raise MalformedError(f"{name} is not JSON: use null, or a number")


# One decoder for all: building it makes the C scanner once.
DECODER = json.JSONDecoder(
    object_pairs_hook=unique_keys, parse_int=whole_number, parse_float=finite_number, parse_constant=refuse_constant
)
