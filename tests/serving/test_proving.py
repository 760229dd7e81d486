"""What a model has to show before it has a name."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving.kit import HERMES, TOOL_CALL, Forge
from tests.testkit.scripted_gguf import write_scripted_gguf
from thaud.errors import ServerError
from thaud.serving.fake.autodetect import QWEN_1_5_JINJA, ZEPHYR_JINJA
from thaud.serving.fake_ollama import FakeOllama, Fault
from thaud.serving.ollama import OllamaServer
from thaud.serving.proving import (
    EQUAL,
    PLACE,
    ROUND_TRIP,
    WEATHER,
    NotProvedError,
    compare,
    loosely,
    prove,
    round_trip,
    say_a_token,
    trained_texts,
)
from thaud.serving.reconcile import Receipt, Wanted, recipe_for, reconcile, register
from thaud.steps.certify.conversations import CONVERSATIONS

CONTEXT = 256
TOOLS = frozenset({"completion", "tools"})


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    return Forge(tmp_path)


@pytest.fixture(params=["new", "old"])
def fake(request: pytest.FixtureRequest) -> Iterator[FakeOllama]:
    with FakeOllama(request.param) as server:
        yield server


def proved(fake: FakeOllama, forge: Forge, script: tuple[str, ...], template: str | None = HERMES) -> Receipt:
    version = forge.version(1, script, template)
    return register(OllamaServer(fake.url), version, CONTEXT, promised=TOOLS if template else frozenset({"completion"}))


def test_every_conversation_is_rendered_as_trained(fake: FakeOllama, forge: Forge) -> None:
    """A server that runs the file's template gives the training's text; one with a Go template says where not."""
    renders = proved(fake, forge, ("hola",)).renders
    assert renders["asked"] == len(CONVERSATIONS)
    assert renders["skipped"] == []
    assert renders["asked"] == renders["equal"] + len(renders["differs"])
    assert renders["equal"] == renders["asked"] or fake.generation == "old"
    assert renders["equal"] > renders["asked"] // 2


@pytest.mark.parametrize("script", [TOOL_CALL, ("hola",)], ids=["calls", "talks"])
def test_a_tool_makes_the_round_trip(fake: FakeOllama, forge: Forge, script: tuple[str, ...]) -> None:
    """Call and result are accepted and shown; whether the model itself calls is told and not demanded."""
    tools = proved(fake, forge, script).tools
    assert tools is not None
    assert (tools["accepted"], tools["shown"]) == (True, True)


def test_a_model_that_calls_is_seen_to_call(fake: FakeOllama, forge: Forge) -> None:
    """A scripted call of the tool on offer comes back as a call."""
    call = ("<tool_call>", '\n{"name": "get_weather", "arguments": {"city": "Lugo"}}\n', "</tool_call>")
    tools = proved(fake, forge, call).tools
    assert tools is not None
    assert tools["called"] is True
    assert (proved(fake, forge, ("hola",)).tools or {})["called"] is False


def test_without_tools_none_are_asked_for(fake: FakeOllama, forge: Forge) -> None:
    """A template that knows no tools is compared on what it knows."""
    receipt = proved(fake, forge, ("hola",), None)
    assert receipt.tools is None
    assert receipt.renders["asked"] == sum(not conversation.tools for conversation in CONVERSATIONS.values())


def test_a_promise_that_the_server_does_not_keep(fake: FakeOllama, forge: Forge) -> None:
    """What the certificate promises and the server does not find is told, and nothing keeps the name."""
    server = OllamaServer(fake.url)
    with pytest.raises(ServerError, match="not tools, which its certificate promises"):
        register(server, forge.version(1, ["hola"], None), CONTEXT, promised=TOOLS)
    assert server.tags() == {}


def test_another_template_than_trained_is_refused(forge: Forge) -> None:
    """A server that would show the model other text than it learned from does not serve it; the old one stays."""
    with FakeOllama() as fake:
        server = OllamaServer(fake.url)
        register(server, forge.version(1, ["hola"]), CONTEXT)
        changed = HERMES.replace("<|im_start|>user'", "<|im_start|>person'")
        other = forge.version(2, ["hola"], changed)
        recipe = recipe_for(Wanted(other, CONTEXT), native=True)
        shown = server.show("thau-nano-v1")
        assert shown is not None
        with pytest.raises(ServerError, match=r"renders \d+ of \d+ conversations otherwise"):
            prove(server, replace(recipe, name="thau-nano-v1"), shown, CONTEXT, (), native=True)


def tried(fake: FakeOllama, forge: Forge, trained: str, served: str) -> Mapping[str, Any]:
    """What a proof says of a model that was trained with one template and is served with another."""
    server = OllamaServer(fake.url)
    register(server, forge.version(1, ["hola"], served), CONTEXT)
    recipe = recipe_for(Wanted(forge.version(2, ["hola"], trained), CONTEXT), native=True)
    shown = server.show("thau-nano-v1")
    assert shown is not None
    return prove(server, replace(recipe, name="thau-nano-v1"), shown, CONTEXT, (), native=True).renders


def test_what_is_odd_is_told_and_keeps_nothing_from_being_served(forge: Forge) -> None:
    """A server that trims spaces, or takes no empty question, renders the rest as trained: told by name, and served."""
    refuses = "{%- if messages[-1].content == '' and not tools %}{{ raise_exception('empty') }}{%- endif %}"
    trims = HERMES.replace("message.content + '<|im_end|>", "message.content | trim + '<|im_end|>")
    assert trims != HERMES
    with FakeOllama() as fake:
        assert tried(fake, forge, HERMES, trims)["differs"] == ["spaces"]
        renders = tried(fake, forge, HERMES, refuses + HERMES)
        assert renders["differs"] == ["nothing"]
        assert renders["asked"] == len(CONVERSATIONS)


@pytest.mark.parametrize("title", sorted(EQUAL))
def test_each_of_the_plain_ones_keeps_a_model_from_being_served(forge: Forge, title: str) -> None:
    """A server that renders one of them otherwise, and all others as trained, is refused by that name."""
    tools, turns = bool(CONVERSATIONS[title].tools), len(CONVERSATIONS[title].messages)
    text = json.dumps(CONVERSATIONS[title].messages[0].content, ensure_ascii=False)
    match = f"messages[0].content == {text} and messages | length == {turns} and {'tools' if tools else 'not tools'}"
    served = f"{{%- if {match} %}}x{{%- endif %}}{HERMES}"
    with FakeOllama() as fake, pytest.raises(NotProvedError, match=f"renders 1 of {len(EQUAL)} .*[(]{title}[)]"):
        tried(fake, forge, HERMES, served)


def test_a_template_that_servers_take_for_another_is_sent(forge: Forge) -> None:
    """New servers put a Go template of their own in place of Qwen 1.5's, which lacks its default system message."""
    with FakeOllama() as fake:
        server, version = OllamaServer(fake.url), forge.version(1, ["hola"], QWEN_1_5_JINJA)
        outcome = reconcile(server, [Wanted(version, CONTEXT)], version)
        assert outcome.complete, outcome.failed
        assert set(outcome.receipts[0].renders["differs"]) <= {"empty system"}  # which Go takes for none
        assert "You are a helpful assistant." in (server.show("thau-nano") or pytest.fail("not there")).template
        assert reconcile(server, [Wanted(version, CONTEXT)], version).kept == ("thau-nano-v1",)


def test_a_stock_template_that_cannot_be_replaced_is_told(forge: Forge) -> None:
    """Where the server's own template differs and none can be sent, the reason says what runs, and the remedy."""
    zephyr = ZEPHYR_JINJA.replace("'<|user|>", "'<|human|>")
    with FakeOllama() as fake, pytest.raises(NotProvedError, match="OLLAMA_GO_TEMPLATE=0"):
        register(OllamaServer(fake.url), forge.version(1, ["hola"], zephyr), CONTEXT)


def test_stock_templates_that_are_the_same_are_served(forge: Forge) -> None:
    """Zephyr's is rendered by the server's own template as trained."""
    template = ZEPHYR_JINJA.replace("eos_token", "'</s>'")
    with FakeOllama() as fake:
        renders = register(OllamaServer(fake.url), forge.version(1, ["hola"], template), CONTEXT).renders
        assert renders["equal"] > renders["asked"] // 2


def test_go_templates_differ_without_failing(forge: Forge) -> None:
    """Where a Go template must differ, the names of the conversations are told and the model is served."""
    with FakeOllama("old") as fake:
        server = OllamaServer(fake.url)
        version = forge.version(1, ["hola"])
        register(server, version, CONTEXT)
        recipe = recipe_for(Wanted(version, CONTEXT), native=False)
        other = replace(recipe, gguf=Path(forge.version(2, ["hola"], HERMES.replace("# Tools", "# Kit")).gguf))
        _, renders = compare(server, other, 4096, with_tools=True, native=False)
        tooled = {name for name, each in CONVERSATIONS.items() if each.tools}
        assert tooled <= set(renders["differs"]) <= {*tooled, "empty system"}  # which Go takes for none


def test_a_conversation_that_does_not_fit_is_passed_over(forge: Forge) -> None:
    """A file whose context is shorter than a conversation is compared on the others, which is told."""
    with FakeOllama() as fake:
        path = forge.folder / "short.gguf"
        write_scripted_gguf(path, ["hola"], chat_template=HERMES, context_length=400)
        renders = register(OllamaServer(fake.url), forge.of_file(1, path), CONTEXT).renders
        assert "very long line" in renders["skipped"]
        assert renders["asked"] == renders["equal"] > 0
        assert renders["asked"] + len(renders["skipped"]) == len(CONVERSATIONS)


@pytest.mark.parametrize(("nth", "kind"), [(1, "drop"), (2, "drop"), (2, "busy"), (2, "broken"), (2, "cut")])
def test_a_question_without_an_answer_refuses(fake: FakeOllama, forge: Forge, nth: int, kind: str) -> None:
    """A server that breaks off while the model is being tried leaves no name and no candidate."""
    server = OllamaServer(fake.url)
    fake.faults.append(Fault("chat", kind))  # type: ignore[arg-type] # the parameters are of its kinds
    with pytest.raises(ServerError):
        register(server, forge.version(nth, ["hola"]), CONTEXT)
    assert server.tags() == {}


class Silent(OllamaServer):
    """A server whose models are done before they begin."""

    def ask(self, name: str, messages: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
        return {"model": name, "done": True, "message": {"role": "assistant", "content": ""}}


def test_an_answer_without_a_token_is_no_proof() -> None:
    """A server that says that it is done, and counts no token, has not shown that the model speaks."""
    with pytest.raises(ServerError, match="made thau-nano-v1, but it says nothing"):
        say_a_token(Silent("http://127.0.0.1:9"), "thau-nano-v1", CONTEXT)


def test_a_result_that_is_not_shown_is_no_round_trip(fake: FakeOllama, forge: Forge) -> None:
    """Where the server's text of the round trip lacks the call or the result, tools do not work there: said so."""
    server = OllamaServer(fake.url)
    register(server, forge.version(1, ["hola"]), CONTEXT)
    for text in (f"{PLACE} {WEATHER}", f"{PLACE} {PLACE}"):
        with pytest.raises(ServerError, match="does not show thau-nano-v1 the calls and results of tools"):
            round_trip(server, "thau-nano-v1", 4096, {ROUND_TRIP: text})
    assert round_trip(server, "thau-nano-v1", 4096, {ROUND_TRIP: f"{PLACE} {PLACE} {WEATHER}"})["shown"] is True


def test_what_was_tried_keeps_no_memory(fake: FakeOllama, forge: Forge) -> None:
    """After a proof nothing of the candidate is loaded on the server."""
    proved(fake, forge, ("hola",))
    assert httpx.get(f"{fake.url}/api/ps").json() == {"models": []}


def test_the_tokens_of_a_template_are_the_files_own(forge: Forge) -> None:
    """A template that writes the token which begins a text gets the file's; in front of the text it counts as none."""
    template = "{{ bos_token }}" + HERMES
    gguf = Path(forge.version(1, ["hola"], template).gguf)
    texts = trained_texts(gguf)
    assert texts.bos == "<|endoftext|>"
    assert texts.of(CONVERSATIONS["system"]).startswith("<|im_start|>system")


def test_json_is_compared_by_what_it_says() -> None:
    """Spaces, escapes, the order of keys and empty descriptions are the Go template's; a value is not."""
    jinja = 'x\n{"name": "a<b", "arguments": {"n": 1, "a": "ñ"}}\n</tool_call>'
    go = 'x\n{"name": "a\\u003cb", "arguments": {"a":"ñ","n":1}, "description": ""}\n</tool_call>'
    assert loosely(jinja) == loosely(go)
    assert loosely(jinja) != loosely(go.replace("1", "2"))
    assert loosely("{half") == "{half"
