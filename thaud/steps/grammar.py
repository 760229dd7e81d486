"""JSON schema -> GBNF, the grammar notation of llama.cpp: what a model held to it says is JSON that validates.

Owns the subset of JSON schema 2020-12 that type hints give (objects, optional properties, enums, constants, unions,
arrays and tuples, bounds of numbers, lengths, `$defs`) and refuses the rest with ModelError instead of half keeping it.
The notation: llama.cpp, grammars/README.md; JSON: RFC 8259.

No length is bounded that the schema does not bound: a grammar that closed a string for the model would have half a file
written. What never ends is cut by the limit of tokens, and a reply that was cut runs nothing.

Strings hold no escaped surrogates and no NUL, which JSON allows and files and processes do not; properties come in the
schema's order; between tokens there is one space at most. `format` is an annotation, as the standard has it.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from thaud.errors import ModelError
from thaud.steps.numerals import LARGEST, decimals, either, integers, scaled

LONGEST = 65_536  # of characters and items; a maximum beyond it is none: a reply ends before
DEEPEST_VALUE = 2  # of values that may be anything
CHUNK = 128  # llama.cpp makes a rule of each repetition, and refuses more than 2,000
NAME = re.compile(r"[^a-z0-9]+")
COMMA = ' "," s '

Schema = Mapping[str, Any]

# A character as it is or escaped; \u0000 and \uD800 to \uDFFF are left out.
COMMON = {
    "s": '" "?',
    "hex": "[0-9a-fA-F]",
    "char": r'[^"\\\x00-\x1F\x7F] | "\\" (["\\/bfnrt] | "u" unit)',
    "unit": '[1-9a-cA-CeEfF] hex{3} | [dD] [0-7] hex{2} | "0" ([1-9a-fA-F] hex{2} | "0" low)',
    "low": '[1-9a-fA-F] hex | "0" [1-9a-fA-F]',
}
TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
REFUSED: Mapping[str, Sequence[str]] = {
    "": ("not", "if", "then", "else", "$dynamicRef", "$recursiveRef", "unevaluatedProperties", "unevaluatedItems"),
    "object": ("patternProperties", "propertyNames", "dependentRequired", "dependentSchemas", "dependencies"),
    "array": ("contains", "minContains", "maxContains", "uniqueItems", "additionalItems"),
    "string": ("pattern",),
    "number": ("multipleOf",),
    "integer": ("multipleOf",),
}
ANNOTATIONS = frozenset(
    {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"}
    | {"$defs", "definitions", "$schema", "$id", "$comment", "discriminator"}
)


def literal(text: str) -> str:
    """A text as GBNF. Raises ModelError where it is no Unicode text."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ModelError(f"a schema's text is no valid Unicode: {text!r}") from error
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'


def schema_grammar(schema: Schema) -> str:
    """GBNF whose root is one JSON value that the schema allows. Raises ModelError naming what it cannot express."""
    compiler = Compiler(schema)
    compiler.rules["root"] = compiler.value(schema)
    return compiler.text()


class Compiler:
    """Rules as they grow. `defs` is where `$ref` points into: the whole schema."""

    def __init__(self, defs: Schema) -> None:
        self.rules: dict[str, str] = dict(COMMON)
        self._defs = defs
        self._named: dict[str, str] = {}
        self._within: list[str] = []

    def text(self) -> str:
        """All rules."""
        return "".join(f"{name} ::= {body}\n" for name, body in self.rules.items())

    def rule(self, about: str, body: str) -> str:
        """A rule's name; equal bodies share one."""
        if body not in self._named:
            name = f"{NAME.sub('-', about.lower()).strip('-') or 'r'}-{len(self._named)}"
            self._named[body] = name
            self.rules[name] = body
        return self._named[body]

    def value(self, schema: Any, about: str = "value") -> str:
        """The expression of what a schema allows, which may be true or false. Raises ModelError."""
        if schema is True:
            return self.anything(DEEPEST_VALUE)
        if not isinstance(schema, Mapping):
            raise ModelError(f"the schema allows nothing as {about}")
        for keyword in REFUSED[""]:
            refuse(schema, keyword, about)
        if "$ref" in schema:
            return self.referred(schema, about)
        if "allOf" in schema:
            return self.all_of(schema, about)
        if "const" in schema:
            return self.one_of([schema["const"]], about)
        if "enum" in schema:
            return self.one_of(schema["enum"], about)
        return self.union(schema, about) if {"anyOf", "oneOf"} & set(schema) else self.typed(schema, about)

    def referred(self, schema: Schema, about: str) -> str:
        """What a `$ref` within the schema points to, with the properties beside it."""
        target = str(schema["$ref"])
        if target in self._within:
            raise ModelError(f"{about}: the schema {target!r} holds itself; bound its depth")
        found = resolve(target, self._defs, about)
        beside = {name: each for name, each in schema.items() if name != "$ref"}
        self._within.append(target)
        try:
            return self.value({**found, **beside}, about)
        finally:
            self._within.pop()

    def all_of(self, schema: Schema, about: str) -> str:
        """`allOf` of one, as some write a reference with a description."""
        parts = schema["allOf"]
        if len(parts) != 1:
            raise ModelError(f"{about}: cannot hold a model to 'allOf' of {len(parts)}; merge them")
        return self.value({**parts[0], **{name: each for name, each in schema.items() if name != "allOf"}}, about)

    def one_of(self, values: Sequence[Any], about: str) -> str:
        """One of some JSON values."""
        if not values:
            raise ModelError(f"{about}: an enum without values allows nothing")
        try:
            texts = [json.dumps(value, ensure_ascii=False, allow_nan=False) for value in values]
        except (TypeError, ValueError) as error:
            raise ModelError(f"{about}: {values!r} are no JSON values") from error
        return self.rule(about, either([literal(text) for text in dict.fromkeys(texts)]))

    def union(self, schema: Schema, about: str) -> str:
        """`anyOf`; `oneOf` where no value can be two of them."""
        keyword = "anyOf" if "anyOf" in schema else "oneOf"
        parts = list(schema[keyword])
        if constraining := set(schema) - ANNOTATIONS - {keyword, "type"}:
            raise ModelError(f"{about}: cannot hold a model to {keyword!r} and {sorted(constraining)} at once")
        if keyword == "oneOf" and not apart([self._whole(part, about) for part in parts]):
            raise ModelError(f"{about}: the alternatives of 'oneOf' can be told apart by no constant")
        if not parts:
            raise ModelError(f"{about}: {keyword!r} without alternatives allows nothing")
        if "type" in schema:
            parts = [{"type": schema["type"], **part} for part in parts]
        return self.rule(about, either([self.value(part, f"{about}-{at}") for at, part in enumerate(parts)]))

    def _whole(self, part: Schema, about: str) -> Schema:
        return resolve(str(part["$ref"]), self._defs, about) if "$ref" in part else part

    def typed(self, schema: Schema, about: str) -> str:
        """By type; where there is none, the one that its keywords are about, or any where there are none."""
        if not set(schema) - ANNOTATIONS:
            return self.anything(DEEPEST_VALUE)
        kind = schema.get("type") or implied(schema)
        if isinstance(kind, list):
            return self.rule(about, either([self.typed({**schema, "type": each}, about) for each in kind]))
        if kind not in TYPES:
            raise ModelError(f"{about}: cannot hold a model to the type {kind!r}; there are {', '.join(TYPES)}")
        for keyword in REFUSED.get(kind, ()):
            refuse(schema, keyword, about)
        write = {
            "object": self.object,
            "array": self.array,
            "string": self.string,
            "number": self.number,
            "integer": self.integer,
        }.get(kind)
        if write:
            return write(schema, about)
        return '"null"' if kind == "null" else '("true" | "false")'

    def anything(self, depth: int) -> str:
        """Any JSON value of at most this depth."""
        found = [self.text_of(0, None), self.number({}, "number"), '"true"', '"false"', '"null"']
        if depth:
            inner = self.anything(depth - 1)
            found += [self.listed(inner, 0, None), self.mapped(inner, 0, None)]
        return self.rule(f"any-{depth}", either(found))

    def string(self, schema: Schema, about: str) -> str:
        """Between minLength and maxLength characters."""
        least, most = bounds(schema, "minLength", "maxLength", about)
        return self.text_of(least, most)

    def text_of(self, least: int, most: int | None) -> str:
        """A string of so many characters."""
        quote = '"\\""'
        return self.rule("text", f"{quote} {self.repeated('char', least, most)} {quote}")

    def repeated(self, symbol: str, least: int, most: int | None) -> str:
        """So many of a rule, any number from `least` on where there is no `most`. Many are taken in chunks, since each
        repetition is a rule of llama.cpp's.
        """
        parts = []
        if least >= CHUNK:
            parts.append(f"{self.chunk(symbol)}{{{least // CHUNK}}}")
        if least % CHUNK:
            parts.append(f"{symbol}{{{least % CHUNK}}}")
        if most is None:
            return " ".join([*parts, f"{symbol}*"])
        free = most - least
        if free > 2 * CHUNK:
            whole = free // CHUNK - 1
            parts.append(f"{self.chunk(symbol)}{{0,{whole}}}")
            free -= whole * CHUNK
        if free:
            parts.append(f"{symbol}{{0,{free}}}")
        return " ".join(parts) or '""'

    def chunk(self, symbol: str) -> str:
        """CHUNK of a rule."""
        return self.rule(f"{symbol}s", f"{symbol}{{{CHUNK}}}")

    def integer(self, schema: Schema, about: str) -> str:
        """Between the bounds; where there are none, as far as doubles count."""
        low, above = bound(schema, "minimum", "exclusiveMinimum", about)
        high, below = bound(schema, "maximum", "exclusiveMaximum", about)
        least = None if low is None else -int(-low // 1) + (above and low == int(low))
        most = None if high is None else int(high // 1) - (below and high == int(high))
        if least is None:
            least = min(-LARGEST, (most or 0) - LARGEST)
        if most is None:
            most = max(LARGEST, least + LARGEST)
        if least > most:
            raise ModelError(f"{about}: no whole number lies between its bounds")
        return self.rule(about, integers(least, most))

    def number(self, schema: Schema, about: str) -> str:
        """Between the bounds, in plain notation."""
        low, above = bound(schema, "minimum", "exclusiveMinimum", about)
        high, below = bound(schema, "maximum", "exclusiveMaximum", about)
        least, most, places = scaled(low, high, above=above, below=below)
        if least > most:
            raise ModelError(f"{about}: no number of {places} decimals lies between its bounds")
        return self.rule(about, decimals(least, most, places))

    def array(self, schema: Schema, about: str) -> str:
        """A list of items, or a tuple."""
        least, most = bounds(schema, "minItems", "maxItems", about)
        first = [self.value(each, f"{about}-{at}") for at, each in enumerate(schema.get("prefixItems", ()))][:most]
        if not first:
            items = schema.get("items", True)
            return self.listed('""' if most == 0 else self.value(items, f"{about}-item"), least, most)
        if least > len(first):
            raise ModelError(f"{about}: cannot hold a model to items after those of 'prefixItems'")
        return self.rule(about, f'"[" {COMMA.join(first)} "]"')

    def listed(self, item: str, least: int, most: int | None) -> str:
        """A list of so many."""
        return self.rule("list", f'"[" {self.separated(item, least, most)} "]"')

    def mapped(self, value: str, least: int, most: int | None) -> str:
        """An object of so many values under keys of their own."""
        key = f'"\\"" {self.repeated("char", 1, None)} "\\"" ":" s {value}'
        return self.rule("map", f'"{{" {self.separated(self.rule("entry", key), least, most)} "}}"')

    def separated(self, item: str, least: int, most: int | None) -> str:
        """So many with commas between them."""
        if most == 0:
            return '""'
        if most == 1:
            return item if least else f"({item})?"
        more = self.rule("more", f"{COMMA}{item}".strip())
        several = f"{item} {self.repeated(more, max(0, least - 1), most and most - 1)}"
        return several if least else f"({several})?"

    def object(self, schema: Schema, about: str) -> str:
        """Properties in their order, those that are not required perhaps; others only where there are no named ones."""
        properties: Schema = schema.get("properties", {})
        required = set(schema.get("required", ()))
        if unknown := required - set(properties):
            raise ModelError(f"{about}: {sorted(unknown)} are required but not described")
        if not properties and schema.get("additionalProperties", True) is not False:
            least, most = bounds(schema, "minProperties", "maxProperties", about)
            if least > 1:
                raise ModelError(f"{about}: cannot hold a model to {least} keys that differ")
            inner = schema.get("additionalProperties", True)
            return self.mapped(self.value(inner, f"{about}-value"), least, most)
        if schema.get("minProperties", 0) > len(required) or schema.get("maxProperties", LARGEST) < len(properties):
            raise ModelError(f"{about}: cannot hold a model to a number of optional properties")
        return self.rule(about, f'"{{" {self.members(properties, required, about)} "}}"')

    def members(self, properties: Schema, required: set[str], about: str) -> str:
        """The properties: right-linear rules, one for each place where something and where nothing stands before."""
        after = before = '""'
        for name, each in reversed(list(properties.items())):
            pair = f"{literal(json.dumps(name, ensure_ascii=False) + ':')} s {self.value(each, f'{about}-{name}')}"
            comma = f'"," s {pair} {after}'
            opening = f"{pair} {after}"
            if name in required:
                before = self.rule(f"{about}-from-{name}", opening)
                after = self.rule(f"{about}-after-{name}", comma)
            else:
                before = self.rule(f"{about}-from-{name}", f"{opening} | {before}")
                after = self.rule(f"{about}-after-{name}", f"{comma} | {after}")
        return before


def refuse(schema: Schema, keyword: str, about: str) -> None:
    """Raises ModelError where a schema has a keyword that says something."""
    if schema.get(keyword, False) not in (False, {}, []):
        raise ModelError(f"{about}: cannot hold a model to {keyword!r}; leave it to validation")


def implied(schema: Schema) -> str:
    """The type that a schema without one is about."""
    if "properties" in schema or "additionalProperties" in schema or "required" in schema:
        return "object"
    if "items" in schema or "prefixItems" in schema or "minItems" in schema or "maxItems" in schema:
        return "array"
    if "minimum" in schema or "maximum" in schema or "exclusiveMinimum" in schema or "exclusiveMaximum" in schema:
        return "number"
    return "string"


def resolve(target: str, defs: Schema, about: str) -> Schema:
    """What `#/$defs/X` names. Raises ModelError for what points elsewhere."""
    found: Any = defs
    for part in target.removeprefix("#").strip("/").split("/") if target.startswith("#/") else ["?"]:
        found = found.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
    if not isinstance(found, Mapping):
        raise ModelError(f"{about}: there is no {target!r} in the schema")
    return found


def bounds(schema: Schema, least: str, most: str, about: str) -> tuple[int, int | None]:
    """Two bounds of a length, the second None where there is none. Raises ModelError where nothing lies between."""
    low, high = int(schema.get(least, 0)), int(schema.get(most, LONGEST + 1))
    if low > min(high, LONGEST):
        raise ModelError(f"{about}: {least} {low} is more than {min(high, LONGEST)}")
    return low, high if high <= LONGEST else None


def bound(schema: Schema, inclusive: str, exclusive: str, about: str) -> tuple[Decimal | None, bool]:
    """The tighter of a number's two bounds on one side, and whether it is itself out of bounds."""
    within, beyond = schema.get(inclusive), schema.get(exclusive)
    if beyond is True:  # as draft 4 has it
        within, beyond = None, within
    numbers = [None if each is None or each is False else Decimal(repr(each)) for each in (within, beyond)]
    if any(number is not None and not number.is_finite() for number in numbers):
        raise ModelError(f"{about}: {within if within is not None else beyond} is no bound")
    if numbers[1] is None:
        return numbers[0], False
    if numbers[0] is None:
        return numbers[1], True
    tighter = max(numbers) if inclusive == "minimum" else min(numbers)  # type: ignore[type-var]
    return tighter, numbers[1] == tighter


def apart(parts: Iterable[Schema]) -> bool:
    """Whether no value can be two of some schemas: their types differ, or a constant that each requires."""
    schemas = list(parts)
    kinds = [schema.get("type") for schema in schemas]
    if all(isinstance(kind, str) for kind in kinds) and len({*kinds} | {"number"} & {*kinds}) == len(kinds):
        return "integer" not in kinds or "number" not in kinds
    required = set.intersection(*(set(schema.get("required", ())) for schema in schemas))
    for name in required:
        said = [schema.get("properties", {}).get(name, {}) for schema in schemas]
        values = [[each["const"]] if "const" in each else each.get("enum", []) for each in said]
        flat = [json.dumps(value) for group in values for value in group]
        if all(values) and len(flat) == len(set(flat)):
            return True
    return False
