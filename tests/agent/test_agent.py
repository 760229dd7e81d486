"""The conversation around its turns: figures, context, system words, undo, exchanges, other models."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from agent.dialects.hermes import CLOSE, OPEN
from agent.prompts import ENGLISH
from agent.scripted import ScriptedRuntime, calls, says
from agent.setup import Setup, open_agent
from agent.state import Ending, Exchange, Notice, Usage
from tests.agent.conftest import SQUARES, SUM, Notes, call_text, open_scripted
from thaud.domain import Message
from thaud.errors import ModelError, OverfullError, ServerError
from thaud.serving.runtime import Delta


def test_figures_are_given_for_each_reply(setup: Setup, notes: Notes) -> None:
    """Tokens as the runtime counts them, seconds by the clock, and the context they are spent from."""
    agent, _ = open_scripted(setup, notes, says(call_text("6*7")), says("42", piece=1))
    agent.timer = iter(range(100)).__next__
    outcome = agent.answer("?")
    assert len(notes.usages) == 2
    assert outcome.usage == notes.usages[-1] == Usage(1, 2, 4096, seconds=2, first_s=1)


def test_the_context_is_counted(setup: Setup, notes: Notes) -> None:
    """Before anything is said the tools fill it already; an exchange fills it further."""
    agent, _ = open_scripted(setup, notes, says("a long answer " * 12))
    before = agent.context()
    agent.answer("?")
    assert 0 < before.used < agent.context().used < agent.context().of == 4096
    assert str(before).endswith("/4,096")


def test_system_words_come_first(setup: Setup, notes: Notes) -> None:
    """The user's own words, then for grown models that they go step by step; without either there is no such turn."""
    agent, runtime = open_scripted(setup, notes, says("a"), says("b"))
    agent.system = "Be brief."
    agent.answer("?")
    assert runtime.requests[0].messages[0] == Message("system", "Be brief.")
    grown = open_agent(ScriptedRuntime([says("a")]), replace(setup, age=15), notes, None)
    grown.answer("?")
    assert isinstance(grown.runtime, ScriptedRuntime)
    assert grown.runtime.requests[0].messages[0] == Message("system", ENGLISH.step_by_step)


def test_a_question_is_taken_back(setup: Setup, notes: Notes) -> None:
    """Undo gives the question, answered or not, and the model never hears of it again."""
    agent, runtime = open_scripted(setup, notes, says("A."), says("", done="length"), says("B."))
    agent.answer("a")
    agent.answer("b")
    assert [agent.undo(), agent.undo(), agent.undo()] == ["b", "a", None]
    agent.answer("c")
    assert [message.content for message in runtime.requests[-1].messages] == ["c"]


def test_exchanges_are_what_could_be_learned_from(setup: Setup, notes: Notes) -> None:
    """Question, calls, results, answer and definitions; without failed tries and without the loop's own words."""
    agent, _ = open_scripted(setup, notes, says(f"{OPEN}oops{CLOSE}"), calls(SUM), calls(SUM), says("42"))
    agent.answer("?")
    turns = (
        Message("user", "?"),
        Message("assistant", "", (SUM,)),
        Message("tool", "42", tool_name="calculator"),
        Message("assistant", "42"),
    )
    (exchange,) = agent.exchanges
    assert replace(exchange, repairs=()) == Exchange(turns, Ending.ANSWERED, tuple(agent.toolbox.definitions))


def test_another_model_goes_on(setup: Setup, notes: Notes) -> None:
    """The conversation is kept; tools are offered as far as the new context has room for them."""
    agent, _ = open_scripted(setup, notes, says("A."))
    agent.answer("a")
    small = ScriptedRuntime([says("B.")], context_tokens=256, name="small")
    agent.use(small)
    agent.answer("b")
    assert [message.content for message in small.requests[0].messages] == ["a", "A.", "b"]
    assert [each["function"]["name"] for each in small.requests[0].tools] == ["calculator"]
    agent.use(ScriptedRuntime([], context_tokens=4096))
    assert len(agent.toolbox.tools) == 4


def test_temperature_and_seed_reach_the_model(setup: Setup, notes: Notes) -> None:
    """So that an answer can be tried again otherwise."""
    agent, runtime = open_scripted(setup, notes, says("a"))
    agent.temperature, agent.seed = 0.7, 3
    agent.answer("?")
    assert (runtime.requests[0].temperature, runtime.requests[0].seed) == (0.7, 3)


def test_other_failures_forget_nothing(setup: Setup, notes: Notes) -> None:
    """A model that fails otherwise than by its context is not asked again with less."""
    agent, runtime = open_scripted(setup, notes, says("A."))
    agent.answer("a")
    with pytest.raises(ModelError, match="no further reply"):
        agent.answer("b")
    assert len(runtime.requests) == 2
    assert notes.notices == []


def refuse() -> Iterator[Delta]:
    raise OverfullError("it does not fit")
    yield Delta()


def test_a_model_that_cannot_be_asked_leaves_the_old_one(setup: Setup, notes: Notes) -> None:
    """Where the other model fails at once, nothing of the conversation has changed."""

    class Gone(ScriptedRuntime):
        def count(self, *_: Any, **__: Any) -> int:
            raise ServerError("gone")

    agent, runtime = open_scripted(setup, notes, says("A."))
    before = agent.toolbox
    with pytest.raises(ServerError, match="gone"):
        agent.use(Gone([]))
    assert (agent.runtime, agent.toolbox) == (runtime, before)


def test_a_fresh_conversation_can_be_measured(setup: Setup, notes: Notes) -> None:
    """Templates such as Qwen2.5's refuse a prompt without any turn."""

    class Strict(ScriptedRuntime):
        def count(self, messages: Sequence[Message], **choices: Any) -> int:
            if not messages:
                raise ModelError("list object has no element 0")
            return super().count(messages, **choices)

    assert open_agent(Strict([]), replace(setup, tools=()), notes, None).context().used == 0


def test_a_server_that_counts_otherwise_is_believed(setup: Setup, notes: Notes) -> None:
    """Where an estimate was too low, less is shown and it is asked again."""
    bare = replace(setup, tools=())
    agent, runtime = open_scripted(bare, notes, says(SQUARES), refuse(), says("B."), context_tokens=1024)
    agent.answer("a")
    assert agent.answer("b").text == "B."
    assert notes.notices == [Notice.SUMMARISED]
    assert "a → 0 1 4" in runtime.requests[-1].messages[1].content


def test_what_never_fits_is_an_error(setup: Setup, notes: Notes) -> None:
    """Nothing can be left out, the tools are put away, and then the server's word is passed on."""
    agent, runtime = open_scripted(setup, notes, *(refuse() for _ in range(9)))
    with pytest.raises(OverfullError):
        agent.answer("?")
    assert len(runtime.requests) < 4
