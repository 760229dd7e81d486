"""Schemas of tools made by chance from a seed: what type hints can say, nested, with awkward names and values."""

from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = (
    *("expression", "path", "query", "limit", "año", "días de la semana", 'with "quotes"', "back\\slash", "emoji 🙂"),
    *("name", "arguments", "a/b", "$ref", "<tool_call>", "x", "line\nbreak", "true", "42", "ñandú", "required"),
)
VALUES: tuple[Any, ...] = (
    *("red", "azul", 'say "no"', "c:\\temp", "tab\there", "</tool_call>", "<|im_end|>", "🙂", "", " ", "a,b", "ünïco"),
    *(0, 2, -1, 3.5, -0.25, 1e-7, 10**12, True, False, None),
)
LIKELY = 0.7

Schema = dict[str, Any]


def tool_schema(random: Random) -> Schema:
    """The arguments of one tool: an object, with definitions that its parts may refer to."""
    defs = {f"D{number}": schema(random, 1) for number in range(random.randint(0, 2))}
    whole = an_object(random, 3, tuple(defs))
    return {**whole, **({"$defs": defs} if defs else {})}


def schema(random: Random, depth: int, defs: tuple[str, ...] = ()) -> Schema:
    """Any schema of at most this depth."""
    flat: list[Callable[[], Schema]] = [
        lambda: a_string(random),
        lambda: an_integer(random),
        lambda: a_number(random),
        lambda: {"type": "boolean"},
        lambda: {"type": "null"},
        lambda: {"enum": random.sample(VALUES, random.randint(1, 6))},
        lambda: {"const": random.choice(VALUES)},
    ]
    if defs:
        flat.append(lambda: {"$ref": f"#/$defs/{random.choice(defs)}", "description": "one of them"})
    deep: list[Callable[[], Schema]] = [
        lambda: an_object(random, depth - 1, defs),
        lambda: an_array(random, depth - 1, defs),
        lambda: a_tuple(random, depth - 1, defs),
        lambda: {"anyOf": [schema(random, depth - 1, defs) for _ in range(random.randint(1, 3))]},
        lambda: {"type": random.sample(["string", "integer", "boolean", "null", "number"], 2), "maxLength": 9},
        lambda: {"type": "object", "additionalProperties": schema(random, depth - 1, defs), "maxProperties": 3},
        lambda: {"type": "object", "additionalProperties": schema(random, 0, defs), "minProperties": 1},
        lambda: {"type": "array", "items": schema(random, 0, defs), "minItems": random.randint(0, 2)},
        lambda: {"oneOf": [a_variant(random, kind, depth - 1, defs) for kind in ("circle", "square")]},
    ]
    return random.choice(flat + deep if depth > 0 else flat)()


def a_string(random: Random) -> Schema:
    """Mostly short, now and then long."""
    least = random.randint(0, 6)
    return random.choice(
        [
            {"type": "string", "maxLength": random.randint(0, 24)},
            {"type": "string", "minLength": least, "maxLength": least + random.randint(0, 12)},
            {"type": "string", "maxLength": random.choice([130, 300]), "minLength": random.choice([0, 3, 130])},
            {"type": "string"},
            {"type": "string", "maxLength": 8, "title": "A title", "default": "x", "format": "uri"},
        ]
    )


def an_integer(random: Random) -> Schema:
    """With bounds on neither, either or both sides."""
    low = random.choice([0, 1, -5, -120, 7, 995, 10**9, -(10**6)])
    found: Schema = {"type": "integer"}
    if random.random() < LIKELY:
        found[random.choice(["minimum", "exclusiveMinimum"])] = low
    if random.random() < LIKELY:
        found[random.choice(["maximum", "exclusiveMaximum"])] = low + random.choice([2, 9, 10, 250, 10**7])
    return found


def a_number(random: Random) -> Schema:
    """The same with decimals."""
    low = random.choice([0, 0.5, -1.25, 99.9, -1000, 1e-3, 123456.789])
    found: Schema = {"type": "number"}
    if random.random() < LIKELY:
        found[random.choice(["minimum", "exclusiveMinimum"])] = low
    if random.random() < LIKELY:
        found[random.choice(["maximum", "exclusiveMaximum"])] = low + random.choice([0.25, 1, 1.5, 10, 1e5])
    return found


def an_array(random: Random, depth: int, defs: tuple[str, ...]) -> Schema:
    """A list of a few."""
    least = random.randint(0, 2)
    most = least + random.randint(0, 3)
    return {"type": "array", "items": schema(random, depth, defs), "minItems": least, "maxItems": most}


def a_tuple(random: Random, depth: int, defs: tuple[str, ...]) -> Schema:
    """As pydantic writes it."""
    items = [schema(random, depth, defs) for _ in range(random.randint(1, 3))]
    return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}


def an_object(random: Random, depth: int, defs: tuple[str, ...]) -> Schema:
    """Up to five properties, required or not in any order, and no others."""
    names = random.sample(NAMES, random.randint(0, 5))
    return {
        "type": "object",
        "properties": {name: schema(random, depth, defs) for name in names},
        "required": [name for name in names if random.random() < LIKELY],
        "additionalProperties": False,
    }


def a_variant(random: Random, kind: str, depth: int, defs: tuple[str, ...]) -> Schema:
    """One of a union that a constant tells apart."""
    found = an_object(random, depth, defs)
    found["properties"] = {"kind": {"const": kind}, **found["properties"]}
    return {**found, "required": ["kind", *found["required"]]}
