"""Nothing that anybody writes makes the formats raise, and what they accept they can write and read again."""

import json
import unicodedata
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from thaud.domain import Example, Rejection
from thaud.formats import example_to_line, parse_line, parse_object
from thaud.formats.turns import says_nothing, tidy

ASKED = {"role": "user", "content": "¿De qué color es el cielo?"}
SAID = {"role": "assistant", "content": "Azul"}
SUM = {"name": "sum", "arguments": {"a": 2, "b": 3}}
ADDER = {"type": "function", "function": {"name": "sum", "parameters": {"type": "object", "properties": {}}}}
CLEAN_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
CLEAN_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | CLEAN_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(CLEAN_TEXT, inner, max_size=3),
    max_leaves=8,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    [
        "messages",
        "conversations",
        "instruction",
        "input",
        "output",
        "prompt",
        "completion",
        "system",
        "tools",
        "age",
        "stage",
        "group",
        "grader",
        "metadata",
        "role",
        "content",
        "from",
        "value",
        "tool_calls",
        "name",
        "arguments",
    ]
)


def round_trips(example: Example) -> bool:
    """Whether the canonical line gives the same example, of the same id."""
    again = parse_line(example_to_line(example))
    return again == example and isinstance(again, Example) and again.id == example.id


def test_a_full_example_round_trips() -> None:
    """The canonical line keeps the conversation, the tools and every optional field."""
    turns: list[dict[str, Any]] = [
        ASKED,
        {"role": "assistant", "tool_calls": [SUM]},
        {"role": "tool", "content": ""},
        SAID,
    ]
    fields: dict[str, Any] = {
        "system": "Sé útil",
        "tools": [ADDER],
        "age": 3,
        "group": "g",
        "grader": "f1",
        "metadata": {"a": [1.5]},
    }
    example = parse_object({"messages": turns, **fields})
    assert isinstance(example, Example)
    assert (example.age, example.group, len(example.tools), len(example.messages)) == (3, "g", 1, 5)
    assert round_trips(example)


@settings(deadline=None, max_examples=300)
@given(st.binary() | st.text() | JSON.map(json.dumps) | st.dictionaries(FIELDS, JSON).map(json.dumps))
def test_no_line_raises(raw: bytes | str) -> None:
    """Any bytes and any JSON value are an example or a rejection that can be stored; an example round-trips."""
    result = parse_line(raw)
    if isinstance(result, Rejection):
        assert result.reason
        (result.reason + result.raw).encode()
    else:
        assert round_trips(result)


@settings(deadline=None, max_examples=300)
@given(st.dictionaries(FIELDS, JSON), st.lists(st.dictionaries(FIELDS, JSON | st.just("user")), max_size=3), st.text())
def test_no_row_raises(row: dict[str, Any], turns: list[Any], text: str) -> None:
    """Rows with the right fields and anything in them are values too."""
    called = {"role": "assistant", "content": text, "tool_calls": row.get("tool_calls")}
    for fields in (
        row,
        row | {"messages": turns},
        row | {"messages": [ASKED, called]},
        {**row, "prompt": text, "completion": turns},
    ):
        result = parse_object(fields)
        assert isinstance(result, Rejection) or round_trips(result)


@settings(deadline=None)
@given(st.text(), st.text())
def test_any_text_is_kept(question: str, answer: str) -> None:
    """What is accepted says what was written, up to composition, line ends and outer space."""
    result = parse_object({"instruction": question, "output": answer})
    if isinstance(result, Example):
        assert round_trips(result)
        assert result.completion.content.split() == unicodedata.normalize("NFC", answer).split()


@settings(deadline=None)
@given(
    CLEAN_TEXT, st.dictionaries(CLEAN_TEXT, CLEAN_JSON), st.dictionaries(CLEAN_TEXT, CLEAN_JSON), st.integers(0, 150)
)
def test_whatever_is_well_formed_is_accepted(said: str, arguments: Any, metadata: Any, age: int) -> None:
    """Any text, any arguments and any metadata make an example that keeps them, value for value."""
    assume(not says_nothing(tidy(said)))
    calling = {"role": "assistant", "tool_calls": [{"function": {"name": "look", "arguments": arguments}}]}
    turns = [ASKED, calling, {"role": "tool", "content": said}, {"role": "assistant", "content": said}]
    example = parse_object({"messages": turns, "metadata": metadata, "age": age})
    assert isinstance(example, Example), example.reason
    assert (example.messages[1].tool_calls[0].arguments, example.metadata, example.age) == (arguments, metadata, age)
    assert round_trips(example)
