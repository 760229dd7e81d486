"""Tool calls as Hermes and Qwen models write them: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`.

Owns the reading of the text; refuses to know which tools exist (see toolbox.py). Lenient where the meaning is plain, as
Ollama is: several calls in one block, `parameters` for `arguments`, arguments as a JSON string or absent, a missing
closing tag at the end. Anything else inside a block is a problem, told to the model; outside of blocks it is text.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from thaud.domain import ToolCall

OPEN = "<tool_call>"
CLOSE = "</tool_call>"


@dataclass(frozen=True, slots=True)
class Parsed:
    """A reply taken apart: what is said, what is called, and what was meant as a call but cannot be read as one."""

    content: str
    calls: tuple[ToolCall, ...] = ()
    problems: tuple[str, ...] = ()


class UnreadableCallError(ValueError):
    """What stands in a block is no call; the message is meant for the model."""


def parse(text: str) -> Parsed:
    """Take a whole reply apart. Never raises: what cannot be read is in `problems`."""
    said: list[str] = []
    calls: list[ToolCall] = []
    problems: list[str] = []
    rest = text
    while OPEN in rest:
        before, _, block = rest.partition(OPEN)
        said.append(before)
        try:
            found, rest = read_block(block)
            calls += found
        except UnreadableCallError as error:
            problems.append(str(error))
            rest = block.partition(CLOSE)[2]
    return Parsed("".join([*said, rest]).strip(), tuple(calls), tuple(problems))


def read_block(block: str) -> tuple[list[ToolCall], str]:
    """The calls after an opening tag, and what follows the closing one. Raises UnreadableCallError."""
    calls: list[ToolCall] = []
    rest = block.lstrip()
    while rest and not rest.startswith((CLOSE, OPEN)):
        value, end = decode(rest)
        calls.append(as_call(value))
        rest = rest[end:].lstrip()
    if not calls:
        raise UnreadableCallError("the tool call is empty")
    return calls, rest.removeprefix(CLOSE)


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
    """A JSON value as a call. Raises UnreadableCallError where it has no name, or its arguments are no object."""
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise UnreadableCallError('a tool call is an object with "name" and "arguments"')
    arguments = value.get("arguments", value.get("parameters"))
    if isinstance(arguments, str):
        arguments = decode_whole(arguments.strip())
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, Mapping):
        raise UnreadableCallError(f'the "arguments" of {value["name"]} must be an object')
    return ToolCall(value["name"], dict(arguments))


class Curtain:
    """Hides blocks from a text that arrives in pieces: `feed` gives what may be shown, `finish` what was held back.

    A block that is never closed stays hidden to the end: half a call is nothing to read.
    """

    def __init__(self) -> None:
        self._held = ""
        self._inside = False

    def feed(self, piece: str) -> str:
        """Take a piece and give what is certain to be no part of a block."""
        self._held += piece
        shown: list[str] = []
        while (tag := CLOSE if self._inside else OPEN) in self._held:
            before, _, self._held = self._held.partition(tag)
            shown.append("" if self._inside else before)
            self._inside = not self._inside
        keep = overlap(self._held, tag)
        if not self._inside:
            shown.append(self._held[: len(self._held) - keep])
        self._held = self._held[len(self._held) - keep :]
        return "".join(shown)

    def finish(self) -> str:
        """What looked like the beginning of a block and was none."""
        held, self._held = self._held, ""
        return "" if self._inside else held


def overlap(text: str, tag: str) -> int:
    """How many characters at the end of a text may be the beginning of a tag."""
    return next((size for size in range(min(len(text), len(tag) - 1), 0, -1) if tag.startswith(text[-size:])), 0)
