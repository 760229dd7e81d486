"""The contract's points 7, 8 and 11, and what every answer has: streams, endings, overflow, turns gone on with."""

import json

import pytest

from tests.contract.targets import ASK, CONTEXT, HELLO, Target, text_of
from thaud.domain import Message
from thaud.errors import ModelError, ServerError
from thaud.serving.fake_ollama import FakeOllama, Fault, Generation
from thaud.serving.ollama_runtime import OllamaRuntime
from thaud.serving.runtime import Delta


def test_answer_is_streamed_whole(target: Target) -> None:
    """The text arrives unbroken whatever the server's cuts; the last delta has the reason and the counts."""
    target.serve(["¿Qué tal? ", "ñandú 🙂 ", "adiós"])
    deltas = list(target.runtime().chat(HELLO))
    assert text_of(deltas) == "¿Qué tal? ñandú 🙂 adiós"
    assert [delta.done for delta in deltas if delta.done] == ["stop"]
    assert deltas[-1].prompt_tokens > 0
    assert deltas[-1].completion_tokens > 3


def test_stream_has_one_last_line(target: Target) -> None:
    """Each line names the model as it was asked for; only the last is done, and has durations and counts."""
    target.serve(["uno ", "dos"])
    name = f"{target.forge.family}-V1"
    rows = target.rows("chat", {"model": name, **ASK, "think": False})
    assert {row["model"] for row in rows} == {name}
    assert [row["done"] for row in rows] == [False] * (len(rows) - 1) + [True]
    assert rows[-1]["done_reason"] == "stop"
    assert min(rows[-1][key] for key in ("total_duration", "prompt_eval_count", "eval_count")) > 0
    whole = target.post("chat", {"model": name, **ASK, "stream": False}).json()
    assert whole["message"]["content"] == "uno dos"


def test_generate_speaks_as_chat_does(target: Target) -> None:
    """Generate has `response` where chat has a message; raw with a system message is refused."""
    name = target.make(["hola"], go=not target.native)
    body = {"model": name, "prompt": "x", "stream": False}
    assert target.post("generate", body).json()["response"] == "hola"
    assert target.post("generate", {**body, "raw": True, "system": "rules"}).status_code == 400
    assert target.post("generate", {**body, "suffix": "end"}).status_code == 400


def test_stream_without_an_end_is_an_aborted_answer(target: Target) -> None:
    """7. The guard against loops ends the stream without a last chunk: the last delta says `aborted`."""
    name = target.make(["again "], go=True, repeat=True)
    deltas = list(target.runtime(name).chat(HELLO, max_new_tokens=200))
    assert text_of(deltas).startswith("again again")
    assert deltas[-1] == Delta(done="aborted")


def test_native_answers_may_repeat_themselves(target: Target) -> None:
    """7. Where the file's own template runs there is no guard: a loop ends with the limit, and says so."""
    target.serve(["again "], repeat=True)
    deltas = list(target.runtime().chat(HELLO, max_new_tokens=200))
    assert deltas[-1].done == ("length" if target.native else "aborted")


def test_long_answer_ends_with_length(target: Target) -> None:
    """An answer of `max_new_tokens` ends with `length`."""
    target.serve(["one ", "two ", "three ", "four "], repeat=True)
    deltas = list(target.runtime().chat(HELLO, max_new_tokens=5))
    assert deltas[-1].done == "length"
    assert deltas[-1].completion_tokens == 5


def test_conversation_that_does_not_fit(target: Target) -> None:
    """8. A prompt longer than the context is a ModelError that says so, never an answer to half of it."""
    target.serve(["hola"])
    with pytest.raises(ModelError, match="does not fit") as caught:
        list(target.runtime().chat([Message("user", "one two three " * 200)]))
    assert str(CONTEXT) in str(caught.value) or not target.native


def test_overflow_is_wrapped_twice(target: Target) -> None:
    """8. A new server's refusal is JSON in the text of JSON, with both figures; an old one's is one sentence."""
    name = target.make(["hola"], go=not target.native)
    long = [{"role": "user", "content": "one two three " * 200}]
    answer = target.post("chat", {"model": name, "messages": long, "truncate": False, "shift": False})
    assert answer.status_code == 400
    said = answer.json()["error"]
    if target.native:
        inner = json.loads(said)["error"]
        assert (inner["type"], inner["n_ctx"]) == ("exceed_context_size_error", CONTEXT)
        assert inner["n_prompt_tokens"] > CONTEXT
    else:
        assert said == "the input length exceeds the context length"


def test_old_turns_are_not_dropped_silently(target: Target) -> None:
    """8. A conversation whose early turns would have to go is a ModelError too."""
    target.serve(["hola"])
    turns = [Message("user", "a b c " * 30), Message("assistant", "d e f " * 30)] * 4
    with pytest.raises(ModelError, match="does not fit"):
        list(target.runtime().chat([*turns, *HELLO]))


def test_old_turns_are_dropped_where_that_is_asked_for(target: Target) -> None:
    """8. With `truncate`, the server's default, the oldest turns go; system message and question stay."""
    name = target.make(["hola"], go=not target.native)
    turns = [{"role": "user", "content": "early " * 30}, {"role": "assistant", "content": "reply " * 30}] * 4
    messages = [{"role": "system", "content": "rules"}, *turns, {"role": "user", "content": "question"}]
    rendered = target.post("chat", {"model": name, "messages": messages, "_debug_render_only": True}).json()
    text = rendered["_debug_info"]["rendered_template"]
    assert ("rules" in text, "question" in text) == (True, True)
    assert 0 < text.count("reply " * 30) < 4


@pytest.mark.parametrize("generation", ["new", "old"])
def test_busy_server_says_so(generation: Generation) -> None:
    """11. A full queue is 503 with the server's text (two spaces), and reaches us as one line."""
    with FakeOllama(generation) as fake:
        fake.faults.append(Fault("chat", "busy"))
        with pytest.raises(ServerError, match=r"server busy, please try again\. maximum pending requests exceeded"):
            list(OllamaRuntime(fake.url, "any", CONTEXT).chat(HELLO))


def test_last_turn_of_the_assistant_is_gone_on_with(target: Target) -> None:
    """A new server says the beginning again and goes on from it; with calls in it that is 400."""
    name = target.make(["hola"], go=not target.native)
    messages = [*ASK["messages"], {"role": "assistant", "content": "Well, "}]
    body = {"model": name, "messages": messages, "stream": False, "options": {"num_predict": 4, "temperature": 0}}
    answer = target.post("chat", body)
    assert answer.status_code == 200
    if target.native:
        assert answer.json()["message"]["content"].startswith("Well")
        calls = [{"function": {"name": "add", "arguments": {}}}]
        with_call = [*ASK["messages"], {"role": "assistant", "content": "", "tool_calls": calls}]
        refused = target.post("chat", {**body, "messages": with_call})
        assert refused.status_code == 400
        assert refused.json()["error"] == "Cannot continue an assistant message that contains tool calls."


def test_content_is_text(target: Target) -> None:
    """A list as content is 400, before anything is loaded."""
    name = target.make(["hola"], go=not target.native)
    answer = target.post("chat", {"model": name, "messages": [{"role": "user", "content": ["x"]}]})
    assert answer.status_code == 400
    assert "cannot unmarshal array" in answer.json()["error"]


def test_format_is_json_or_a_schema(target: Target) -> None:
    """Another word as `format` is a 500; with "json" the answer is JSON, whatever the model would have said."""
    name = target.make(["hola"], go=not target.native)
    body = {"model": name, **ASK, "stream": False, "options": {"num_predict": 64, "temperature": 0}}
    assert target.post("chat", {**body, "format": "xml"}).status_code == 500
    assert target.post("chat", {**body, "format": "json"}).status_code == 200


def test_probabilities_come_with_the_pieces(target: Target) -> None:
    """`logprobs` adds a list to the answer; more than 20 alternatives are 400."""
    name = target.make(["hola"], go=not target.native)
    body = {"model": name, **ASK, "stream": False, "logprobs": True}
    token = target.post("chat", body).json()["logprobs"][0]
    assert {"token", "logprob"} <= token.keys()
    refused = target.post("chat", {**body, "top_logprobs": 21})
    assert (refused.status_code, refused.json()["error"]) == (400, "top_logprobs must be between 0 and 20")
