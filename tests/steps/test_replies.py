"""Grammars of whole replies, asked on the real llama.cpp: words and thoughts are free, what is called is not."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.testkit.gate import Gate, open_gate
from thaud.steps.replies import MOST_CALLS, Thought, action_reply, tagged_reply

ADD: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"const": "add"}, "arguments": {"enum": [{"a": 1}]}},
    "required": ["name", "arguments"],
    "additionalProperties": False,
}
ACTIONS = {"anyOf": [ADD]}
CALL = '{"name": "add", "arguments": {"a": 1}}'
TAGGED = f"<tool_call>\n{CALL}\n</tool_call>"


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    with open_gate(tmp_path_factory.mktemp("gate")) as opened:
        yield opened


@pytest.mark.parametrize("thought", ["never", "perhaps"])
@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("", True),
        ("Son 42.", True),
        ("a < b, <tool>, <tool_cal, <<tool_, <t<to\n<", True),
        ('{"name": "anything", "arguments": 3}', True),
        (TAGGED, True),
        (f"A ver.\n{TAGGED}", True),
        (f"<<tool_<{TAGGED}", True),
        (f"{TAGGED}\n{TAGGED}", True),
        (f"<tool_call>{CALL}</tool_call><tool_call>{CALL}</tool_call>", True),
        ("\n".join([TAGGED] * MOST_CALLS), True),
        ("\n".join([TAGGED] * (MOST_CALLS + 1)), False),
        (f"{TAGGED} and more", False),
        (f"{TAGGED}\n\n", False),
        ("<tool_call>", False),
        (f"<tool_call>{CALL}", False),
        ("<tool_call>add(1)</tool_call>", False),
        (TAGGED.replace("add", "del"), False),
        (TAGGED.replace("1", "2"), False),
        (f"x<tool_call>\n\n{CALL}", False),
    ],
)
def test_calls_in_tags(gate: Gate, thought: Thought, text: str, allowed: bool) -> None:  # noqa: FBT001
    """Text is free and may end anywhere; from the first tag on there are whole calls of the schema, and the end."""
    assert gate.lets(tagged_reply(ACTIONS, thought), text) is allowed


@pytest.mark.parametrize(
    ("thought", "text", "allowed"),
    [
        ("perhaps", f"<think>maybe <tool_call> add?</think>\n{TAGGED}", True),
        ("perhaps", f"\n\n<think>\n</think>{TAGGED}", True),
        ("perhaps", "<think>a </thin </think> b", True),
        ("perhaps", "<think>cut", True),
        ("perhaps", "<think></think><tool_call>no", False),
        ("perhaps", "<thi<tool_call>no", False),
        ("perhaps", f"<t<tool_call>{CALL}</tool_call>", True),
        ("perhaps", "later <think><tool_call>no", False),
        ("begun", f"maybe <tool_call>no</tool_call></think>{TAGGED}", True),
        ("begun", "maybe</think>Son 42.", True),
        ("begun", "maybe</think><tool_call>no", False),
        ("never", "<think><tool_call>no", False),
    ],
)
def test_thoughts_call_nothing(gate: Gate, thought: Thought, text: str, allowed: bool) -> None:  # noqa: FBT001
    """A tag within a thought is text; after the thought it begins a call. A thought stands at the beginning alone."""
    assert gate.lets(tagged_reply(ACTIONS, thought), text) is allowed


@pytest.mark.parametrize(
    ("thought", "text", "allowed"),
    [
        ("never", CALL, True),
        ("never", f"\n{CALL}", True),
        ("never", "", False),
        ("never", "Son 42.", False),
        ("never", f"{CALL}{CALL}", False),
        ("never", f"<think>x</think>{CALL}", False),
        ("perhaps", CALL, True),
        ("perhaps", f"<think>add? {{</think>\n\n{CALL}", True),
        ("perhaps", "<think>add?</think>", False),
        ("perhaps", "<think>cut", False),
        ("begun", f"add?</think>{CALL}", True),
        ("begun", CALL, False),
    ],
)
def test_one_action(gate: Gate, thought: Thought, text: str, allowed: bool) -> None:  # noqa: FBT001
    """Where the template knows no tools, the reply is one action and cannot end before; thoughts come first, free."""
    assert gate.lets(action_reply(ACTIONS, thought), text) is allowed


@pytest.mark.parametrize("reply", [tagged_reply, action_reply])
def test_an_odd_schema_ends_no_conversation(gate: Gate, reply: Callable[..., str]) -> None:
    """What the compiler refuses is widened where it stands, and the rest is held as before: a tool of a stranger's
    may be as odd as it likes.
    """
    odd = {"anyOf": [{"type": "object", "additionalProperties": {"type": "string"}, "minProperties": 2}]}
    arguments = {"type": "object", "properties": {"env": odd, "n": {"type": "integer"}}, "required": ["env", "n"]}
    strange = {**ADD, "properties": {"name": {"const": "set"}, "arguments": arguments}}
    empty = {**ADD, "properties": {"name": {"const": "no"}, "arguments": {"type": "object", "required": ["x"]}}}
    grammar = reply({"anyOf": [strange, empty, ADD]}, "never")
    allowed = [
        ('{"name": "set", "arguments": {"env": {"a": "b", "c": "d"}, "n": 1}}', True),
        ('{"name": "set", "arguments": {"env": {"a": "b", "c": "d"}, "n": "1"}}', False),
        ('{"name": "no", "arguments": {"x": 1}}', True),
        ('{"name": "no", "arguments": 1}', False),
        (CALL, True),
        (CALL.replace("1", "2"), False),
    ]
    for call, good in allowed:
        text = call if reply is action_reply else f"<tool_call>\n{call}\n</tool_call>"
        assert gate.lets(grammar, text) is good, call


def test_control_tokens_say_nothing_within_a_call(gate: Gate) -> None:
    """A grammar would take `<|im_start|>` for its letters; it is silent, and what is said would be half a call."""
    strings = {**ADD, "properties": {"name": {"const": "add"}, "arguments": {"type": "string"}}}
    grammar = tagged_reply({"anyOf": [strings]}, "never")
    inside = '<tool_call>{"name": "add", "arguments": "x'
    assert gate.permits(grammar, inside, "y")
    for silent in ("<|im_start|>", "<|im_end|>", "<|endoftext|>"):
        assert not gate.permits(grammar, inside, silent)
    assert gate.permits(grammar, inside, "<tool_call>")  # visible: text within a string
    assert gate.permits(grammar, f'{inside}"}}</tool_call>', "<|im_end|>")


def test_a_tag_is_found_as_one_token_and_as_many(gate: Gate) -> None:
    """What opens a call is its text, whatever it is made of."""
    grammar = tagged_reply(ACTIONS, "never")
    for before in ("", "a <"):
        assert gate.permits(grammar, before, "<tool_call>")
    for opened in ("<tool_call>", "<tool_call>\n"):
        assert gate.permits(grammar, opened, "{")
        assert not gate.permits(grammar, opened, "a")
