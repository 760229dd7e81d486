"""The lines of a chat's stream -> deltas. Owns what a line may hold, and how a stream ends.

Lines are cut at newlines alone: a line of JSON may hold characters at which Python, too, would end a line (U+0085).
Whatever a server writes, no part of a call comes out: of an answer that was cut by the limit none of its calls do.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from thaud.domain import ToolCall, canonical_json
from thaud.serving.ollama_errors import plain
from thaud.serving.runtime import Delta, DoneReason
from thaud.serving.thinking import Splitter

LONGEST_LINE = 16 << 20
DONE_REASONS: Mapping[str, DoneReason] = {"stop": "stop", "length": "length"}
CUT_CALL = "invalid tool call arguments"


def cut_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of a stream, however it was cut on its way. Of a last line without an end only a whole one is given.

    Raises ValueError for a line of more than LONGEST_LINE bytes.
    """
    held = b""
    for chunk in chunks:
        *whole, held = (held + chunk).split(b"\n")
        yield from (line for line in whole if line.strip())
        if len(held) > LONGEST_LINE:
            raise ValueError(f"a line of more than {LONGEST_LINE >> 20} MiB")
    if held.strip() and is_json(held):
        yield held


def is_json(line: bytes) -> bool:
    """Whether a line is whole."""
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def is_cut_call(error: Any) -> bool:
    """Whether an error says that the limit came in the middle of a call, which newer servers report as their own."""
    return CUT_CALL in plain(error)


@dataclass(slots=True)
class Hearing:
    """What was heard of one reply so far.

    A server that lost a call it could not read says so in one way only: more tokens than the end's one, and no word.
    Thoughts come apart from the text, or, where the server was not asked to think and the model does, in it.
    """

    _calls: dict[str, ToolCall] = field(default_factory=dict)
    _splitter: Splitter = field(default_factory=Splitter)

    def hear(self, part: Mapping[str, Any]) -> Delta:
        """One line as a delta. Raises ValueError or TypeError for one that is no chunk of a chat."""
        message = part.get("message") or {}
        calls = tuple(self._new_calls(message.get("tool_calls") or ()))
        said, thinking = self._splitter.feed(expect_text(message, "content"))
        thinking = expect_text(message, "thinking") + thinking
        if not part.get("done"):
            return Delta(said, calls, thinking=thinking)
        rest = self._splitter.finish()
        done = DONE_REASONS.get(part.get("done_reason") or "stop", "aborted")
        counts = (expect_count(part, "prompt_eval_count"), expect_count(part, "eval_count"))
        return Delta(said + rest.text, calls if done == "stop" else (), done, *counts, thinking + rest.thinking)

    def break_off(self, done: DoneReason = "aborted") -> Delta:
        """The end of a reply whose last line did not come."""
        rest = self._splitter.finish()
        return Delta(rest.text, done=done, thinking=rest.thinking)

    def _new_calls(self, rows: Any) -> Iterator[ToolCall]:
        """The calls of a chunk, without those that were given before under the same id."""
        for row in rows:
            call, key = as_call(row["function"]), row.get("id")
            if not isinstance(key, str) or self._calls.get(key) != call:
                yield call
            if isinstance(key, str):
                self._calls[key] = call


def as_call(function: Mapping[str, Any]) -> ToolCall:
    """A call in Ollama's JSON. Its arguments are an object; where a server writes them as text, the object in it."""
    name, arguments = function["name"], function.get("arguments")
    if isinstance(arguments, str):
        arguments = json.loads(arguments) if arguments.strip() else None
    if arguments is None:
        arguments = {}
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise TypeError("a tool call has no name, or its arguments are no object")
    canonical_json(arguments)  # NaN and Infinity are Python's, not JSON's
    return ToolCall(name, arguments)


def expect_text(message: Mapping[str, Any], key: str) -> str:
    """A text that may be missing. Raises TypeError."""
    value = message.get(key) or ""
    if not isinstance(value, str):
        raise TypeError(f"{key} is no text")
    return value


def expect_count(part: Mapping[str, Any], key: str) -> int:
    """A count, which servers leave out where it is 0. Raises TypeError."""
    value = part.get(key) or 0
    if not isinstance(value, int):
        raise TypeError(f"{key} is no number")
    return value
