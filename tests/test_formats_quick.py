"""The quick way through a line: it never says anything else than the strict one."""

import json
import re
import unicodedata
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from thaud.curriculum import normalise
from thaud.domain import Example, Message, ToolCall, canonical_json
from thaud.formats import Rejection, parse_line, read_row
from thaud.formats.quick import decoded, read_pair
from thaud.formats.strict import MalformedError, decode, to_raw, to_text

DEPTH = 64
PIECES = (
    *'{}[]:,"\\', '\\"', "\\\\", "\\n", "\\/", "\\u0000", "\\u00f1", "\\ud83d", "\\ude00", "\\u0022", "\\u005c",
    "\\u", "\\x",
    "0", "-0", "1", "-1", "01", "1.5", "1e5", "1E400", "-1e-400", "18446744073709551615", "18446744073709551616",
    "-9223372036854775809", "9" * 400, "NaN", "Infinity", "-Infinity", "true", "false", "null", " ", "\t", "\n", "\r",
    "\x0b", "\x0c", "\x7f", "\x1f", "\0", "\ufeff", "\u2028", "ñ", "n\u0303", "😀", "a", '"a"', '"b"',
    '"instruction"', '"output"',
    '"input"', '"prompt"', '"completion"', '"messages"', '"role"', '"content"', '{"a":1}', '{"a":1,"a":2}', '["a","a"]',
    '{"a":{"b":"","b":1}}', "[" * 63, "]" * 63, "[" * 64, "]" * 64,
)  # fmt: skip
FIELDS = st.sampled_from(
    ["instruction", "input", "output", "prompt", "completion", "messages", "system", "tools", "age", "group", "grader"]
)
TEXT = st.text(max_size=30) | st.sampled_from(
    ["", " ", "<|end|>", "\u200b", " a ", "a\r\n", "n\u0303", "\u0303a", "[INST]"]
)
VALUES = TEXT | st.none() | st.booleans() | st.integers() | st.floats() | st.lists(TEXT, max_size=2)


def strictly(raw: bytes) -> Any:
    """What strict.py makes of it; the error where it refuses."""
    try:
        return decode(to_text(raw), DEPTH)
    except MalformedError as error:
        return error


def same(one: Any, other: Any) -> bool:
    """Equal in value and in type, all the way down: 1, 1.0 and true are three things."""
    return type(one) is type(other) and repr(one) == repr(other)


@settings(deadline=None, max_examples=1500)
@given(st.lists(st.sampled_from(PIECES), max_size=24).map("".join))
@example('{"a":"b","a":"b"}')
@example('{"a":"\\\\","a":1}')
@example('{"a\\"b":"c","a\\"b":"c"}')
@example('{"a":18446744073709551616}')
@example('{"a":1,"a":1,"b":"\\\\","c":"\\\\"}')
@example('{"a":-0}')
@example('{"a":-0.0}')
@example('{"a":"\\u0000"}')
@example('{"a":"\\\\u0000"}')
@example("[" * 64 + "]" * 64)
@example("[" * 65 + "]" * 65)
def test_quick_is_strict_or_silent(text: str) -> None:
    """Whatever bytes come, the quick decoder gives exactly what the strict one gives, or nothing."""
    raw = text.encode("utf-8", "surrogatepass")
    value = decoded(raw, DEPTH)
    assert value is None or same(value, strictly(raw))


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=60) | st.binary(max_size=8).map(lambda some: b'{"a":"' + some + b'"}'))
@example(b'{"a":"\xed\xa0\x80"}')
@example(b'{"a":"\xc0\x80"}')
@example(b'\xef\xbb\xbf{"a":1}')
def test_quick_is_strict_about_bytes(raw: bytes) -> None:
    """Text that is no UTF-8, or has a mark, is left to the strict decoder."""
    value = decoded(raw, DEPTH)
    assert value is None or same(value, strictly(raw))


@pytest.mark.parametrize(
    "text", ['{"instruction": "¿Qué?", "output": "Así \\"es\\"\\n\\u00f1"}', '{"a": [1, true, null]}']
)
def test_what_is_common_is_quick(text: str) -> None:
    """Escapes, accents and whole numbers do not send a line the slow way."""
    assert decoded(text.encode(), DEPTH) == json.loads(text)


@settings(deadline=None, max_examples=500)
@given(st.dictionaries(FIELDS, VALUES, max_size=5) | st.dictionaries(FIELDS, TEXT, min_size=2, max_size=4))
@example({"instruction": None, "output": None, "prompt": "a", "completion": "b"})
@example({"instruction": "a", "output": "b", "prompt": "c", "completion": "d"})
@example({"instruction": "a", "output": "b", "input": 0})
@example({"instruction": "", "output": "b", "input": "c"})
@example({"instruction": "a", "output": "b", "age": "niño", "other": 1})
def test_a_pair_is_read_as_any_row(row: dict[str, Any]) -> None:
    """A row that the quick way takes is the same example the general way, and one that it refuses is refused there."""
    try:
        quick = read_pair(row)
    except MalformedError as error:
        with pytest.raises(MalformedError, match=re.escape(str(error))):
            read_row(row)
        return
    assert quick is None or quick == read_row(row)


@settings(deadline=None, max_examples=300)
@given(st.dictionaries(FIELDS, VALUES, max_size=5).map(json.dumps))
def test_a_line_is_judged_the_same_both_ways(line: str) -> None:
    """The verdict on a line, and its words, do not depend on the way that it took."""
    raw = line.encode()
    row = strictly(raw)
    try:
        expected: Example | Rejection = (
            Rejection(str(row), to_raw(raw)) if isinstance(row, Exception) else read_row(row)
        )
    except MalformedError as error:
        expected = Rejection(str(error), to_raw(raw))
    assert parse_line(raw) == expected


@given(
    st.lists(
        st.builds(Message, st.sampled_from(["system", "user", "assistant"]), st.text())
        | st.builds(Message, st.just("tool"), st.text(), st.just(()), st.none() | st.text())
        | st.builds(
            Message,
            st.just("assistant"),
            st.text(),
            st.lists(st.builds(ToolCall, st.text(), st.dictionaries(st.text(), st.text())), max_size=2).map(tuple),
        ),
        max_size=4,
    ),
    st.lists(st.dictionaries(st.text(), st.text()), max_size=1),
)
def test_the_text_of_an_example_is_canonical(messages: list[Message], tools: list[dict[str, str]]) -> None:
    """However it is written, an example's text is the canonical JSON of its content, so that ids never change."""
    made = Example(tuple(messages), tuple(tools))
    assert made.text == canonical_json(made.content)


def test_an_id_is_what_it_was() -> None:
    """Homes exist: these ids are in their ledgers."""
    plain = Example(
        (Message("user", "¿De qué color es el «cielo»?\n\t\x7f"), Message("assistant", 'Azul "claro" \\ 😀'))
    )
    calling = Example(
        (
            Message("user", "2+3"),
            Message("assistant", "", (ToolCall("sum", {"b": 3, "a": 2}),)),
            Message("tool", "5", (), "sum"),
        ),
        tools=({"type": "function", "function": {"name": "sum"}},),
    )
    assert [each.id[:16] for each in (plain, calling)] == ["d41da3b057e80ea7", "0a16651bfbc7e40a"]


@settings(max_examples=500)
@given(st.text() | st.text(st.characters(max_codepoint=255)))
@example("¿Qué_tal—«así»?\xa0\x85\x1c ½ ª ß µ")
def test_prompts_are_normalised_as_ever(text: str) -> None:
    """The quick way for text of one byte a character finds the same near-duplicates as the general rule."""
    folded = unicodedata.normalize("NFC", text).casefold()
    assert normalise(text) == " ".join(re.sub(r"[^\w\s]|_", " ", folded).split())
