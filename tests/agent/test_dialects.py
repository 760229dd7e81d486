"""Calls in JSON that people talk about too: a call is only what ends a reply, was offered and validates."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dialects import Curtain, parse
from agent.dialects.reading import Parsed
from tests.agent.offers import Anything, Nothing, Only
from thaud.domain import ToolCall

SUM = '{"name": "calculator", "arguments": {"expression": "6*7"}}'
CALL = ToolCall("calculator", {"expression": "6*7"})
OPENAI = '{"type": "function", "function": {"name": "calculator", "arguments": "{\\"expression\\": \\"6*7\\"}"}}'
OLDER = '{"content": "A ver.", "function_call": {"name": "calculator", "arguments": "{\\"expression\\": \\"6*7\\"}"}}'


@pytest.mark.parametrize(
    ("text", "content", "count"),
    [
        (SUM, "", 1),
        (f"  {SUM}\n", "", 1),
        (f"A ver:\n{SUM}", "A ver:", 1),
        (f"{SUM}\n{SUM}", "", 2),
        (f"{SUM}; {SUM}", "", 2),
        (f"[{SUM}, {SUM}]", "", 2),
        (f"{SUM}</tool_call>", "", 1),
        (SUM.replace("arguments", "parameters"), "", 1),
        (OPENAI, "", 1),
        (f"[{OPENAI}]", "", 1),
        (f'{{"role": "assistant", "content": "A ver.", "tool_calls": [{OPENAI}]}}', "A ver.", 1),
        (OLDER, "A ver.", 1),
        (f"```json\n{SUM}\n```", "", 1),
        (f"```\n{SUM}\n```", "", 1),
        (f"```tool_call\n{SUM}", "", 1),
        (f"Miro:\n```json\n{SUM}\n```\n```json\n{OPENAI}\n```\n", "Miro:", 2),
        (f"```python\nprint()\n```\nY ahora:\n```json\n{SUM}\n```", "```python\nprint()\n```\nY ahora:", 1),
    ],
)
def test_calls_that_end_a_reply(text: str, content: str, count: int) -> None:
    """In whichever way they are written, with what is said before them."""
    assert parse(text, Only(CALL)) == Parsed(content, (CALL,) * count)
    assert parse(text, Nothing()) == Parsed(text.strip())


@pytest.mark.parametrize(
    "text",
    [
        f"{SUM} es una llamada.",
        f"Escribe {SUM}",
        f"```json\n{SUM}\n```\nAsí se llama.",
        f"```json\n{SUM}\nfin\n```",
        SUM[:-1],
        SUM.replace('"name"', '"nombre"'),
        SUM.replace("}}", '}, "why": "because"}'),
        '{"name": "calculator", "arguments": "6*7"}',
        '{"name": "calculator", "arguments": ["6*7"]}',
        '{"name": "calculator", "arguments": {"expression": "\\ud83d"}}',
        '{"tool_calls": []}',
        '{"function": "calculator"}',
        "[]",
        "{}",
        "[1, 2]",
        "",
    ],
)
def test_what_only_looks_like_a_call_is_text(text: str) -> None:
    """Even where every tool is offered with any arguments."""
    assert parse(text, Anything()) == Parsed(text.strip())


def test_one_wrong_call_makes_all_text() -> None:
    """Half of what was meant is not run."""
    other = SUM.replace("6*7", "1/0")
    assert parse(f"{SUM}\n{other}", Only(CALL)) == Parsed(f"{SUM}\n{other}")


def test_tags_come_before_json() -> None:
    """JSON beside a call in tags is what is said."""
    parsed = parse(f"<tool_call>{SUM}</tool_call>\n{SUM}", Anything())
    assert parsed == Parsed(SUM, (CALL,))


@pytest.mark.parametrize("size", [1, 2, 5, 400])
@pytest.mark.parametrize(("between", "shown"), [("\n", ""), ("", ""), ("\n\n ", ""), ("\nand ", "\nand ")])
def test_blank_space_between_calls_is_not_shown(size: int, between: str, shown: str) -> None:
    """Two calls in a row leave no empty lines on the screen; words between them stand as they were said."""
    block = f"<tool_call>\n{SUM}\n</tool_call>"
    curtain = Curtain(Anything())
    pieces = cut(f"{block}{between}{block}\n", [size])
    assert "".join([*map(curtain.feed, pieces), curtain.finish()]) == shown


json_text = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "arguments", "x"]), inner),
    max_leaves=6,
).map(json.dumps)
noise = st.lists(
    json_text | st.sampled_from(["<tool_call>", "</tool_call>", "```json\n", "\n```\n", "\n", SUM, OPENAI, "hola "])
).map("".join)


@given(noise)
def test_reading_never_fails_and_loses_nothing(text: str) -> None:
    """Whatever a model says is calls, problems or text; without calls and tags all of it is text."""
    for offered in (Anything(), Nothing()):
        parsed = parse(text, offered)
        if not parsed.calls and not parsed.problems and "<tool_call>" not in text:
            assert parsed.content == text.strip()
    if "<tool_call>" not in text:
        assert parse(text, Nothing()).calls == ()


@given(noise, st.lists(st.integers(1, 12), min_size=1))
def test_what_is_shown_does_not_depend_on_the_pieces(text: str, sizes: list[int]) -> None:
    """A reply that comes in any pieces shows what it shows in one, and without calls all of it."""
    shown = []
    for pieces in ([text], cut(text, sizes)):
        curtain = Curtain(Only(CALL))
        shown.append("".join([*map(curtain.feed, pieces), curtain.finish()]))
    assert shown[0] == shown[1]
    if "<tool_call>" not in text and not parse(text, Only(CALL)).calls:
        assert shown[0] == text


def cut(text: str, sizes: list[int]) -> list[str]:
    pieces: list[str] = []
    while text:
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(text[:size])
        text = text[size:]
    return pieces


def test_long_prose_with_brackets_is_read_in_linear_time() -> None:
    """A reply of nothing but openings or fences is not tried from each of them."""
    assert parse("[\n" * 50_000, Anything()).calls == ()
    assert parse('{"name": ' * 20_000, Anything()).calls == ()
    assert parse("```json\n" * 20_000, Anything()).calls == ()
