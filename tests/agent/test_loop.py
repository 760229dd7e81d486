from collections.abc import Iterable, Iterator

import pytest

from agent.approval import Ask
from agent.dialects.hermes import CLOSE, OPEN
from agent.loop import CLOSING, Agent
from agent.scripted import ScriptedRuntime, calls, says
from agent.setup import Setup, answer_once, open_agent
from agent.state import Ending, Limits, Notice, Outcome
from tests.agent.conftest import Notes, Rows
from thaud.domain import Message, ToolCall
from thaud.errors import ModelError, ServerError
from thaud.serving.runtime import Delta

SUM = ToolCall("calculator", {"expression": "6*7"})


def call_text(expression: str) -> str:
    return f'{OPEN}\n{{"name": "calculator", "arguments": {{"expression": "{expression}"}}}}\n{CLOSE}'


def open_scripted(
    setup: Setup, notes: Notes, *replies: Iterable[Delta], ask: Ask | None = None, context_tokens: int = 4096
) -> tuple[Agent, ScriptedRuntime]:
    runtime = ScriptedRuntime(replies, context_tokens=context_tokens)
    return open_agent(runtime, setup, notes, ask), runtime


@pytest.mark.parametrize("piece", [1, 3, 1000])
def test_a_sum_is_answered_by_the_calculator(setup: Setup, notes: Notes, transcript: Rows, piece: int) -> None:
    """Call, result, answer: the tool ran with the model's arguments, and the model saw the result."""
    agent, runtime = open_scripted(setup, notes, says(call_text("6*7"), piece=piece), says("Son 42.", piece=piece))
    assert agent.answer("¿6*7?") == Outcome("Son 42.", Ending.ANSWERED)
    assert notes.calls == [SUM]
    assert [result.text for result in notes.results] == ["42"]
    assert notes.shown == "Son 42."
    assert runtime.requests[1].messages == (
        Message("user", "¿6*7?"),
        Message("assistant", "", (SUM,)),
        Message("tool", "42", tool_name="calculator"),
    )
    assert [row["text"] for row in transcript() if row["event"] == "result"] == ["42"]
    assert transcript()[-1]["ending"] == "answered"


def test_native_calls_are_run_too(setup: Setup, notes: Notes) -> None:
    """A call that the server took out of the text is checked and run like one in it."""
    agent, _ = open_scripted(setup, notes, calls(SUM), says("42"))
    assert agent.answer("?").text == "42"
    assert notes.calls == [SUM]


def test_two_calls_in_one_reply_run_in_order(setup: Setup, notes: Notes) -> None:
    """Both run, and the model gets both results."""
    agent, runtime = open_scripted(setup, notes, says(call_text("1+1") + call_text("2+2")), says("2, 4"))
    agent.answer("?")
    assert [result.text for result in notes.results] == ["2", "4"]
    assert [message.content for message in runtime.requests[1].messages[-2:]] == ["2", "4"]


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (f'{OPEN}{{"name": "calculator", "arguments": {CLOSE}', "no valid JSON"),
        (f'{OPEN}{{"name": "run_shell", "arguments": {{"command": "ls"}}}}{CLOSE}', "no tool 'run_shell'"),
        (f'{OPEN}{{"name": "calculator", "arguments": {{"expr": "6*7"}}}}{CLOSE}', "no argument 'expr'"),
        (call_text("1+1") + f"{OPEN}oops{CLOSE}", "no valid JSON"),
        ("", "the reply was empty"),
    ],
)
def test_a_wrong_call_is_explained_and_not_run(setup: Setup, notes: Notes, reply: str, told: str) -> None:
    """The model reads what is wrong and may try again; of a reply with a wrong call not even the right ones run."""
    agent, runtime = open_scripted(setup, notes, says(reply), says(call_text("6*7")), says("42"))
    assert agent.answer("?") == Outcome("42", Ending.ANSWERED)
    assert notes.calls == [SUM]
    assert notes.notices == [Notice.REPAIR]
    assert told in notes.details[0]
    assert told in runtime.requests[1].messages[-1].content


def test_repairs_are_limited(setup: Setup, notes: Notes) -> None:
    """After two repairs the model is asked for its answer without tools."""
    agent, runtime = open_scripted(setup, notes, *[says(f"{OPEN}{{{CLOSE}")] * 3, says("I cannot."))
    assert agent.answer("?") == Outcome("I cannot.", Ending.ANSWERED)
    assert notes.notices == [Notice.REPAIR, Notice.REPAIR, Notice.LIMIT]
    assert [bool(request.tools) for request in runtime.requests] == [True, True, True, False]


def test_the_same_call_twice_ends_the_tools(setup: Setup, notes: Notes) -> None:
    """A model that repeats itself is not obeyed again; it answers from the result it has."""
    agent, runtime = open_scripted(setup, notes, says(call_text("6*7")), says(call_text("6*7")), says("42"))
    assert agent.answer("?") == Outcome("42", Ending.ANSWERED)
    assert notes.calls == [SUM]
    assert Notice.REPEATED in notes.notices
    assert runtime.requests[2].tools == ()
    assert runtime.requests[2].messages[-1] == Message("user", CLOSING)


def test_steps_are_limited(setup: Setup, notes: Notes) -> None:
    """A model that never stops calling is stopped, and what it calls in its last turn is not run."""
    endless = (says(call_text(f"{number}+1")) for number in range(100))
    agent, runtime = open_scripted(setup, notes, *endless)
    agent.limits = Limits(max_steps=3)
    assert agent.answer("?") == Outcome("", Ending.EMPTY)
    assert [result.text for result in notes.results] == ["1", "2", "3"]
    assert len(runtime.requests) == 4


def test_calls_in_one_reply_are_limited(setup: Setup, notes: Notes) -> None:
    """A flood of calls runs nothing."""
    agent, _ = open_scripted(setup, notes, says("".join(call_text(f"{n}+1") for n in range(9))), says("fine"))
    assert agent.answer("?").text == "fine"
    assert notes.calls == []


@pytest.mark.parametrize(
    ("done", "ending"), [("length", Ending.CUT), ("aborted", Ending.BROKEN), (None, Ending.BROKEN)]
)
@pytest.mark.parametrize("text", ["Let me see. " + call_text("6*7"), "Let me see. " + call_text("6*7")[:-20]])
def test_half_a_reply_runs_nothing(setup: Setup, notes: Notes, text: str, done: str | None, ending: Ending) -> None:
    """A reply that was cut or broke off executes no call, whole or half; what was said is kept."""
    agent, _ = open_scripted(setup, notes, says(text, done=done))  # type: ignore[arg-type]
    assert agent.answer("?") == Outcome("Let me see.", ending)
    assert notes.calls == []


def test_a_denied_call_does_not_run(setup: Setup, notes: Notes, transcript: Rows) -> None:
    """A search without a terminal is denied, the model is told, and the conversation goes on."""
    search = ToolCall("web_search", {"query": "x"})
    agent, runtime = open_scripted(setup, notes, calls(search), says("I could not search."))
    assert agent.answer("?").text == "I could not search."
    assert "did not allow" in runtime.requests[1].messages[-1].content
    assert [row["permitted"] for row in transcript() if row["event"] == "call"] == [False]


def test_history_is_kept_and_cleared(setup: Setup, notes: Notes) -> None:
    """The next question comes with the conversation so far, until it is cleared."""
    agent, runtime = open_scripted(setup, notes, says("Hola."), says("Bien."), says("Adiós."))
    agent.answer("a")
    agent.answer("b")
    assert [message.content for message in runtime.requests[1].messages] == ["a", "Hola.", "b"]
    agent.clear()
    agent.answer("c")
    assert [message.content for message in runtime.requests[2].messages] == ["c"]


class Interrupted:
    """A reply during which Ctrl-C is pressed."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __iter__(self) -> Iterator[Delta]:
        yield Delta(self.text)
        raise KeyboardInterrupt


def test_ctrl_c_stops_the_generation(setup: Setup, notes: Notes, transcript: Rows) -> None:
    """What was said is kept, no call is run, the transcript is saved, and the next question is answered."""
    agent, runtime = open_scripted(setup, notes, Interrupted("Once upon " + call_text("6*7")), says("Yes."))
    assert agent.answer("a") == Outcome("Once upon", Ending.STOPPED)
    assert notes.calls == []
    assert transcript()[-1]["ending"] == "stopped"
    assert [row["text"] for row in transcript() if row["event"] == "reply"] == ["Once upon " + call_text("6*7")]
    assert agent.answer("b").text == "Yes."
    assert [message.content for message in runtime.requests[1].messages] == ["a", "Once upon", "b"]


def test_ctrl_c_in_an_approval_stops_the_turn(setup: Setup, notes: Notes) -> None:
    """Nothing runs, and nothing of the turn stays in the history."""

    def ask(_: str) -> bool:
        raise KeyboardInterrupt

    agent, _ = open_scripted(setup, notes, calls(ToolCall("web_search", {"query": "x"})), ask=ask)
    assert agent.answer("a") == Outcome("", Ending.STOPPED)
    assert agent.history == []


def test_a_failing_server_leaves_a_transcript_and_a_clean_history(setup: Setup, notes: Notes, transcript: Rows) -> None:
    """The error reaches the caller, the question is on file, and the history is as before."""

    def fail() -> Iterator[Delta]:
        yield Delta("Hal")
        raise ServerError("gone")

    agent, _ = open_scripted(setup, notes, fail(), says("fine"))
    with pytest.raises(ServerError, match="gone"):
        agent.answer("a")
    assert transcript()[-1]["ending"] == "failed"
    assert agent.history == []
    assert agent.answer("b").text == "fine"


class Narrow(ScriptedRuntime):
    """A scripted model that takes so many messages, and tools only with one."""

    def chat(self, messages, *, tools=(), max_new_tokens=512, temperature=0.0):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201
        """Refuse a prompt that does not fit."""
        if len(messages) > 3 or (tools and self.context_tokens < 2000):
            raise ModelError("the prompt does not fit")
        return super().chat(messages, tools=tools, max_new_tokens=max_new_tokens, temperature=temperature)


def test_the_oldest_exchange_is_forgotten_where_the_prompt_does_not_fit(setup: Setup, notes: Notes) -> None:
    """A long conversation goes on, with less of its past, and says so."""
    runtime = Narrow([says("A."), says("B."), says("C.")])
    agent = open_agent(runtime, setup, notes, None)
    for question in ("a", "b", "c"):
        agent.answer(question)
    assert [message.content for message in runtime.requests[-1].messages] == ["b", "B.", "c"]
    assert notes.notices == [Notice.FORGOT]


def test_tools_are_put_away_where_they_do_not_fit(setup: Setup, notes: Notes) -> None:
    """A model too small for the definitions answers without them, from then on without trying again."""
    runtime = Narrow([says("A."), says("B.")], context_tokens=1500)
    agent = open_agent(runtime, setup, notes, None)
    assert [agent.answer("a").text, agent.answer("b").text] == ["A.", "B."]
    assert notes.notices == [Notice.NO_TOOLS]
    assert len(agent.history) == 2


def test_a_prompt_that_cannot_be_shortened_is_an_error(setup: Setup, notes: Notes) -> None:
    """Where nothing can be left out the model's own message is raised."""
    agent, _ = open_scripted(setup, notes)
    with pytest.raises(ModelError, match="no further reply"):
        agent.answer("a")


def test_one_question_can_be_answered_with_tools(setup: Setup, notes: Notes, transcript: Rows) -> None:
    """`answer_once` runs the same loop and leaves a transcript."""
    runtime = ScriptedRuntime([says(call_text("6*7")), says("42")])
    assert answer_once(runtime, "?", setup, listener=notes) == Outcome("42", Ending.ANSWERED)
    assert notes.calls == [SUM]
    assert transcript()[0]["message"]["content"] == "?"


def test_a_reply_may_take_half_of_the_context(setup: Setup, notes: Notes) -> None:
    """A small context is not asked for more tokens than it has room for."""
    agent, runtime = open_scripted(setup, notes, says("A."), context_tokens=256)
    agent.answer("a")
    assert runtime.requests[0].max_new_tokens == 128
