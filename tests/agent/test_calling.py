"""The three ways of calling: what the model is asked in each, and what its reply is taken for."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest

from agent.actions import FINAL
from agent.calling import merged
from agent.dialects.hermes import CLOSE, OPEN
from agent.loop import Agent
from agent.prompts import ENGLISH
from agent.scripted import ScriptedRuntime, calls, says
from agent.setup import Setup, open_agent
from agent.state import Ending, Notice, Outcome
from tests.agent.conftest import Notes
from thaud.domain import Message, ToolCall
from thaud.serving.runtime import Calling

SUM = ToolCall("calculator", {"expression": "6*7"})


def action(name: str, **arguments: object) -> str:
    return json.dumps({"name": name, "arguments": arguments})


def final(text: str) -> str:
    return action(FINAL, text=text)


def talk(setup: Setup, notes: Notes, calling: Calling, *replies: list) -> tuple[Agent, ScriptedRuntime]:  # type: ignore[type-arg]
    runtime = ScriptedRuntime(replies, calling=calling)
    return open_agent(runtime, setup, notes, None), runtime


def names(schema: object) -> list[str]:
    assert isinstance(schema, dict)
    return [each["properties"]["name"]["const"] for each in schema["anyOf"]]


@pytest.mark.parametrize("calling", ["tagged", "native"])
def test_templates_that_know_tools_get_definitions(setup: Setup, notes: Notes, calling: Calling) -> None:
    """With the schema of what may be called, in which the answer is none; without tools there is neither."""
    agent, runtime = talk(setup, notes, calling, calls(SUM), calls(SUM), says("42"))
    assert agent.answer("?") == Outcome("42", Ending.ANSWERED)
    first, _, last = runtime.requests
    offered = ["calculator", "current_time", "read_file", "web_search"]
    assert [each["function"]["name"] for each in first.tools] == names(first.actions) == offered
    assert (last.tools, last.actions) == ((), None)


@pytest.mark.parametrize("piece", [1, 4, 1000])
def test_a_model_without_tools_in_its_template_acts_in_json(setup: Setup, notes: Notes, piece: int) -> None:
    """Tools stand in the system's words, calls and answers are actions, results are the user's; the answer's text is
    shown without its JSON, and the conversation is kept as if the template knew tools.
    """
    replies = says(action("calculator", expression="6*7"), piece=piece), says(final("It is\n42."), piece=piece)
    agent, runtime = talk(setup, notes, "schema", *replies)
    assert agent.answer("6*7?") == Outcome("It is\n42.", Ending.ANSWERED)
    assert notes.shown == "It is\n42."
    first, second = runtime.requests
    assert (first.tools, second.tools) == ((), ())
    assert names(first.actions) == ["calculator", "current_time", "read_file", "web_search", FINAL]
    assert first.messages[0].role == "system"
    assert "calculator" in first.messages[0].content
    assert [message.role for message in second.messages] == ["system", "user", "assistant", "user"]
    assert json.loads(second.messages[2].content) == {"name": "calculator", "arguments": {"expression": "6*7"}}
    assert "42" in second.messages[3].content
    assert agent.exchanges[0].messages == (
        Message("user", "6*7?"),
        Message("assistant", "", (SUM,)),
        Message("tool", "42", tool_name="calculator"),
        Message("assistant", "It is\n42."),
    )


def test_the_last_word_is_an_answer_by_its_schema(setup: Setup, notes: Notes) -> None:
    """Where tools are over the answer is the one action left, and what was asked last is one turn of the user's."""
    again = says(action("calculator", expression="6*7"))
    agent, runtime = talk(setup, notes, "schema", again, again, says(final("42")))
    assert agent.answer("?") == Outcome("42", Ending.ANSWERED)
    assert names(runtime.requests[-1].actions) == [FINAL]
    roles = [message.role for message in runtime.requests[-1].messages]
    assert all(pair != ("user", "user") for pair in pairwise(roles))
    assert runtime.requests[-1].messages[-1].content.endswith(ENGLISH.closing)


def test_without_tools_an_answer_is_text(setup: Setup, notes: Notes) -> None:
    """A conversation in which no tool was offered or used is not put into JSON, even where its answers are."""
    agent, runtime = talk(replace(setup, tools=()), notes, "schema", says('{"name": "Ana"}'))
    assert agent.answer("JSON?") == Outcome('{"name": "Ana"}', Ending.ANSWERED)
    assert (runtime.requests[0].messages, runtime.requests[0].actions) == ((Message("user", "JSON?"),), None)
    assert notes.shown == '{"name": "Ana"}'


def test_system_words_stay_before_the_tools(setup: Setup, notes: Notes) -> None:
    """The user's own come first, in the same turn."""
    agent, runtime = talk(setup, notes, "schema", says(final("42")))
    agent.system = "Be brief."
    agent.answer("?")
    assert runtime.requests[0].messages[0].content.startswith("Be brief.\n\n")
    assert [message.role for message in runtime.requests[0].messages] == ["system", "user"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (action("calculator", expr="1"), "no argument 'expr'"),
        (action("run_shell", command="ls"), "no tool 'run_shell'"),
        (action("web_search", query=["x"]), "'query' is wrong"),
    ],
)
def test_a_wrong_action_runs_nothing(setup: Setup, notes: Notes, text: str, told: str) -> None:
    """A server that did not hold its model to the schema is not believed: actions are validated like calls."""
    agent, runtime = talk(setup, notes, "schema", says(text), says(final("42")))
    agent.answer("?")
    assert notes.calls == []
    assert told in notes.details[0]
    assert runtime.requests[1].messages[-2] == Message("assistant", text)


def test_half_an_action_is_not_run(setup: Setup, notes: Notes) -> None:
    """JSON that the limit of tokens cut is no action, and half an answer is said to be cut."""
    call, answer = action("calculator", expression="6*7"), final("It is 42.")
    agent, _ = talk(setup, notes, "schema", says(call, done="length"), says(answer[:-6], done="length"))
    assert agent.answer("?") == Outcome("", Ending.CUT)
    assert agent.answer("?") == Outcome("It is", Ending.CUT)
    assert notes.calls == []


@pytest.mark.parametrize("calling", ["tagged", "native"])
@pytest.mark.parametrize(
    "text",
    [
        f"{OPEN}{action('calculator', expression='6*7')}{CLOSE}",
        action("calculator", expression="6*7"),
        f"```json\n{action('calculator', expression='6*7')}\n```",
        json.dumps({"type": "function", "function": {"name": "calculator", "arguments": '{"expression": "6*7"}'}}),
    ],
    ids=["hermes", "bare", "fenced", "openai"],
)
def test_calls_in_the_text_are_found(setup: Setup, notes: Notes, calling: Calling, text: str) -> None:
    """Whatever way of writing a small model falls into, a call that was offered and validates is one, unseen."""
    agent, _ = talk(setup, notes, calling, says(text), says("42"))
    assert agent.answer("?").text == "42"
    assert (notes.calls, notes.shown) == ([SUM], "42")


@pytest.mark.parametrize(
    "text", ['{"name": "Ana", "arguments": {}}', '{"expression": "6*7"}', '["calculator"]', "calculator(6*7)"]
)
def test_json_that_is_no_call_is_an_answer(setup: Setup, notes: Notes, text: str) -> None:
    """What names no offered tool or does not validate is text, and is shown."""
    agent, _ = talk(setup, notes, "tagged", says(text))
    assert agent.answer("?") == Outcome(text, Ending.ANSWERED)
    assert notes.shown == text


def test_a_flood_of_calls_is_told_its_measure(setup: Setup, notes: Notes) -> None:
    """More calls at once than may be run are none."""
    many = [ToolCall("calculator", {"expression": f"{number}+1"}) for number in range(9)]
    agent, _ = talk(setup, notes, "native", calls(*many), says("42"))
    agent.answer("?")
    assert (notes.calls, notes.notices) == ([], [Notice.REPAIR])
    assert notes.details == ["9 calls at once; at most 8 are run"]


def test_the_user_never_speaks_twice_in_a_row() -> None:
    """Templates that refuse it get one turn; other turns stay apart."""
    turns = [
        Message("user", "a"),
        Message("user", "b"),
        Message("assistant", "c"),
        Message("tool", "d"),
        Message("tool", "e"),
    ]
    assert merged(turns) == [Message("user", "a\n\nb"), *turns[2:]]
