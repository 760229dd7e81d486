"""Schemas as grammars, asked on the real llama.cpp: what is let through, and what is refused in words."""

import json
from collections.abc import Iterator
from random import Random
from typing import Any

import jsonschema
import pytest

from tests.testkit.gate import Gate, open_gate
from thaud.errors import ModelError
from thaud.steps.grammar import schema_grammar

POINT = {
    "type": "object",
    "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}, "label": {"type": "string", "maxLength": 5}},
    "required": ["y"],
    "additionalProperties": False,
}
FLAGS = {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 2}
PAIR = {"type": "array", "prefixItems": [{"const": 1}, {"const": "a"}], "minItems": 2, "maxItems": 2}
COUNTS = {"type": "object", "additionalProperties": {"type": "integer"}, "maxProperties": 2}


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    with open_gate(tmp_path_factory.mktemp("gate")) as opened:
        yield opened


def spelled(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "boolean"}, [True, False], [1, "true", None]),
        ({"type": "null"}, [None], [False, 0]),
        ({"type": "string", "minLength": 2, "maxLength": 3}, ["ab", "añ", "🙂🙂", '"\\'], ["a", "abcd", "", 12]),
        ({"type": "string", "maxLength": 300, "minLength": 130}, ["x" * 130, "ñ" * 300], ["x" * 129, "x" * 301]),
        ({"enum": ["a", "", 3, None, True, 'q"']}, ["a", "", 3, None, True, 'q"'], ["b", "3", False, 1]),
        ({"const": {"a": [1, "b"]}}, [{"a": [1, "b"]}], [{"a": [1]}, {}]),
        ({"type": "integer", "minimum": 0, "maximum": 250}, [0, 250, 99], [-1, 251, 1.5]),
        ({"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 3}, [1, 2], [0, 3]),
        ({"type": "integer"}, [-(10**15) + 1, 10**15 - 1, 0], [10**16, 0.5]),
        ({"type": "number", "minimum": -1.25, "maximum": 0.5}, [-1.25, 0.5, 0, -0.5, 0.0625], [-1.26, 0.51, 1, -2]),
        ({"type": "number", "minimum": 1e-20, "maximum": 1}, [1, 0.5], [0]),
        ({"type": "number", "exclusiveMinimum": 0}, [0.5, 12, 0.001], [0, -1, 0.0]),
        ({"type": ["string", "null"], "maxLength": 1}, ["a", None], ["ab", 1]),
        (FLAGS, [[True], [True, False]], [[], [1], [True] * 3]),
        (PAIR, [[1, "a"]], [[1], ["a", 1]]),
        (POINT, [{"y": 1}, {"x": 0, "y": 1}, {"y": 2, "label": "hola"}], [{}, {"x": 1}, {"y": 1, "x": 0}]),
        (COUNTS, [{}, {"a": 1, "ñ": 2}], [{"a": "b"}, {"a": 1, "b": 2, "c": 3}]),
        ({"type": "object", "properties": {}, "additionalProperties": False}, [{}], [{"a": 1}]),
        ({"anyOf": [{"type": "integer"}, POINT]}, [3, {"y": 1}], ["3", [3]]),
        ({"$ref": "#/$defs/P", "$defs": {"P": POINT}}, [{"y": 1}], [{"x": 1}]),
        ({"allOf": [{"$ref": "#/$defs/P"}], "$defs": {"P": {"enum": ["a"]}}}, ["a"], ["b"]),
        ({"oneOf": [{"type": "string", "maxLength": 1}, {"type": "integer"}]}, ["a", 1], [1.5]),
        ({}, [1, "a", None, [1, {"a": 2}], {"a": {"b": 1}}], [[[[1]]]]),
    ],
    ids=lambda each: spelled(each)[:40] if isinstance(each, dict) else "",
)  # fmt: skip
def test_what_is_let_through(gate: Gate, schema: dict[str, Any], good: list[Any], bad: list[Any]) -> None:
    """All that the schema allows in the order and the size that grammars keep, and nothing else."""
    grammar = schema_grammar(schema)
    for value in good:
        jsonschema.validate(value, schema)
        assert gate.lets(grammar, spelled(value)), value
    for value in bad:
        assert not gate.lets(grammar, spelled(value)), value


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        (r'"\n\t\"\\\/\b\f\r"', True),
        ('"\\u00e1\\uFFFD\\u0001"', True),
        ('"\\ud83d"', False),
        ('"\\uDE42"', False),
        ('"\\u0000"', False),
        ('"\\x41"', False),
        ('"\n"', False),
        ('"\t"', False),
        ('"a', False),
        ("'a'", False),
        (' "a"', False),
        ('"a" ', False),
        (b'"\xc3\xa1"', True),
        (b'"\xc0\xaf"', False),
        (b'"\xed\xa0\x80"', False),
        (b'"\xf4\x90\x80\x80"', False),
        (b'"\xe0\x80\x80"', False),
        (b'"\xff"', False),
        (b'"\xc3"', False),
    ],
)
def test_strings_are_text_that_every_reader_reads(gate: Gate, text: str | bytes, allowed: bool) -> None:  # noqa: FBT001
    """Escapes are JSON's, less half characters and NUL; bytes are UTF-8 as decoders are strict about."""
    assert gate.lets(schema_grammar({"type": "string"}), text) is allowed


def test_half_a_character_is_not_begun(gate: Gate) -> None:
    """The bytes of a surrogate are refused at the first one that can be nothing else: later there is no way on."""
    assert gate.reach(schema_grammar({"type": "string"}), b'"\xed\xa0')[0] == len(b'"\xed')


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, "x" * 9000),
        ({"type": "string", "maxLength": 1_000_000}, "x" * 9000),
        ({"type": "array", "items": {"type": "integer"}}, list(range(200))),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, {f"{at:070}": at for at in range(40)}),
        ({"type": "array", "items": {"const": 1}, "minItems": 300}, [1] * 301),
    ],
    ids=["text", "long text", "list", "map", "minimum"],
)
def test_what_no_schema_ends_is_not_ended(gate: Gate, schema: dict[str, Any], value: Any) -> None:
    """A file of 9,000 characters is written whole: no grammar closes a string, list or map for the model."""
    grammar = schema_grammar(schema)
    assert gate.lets(grammar, spelled(value))
    assert gate.reach(grammar, spelled(value)[:-1]) == (len(spelled(value)) - 1, False)


def test_space_between_tokens_is_bounded(gate: Gate) -> None:
    """One space or none: a model cannot pad for ever."""
    grammar = schema_grammar(POINT)
    assert gate.lets(grammar, '{"x":1,"y":2}')
    assert gate.lets(grammar, '{"x": 1, "y": 2}')
    assert not gate.lets(grammar, '{"x":  1, "y": 2}')
    assert not gate.lets(grammar, '{ "x": 1, "y": 2}')
    assert not gate.lets(grammar, '{"x": 1,\n"y": 2}')


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"type": "string", "pattern": "^a+$"}, "'pattern'"),
        ({"not": {"type": "string"}}, "'not'"),
        ({"if": {"type": "string"}, "then": {"minLength": 1}}, "'if'"),
        ({"type": "integer", "multipleOf": 3}, "'multipleOf'"),
        ({"type": "array", "uniqueItems": True}, "'uniqueItems'"),
        ({"type": "object", "patternProperties": {"^a": {}}}, "'patternProperties'"),
        ({"type": "widget"}, "'widget'"),
        (False, "allows nothing"),
        ({"enum": []}, "allows nothing"),
        ({"anyOf": []}, "allows nothing"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "between its bounds"),
        ({"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, "between its bounds"),
        ({"type": "string", "minLength": 3, "maxLength": 2}, "minLength 3"),
        ({"type": "object", "required": ["a"], "properties": {}}, "['a']"),
        ({"$ref": "#/$defs/None"}, "'#/$defs/None'"),
        ({"$ref": "https://example.org/schema"}, "example.org"),
        ({"$ref": "#/$defs/T", "$defs": {"T": {"type": "array", "items": {"$ref": "#/$defs/T"}}}}, "holds itself"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "told apart"),
        ({"allOf": [{"type": "string"}, {"minLength": 1}]}, "'allOf' of 2"),
        ({"const": float("nan")}, "no JSON values"),
        ({"const": "\ud83d"}, "no JSON values|no valid Unicode"),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_is_refused(schema: Any, told: str) -> None:
    """Never half a promise: a schema that the grammar cannot keep whole is an error that names the keyword."""
    with pytest.raises(ModelError) as caught:
        schema_grammar(schema)
    assert any(each in str(caught.value) for each in told.split("|")), caught.value


def test_llama_cpp_refuses_what_is_no_grammar(gate: Gate) -> None:
    """An error of ours in one line, not a native one."""
    with pytest.raises(ModelError, match="refuses the grammar"), gate.sampler("root ::= nothing"):
        pass


def test_equal_schemas_share_rules() -> None:
    """A definition that is used a hundred times is written once: llama.cpp's grammars are as large as their text."""
    properties = {f"p{number}": {"type": "string", "maxLength": 4000} for number in range(100)}
    grammar = schema_grammar({"type": "object", "properties": properties})
    assert grammar.count("char{128}") == 1


def test_numbers_with_a_bound_of_zero(gate: Gate) -> None:
    """0 is a bound like any other, although it equals False."""
    for schema in ({"type": "integer", "minimum": 0}, {"type": "number", "minimum": 0.0}):
        assert not gate.lets(schema_grammar(schema), "-1")
    assert not gate.lets(schema_grammar({"type": "integer", "maximum": 0}), "1")


def test_optional_properties_in_all_their_combinations(gate: Gate) -> None:
    """Whatever is left out, commas are right and nothing required is missing."""
    names = ["a", "b", "c", "d"]
    chance = Random(1)
    for _ in range(6):
        required = [name for name in names if chance.random() < 0.4]
        schema = {"type": "object", "properties": {name: {"const": 1} for name in names}, "required": required}
        grammar = schema_grammar(schema)
        for mask in range(16):
            value = {name: 1 for at, name in enumerate(names) if mask >> at & 1}
            assert gate.lets(grammar, spelled(value)) is set(required).issubset(value)
