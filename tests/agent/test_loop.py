from collections.abc import Iterator

import pytest

from agent.approval import Decision
from agent.approval import Request as Asked
from agent.dialects.hermes import CLOSE, OPEN
from agent.prompts import ENGLISH
from agent.scripted import ScriptedRuntime, calls, says
from agent.setup import Setup, answer_once
from agent.state import Ending, Limits, Notice, Outcome
from tests.agent.conftest import SUM, Notes, Rows, call_text, open_scripted
from thaud.domain import Message, ToolCall
from thaud.errors import ModelError, ServerError
from thaud.serving.runtime import Delta, DoneReason


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
    assert [message.role for message in agent.exchanges[0].messages] == ["user", "assistant", "tool", "assistant"]


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
    assert runtime.requests[2].messages[-1] == Message("user", ENGLISH.closing)


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
def test_half_a_reply_runs_nothing(
    setup: Setup, notes: Notes, text: str, done: DoneReason | None, ending: Ending
) -> None:
    """A reply that was cut or broke off executes no call, whole or half; what was said is kept."""
    agent, _ = open_scripted(setup, notes, says(text, done=done))
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

    def ask(_: Asked) -> Decision:
        raise KeyboardInterrupt

    agent, _ = open_scripted(setup, notes, calls(ToolCall("web_search", {"query": "x"})), ask=ask)
    assert agent.answer("a") == Outcome("", Ending.STOPPED)
    assert [exchange.remembered for exchange in agent.exchanges] == [()]


def test_a_failing_server_leaves_a_transcript_and_a_clean_history(setup: Setup, notes: Notes, transcript: Rows) -> None:
    """The error reaches the caller, the question is on file, and the history is as before."""

    def fail() -> Iterator[Delta]:
        yield Delta("Hal")
        raise ServerError("gone")

    agent, runtime = open_scripted(setup, notes, fail(), says("fine"))
    with pytest.raises(ServerError, match="gone"):
        agent.answer("a")
    assert transcript()[-1]["ending"] == "failed"
    assert [exchange.ending for exchange in agent.exchanges] == [Ending.FAILED]
    assert agent.answer("b").text == "fine"
    assert [message.content for message in runtime.requests[-1].messages] == ["b"]


def test_a_prompt_that_cannot_be_shortened_is_an_error(setup: Setup, notes: Notes) -> None:
    """Where nothing can be left out the model's own message is raised."""
    agent, _ = open_scripted(setup, notes)
    with pytest.raises(ModelError, match="no further reply"):
        agent.answer("a")


def test_one_question_can_be_answered_with_tools(setup: Setup, notes: Notes, transcript: Rows) -> None:
    """`answer_once` runs the same loop and leaves a transcript of its own."""
    runtime = ScriptedRuntime([says(call_text("6*7")), says("42")])
    assert answer_once(runtime, "?", setup, listener=notes) == Outcome("42", Ending.ANSWERED)
    assert notes.calls == [SUM]
    assert next(row for row in transcript() if row["event"] == "message")["message"]["content"] == "?"


def test_a_reply_may_take_half_of_the_context(setup: Setup, notes: Notes) -> None:
    """A small context is not asked for more tokens than it has room for."""
    agent, runtime = open_scripted(setup, notes, says("A."), context_tokens=256)
    agent.answer("a")
    assert runtime.requests[0].max_new_tokens == 128


def test_a_repaired_call_is_a_lesson(setup: Setup, notes: Notes, transcript: Rows) -> None:
    """What was wrong, what it was told and what it then did right are kept, with the prompt as it was first asked."""
    wrong = f'{OPEN}{{"name": "calculator", "arguments": {{"expr": "6*7"}}}}{CLOSE}'
    agent, _ = open_scripted(setup, notes, says(wrong), says(""), says(call_text("6*7")), says("42"))
    agent.answer("6*7?")
    (repair,) = agent.exchanges[0].repairs
    assert notes.repairs == [repair]
    assert repair.prompt == (Message("user", "6*7?"),)
    assert (repair.failed, repair.problem) == ("", "the reply was empty")
    assert repair.fixed == Message("assistant", "", (SUM,))
    assert [row["problem"] for row in transcript() if row["event"] == "repair"] == ["the reply was empty"]


def test_a_lesson_names_what_failed(setup: Setup, notes: Notes) -> None:
    """A native call with a wrong argument is kept as the JSON that it was."""
    wrong = ToolCall("calculator", {"expr": "1"})
    agent, runtime = open_scripted(setup, notes, calls(wrong), calls(SUM), says("42"))
    agent.answer("?")
    (repair,) = notes.repairs
    assert '"expr":"1"' in repair.failed
    assert "no argument 'expr'" in repair.problem
    assert runtime.requests[1].messages[-2:][0] == Message("assistant", "", (wrong,))
    assert [message.role for message in runtime.requests[2].messages] == ["user", "assistant", "tool"]


@pytest.mark.parametrize("cycle", [1, 2, 3, 4])
def test_calls_that_go_round_in_circles_end_the_tools(setup: Setup, notes: Notes, cycle: int) -> None:
    """A cycle of up to four calls runs once, and its second round ends before its last call is run again."""
    rounds = [says(call_text(f"{number}+1")) for number in range(cycle)] * 2
    agent, _ = open_scripted(setup, notes, *rounds, says("enough"))
    assert agent.answer("?") == Outcome("enough", Ending.ANSWERED)
    assert len(notes.calls) == 2 * cycle - 1
    assert notes.notices == [Notice.REPEATED, Notice.LIMIT]


def test_the_same_call_written_otherwise_is_the_same_call(setup: Setup, notes: Notes) -> None:
    """Calls are compared as they would run, not as they are written."""
    spaced = ToolCall("calculator", {"expression": "  6*7 "})
    agent, _ = open_scripted(setup, notes, calls(SUM), calls(spaced), says("42"))
    agent.answer("?")
    assert notes.calls == [SUM]


def test_a_call_twice_in_one_reply_runs_once(setup: Setup, notes: Notes) -> None:
    """Servers that give a call a second id, and models that stutter, do not run it twice."""
    agent, runtime = open_scripted(
        setup, notes, calls(SUM, SUM, ToolCall("calculator", {"expression": " 6*7"})), says("42")
    )
    agent.answer("?")
    assert notes.calls == [SUM]
    assert runtime.requests[1].messages[1:] == (
        Message("assistant", "", (SUM,)),
        Message("tool", "42", tool_name="calculator"),
    )
