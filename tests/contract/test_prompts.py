"""The contract's points 14 and 15: which template a server runs, and that it shows the model what training showed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.contract.targets import ASK, CONTEXT, HELLO, Target
from tests.serving.kit import ADD, HERMES, TOOL_CALL
from thaud.domain import Example
from thaud.formats.tools import reduce_tool
from thaud.rendering import CHATML, Renderer
from thaud.serving.fake.autodetect import LLAMA_3_JINJA, QWEN_1_5_JINJA, ZEPHYR_JINJA
from thaud.serving.ollama_runtime import message_to_ollama
from thaud.serving.proving import loosely
from thaud.steps.certify.conversations import CONVERSATIONS

ROOM = 4096


def rendered(target: Target, name: str, body: Mapping[str, Any]) -> str:
    """What the server would give the model."""
    asked = {"model": name, "think": False, "options": {"num_ctx": ROOM}, **body, "_debug_render_only": True}
    text: str = target.post("chat", asked).json()["_debug_info"]["rendered_template"]
    return text


def test_served_prompt_is_the_trained_prompt(target: Target) -> None:
    """15. A new server renders the certificate's conversations as training did, byte for byte.

    An old one's Go template writes the JSON of tools in another way, and its default sentence for an empty one.
    """
    name = target.make(["hola"], go=not target.native)
    different = {title for title, conversation in CONVERSATIONS.items() if differs(target, name, conversation)}
    assert different == (set() if target.native else {"empty system"})


def differs(target: Target, name: str, conversation: Example) -> bool:
    tools = [reduce_tool(tool) for tool in conversation.tools]
    turns = [message_to_ollama(message) for message in conversation.messages]
    served = rendered(target, name, {"messages": turns, **({"tools": tools} if tools else {})})
    trained = Renderer(HERMES, ()).render(conversation.messages, tools, add_generation_prompt=True)
    if target.native or not tools:
        return served != trained
    return calls_alike(loosely(served)) != calls_alike(loosely(trained))


def calls_alike(text: str) -> str:
    """Go's JSON of calls and tools in the words of Jinja's, where `loosely` left it."""
    return text.replace("\\u003c", "<").replace("\\u003e", ">").replace("\\u0026", "&")


def test_tools_reach_the_template_reduced_and_in_order(target: Target) -> None:
    """15. `required` stands before `properties`, whatever was sent, and unknown keys are gone: training's own form."""
    name = target.make(["hola"], go=not target.native)
    sent = {
        "type": "function",
        "strict": True,
        "function": {
            "name": "find",
            "parameters": {
                "properties": {"b": {"default": 1, "type": "integer", "title": "B"}, "a": {"type": "string"}},
                "additionalProperties": False,
                "required": ["b"],
                "type": "object",
            },
        },
    }
    text = rendered(target, name, {**ASK, "tools": [sent]})
    assert [gone for gone in ("strict", "default", "title", "additionalProperties") if gone in text] == []
    assert text.index("required") < text.index("properties")
    assert (text.index('"b":') < text.index('"a":')) == target.native


def test_go_template_merges_turns(target: Target) -> None:
    """15. Behind a Go template neighbours of one role become one turn; a native server leaves them apart."""
    name = target.make(["hola"], go=not target.native)
    text = rendered(
        target, name, {"messages": [{"role": "user", "content": "one"}, {"role": "USER", "content": "two"}]}
    )
    assert ("one\n\ntwo" in text) == (not target.native)
    assert text.count("<|im_start|>user") == (2 if target.native else 1)


def test_models_own_system_message_and_turns(target: Target) -> None:
    """A model's system message is shown where a request begins with none, its turns always."""
    digest = target.push(Path(target.forge.version(1, ["hola"], CHATML + "{# tools tool_calls tool_response #}").gguf))
    own = [{"role": "user", "content": "own question"}, {"role": "assistant", "content": "own answer"}]
    body = {"model": target.name, "files": {"a.gguf": digest}, "system": "own rules", "messages": own}
    if not target.native:
        body["template"] = "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}"
    target.rows("create", body)
    target.server.unload(target.name)
    text = rendered(target, target.name, ASK)
    assert text.index("own rules") < text.index("own question") < text.index("hello")
    other = rendered(target, target.name, {"messages": [{"role": "system", "content": "mine"}, *ASK["messages"]]})
    assert ("own rules" in other, "mine" in other) == (False, True)


@pytest.mark.parametrize(
    ("jinja", "name", "stop"),
    [
        (ZEPHYR_JINJA, "zephyr", "</s>"),
        (QWEN_1_5_JINJA, "chatml", "<|im_end|>"),
        (LLAMA_3_JINJA, "llama3-instruct", "<|eot_id|>"),
    ],
    ids=["zephyr", "chatml", "llama3"],
)
def test_known_template_is_detected(target: Target, jinja: str, name: str, stop: str) -> None:
    """A Jinja text that the server knows brings a Go template and stops of its own, in both generations."""
    digest = target.push(Path(target.forge.version(1, ["hola"], jinja).gguf))
    lines = target.rows("create", {"model": target.name, "files": {"a.gguf": digest}})
    assert {"status": f"using autodetected template {name}"} in lines
    shown = target.post("show", {"model": target.name}).json()
    assert ".Messages" in shown["template"]
    assert stop in shown["parameters"]
    sent = {"template": "{{ .Prompt }}", "parameters": {"num_ctx": 64}}
    target.rows("create", {"model": target.name, "files": {"a.gguf": digest}, **sent})
    explicit = target.post("show", {"model": target.name}).json()
    assert (explicit["template"], stop in explicit["parameters"]) == ("{{ .Prompt }}", True)


def test_unknown_template_is_not_detected(target: Target) -> None:
    """Qwen2.5's kind of template matches nothing: a new server runs it, an old one shows the model raw text."""
    digest = target.push(Path(target.forge.version(1, ["hola"]).gguf))
    lines = target.rows("create", {"model": target.name, "files": {"a.gguf": digest}})
    assert not [line for line in lines if "autodetected" in line.get("status", "")]
    text = rendered(target, target.name, {"messages": [{"role": "user", "content": "question"}]})
    assert (text == "question") == (not target.native)


def test_poorer_go_template_is_overruled(target: Target) -> None:
    """4. A new server ignores a template without tools, or without their results, where the file's own has them."""
    digest = target.push(Path(target.forge.version(1, ["hola"]).gguf))
    for template in ("{{ range .Messages }}{{ .Content }}{{ end }}", "{{ .Tools }}{{ range .Messages }}x{{ end }}"):
        target.rows("create", {"model": target.name, "files": {"a.gguf": digest}, "template": template})
        shown = target.post("show", {"model": target.name}).json()["template"]
        assert shown == (HERMES if target.native else template)


def test_stale_runner_is_unloaded(target: Target) -> None:
    """14. The same file made anew in the other template mode answers in that mode after an unload."""
    name = target.make(TOOL_CALL, go=True)
    assert [d for d in target.runtime(name).chat(HELLO, tools=[ADD]) if d.tool_calls]
    name = target.make(TOOL_CALL, go=not target.native)
    target.server.unload(name)
    assert [d for d in target.runtime(name).chat(HELLO, tools=[ADD]) if d.tool_calls]


def test_room_is_what_was_asked_for(target: Target) -> None:
    """A question's num_ctx decides the context, and ps says which it is."""
    name = target.make(["hola"], go=not target.native)
    list(target.runtime(name).chat(HELLO))
    running = next(row for row in target.get("ps")["models"] if row["name"].startswith(name))
    assert running.get("context_length", CONTEXT) == CONTEXT
