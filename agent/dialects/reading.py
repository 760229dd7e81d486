"""What every dialect shares: a reply taken apart, and JSON values read as calls.

Owns leniency where the meaning is plain (`parameters` for `arguments`, arguments as a JSON string or absent) and
refuses all else. Knows no tools: those who do are behind `Offered`.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from thaud.domain import ToolCall
from thaud.errors import ToolError

BETWEEN = " \t\r\n,;"  # what models put between calls
BEGINNING = re.compile(r"^[ \t]*(?=[\[{])", re.MULTILINE)
MOST_BEGINNINGS = 64  # places where JSON is looked for in one reply


class Offered(Protocol):
    """The tools of a turn; agent.toolbox.Toolbox is one."""

    def check(self, call: ToolCall) -> object:
        """Raises ToolError, in words for the model, where the call may not run."""
        ...


@dataclass(frozen=True, slots=True)
class Parsed:
    """A reply taken apart: what is said, what is called, and what was meant as a call but cannot be read as one."""

    content: str
    calls: tuple[ToolCall, ...] = ()
    problems: tuple[str, ...] = ()


class UnreadableCallError(ValueError):
    """What stands there is no call; the message is meant for the model."""


Read = Callable[[Any], Parsed]  # a JSON value as calls and what is said with them; raises UnreadableCallError


def ending(text: str, read: Read, offered: Offered) -> Parsed:
    """The calls that a reply ends with, from the beginning of a line on; all text where it ends with none."""
    at = 0
    for found in list(BEGINNING.finditer(text))[:MOST_BEGINNINGS]:
        if found.end() < at:
            continue
        try:
            parsed, at = series(text, found.end(), read)
        except UnreadableCallError:
            continue
        if at == len(text) and accepted(offered, parsed.calls):
            said = [text[: found.start()].strip(), parsed.content]
            return Parsed("\n".join(filter(None, said)), parsed.calls)
    return Parsed(text.strip())


def series(text: str, start: int, read: Read) -> tuple[Parsed, int]:
    """JSON values one after another, all of them calls, and where they end. Raises UnreadableCallError."""
    said: list[str] = []
    calls: list[ToolCall] = []
    at = start
    while at < len(text) and (at == start or text[at] in "[{"):
        value, size = decode(text[at:])
        parsed = read(value)
        said.append(parsed.content)
        calls += parsed.calls
        at += size
        at += len(text[at:]) - len(text[at:].lstrip(BETWEEN))
    return Parsed("\n".join(filter(None, said)), tuple(calls)), at


def accepted(offered: Offered, calls: Sequence[ToolCall]) -> bool:
    """Whether there are calls, and each may run."""
    try:
        for call in calls:
            offered.check(call)
    except ToolError:
        return False
    return bool(calls)


def decode(text: str) -> tuple[Any, int]:
    """The JSON value at the start of a text, and where it ends. Raises UnreadableCallError."""
    try:
        return json.JSONDecoder(parse_constant=refuse_constant).raw_decode(text)
    except json.JSONDecodeError as error:
        raise UnreadableCallError(
            f"the tool call is no valid JSON: {error.msg} at character {error.pos + 1}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UnreadableCallError("the tool call is no valid JSON") from error


def decode_whole(text: str) -> Any:
    """The JSON value that a text is, with nothing after it. Raises UnreadableCallError."""
    value, end = decode(text)
    if end != len(text):
        raise UnreadableCallError("the arguments are no valid JSON")
    return value


def refuse_constant(name: str) -> NoReturn:
    """NaN and Infinity are Python's, not JSON's."""
    raise ValueError(name)


def as_call(value: Any) -> ToolCall:
    """A JSON value as a call. Raises UnreadableCallError where it has no name, its arguments are no object, or there is
    half a character in it, which no file and no program could be given.
    """
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise UnreadableCallError('a tool call is an object with "name" and "arguments"')
    arguments = value.get("arguments", value.get("parameters"))
    if isinstance(arguments, str):
        arguments = decode_whole(arguments.strip())
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, Mapping):
        raise UnreadableCallError(f'the "arguments" of {value["name"]} must be an object')
    if any(not whole(text) for text in texts([value["name"], arguments])):
        raise UnreadableCallError("the tool call holds half of a surrogate pair")
    return ToolCall(value["name"], dict(arguments))


def texts(value: Any) -> Iterator[str]:
    """All texts within a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from value
        for each in value.values():
            yield from texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from texts(each)


def whole(text: str) -> bool:
    """Whether a text is Unicode through and through."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
