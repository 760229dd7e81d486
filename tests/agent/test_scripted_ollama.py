"""The agent on a server that says what it should not: whole transcripts, and nothing run that was not validated.

What the server sends is written byte by byte (thaud/serving/fake/scripts.py), what it says of the model is the fake's
own. Transcripts are compared whole (telling.py).
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.loop import Agent
from agent.prompts import ENGLISH
from agent.setup import Setup, open_agent
from agent.state import Ending, Notice, Outcome
from tests.agent.conftest import Notes, Rows
from tests.agent.telling import Machine, quoted, spell, told
from tests.serving.kit import HERMES, Forge
from thaud.domain import ToolCall
from thaud.errors import OverfullError, ServerError
from thaud.rendering import CHATML
from thaud.serving.fake.answering import overflow
from thaud.serving.fake.scripts import Line, Script, call, chunk, last, refusal, script
from thaud.serving.fake_ollama import FakeOllama
from thaud.serving.ollama import OllamaServer
from thaud.serving.ollama_runtime import OllamaRuntime
from thaud.serving.reconcile import register

CONTEXT = 4096
QUESTION = "Dobla 21, por favor"
NATIVE, SCHEMA, THINKER = 1, 2, 3
ANSWER = script(chunk("Son 42, "), chunk("señor 🙂."), last(prompt=40, tokens=9))
SAID = "Son 42, señor 🙂."
ASKED = 'user "Dobla 21, por favor"'
BEGIN = ["tools double", "begin thau-nano-v1 '' think=False", ASKED]
RUN = [
    'assistant "" double({"number":21})',
    'call double({"number":21}) True by allowed by a rule',
    'result double ok "42" fault=None foreign=False',
    'tool "42" of double',
]
CLOSE = [
    f'reply "{SAID}" thought "" [] stop False offered double 40+9',
    f'assistant "{SAID}"',
    f'end answered "{SAID}"',
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeOllama]:
    """Version 1 calls natively, 2 by `format`, 3 natively and thinks."""
    forge = Forge(tmp_path_factory.mktemp("served"))
    with FakeOllama("new") as server:
        for n, template in ((NATIVE, HERMES), (SCHEMA, None), (THINKER, HERMES + "{# <think></think> #}")):
            register(OllamaServer(server.url), forge.version(n, ["hola"], template), CONTEXT)
        yield server


@pytest.fixture
def fake(served: FakeOllama) -> FakeOllama:
    """The server, with nothing planned and nothing asked."""
    for noted in (served.faults, served.scripts, served.asked, served.left, served.requests):
        noted.clear()
    return served


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def agent(fake: FakeOllama, setup: Setup, machine: Machine, notes: Notes) -> Agent:
    """An agent of one tool, on the version that calls natively."""
    return open_on(fake, replace(setup, tools=(machine.tool(),)), notes, NATIVE)


def open_on(fake: FakeOllama, setup: Setup, notes: Notes, n: int) -> Agent:
    runtime = OllamaRuntime(fake.url, f"thau-nano-v{n}", CONTEXT)
    return open_agent(runtime, setup, notes, None)


def rows_of(transcript: Rows) -> list[str]:
    """The whole transcript."""
    return [told(row) for row in transcript()]


def heard(*calls: str, text: str = "", tokens: str = "20+5", done: str = "stop") -> str:
    """The row of a reply."""
    return f'reply {quoted(text)} thought "" [{" ".join(calls)}] {done} False offered double {tokens}'


RIGHT = call("double", {"number": 21})
WHOLE = 'double({"number":21})'


@pytest.mark.parametrize("every", [0, 1, 2, 5])
def test_call_and_answer_however_they_are_cut(
    fake: FakeOllama, agent: Agent, machine: Machine, notes: Notes, transcript: Rows, every: int
) -> None:
    """Characters and lines may be cut anywhere on their way: the transcript and what is shown are the same."""
    rows = (chunk("Son 42, "), chunk("señor 🙂."), last(prompt=40, tokens=9))
    fake.scripts += [script(chunk("¡Ñam! "), last(calls=[RIGHT]), every=every), script(*rows, every=every)]
    assert agent.answer(QUESTION) == Outcome(SAID, Ending.ANSWERED)
    first = ['assistant "¡Ñam!" double({"number":21})', *RUN[1:]]
    assert rows_of(transcript) == [*BEGIN, heard(WHOLE, text="¡Ñam! "), *first, *CLOSE]
    assert (machine.ran, notes.shown) == ([21], f"¡Ñam! {SAID}")
    assert fake.asked[1]["messages"] == [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": "¡Ñam!", "tool_calls": [ToolCall("double", {"number": 21}).to_json()]},
        {"role": "tool", "content": "42", "tool_name": "double"},
    ]


CALLS = {
    "two chunks": (chunk(calls=[RIGHT]), last()),
    "the same id again": (chunk(calls=[RIGHT]), last(calls=[RIGHT])),
    "another id": (chunk(calls=[RIGHT]), last(calls=[call("double", {"number": 21}, "call_99999999", 1)])),
    "arguments as text": (last(calls=[call("double", '{"number": 21}')]),),
}


@pytest.mark.parametrize("said", CALLS.values(), ids=CALLS)
def test_call_runs_once(
    fake: FakeOllama, agent: Agent, machine: Machine, transcript: Rows, said: Sequence[Line]
) -> None:
    """A call that comes twice, under the same id or another, runs once; so does one whose arguments are text."""
    fake.scripts += [script(*said), ANSWER]
    assert agent.answer(QUESTION) == Outcome(SAID, Ending.ANSWERED)
    rows = rows_of(transcript)
    assert rows[3].replace(f"[{WHOLE} {WHOLE}]", f"[{WHOLE}]") == heard(WHOLE)
    assert [*rows[:3], *rows[4:]] == [*BEGIN, *RUN, *CLOSE]
    assert machine.ran == [21]


def test_two_calls_under_one_id_are_two(fake: FakeOllama, agent: Agent, machine: Machine) -> None:
    """An id that a server gives to two different calls loses neither."""
    fake.scripts += [script(chunk(calls=[RIGHT]), last(calls=[call("double", {"number": 4})])), ANSWER]
    assert agent.answer(QUESTION).text == SAID
    assert machine.ran == [21, 4]


WRONG = {
    "an unknown tool": ("run_shell", {"command": "ls"}, "there is no tool 'run_shell'; the tools are: double"),
    "a wrong type": ("double", {"number": "many"}, "the argument 'number' is wrong"),
    "out of bounds": ("double", {"number": 101}, "the argument 'number' is wrong"),
    "a missing argument": ("double", {}, "the argument 'number' is missing"),
    "one too many": ("double", {"number": 21, "twice": True}, "there is no argument 'twice', only number"),
    "a null": ("double", {"number": None}, "the argument 'number' is wrong"),
}


@pytest.mark.parametrize(("name", "arguments", "problem"), WRONG.values(), ids=WRONG)
def test_wrong_call_is_explained_and_asked_for_again(
    fake: FakeOllama,
    agent: Agent,
    machine: Machine,
    transcript: Rows,
    name: str,
    arguments: dict[str, Any],
    problem: str,
) -> None:
    """Nothing of the reply runs, not even its right call; the model reads what is wrong, and its second try runs."""
    wrong = call(name, arguments, "call_11111111", 1)
    fake.scripts += [script(last(calls=[RIGHT, wrong])), script(last(calls=[RIGHT])), ANSWER]
    assert agent.answer(QUESTION) == Outcome(SAID, Ending.ANSWERED)
    rows = rows_of(transcript)
    detail = next(row["detail"] for row in transcript() if row["event"] == "notice")
    assert problem in detail
    both = f"{WHOLE} {spell(wrong)}"
    error = f"error: {detail}. {ENGLISH.try_again}"
    assert rows[:6] == [
        *BEGIN,
        heard(WHOLE, spell(wrong)),
        f"notice repair {quoted(detail)}",
        f'failed assistant "" {both} | tool {quoted(error)}',
    ]
    assert rows[6:8] == [heard(WHOLE), RUN[0]]
    assert rows[8].startswith("repair of ")
    assert rows[9:] == [*RUN[1:], *CLOSE]
    assert machine.ran == [21]


TEXTS = {
    "hermes": '<tool_call>\n{"name": "double", "arguments": {"number": 21}}\n</tool_call>',
    "bare": '{"name": "double", "arguments": {"number": 21}}',
    "fenced": '```json\n{"name": "double", "arguments": {"number": 21}}\n```',
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_call_in_the_text_is_run_where_it_validates(
    fake: FakeOllama, agent: Agent, machine: Machine, notes: Notes, transcript: Rows, text: str
) -> None:
    """A server that left a call in the text gave it nonetheless; it is not shown."""
    fake.scripts += [script(chunk(text[:9]), chunk(text[9:]), last()), ANSWER]
    assert agent.answer(QUESTION) == Outcome(SAID, Ending.ANSWERED)
    assert rows_of(transcript) == [*BEGIN, heard(text=text), *RUN, *CLOSE]
    assert (machine.ran, notes.shown.strip()) == ([21], SAID)


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "run_shell", "arguments": {"command": "ls"}}',
        '{"name": "double", "arguments": {"number": "many"}}',
        'One writes {"name": "double", "arguments": {"number": 21}} for that.',
    ],
    ids=["unknown tool", "wrong type", "talked about"],
)
def test_text_that_only_looks_like_a_call_is_text(
    fake: FakeOllama, agent: Agent, machine: Machine, transcript: Rows, text: str
) -> None:
    """What names no offered tool, does not validate, or is talked about, is the answer and runs nothing."""
    fake.scripts.append(script(chunk(text), last()))
    assert agent.answer(QUESTION) == Outcome(text, Ending.ANSWERED)
    ending = [f"assistant {quoted(text)}", f"end answered {quoted(text)}"]
    assert rows_of(transcript) == [*BEGIN, heard(text=text), *ending]
    assert machine.ran == []


CUT_CALL = 'llama-server returned invalid tool call arguments for "double": unexpected end of JSON input'
OPENING = (chunk("Veo."), chunk(calls=[RIGHT]))
SHORT = {
    "the stream ends": (script(*OPENING), Ending.BROKEN, "aborted", [WHOLE]),
    "within a line": (
        Script((*script(*OPENING).pieces, b'{"message": {"content": "a')), Ending.BROKEN, "aborted", [WHOLE],
    ),
    "the limit": (script(chunk("Veo."), last("length", calls=[RIGHT])), Ending.CUT, "length", []),
    "after a whole call": (script(*OPENING, last("length")), Ending.CUT, "length", [WHOLE]),
    "within a call": (script(chunk("Veo."), {"error": CUT_CALL}), Ending.CUT, "length", []),
    "unloaded": (script(chunk("Veo."), last("unload", calls=[RIGHT])), Ending.BROKEN, "aborted", []),
}  # fmt: skip


@pytest.mark.parametrize(("said", "ending", "done", "calls"), SHORT.values(), ids=SHORT)
def test_reply_without_its_end_runs_nothing(
    fake: FakeOllama,
    agent: Agent,
    machine: Machine,
    transcript: Rows,
    said: Script,
    ending: Ending,
    done: str,
    calls: list[str],
) -> None:
    """A stream that ends early and a reply cut by the limit have words of their own, and no call of theirs runs."""
    fake.scripts.append(said)
    assert agent.answer(QUESTION) == Outcome("Veo.", ending)
    counted = "20+5" if b'"done":true' in b"".join(said.pieces) else "0+0"
    row = heard(*calls, text="Veo.", tokens=counted, done=done)
    assert rows_of(transcript) == [*BEGIN, row, f'end {ending} "Veo."']
    assert machine.ran == []


def test_call_cut_at_once_is_a_cut_too(fake: FakeOllama, agent: Agent, machine: Machine, transcript: Rows) -> None:
    """The 500 of a server whose model was cut within its first call is no failure of the server's."""
    fake.scripts.append(refusal(500, CUT_CALL))
    assert agent.answer(QUESTION) == Outcome("", Ending.CUT)
    assert rows_of(transcript) == [*BEGIN, heard(tokens="0+0", done="length"), 'end cut ""']
    assert machine.ran == []


FAILURES = {
    "400": (refusal(400, "invalid option"), "refused while .*: invalid option", ""),
    "404": (refusal(404, "model 'thau-nano-v1' not found"), "model 'thau-nano-v1' not found; thau sync makes", ""),
    "500": (refusal(500, "model runner has unexpectedly stopped"), "refused while .*: model runner has", ""),
    "503": (refusal(503, "server busy, please try again."), "refused while .*: server busy", ""),
    "an error line": (script(*OPENING, {"error": "unexpected EOF"}), "unexpected EOF", WHOLE),
    "a lost connection": (script(*OPENING, drops=True), "broke off while", WHOLE),
    "no JSON": (Script((*script(*OPENING).pieces, b"oops\n")), "not understood", WHOLE),
}


@pytest.mark.parametrize(("said", "reason", "called"), FAILURES.values(), ids=FAILURES)
def test_failing_server_runs_nothing(
    fake: FakeOllama, agent: Agent, machine: Machine, transcript: Rows, said: Script, reason: str, called: str
) -> None:
    """One error in the server's words; no call is run, and the next question begins as if nothing had been asked."""
    fake.scripts += [said, ANSWER]
    with pytest.raises(ServerError, match=reason):
        agent.answer(QUESTION)
    text = "Veo." if called else ""
    failed = heard(*filter(None, [called]), text=text, tokens="no figures", done="aborted")
    assert rows_of(transcript) == [*BEGIN, failed, 'end failed ""']
    assert machine.ran == []
    assert agent.answer(QUESTION).text == SAID
    assert [message["content"] for message in fake.asked[-1]["messages"]] == [QUESTION]


def test_lost_call_is_asked_for_again(fake: FakeOllama, agent: Agent, machine: Machine, transcript: Rows) -> None:
    """Thirty tokens of which nothing arrives are a call that the server could not read; the model is told so."""
    fake.scripts += [script(last(tokens=30)), script(last(calls=[RIGHT])), ANSWER]
    assert agent.answer(QUESTION) == Outcome(SAID, Ending.ANSWERED)
    told_of = f"error: {ENGLISH.lost}. {ENGLISH.try_again}"
    assert rows_of(transcript)[3:7] == [
        heard(tokens="20+30"),
        f"notice repair {quoted(ENGLISH.lost)}",
        f'failed assistant "" | tool {quoted(told_of)}',
        heard(WHOLE),
    ]
    assert machine.ran == [21]


def test_silence_has_a_word_of_its_own(fake: FakeOllama, agent: Agent, notes: Notes) -> None:
    """Where it stays so the answer is lost, not empty; a reply of nothing but its end is empty."""
    fake.scripts += [script(last(tokens=30))] * 4
    assert agent.answer(QUESTION) == Outcome("", Ending.LOST)
    assert notes.notices == [Notice.REPAIR, Notice.REPAIR, Notice.LIMIT]
    fake.scripts += [script(last(tokens=1))] * 4
    assert agent.answer(QUESTION) == Outcome("", Ending.EMPTY)


def test_prompt_that_does_not_fit_is_shortened(fake: FakeOllama, agent: Agent, transcript: Rows) -> None:
    """The server's own figures are believed: the past becomes a summary, and the question is asked again."""
    words = " ".join(str(number * number) for number in range(400))
    counted, summary = script(chunk(words), last(prompt=100, tokens=900)), script(chunk("Squares."), last())
    fake.scripts += [counted, refusal(400, twice_wrapped()), summary, ANSWER]
    agent.answer("Cuenta")
    assert agent.answer(QUESTION) == Outcome(SAID, Ending.ANSWERED)
    assert [row["event"] for row in transcript()].count("window") == 1
    shown = json.dumps(fake.asked[-1]["messages"])
    assert ("Squares." in shown, words[-40:] in shown) == (True, False)


def test_prompt_that_never_fits_is_an_error(fake: FakeOllama, agent: Agent, machine: Machine) -> None:
    """Where nothing is left to leave out, not even the tools, the server's word is passed on."""
    fake.scripts += [refusal(400, twice_wrapped())] * 6
    with pytest.raises(OverfullError, match=f"5000 tokens, the context holds {CONTEXT}"):
        agent.answer(QUESTION)
    assert machine.ran == []


def twice_wrapped() -> str:
    """A new server's refusal: JSON in the text of JSON."""
    return json.dumps({"error": overflow(5000, CONTEXT)})


def test_thought_is_apart_and_in_no_message(
    fake: FakeOllama, setup: Setup, machine: Machine, notes: Notes, transcript: Rows
) -> None:
    """A model that thinks is asked to; its thoughts are shown apart, and are in no message of the transcript."""
    setup = replace(setup, tools=(machine.tool(),), think=True)
    fake.scripts += [script(chunk(thinking="Veintiuno "), chunk(thinking="dos veces"), last(calls=[RIGHT])), ANSWER]
    outcome = open_on(fake, setup, notes, THINKER).answer(QUESTION)
    assert outcome == Outcome(SAID, Ending.ANSWERED)
    thought = heard(WHOLE).replace('thought ""', 'thought "Veintiuno dos veces"')
    begin = ["tools double", "begin thau-nano-v3 '' think=True", ASKED]
    assert rows_of(transcript) == [*begin, thought, *RUN, *CLOSE]
    assert (notes.thought, notes.shown) == ("Veintiuno dos veces", SAID)
    assert [body["think"] for body in fake.asked] == [True, True]


ACTION = '{"name": "double", "arguments": {"number": 21}}'
FINAL = '{"name": "final_answer", "arguments": {"text": "Son 42, señor 🙂."}}'


@pytest.mark.parametrize("every", [0, 1, 7])
def test_model_without_tools_calls_by_format(
    fake: FakeOllama, setup: Setup, machine: Machine, notes: Notes, transcript: Rows, every: int
) -> None:
    """Actions are JSON held by `format`: a call runs, the answer's text is shown as it comes, never its JSON."""
    pieces = [FINAL[at : at + 5] for at in range(0, len(FINAL), 5)]
    answer = script(*map(chunk, pieces), last(prompt=40, tokens=9), every=every)
    fake.scripts += [script(chunk(ACTION[:20]), chunk(ACTION[20:]), last(), every=every), answer]
    outcome = open_on(fake, replace(setup, tools=(machine.tool(),)), notes, SCHEMA).answer(QUESTION)
    assert outcome == Outcome(SAID, Ending.ANSWERED)
    begin = ["tools double", "begin thau-nano-v2 '' think=False", ASKED]
    close = [CLOSE[0].replace(quoted(SAID), quoted(FINAL), 1), *CLOSE[1:]]
    assert rows_of(transcript) == [*begin, heard(text=ACTION), *RUN, *close]
    assert (machine.ran, notes.shown) == ([21], SAID)
    names = [each["properties"]["name"]["const"] for each in fake.asked[0]["format"]["anyOf"]]
    assert sorted(names) == ["double", "final_answer"]
    assert all("tools" not in body for body in fake.asked)


def test_halves_of_actions_run_nothing(fake: FakeOllama, setup: Setup, machine: Machine, notes: Notes) -> None:
    """JSON cut by the limit is no action, however much of it came."""
    fake.scripts.append(script(chunk(ACTION[:-1]), last("length")))
    outcome = open_on(fake, replace(setup, tools=(machine.tool(),)), notes, SCHEMA).answer(QUESTION)
    assert outcome.ending is Ending.CUT
    assert machine.ran == []


def test_model_that_would_rather_chat_is_held(
    fake: FakeOllama, setup: Setup, machine: Machine, notes: Notes, tmp_path: Path
) -> None:
    """Without a script of the server's: llama.cpp runs a model that would chat, and `format` makes it act."""
    version = Forge(tmp_path, "thau-real").version(1, ["I would rather chat."], CHATML)
    register(OllamaServer(fake.url), version, CONTEXT)
    runtime = OllamaRuntime(fake.url, version.name, CONTEXT)
    agent = open_agent(runtime, replace(setup, tools=(machine.tool(),)), notes, None)
    assert agent.runtime.calling == "schema"
    agent.answer(QUESTION)
    assert machine.ran
    assert {call.name for call in notes.calls} == {"double"}
