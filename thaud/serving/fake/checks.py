"""What a chat or generate request may hold, and what a model can do: the real server's rules and words."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thaud.serving.fake.gojson import go_json
from thaud.serving.fake.protocol import Name, Refusal

Line = dict[str, Any]
OPTION_TYPES: Mapping[str, str] = {
    **dict.fromkeys(
        ("num_keep", "seed", "num_predict", "top_k", "repeat_last_n", "num_ctx", "num_batch", "num_gpu", "main_gpu"),
        "integer",
    ),
    **dict.fromkeys(
        ("top_p", "min_p", "typical_p", "temperature", "repeat_penalty", "presence_penalty", "frequency_penalty"),
        "float32",
    ),
    "num_thread": "integer",
    "use_mmap": "boolean",
    "stop": "array",
}
DURATION = re.compile(r"-?(\d+(\.\d+)?(ns|us|ms|s|m|h))+")
PART = re.compile(r"(\d+(\.\d+)?)(ns|us|ms|s|m|h)")
UNITS: Mapping[str, float] = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
TOP_LOGPROBS = 20
WANTED_FORMAT = 'expected "json" or a valid JSON Schema object'
THINK_VALUES = (None, True, False, "low", "medium", "high", "max")


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a template makes of a model. `round_trip`: it also renders calls and their results."""

    tools: bool
    thinking: bool
    round_trip: bool

    @property
    def count(self) -> int:
        """How many of tools and thinking."""
        return self.tools + self.thinking


def jinja_abilities(text: str) -> Abilities:
    """Of a GGUF's own template."""
    tools = "tools" in text or "tool_call" in text
    results = any(
        word in text for word in ("tool_response", "tool_results", "ipython", "role == 'tool'", 'role == "tool"')
    )
    return Abilities(tools, "<think>" in text and "</think>" in text, tools and "tool_calls" in text and results)


def go_abilities(text: str) -> Abilities:
    """Of a Go template."""
    results = any(word in text for word in ('eq .Role "tool"', "tool_response", "TOOL_RESULTS"))
    return Abilities(
        ".tools" in text.lower(), ".Thinking" in text, ".Tools" in text and ".ToolCalls" in text and results
    )


def runs_natively(go: str | None, jinja: str, *, new: bool) -> bool:
    """Whether the server takes the GGUF's Jinja template rather than the Go one."""
    if not new:
        return False
    if go is None:
        return True
    ours, theirs = go_abilities(go), jinja_abilities(jinja)
    if theirs.count > ours.count:
        return theirs.round_trip or not ours.round_trip
    return theirs.count == ours.count and ours.tools and theirs.round_trip and not ours.round_trip


def check_options(options: Mapping[str, Any]) -> None:
    """Raises Refusal on a known option of the wrong type; unknown ones are ignored."""
    good = {
        "integer": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
        "float32": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
        "boolean": lambda value: isinstance(value, bool),
        "array": lambda value: isinstance(value, list),
    }
    for key, value in options.items():
        kind = OPTION_TYPES.get(key)
        if kind is not None and value is not None and not good[kind](value):
            raise Refusal(500, f'option "{key}" must be of type {kind}')


def keep_alive_seconds(value: Any) -> float | None:
    """How long to keep the model: None where nothing is said, 0 to unload, negative for ever. Raises Refusal."""
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    if value == "0":
        return 0
    if not (isinstance(value, str) and DURATION.fullmatch(value)):
        missing = isinstance(value, str) and re.fullmatch(r"-?\d+(\.\d+)?", value)
        reason = f'time: missing unit in duration "{value}"' if missing else f'time: invalid duration "{value}"'
        raise Refusal(400, reason)
    seconds = sum(float(number) * UNITS[unit] for number, _, unit in PART.findall(value))
    return -seconds if value.startswith("-") else seconds


def check_request(body: Line, name: Name, able: Abilities) -> None:
    """Raises Refusal on what the real server refuses before it loads the model."""
    think, tools = body.get("think"), body.get("tools") or []
    if think not in THINK_VALUES:
        raise Refusal(400, f'invalid think value: "{think}" (must be "high", "medium", "low", "max", true, or false)')
    if not 0 <= (body.get("top_logprobs") or 0) <= TOP_LOGPROBS:
        raise Refusal(400, f"top_logprobs must be between 0 and {TOP_LOGPROBS}")
    if think not in (None, False) and not able.thinking:
        raise Refusal(400, f'"{body.get("model")}" does not support thinking')
    if tools and not able.tools:
        raise Refusal(400, f"{name.full} does not support tools")
    if body.get("suffix"):
        raise Refusal(400, f"{name.full} does not support insert")
    if body.get("format") not in (None, "", "json") and not isinstance(body["format"], dict):
        raise Refusal(500, f"invalid format: {go_json(go_json(body['format']))}; {WANTED_FORMAT}")


def check_tools(tools: Sequence[Line]) -> None:
    """Raises Refusal on a tool of which llama-server can make no grammar."""
    for tool in tools:
        properties = (tool.get("function", {}).get("parameters") or {}).get("properties")
        if tool.get("type") != "function" or not isinstance(properties, dict):
            raise Refusal(400, "Unable to generate parser for this template: properties must be an object")


def check_messages(messages: Sequence[Line]) -> None:
    """Raises Refusal on turns that Go cannot read."""
    for message in messages:
        content = message.get("content", "")
        if not isinstance(content, str | None):
            kind = "array" if isinstance(content, list) else "object" if isinstance(content, dict) else "number"
            raise Refusal(400, f"json: cannot unmarshal {kind} into Go struct field Alias.content of type string")
        for call in message.get("tool_calls") or []:
            if not isinstance(call["function"].get("arguments"), dict):
                raise Refusal(400, "Value looks like object, but can't find closing '}' symbol")


def check_last(messages: Sequence[Line]) -> None:
    """Raises Refusal where a native chat would have to go on with a call."""
    if messages and messages[-1]["role"] == "assistant" and messages[-1].get("tool_calls"):
        raise Refusal(400, "Cannot continue an assistant message that contains tool calls.")
