"""`format`: what holds an answer to a schema, what it does to calls and thoughts, and how THAU calls by it."""

import json
from typing import Any

import jsonschema

from tests.contract.targets import ASK, HELLO, Target, text_of
from tests.serving.kit import ADD, THINKING, TOOL_CALL
from thaud.domain import Message

PAINT: dict[str, Any] = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "blue"]}, "coats": {"type": "integer"}},
    "required": ["colour", "coats"],
}
SAID = '{"colour": "blue", "coats": 2}'
ACTIONS: dict[str, Any] = {
    "anyOf": [
        {
            "type": "object",
            "properties": {"name": {"const": "paint"}, "arguments": PAINT},
            "required": ["name", "arguments"],
        },
    ]
}
THINKING_GO = (
    "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ if .Thinking }}<think>{{ .Thinking }}</think>\n{{ end }}"
    "{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
)
GREEDY = {"num_predict": 200, "temperature": 0}


def ask(target: Target, name: str, **more: Any) -> dict[str, Any]:
    """The message and the end of one whole answer."""
    answer: dict[str, Any] = target.post(
        "chat", {"model": name, **ASK, "stream": False, "options": GREEDY, **more}
    ).json()
    return answer


def thoughtful(target: Target, script: list[str]) -> str:
    """A model whose Go template tells thoughts apart, whatever the server's generation."""
    digest = target.push(target.forge.folder / target.forge.version(9, script, None).gguf)
    body = {"model": target.name, "files": {"m.gguf": digest}, "template": THINKING_GO}
    target.rows("create", {**body, "parameters": {"num_ctx": 1024}})
    target.server.unload(target.name)
    return target.name


def test_schema_holds_whatever_a_model_would_say(target: Target) -> None:
    """A model that would say something else says JSON of the schema; what it would have said so passes unchanged."""
    for go in {True, not target.native}:
        name = target.make(["Sure! ", "Here you are."], go=go)
        jsonschema.validate(json.loads(ask(target, name, format=PAINT)["message"]["content"]), PAINT)
        name = target.make([SAID], go=go)
        assert ask(target, name, format=PAINT)["message"]["content"].strip() == SAID


def test_format_wins_over_tools(target: Target) -> None:
    """6. With a schema no call can be made, although tools are offered and the model would call one."""
    name = target.make(TOOL_CALL, go=not target.native)
    said = ask(target, name, format=PAINT, tools=[ADD])["message"]
    assert "tool_calls" not in said
    jsonschema.validate(json.loads(said["content"]), PAINT)


def test_no_format_is_no_hold(target: Target) -> None:
    """Null and an empty text hold nothing."""
    name = target.make(["hola"], go=not target.native)
    for nothing in (None, ""):
        assert ask(target, name, format=nothing)["message"]["content"] == "hola"


def test_answer_cut_by_the_limit_is_half_a_text(target: Target) -> None:
    """The limit cuts JSON wherever it is, and says `length`."""
    name = target.make([SAID[:10], SAID[10:]], go=not target.native)
    answer = ask(target, name, format=PAINT, options={"num_predict": 1, "temperature": 0})
    assert answer["done_reason"] == "length"
    assert answer["message"]["content"].strip() == SAID[:10].strip()


def test_schema_that_is_none(target: Target) -> None:
    """A schema of which no grammar can be made is 400."""
    name = target.make(["hola"], go=not target.native)
    body = {"model": name, **ASK, "format": {"type": "nonsense"}, "stream": False}
    assert target.post("chat", body).status_code == 400


def test_model_with_a_template_of_its_own_thinks_before_it_is_held(target: Target) -> None:
    """5. A new server's grammar lets the model think first; what follows is of the schema."""
    name = target.make(["<think>", "\nlet me see\n", "</think>", "\n\n", SAID], go=not target.native, template=THINKING)
    if not target.native:
        assert target.post("chat", {"model": name, **ASK, "think": True, "format": PAINT}).status_code == 400
        return
    said = ask(target, name, format=PAINT, think=True)["message"]
    assert "let me see" in said["thinking"]
    jsonschema.validate(json.loads(said["content"]), PAINT)


def test_model_behind_a_go_template_is_asked_twice(target: Target) -> None:
    """5. Both generations generate a thought freely, drop the answer that follows, and hold a second one."""
    said = ask(target, thoughtful(target, ["<think>", "hm", "</think>", "Sure!"]), format=PAINT, think=True)["message"]
    assert said["thinking"].strip() == "hm"
    jsonschema.validate(json.loads(said["content"]), PAINT)


def test_model_that_does_not_think_although_asked_is_not_held(target: Target) -> None:
    """5. Behind a Go template an answer that begins without a thought is let through as it is; THAU asks again."""
    name = thoughtful(target, ["Sure! ", "Here."])
    assert ask(target, name, format=PAINT, think=True)["message"]["content"] == "Sure! Here."
    heard = list(target.runtime(name).chat(HELLO, actions=ACTIONS, think=True))
    jsonschema.validate(json.loads(text_of(heard)), ACTIONS)
    assert heard[-1].done == "stop"


def test_way_of_calling(target: Target) -> None:
    """4. THAU calls natively where show finds tools, and by `format` where it does not."""
    assert target.runtime(target.serve(TOOL_CALL).name).calling == "native"
    name = target.serve(["I would rather talk."], template=None).name
    runtime = target.runtime(name)
    assert runtime.calling == "schema"
    heard = list(runtime.chat(HELLO, tools=[ADD], actions=ACTIONS))
    jsonschema.validate(json.loads(text_of(heard)), ACTIONS)


def test_thinking_is_asked_for_where_show_finds_it(target: Target) -> None:
    """5. THAU never asks a model to think that cannot, and keeps one from it that is not to."""
    name = thoughtful(target, ["<think>", "hm", "</think>", "hola"])
    runtime = target.runtime(name)
    assert runtime.thinks
    heard = list(runtime.chat(HELLO, think=True))
    assert ("".join(delta.thinking for delta in heard), text_of(heard)) == ("hm", "hola")
    plain = target.runtime(target.serve(["hola"], template=None).name)
    assert not plain.thinks
    assert text_of(list(plain.chat(HELLO, think=True))) == "hola"


def test_call_cut_by_the_limit_is_an_end(target: Target) -> None:
    """6. To THAU a call without its end is the end of an answer that was too long, on either generation."""
    name = target.make(["Let me see. ", *TOOL_CALL], go=not target.native)
    heard = list(target.runtime(name).chat(HELLO, tools=[ADD], max_new_tokens=3))
    assert heard[-1].done == "length"
    assert not [call for delta in heard for call in delta.tool_calls]


def test_same_seed_is_the_same_answer(target: Target) -> None:
    """Under a schema that leaves a choice, a seed and a temperature decide it."""
    runtime = target.runtime(target.serve(["hola"], template=None).name)
    turns = [Message("user", "which?")]
    said = [text_of(list(runtime.chat(turns, actions=ACTIONS, temperature=1.0, seed=seed))) for seed in (7, 7, 8, 9)]
    assert said[0] == said[1]
    assert len(set(said)) > 1
