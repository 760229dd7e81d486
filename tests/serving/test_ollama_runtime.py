"""Talking to a served model when things go wrong, and what it is asked. The rest is in tests/contract."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.serving.kit import ADD, HERMES, THINKING, Forge
from tests.testkit.daemon import wait_until
from thaud.domain import Message, ToolCall
from thaud.errors import OverfullError, ServerError
from thaud.rendering import CHATML
from thaud.serving.fake.answering import overflow
from thaud.serving.fake.scripts import Script, call, chunk, last, refusal, script
from thaud.serving.fake_ollama import FakeOllama, Fault
from thaud.serving.ollama import OllamaServer
from thaud.serving.ollama_runtime import OllamaRuntime
from thaud.serving.reconcile import register
from thaud.serving.runtime import Delta

HELLO = [Message("user", "hello")]
SUM = ToolCall("add", {"a": 2, "b": 3})
ACTIONS = {
    "anyOf": [
        {
            "type": "object",
            "properties": {
                "name": {"const": "paint"},
                "arguments": {
                    "type": "object",
                    "properties": {"colour": {"enum": ["red", "blue"]}},
                    "required": ["colour"],
                },
            },
            "required": ["name", "arguments"],
        }
    ]
}
TOOLS, BARE, THINKER, MUSER = 1, 2, 3, 4
MUSING = CHATML + "{# <think></think> #}"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeOllama]:
    """Version 1 has tools, 2 has not, 3 has tools and thinks, 4 thinks and has none."""
    forge = Forge(tmp_path_factory.mktemp("served"))
    with FakeOllama("new") as server:
        for n, template in ((TOOLS, HERMES), (BARE, None), (THINKER, THINKING), (MUSER, MUSING)):
            register(OllamaServer(server.url), forge.version(n, ["one ", "two ", "three"], template), 256)
        yield server


@pytest.fixture
def fake(served: FakeOllama) -> FakeOllama:
    """The server, with nothing planned and nothing asked."""
    for noted in (served.faults, served.scripts, served.asked, served.left, served.requests):
        noted.clear()
    return served


def runtime(fake: FakeOllama, n: int = TOOLS) -> OllamaRuntime:
    return OllamaRuntime(fake.url, f"thau-nano-v{n}", 256)


def test_says_what_it_serves(fake: FakeOllama) -> None:
    """Name and context are those it was opened with."""
    assert (runtime(fake).name, runtime(fake).context_tokens) == ("thau-nano-v1", 256)


def test_stream_cut_short_is_aborted(fake: FakeOllama) -> None:
    """A stream that ends without its last chunk gives what came, and `aborted`."""
    fake.faults.append(Fault("chat", "cut", 2))
    assert list(runtime(fake).chat(HELLO)) == [Delta("one "), Delta("two "), Delta(done="aborted")]


def test_error_inside_a_stream(fake: FakeOllama) -> None:
    """An error line after some text is a ServerError in the server's words."""
    fake.faults.append(Fault("chat", "error", 1))
    with pytest.raises(ServerError, match=r"thau-nano-v1 was answering: .*unexpected EOF"):
        list(runtime(fake).chat(HELLO))


def test_connection_that_breaks(fake: FakeOllama) -> None:
    """A connection lost in the middle is a ServerError that says so."""
    fake.faults.append(Fault("chat", "drop", 1))
    with pytest.raises(ServerError, match="broke off while thau-nano-v1 was answering"):
        list(runtime(fake).chat(HELLO))


def test_busy_server(fake: FakeOllama) -> None:
    """A full queue is told in the server's words."""
    fake.faults.append(Fault("chat", "busy"))
    with pytest.raises(ServerError, match="server busy, please try again"):
        list(runtime(fake).chat(HELLO))


def test_listener_may_leave(fake: FakeOllama) -> None:
    """Whoever stops listening closes the connection, and the next question is answered."""
    stream = runtime(fake).chat(HELLO)
    assert next(stream) == Delta("one ")
    stream.close()  # type: ignore[attr-defined]
    assert list(runtime(fake).chat(HELLO))[-1].done == "stop"


def test_server_hears_that_the_listener_left(fake: FakeOllama) -> None:
    """Closing the answer closes the connection, so that the server stops generating; nothing waits for the rest."""
    fake.scripts.append(Script(tuple(json.dumps(chunk("x" * 4096)).encode() + b"\n" for _ in range(20_000))))
    stream = runtime(fake).chat(HELLO)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    wait_until(lambda: bool(fake.left))
    assert fake.left == ["/api/chat"]


@pytest.mark.parametrize("every", [1, 2, 3, 7])
def test_characters_may_be_cut_on_their_way(fake: FakeOllama, every: int) -> None:
    """Characters of several bytes arrive whole however the network cuts them, and U+0085 ends no line."""
    fake.scripts.append(script(chunk("¿Ma"), chunk("ñana\x85"), chunk("🙂"), last(), every=every))
    heard = list(runtime(fake).chat(HELLO))
    assert [delta.text for delta in heard] == ["¿Ma", "ñana\x85", "🙂", ""]
    assert (heard[-1].done, heard[-1].prompt_tokens, heard[-1].completion_tokens) == ("stop", 20, 5)


@pytest.mark.parametrize(
    "pieces",
    [
        (json.dumps(chunk("hola")).encode() + b'\n{"message": {"content": "a',),
        (json.dumps(chunk("hola")).encode() + b"\n",),
        (json.dumps(chunk("hola")).encode(),),
    ],
    ids=["within a line", "behind a line", "without its newline"],
)
def test_stream_that_ends_before_its_end(fake: FakeOllama, pieces: tuple[bytes, ...]) -> None:
    """Whatever ends politely without a last line is aborted; half a line says nothing."""
    fake.scripts.append(Script(pieces))
    assert list(runtime(fake).chat(HELLO)) == [Delta("hola"), Delta(done="aborted")]


@pytest.mark.parametrize(
    "line",
    [
        b"[]",
        b"{",
        b"\xff",
        b'{"message": "hola"}',
        b'{"message": {"content": 7}}',
        b'{"message": {"tool_calls": [{"function": {"name": "add", "arguments": [1]}}]}}',
        b'{"message": {"tool_calls": [{"function": {"name": 7, "arguments": {}}}]}}',
        b'{"message": {"tool_calls": [{"function": {"name": "add", "arguments": "{"}}]}}',
        b'{"message": {"content": ""}, "done": true, "eval_count": "many"}',
    ],
)
def test_line_that_is_no_chunk(fake: FakeOllama, line: bytes) -> None:
    """What is no chunk of a chat is one error that says so; no part of it is a call."""
    fake.scripts.append(Script((line + b"\n",)))
    with pytest.raises(ServerError, match="gave an answer that is not understood while thau-nano-v1 was answering"):
        list(runtime(fake).chat(HELLO))


def test_call_that_comes_twice_under_one_id(fake: FakeOllama) -> None:
    """A server that says a call again, in a chunk and at the end, says one; two calls may share an id."""
    other = call("add", {"a": 5, "b": 5})
    fake.scripts.append(
        script(chunk(calls=[call("add", SUM.arguments)]), last(calls=[call("add", SUM.arguments), other]))
    )
    calls = [each for delta in runtime(fake).chat(HELLO, tools=[ADD]) for each in delta.tool_calls]
    assert calls == [SUM, ToolCall("add", {"a": 5, "b": 5})]


def test_arguments_as_text(fake: FakeOllama) -> None:
    """A server that writes arguments as JSON text, as OpenAI's does, is understood."""
    fake.scripts.append(script(last(calls=[call("add", '{"a": 2, "b": 3}')])))
    assert list(runtime(fake).chat(HELLO, tools=[ADD]))[-1].tool_calls == (SUM,)


def test_no_call_of_a_cut_answer(fake: FakeOllama) -> None:
    """Where the limit cut the answer, the calls of its last line may be halves: none is given."""
    fake.scripts.append(script(last("length", calls=[call("add", {})])))
    assert list(runtime(fake).chat(HELLO, tools=[ADD])) == [Delta("", (), "length", 20, 5)]


@pytest.mark.parametrize("before", [(), (chunk("Veamos. "),)], ids=["at once", "after text"])
def test_call_cut_by_the_limit_is_no_failure_of_the_server(
    fake: FakeOllama, before: tuple[dict[str, Any], ...]
) -> None:
    """The 500 of a newer server for a call without its end is the end of an answer that was too long."""
    reason = 'llama-server returned invalid tool call arguments for "add": unexpected end of JSON input'
    fake.scripts.append(script(*before, {"error": reason}) if before else refusal(500, reason))
    heard = list(runtime(fake).chat(HELLO, tools=[ADD]))
    assert heard == [*(Delta(row["message"]["content"]) for row in before), Delta(done="length")]


@pytest.mark.parametrize(("status", "text"), [(400, "invalid option"), (404, "model 'x' not found"), (500, "no room")])
def test_refusal_is_told_in_the_servers_words(fake: FakeOllama, status: int, text: str) -> None:
    """Every other refusal is one error with what the server said."""
    fake.scripts.append(refusal(status, text))
    with pytest.raises(ServerError, match=f"refused while thau-nano-v1 was answering: {text}"):
        list(runtime(fake).chat(HELLO))


def test_thoughts_come_apart(fake: FakeOllama) -> None:
    """What the server tells apart stays apart; tags that a model writes unasked are told apart here."""
    fake.scripts.append(script(chunk(thinking="hm "), chunk(thinking="yes"), chunk("hola"), last()))
    assert list(runtime(fake).chat(HELLO))[:3] == [Delta(thinking="hm "), Delta(thinking="yes"), Delta("hola")]
    fake.scripts.append(script(chunk("<thi"), chunk("nk>hm</th"), chunk("ink>\n\nhola"), last()))
    heard = list(runtime(fake).chat(HELLO))
    assert ("".join(d.text for d in heard), "".join(d.thinking for d in heard)) == ("hola", "hm")


def test_question_says_everything_that_servers_differ_in(fake: FakeOllama) -> None:
    """Context, seed, temperature and limit are sent; nothing may be cut; a tool has the shape that all servers read."""
    fake.scripts.append(script(last()))
    list(runtime(fake).chat(HELLO, tools=[{"type": "function", "function": {"name": "now"}}], seed=7, temperature=0.5))
    (asked,) = fake.asked
    options = {"num_ctx": 256, "num_predict": 512, "temperature": 0.5, "seed": 7, "repeat_penalty": 1.0}
    parameters = {"type": "object", "properties": {}, "required": []}
    assert asked == {
        "model": "thau-nano-v1",
        "messages": [{"role": "user", "content": "hello"}],
        "stream": True,
        "truncate": False,
        "shift": False,
        "options": options,
        "think": False,
        "tools": [{"type": "function", "function": {"name": "now", "parameters": parameters}}],
    }


@pytest.mark.parametrize(
    ("n", "asked", "sent"),
    [(TOOLS, False, False), (TOOLS, True, False), (THINKER, False, False), (THINKER, True, True)],
)
def test_thinking_is_asked_for_or_forbidden(fake: FakeOllama, n: int, asked: bool, sent: bool) -> None:  # noqa: FBT001
    """A model that cannot think is never asked to; one that can would, unless it is told not to."""
    fake.scripts.append(script(last()))
    list(runtime(fake, n).chat(HELLO, think=asked))
    assert fake.asked[-1]["think"] is sent
    assert runtime(fake, n).thinks is (n == THINKER)


def test_way_of_calling_is_what_show_says(fake: FakeOllama) -> None:
    """Tools are sent where the template has a place for them, else the actions as `format`; never both."""
    for n, way, key in ((TOOLS, "native", "tools"), (BARE, "schema", "format")):
        fake.scripts.append(script(last()))
        list(runtime(fake, n).chat(HELLO, tools=[ADD], actions=ACTIONS))
        assert runtime(fake, n).calling == way
        assert {"tools", "format"} & fake.asked[-1].keys() == {key}
    assert fake.asked[-1]["format"] == ACTIONS
    assert fake.asked[-1]["options"]["stop"] == []
    assert "stop" not in fake.asked[0]["options"]


def test_show_is_asked_once_and_only_where_it_matters(fake: FakeOllama) -> None:
    """A plain question is one request; what the model can is asked for once."""
    served = runtime(fake)
    list(served.chat(HELLO))
    assert [path for _, path in fake.requests] == ["/api/chat"]
    assert (served.calling, served.thinks, served.calling) == ("native", False, "native")
    assert [path for _, path in fake.requests].count("/api/show") == 1


def test_missing_model_is_missed_when_asked_what_it_can(fake: FakeOllama) -> None:
    """A name that the server lacks is one error with the name."""
    with pytest.raises(ServerError, match="model 'thau-nowhere:latest' not found"):
        _ = OllamaRuntime(fake.url, "thau-nowhere", 256).calling


def test_thoughtless_answer_is_asked_for_again(fake: FakeOllama) -> None:
    """Where a server lets loose words through although a schema holds, a second pass without thinking is held."""
    musing = runtime(fake, MUSER)
    fake.scripts += [script(chunk(thinking="hm"), chunk("\nSure! "), last()), script(chunk('{"name": "paint"'), last())]
    heard = list(musing.chat(HELLO, actions=ACTIONS, think=True))
    assert ("".join(d.thinking for d in heard), "".join(d.text for d in heard)) == ("hm", '{"name": "paint"')
    assert [(body["think"], "format" in body) for body in fake.asked] == [(True, True), (False, True)]


def test_thought_alone_is_no_answer(fake: FakeOllama) -> None:
    """A first pass that ends with its thought is followed by a second; one that was cut is not."""
    musing = runtime(fake, MUSER)
    fake.scripts += [script(chunk(thinking="hm"), last()), script(chunk("{}"), last())]
    assert [d.text for d in musing.chat(HELLO, actions=ACTIONS, think=True)] == ["", "{}", ""]
    fake.scripts.append(script(chunk(thinking="hm"), last("length")))
    assert list(musing.chat(HELLO, actions=ACTIONS, think=True))[-1].done == "length"


def test_held_answer_after_a_thought_is_one_pass(fake: FakeOllama) -> None:
    """Where the server holds the answer, what it says stands; blank space before it goes."""
    musing = runtime(fake, MUSER)
    fake.scripts.append(script(chunk(thinking="hm"), chunk("\n"), chunk(' {"name":'), chunk(" 1}"), last()))
    heard = list(musing.chat(HELLO, actions=ACTIONS, think=True))
    assert "".join(delta.text for delta in heard) == '{"name": 1}'
    assert len(fake.asked) == 1


def test_count_errs_upwards_and_learns(fake: FakeOllama) -> None:
    """What the server counted is known exactly; a refusal for want of room teaches too."""
    served = runtime(fake)
    longer = [*HELLO, Message("assistant", "one two three"), Message("user", "y ahora?")]
    first = served.count(HELLO)
    fake.scripts.append(script(chunk("one two three"), last(prompt=90)))
    list(served.chat(HELLO))
    assert served.count(HELLO) == 90 > first > 0
    assert served.count(longer) > 90
    fake.scripts.append(refusal(400, json.dumps({"error": overflow(3030, 256)})))
    with pytest.raises(OverfullError, match="3030 tokens, the context holds 256"):
        list(served.chat(longer))
    assert served.count(longer) == 3030
