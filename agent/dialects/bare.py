"""Tool calls as bare JSON: `{"name": ..., "arguments": {...}}`, several in a row or in a list, as Llama 3 writes them.

Owns what such a value is. A call is only what ends the reply and may run; anything else is text, so that people can be
shown JSON.
"""

from collections.abc import Mapping
from typing import Any

from agent.dialects.hermes import CLOSE
from agent.dialects.reading import Offered, Parsed, UnreadableCallError, as_call, ending

KNOWN = frozenset({"name", "arguments", "parameters", "id", "type"})


def parse(text: str, offered: Offered) -> Parsed:
    """Take a whole reply apart. Hermes' closing tag at its end is left out: some servers lose the opening one."""
    return ending(text.strip().removesuffix(CLOSE).rstrip(), read, offered)


def read(value: Any) -> Parsed:
    """A call, or a list of them. Raises UnreadableCallError; an object with other keys is none."""
    values = value if isinstance(value, list) else [value]
    if any(isinstance(each, Mapping) and not KNOWN.issuperset(each) for each in values):
        raise UnreadableCallError("a tool call has no other keys")
    return Parsed("", tuple(as_call(each) for each in values))
