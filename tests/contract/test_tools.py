"""The contract's point 6: calls, their results, and what is lost."""

from typing import Any

import pytest

from tests.contract.targets import ASK, HELLO, Target, text_of
from tests.serving.kit import ADD, TOOL_CALL
from thaud.domain import Message, ToolCall


def test_tool_call_makes_the_round_trip(target: Target) -> None:
    """6. A Hermes call comes back as a ToolCall with an object as arguments, and its result may follow."""
    target.serve(TOOL_CALL)
    deltas = list(target.runtime().chat(HELLO, tools=[ADD]))
    calls = [call for delta in deltas for call in delta.tool_calls]
    assert calls == [ToolCall("add", {"a": 2, "b": 3})]
    assert deltas[-1].done == "stop"
    turns = [*HELLO, Message("assistant", "", tuple(calls)), Message("tool", "5", tool_name="add")]
    assert list(target.runtime().chat(turns, tools=[ADD]))[-1].done == "stop"


def test_calls_without_tools_stay_text(target: Target) -> None:
    """6. Where no tools are offered, a call's tags and JSON arrive as text, for whoever reads it."""
    target.serve(TOOL_CALL)
    assert text_of(list(target.runtime().chat(HELLO))) == "".join(TOOL_CALL)


@pytest.mark.parametrize(
    "body",
    [
        '{"name": "add", "arguments": {"a": 2',
        '{"name": "sing", "arguments": {}}',
        '{"name": "add"}',
    ],
    ids=["malformed", "unknown", "no arguments"],
)
def test_lost_calls_with_a_go_template(target: Target, body: str) -> None:
    """6. Behind a Go template a malformed, unknown or bare call vanishes: no text, no call, a plain stop."""
    name = target.make(["<tool_call>", f"\n{body}\n", "</tool_call>"], go=True)
    deltas = list(target.runtime(name).chat(HELLO, tools=[ADD]))
    assert text_of(deltas) == ""
    assert not [call for delta in deltas for call in delta.tool_calls]
    assert deltas[-1].done == "stop"


@pytest.mark.parametrize(
    "body",
    [
        '{"name": "add", "parameters": {"a": 2}}',
        '{"name": "add", "arguments": "{\\"a\\": 2}"}',
        '{"arguments": {"a": 2}, "name": "add"}',
    ],
    ids=["parameters", "text", "swapped"],
)
def test_calls_in_other_words_behind_a_go_template(target: Target, body: str) -> None:
    """6. A Go template's parser also takes `parameters`, arguments as text and keys the other way round."""
    name = target.make(["<tool_call>", f"\n{body}\n"], go=True)
    deltas = list(target.runtime(name).chat(HELLO, tools=[ADD]))
    assert [call for delta in deltas for call in delta.tool_calls] == [ToolCall("add", {"a": 2})]


def test_text_around_a_call_behind_a_go_template(target: Target) -> None:
    """6. What is said before a call arrives, what is said after it is lost."""
    name = target.make(["Let me see. ", *TOOL_CALL, " Done."], go=True)
    deltas = list(target.runtime(name).chat(HELLO, tools=[ADD]))
    assert text_of(deltas).strip() == "Let me see."
    assert [call.name for delta in deltas for call in delta.tool_calls] == ["add"]


def test_native_calls_come_with_the_last_chunk(target: Target) -> None:
    """6. A new server puts calls into the chunk that says done, an old one into a chunk of its own; ids differ too."""
    target.serve(TOOL_CALL)
    rows = target.rows("chat", {"model": f"{target.forge.family}-v1", **ASK, "tools": [ADD]})
    row = next(row for row in rows if row["message"].get("tool_calls"))
    call = row["message"]["tool_calls"][0]
    assert row["done"] is target.native
    assert len(call["id"]) == 32 if target.native else call["id"].startswith("call_")
    assert (call["function"].get("index", 0), call["function"]["name"]) == (0, "add")


def test_arguments_of_the_history_are_an_object(target: Target) -> None:
    """6. A text where a past call's arguments belong is 400."""
    name = target.make(["hola"], go=not target.native)
    call = {"function": {"name": "add", "arguments": '{"a": 2}'}}
    turns = [*ASK["messages"], {"role": "assistant", "content": "", "tool_calls": [call]}, *ASK["messages"]]
    assert target.post("chat", {"model": name, "messages": turns}).status_code == 400


def test_tool_without_properties(target: Target) -> None:
    """6. A new server refuses a tool without `properties`; an old one does not care."""
    name = target.make(["hola"], go=not target.native)
    tool: dict[str, Any] = {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}
    answer = target.post("chat", {"model": name, **ASK, "tools": [tool], "stream": False})
    assert answer.status_code == (400 if target.native else 200)


def test_call_cut_by_the_limit(target: Target) -> None:
    """6. Cut inside a call, a new server answers 500, an old one loses it and says `length`."""
    name = target.make(TOOL_CALL, go=not target.native)
    body = {"model": name, **ASK, "tools": [ADD], "stream": False, "options": {"num_predict": 2, "temperature": 0}}
    answer = target.post("chat", body)
    if target.native:
        assert answer.status_code == 500
        assert "invalid tool call arguments" in answer.json()["error"]
    else:
        assert answer.json()["done_reason"] == "length"
        assert "tool_calls" not in answer.json()["message"]
