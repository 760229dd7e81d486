"""JSON as Go's encoding/json writes it: compact, with <, >, & and two separators escaped, maps in the order of keys.

Numbers of a request are 64-bit floats to Go, and are written as such. Owns `Record`, a struct of Go: fields
by the names that templates know, and what JSON shows of it. Source: https://pkg.go.dev/encoding/json.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

ESCAPED = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
LARGEST_PLAIN, SMALLEST_PLAIN, EXACT = 1e21, 1e-6, 1 << 53


@dataclass(frozen=True, slots=True)
class Record:
    """A struct of Go. `shown` is its JSON, whose keys keep their order."""

    fields: Mapping[str, Any]
    shown: Any


def go_json(value: Any, *, sort: bool = False) -> str:
    """A value's JSON. `sort`: dicts are Go's maps, whose keys come in order, and not structs, whose fields do not."""
    if isinstance(value, Record):
        return go_json(value.shown)
    if isinstance(value, Mapping):
        items = sorted(value.items()) if sort else value.items()
        return f"{{{','.join(f'{go_json(key)}:{go_json(item, sort=sort)}' for key, item in items)}}}"
    if isinstance(value, list | tuple):
        return f"[{','.join(go_json(item, sort=sort) for item in value)}]"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return go_number(value)
    text = json.dumps(value, ensure_ascii=False)
    return "".join(ESCAPED.get(character, character) for character in text)


def go_number(value: float) -> str:
    """A number as Go's %v and JSON write it: whole ones that fit 64 bits as they are, all others as float64."""
    if isinstance(value, int) and abs(value) < EXACT:
        return str(value)
    number = float(value)
    if number == 0 or SMALLEST_PLAIN <= abs(number) < LARGEST_PLAIN:
        plain = format(Decimal(repr(number)), "f")
        return plain.removesuffix(".0")
    return re.sub(r"e([+-])0(\d)", r"e\1\2", repr(number))


def in_order(value: Any) -> Any:
    """A value whose dicts are maps of Go: sorted by key at every depth."""
    if isinstance(value, Mapping):
        return {key: in_order(item) for key, item in sorted(value.items())}
    return [in_order(item) for item in value] if isinstance(value, list) else value
