"""Tool calls as OpenAI's interface writes them: `{"type": "function", "function": {"name", "arguments": "{...}"}}`,
each alone, in a list, or as the `tool_calls` of a message, and the older `function_call`.

Owns what such a value is. A call is only what ends the reply and may run; anything else is text.
"""

from collections.abc import Mapping
from typing import Any

from agent.dialects.reading import Offered, Parsed, UnreadableCallError, as_call, ending


def parse(text: str, offered: Offered) -> Parsed:
    """Take a whole reply apart."""
    return ending(text.strip(), read, offered)


def read(value: Any) -> Parsed:
    """The calls of a value, and the content of a message around them. Raises UnreadableCallError."""
    said = ""
    if isinstance(value, Mapping) and ("tool_calls" in value or "function_call" in value):
        content = value.get("content")
        said = content if isinstance(content, str) else ""
        older = value.get("function_call")
        value = value.get("tool_calls") or ([{"function": older}] if older else [])
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(each, Mapping) and isinstance(each.get("function"), Mapping) for each in values):
        raise UnreadableCallError('a tool call has a "function"')
    return Parsed(said, tuple(as_call(each["function"]) for each in values))
