"""Answers written byte by byte: what a server sends to the next chat, cut on its way as the script says.

    fake.scripts.append(script(chunk("Ma"), chunk("ñana"), last(), every=3))   three bytes at a time
    fake.scripts.append(Script((b'{"message":',), drops=True))                 the connection breaks within a line

A script is used up by one request, whatever that asks; no model runs. For what no model here would say: the models are
too good, or too small, to make every mistake of a server.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thaud.serving.fake.gojson import go_json

Line = dict[str, Any]
MOMENT = "2026-03-01T12:00:00Z"


@dataclass(frozen=True, slots=True)
class Script:
    """One answer: its status, its bytes as they are sent, and whether the connection breaks behind them."""

    pieces: Sequence[bytes]
    status: int = 200
    drops: bool = False


def script(*rows: Mapping[str, Any], every: int = 0, drops: bool = False) -> Script:
    """An NDJSON answer of these lines; `every`: so many bytes at a time, 0 a line at a time."""
    lines = [go_json(row).encode() + b"\n" for row in rows]
    whole = b"".join(lines)
    pieces = [whole[at : at + every] for at in range(0, len(whole), every)] if every else lines
    return Script(tuple(pieces), drops=drops)


def refusal(status: int, error: Any) -> Script:
    """An error answer."""
    return Script((go_json({"error": error}).encode(),), status)


def chunk(content: str = "", *, thinking: str = "", calls: Sequence[Line] = ()) -> Line:
    """A line in the middle of an answer."""
    message: Line = {"role": "assistant", "content": content}
    message |= {"thinking": thinking} if thinking else {}
    message |= {"tool_calls": list(calls)} if calls else {}
    return {"model": "scripted", "created_at": MOMENT, "message": message, "done": False}


def last(reason: str = "stop", *, prompt: int = 20, tokens: int = 5, calls: Sequence[Line] = ()) -> Line:
    """The last line. `tokens` counts the end of the turn too."""
    counts = {"prompt_eval_count": prompt, "eval_count": tokens}
    return chunk(calls=calls) | {"done": True, "done_reason": reason, "total_duration": 1000} | counts


def call(name: str, arguments: Any, key: str = "call_0a1b2c3d", index: int = 0) -> Line:
    """A call as a server numbers and names it."""
    return {"id": key, "function": {"index": index, "name": name, "arguments": arguments}}
