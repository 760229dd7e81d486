"""What a server says of its tools -> what may be offered. Owns names, digests and schemas; refuses to fetch a schema.

A schema is rewritten before it is used: local `$ref`s are put in their places, so that nothing refers to anything any
more, least of all to another machine; descriptions are cleaned of control sequences and template tokens. What cannot
be rewritten within bounds is left out, with the reason.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from thaud.errors import ToolError
from tools.sanitise import clean

LONGEST_NAME = 64
LONGEST_DESCRIPTION = 1500
LONGEST_DEFINITION = 64 << 10
MOST_NODES = 2000
DEEPEST = 32
Schema = Mapping[str, Any]

# Keywords by what is under them: one schema, a list of them, schemas by name. Others hold data and stay as they are.
ONE = frozenset({"items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames"})
ONE |= {"additionalItems"}
LISTS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
NAMED = frozenset({"properties", "dependentSchemas"})
# `pattern` and `unevaluated...` are left to the server: hostile ones would hold us for hours on a short text.
DROPPED = frozenset({"$schema", "$id", "$anchor", "$comment", "$defs", "definitions", "title", "examples"})
DROPPED |= {"pattern", "patternProperties", "unevaluatedProperties", "unevaluatedItems"}
UNKNOWN = ("$dynamicRef", "$recursiveRef", "$dynamicAnchor", "$recursiveAnchor")


class UnfitError(Exception):
    """A tool that cannot be offered; the message says why."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A tool as its server defines it: all that was said, as JSON."""

    server: str
    name: str
    raw: Mapping[str, Any]

    @property
    def canonical(self) -> str:
        """One text for one definition."""
        return json.dumps(self.raw, ensure_ascii=True, sort_keys=True, separators=(",", ":"))

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical text, in hexadecimal."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()

    @property
    def description(self) -> str:
        """What the model reads: cleaned, on one line, and no longer than a tool's should be."""
        words = " ".join(clean(str(self.raw.get("description") or self.raw.get("title") or self.name)).split())
        return words if len(words) <= LONGEST_DESCRIPTION else f"{words[:LONGEST_DESCRIPTION]}…"

    def schema(self) -> dict[str, Any]:
        """The schema of the arguments, rewritten. Raises UnfitError."""
        if len(self.canonical) > LONGEST_DEFINITION:
            raise UnfitError(f"its definition is longer than {LONGEST_DEFINITION >> 10} KiB")
        given = self.raw.get("inputSchema")
        if not isinstance(given, Mapping) or given.get("type") != "object":
            raise UnfitError("its arguments are no object")
        written = Rewriting(given).rewrite(given, (), 0)
        check(written)
        named = {"properties": written.get("properties", {}), "required": written.get("required", [])}
        return {**written, **named, "additionalProperties": False}  # as `accepted` has it


@dataclass(slots=True)
class Rewriting:
    """One schema being rewritten; `nodes` counts what it grows to."""

    root: Schema
    nodes: int = 0
    problems: list[str] = field(default_factory=list)

    def rewrite(self, schema: Any, within: tuple[str, ...], depth: int) -> Any:
        """A schema without references. `within`: the references that led here. Raises UnfitError."""
        self.nodes += 1
        if self.nodes > MOST_NODES or depth > DEEPEST:
            raise UnfitError(f"its schema is too large: more than {MOST_NODES} parts or {DEEPEST} levels")
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, Mapping):
            raise UnfitError(f"its schema has {type(schema).__name__} where a schema belongs")
        if unknown := next((name for name in UNKNOWN if name in schema), None):
            raise UnfitError(f"its schema uses {unknown}")
        plain = {name: self.part(name, value, within, depth) for name, value in schema.items() if name not in DROPPED}
        if "$ref" not in plain:
            return plain
        reference = str(plain.pop("$ref"))
        return merge(self.resolved(reference, within, depth), plain)

    def part(self, name: str, value: Any, within: tuple[str, ...], depth: int) -> Any:
        """What is under a keyword."""
        if name in ONE or (name in LISTS and not isinstance(value, list)):
            return self.rewrite(value, within, depth + 1)
        if name in LISTS:
            return [self.rewrite(each, within, depth + 1) for each in value]
        if name in NAMED:
            if not isinstance(value, Mapping):
                raise UnfitError(f"its schema has no names under {name!r}")
            return {str(key): self.rewrite(each, within, depth + 1) for key, each in value.items()}
        if name == "description":
            return " ".join(clean(str(value)).split())[:LONGEST_DESCRIPTION]
        return value

    def resolved(self, reference: str, within: tuple[str, ...], depth: int) -> Any:
        """The schema that a reference means. Raises UnfitError for those that lead out, in circles or nowhere."""
        if not reference.startswith("#/"):
            raise UnfitError(f"its schema refers to {reference[:100]!r}, which is not fetched")
        if reference in within:
            raise UnfitError(f"its schema refers to itself at {reference[:100]!r}")
        target: Any = self.root
        for step in reference[2:].split("/"):
            name = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(target, Mapping) or name not in target:
                raise UnfitError(f"its schema refers to {reference[:100]!r}, which it does not have")
            target = target[name]
        return self.rewrite(target, (*within, reference), depth + 1)


def merge(target: Any, beside: Schema) -> Any:
    """A referred schema and what stood beside the reference: both hold."""
    if not beside:
        return target
    if isinstance(target, Mapping) and not (set(target) & set(beside)) - {"description", "default"}:
        return {**target, **beside}
    return {**beside, "allOf": [*beside.get("allOf", ()), target]}


def check(schema: Schema) -> None:
    """Whether a rewritten schema is one, in words that hide nothing. Raises UnfitError."""
    from jsonschema import Draft202012Validator, SchemaError  # noqa: PLC0415 - heavy

    try:
        Draft202012Validator.check_schema(schema)
    except (SchemaError, RecursionError) as error:
        raise UnfitError(f"its schema is none: {getattr(error, 'message', error)!s:.200}") from error
    text = json.dumps(schema, ensure_ascii=False)
    if clean(text) != text:
        raise UnfitError("its schema holds control characters or a template's tokens")


def accepted(name: str, schema: Schema, values: Mapping[str, Any]) -> dict[str, Any]:
    """A model's arguments where the schema has nothing against them. Raises ToolError naming each wrong one.

    Arguments that the schema does not name are refused, even where it would let anything pass.
    """
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - heavy

    known = schema["properties"]
    if strangers := [each for each in values if each not in known]:
        raise ToolError(f"{name}: there is no argument {strangers[0]!r}, only {', '.join(known) or 'none'}")
    found = Draft202012Validator(schema).iter_errors(dict(values))
    errors = sorted(found, key=lambda error: [str(part) for part in error.absolute_path])
    if errors:
        raise ToolError(f"{name}: {'; '.join(complaint(error) for error in errors[:4])}")
    return dict(values)


def complaint(error: Any) -> str:
    """One of jsonschema's errors."""
    where = ".".join(str(part) for part in error.absolute_path)
    return f"the argument {where!r} is wrong: {error.message:.200}" if where else f"{error.message:.200}"


def names_for(definitions: Sequence[Definition], taken: Iterable[str]) -> list[str]:
    """A name for each definition, in order: `server__tool` of letters, digits, `_` and `-`, at most 64, no two equal.

    Names that are too long, or would be those of two tools, get a part of a digest, the same from day to day.
    """
    plain = [re.sub(r"[^A-Za-z0-9_-]", "_", f"{each.server}__{each.name}") for each in definitions]
    counted = Counter([*plain, *taken])
    return [
        name if len(name) <= LONGEST_NAME and counted[name] == 1 else with_digest(name, each)
        for name, each in zip(plain, definitions, strict=True)
    ]


def with_digest(name: str, definition: Definition) -> str:
    """A name that no other tool has, for as long as it is called what it is."""
    mark = hashlib.sha256(f"{definition.server}\0{definition.name}".encode()).hexdigest()[:8]
    return f"{name[: LONGEST_NAME - 9]}_{mark}"
