import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dialects import Curtain
from agent.dialects.hermes import CLOSE, OPEN
from agent.dialects.hermes import parse as parse_hermes
from agent.dialects.reading import Parsed
from tests.agent.offers import Anything, Nothing
from thaud.domain import ToolCall

SUM = '{"name": "calculator", "arguments": {"expression": "6*7"}}'
CALL = ToolCall("calculator", {"expression": "6*7"})


def parse(text: str) -> Parsed:
    """Tags are meant as calls, whoever knows of the tool."""
    assert parse_hermes(text, Anything()) == parse_hermes(text, Nothing())
    return parse_hermes(text, Nothing())


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        ("Son 42.", "Son 42.", []),
        (f"{OPEN}\n{SUM}\n{CLOSE}", "", [CALL]),
        (f"{OPEN}{SUM}{CLOSE}", "", [CALL]),
        (f"A ver.\n{OPEN}\n{SUM}\n{CLOSE}", "A ver.", [CALL]),
        (f"{OPEN}\n{SUM}\n{CLOSE}\nYa está.", "Ya está.", [CALL]),
        (f"{OPEN}{SUM}{CLOSE}\n{OPEN}{SUM}{CLOSE}", "", [CALL, CALL]),
        (f"{OPEN}{SUM}\n{SUM}{CLOSE}", "", [CALL, CALL]),
        (f"{OPEN}\n{SUM}", "", [CALL]),
        (f"{OPEN}\n{SUM}\n{OPEN}\n{SUM}\n{CLOSE}", "", [CALL, CALL]),
        (f'{OPEN}{{"name": "now"}}{CLOSE}', "", [ToolCall("now", {})]),
        (f'{OPEN}{{"arguments": {{"a": 1}}, "name": "f"}}{CLOSE}', "", [ToolCall("f", {"a": 1})]),
        (f'{OPEN}{{"name": "f", "parameters": {{"a": 1}}}}{CLOSE}', "", [ToolCall("f", {"a": 1})]),
        (f'{OPEN}{{"name": "f", "arguments": "{{\\"a\\": 1}}"}}{CLOSE}', "", [ToolCall("f", {"a": 1})]),
        (f'{OPEN}{{"name": "f", "arguments": {{"a": "{CLOSE}"}}}}{CLOSE}', "", [ToolCall("f", {"a": CLOSE})]),
        (SUM, SUM, []),
        (f"```json\n{SUM}\n```", f"```json\n{SUM}\n```", []),
        (f"{SUM}{CLOSE}", f"{SUM}{CLOSE}", []),
        ("a < b <tool> c", "a < b <tool> c", []),
        ("", "", []),
    ],
)
def test_replies_are_taken_apart(text: str, content: str, calls: list[ToolCall]) -> None:
    """Calls are what stands in tags; whatever stands outside is text, even where it looks like a call."""
    parsed = parse(text)
    assert (parsed.content, list(parsed.calls), parsed.problems) == (content, calls, ())


@pytest.mark.parametrize(
    ("block", "told"),
    [
        ('{"name": "f", "arguments": {"a": 1}', "no valid JSON"),
        ('{"name": "f", "arguments": {a: 1}}', "no valid JSON"),
        ("{'name': 'f'}", "no valid JSON"),
        ('{"name": "f", "arguments": {"a": NaN}}', "no valid JSON"),
        ('{"name": "f", "arguments": "{"}', "no valid JSON"),
        ('{"name": "f", "arguments": "{} and more"}', "no valid JSON"),
        ('{"arguments": {"a": 1}}', '"name" and "arguments"'),
        ('{"name": 7}', '"name" and "arguments"'),
        ('["f", 1]', '"name" and "arguments"'),
        ('"f"', '"name" and "arguments"'),
        ('{"name": "f", "arguments": [1]}', "must be an object"),
        ('{"name": "f", "arguments": 7}', "must be an object"),
        ("f(6*7)", "no valid JSON"),
        (f"{SUM} and then", "no valid JSON"),
        ("", "empty"),
        ("[" * 100_000, "no valid JSON"),
    ],
)
def test_what_is_no_call_is_a_problem(block: str, told: str) -> None:
    """A block that cannot be read calls nothing, is no content, and is explained; text around it survives."""
    parsed = parse(f"before {OPEN}{block}{CLOSE} after")
    assert parsed.calls == ()
    assert len(parsed.problems) == 1
    assert told in parsed.problems[0]
    assert parsed.content == "before  after"


def test_a_half_call_at_the_end_is_a_problem() -> None:
    """A call that stops in the middle is never completed by guessing."""
    for end in range(1, len(SUM)):
        parsed = parse(OPEN + SUM[:end])
        assert parsed.calls == ()
        assert parsed.problems


@given(st.text(max_size=200))
def test_parsing_never_fails(text: str) -> None:
    """Whatever a model says, parsing ends in a value."""
    parsed = parse(OPEN + text)
    assert parsed.calls or parsed.problems


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.text(min_size=1), st.dictionaries(st.text(), json_values, max_size=4), st.booleans())
def test_every_call_survives_the_round_trip(name: str, arguments: dict[str, Any], ascii_only: bool) -> None:  # noqa: FBT001
    """A call written as the template asks is read back as it was, whatever its strings hold."""
    text = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=ascii_only)
    assert parse(f"{OPEN}\n{text}\n{CLOSE}").calls == (ToolCall(name, arguments),)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 11, 1000])
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Son 42.", "Son 42."),
        (f"A ver. {OPEN}\n{SUM}\n{CLOSE} Ya.", "A ver.  Ya."),
        (f"{OPEN}{SUM}{CLOSE}{OPEN}{SUM}{CLOSE}", ""),
        (f"{OPEN}{SUM}", ""),
        ("a < b, <tool, <tool_cal, <<tool_call", "a < b, <tool, <tool_cal, <<tool_call"),
        (f"<{OPEN}x{CLOSE}>", "<>"),
    ],
)
def test_the_curtain_hides_calls_while_streaming(text: str, shown: str, size: int) -> None:
    """However a reply is split, nothing of a call is shown and nothing else is lost."""
    curtain = Curtain(Nothing())
    pieces = [curtain.feed(text[at : at + size]) for at in range(0, len(text), size)]
    assert "".join([*pieces, curtain.finish()]) == shown


def test_the_curtain_holds_nothing_back_without_need() -> None:
    """Text that can be no tag is shown at once."""
    curtain = Curtain(Nothing())
    assert curtain.feed("hello <b") == "hello <b"
    assert curtain.feed(" <tool") == " "
    assert curtain.feed("box>") == "<toolbox>"
