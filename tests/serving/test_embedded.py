"""A version served in this process, on the real llama.cpp."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serving.kit import ADD, HERMES, THINKING, TOOL_CALL, Forge
from thaud.domain import Message
from thaud.errors import ModelError
from thaud.serving.door import open_runtime
from thaud.serving.embedded import EmbeddedRuntime
from thaud.serving.ollama_runtime import OllamaRuntime
from thaud.serving.runtime import Delta, Runtime

HELLO = [Message("user", "hello")]
PAIR = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]}
ACTIONS: dict[str, Any] = {
    "anyOf": [
        {
            "type": "object",
            "properties": {"name": {"const": "add"}, "arguments": PAIR},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
    ]
}
OPENED = HERMES.replace(
    "assistant\\n' }}\n{%- endif %}",
    "assistant\\n' }}\n{%- if enable_thinking %}{{- '<think>\\n' }}{%- else %}"
    "{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}\n{%- endif %}",
)


def speak(runtime: Runtime, *, max_new_tokens: int = 64) -> list[Delta]:
    return list(runtime.chat(HELLO, max_new_tokens=max_new_tokens))


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    return Forge(tmp_path)


@pytest.fixture
def runtime(forge: Forge) -> Iterator[EmbeddedRuntime]:
    version = forge.version(1, ["¿Qué tal? ", "ñandú 🙂 adiós"])
    with EmbeddedRuntime(Path(version.gguf), version.name, 512) as served:
        yield served


def test_answer_is_streamed_whole(runtime: EmbeddedRuntime) -> None:
    """What the model says arrives unbroken; the last delta alone has the reason and the counts."""
    deltas = speak(runtime)
    assert "".join(delta.text for delta in deltas) == "¿Qué tal? ñandú 🙂 adiós"
    assert [delta.done for delta in deltas if delta.done] == ["stop"]
    assert deltas[-1].prompt_tokens > 0


def test_characters_split_over_tokens_stay_whole(forge: Forge) -> None:
    """A character whose bytes come in two tokens is never shown in halves."""
    text = "a" * 31 + "ñ" + "b" * 30 + "🙂"
    version = forge.version(1, [text])
    with EmbeddedRuntime(Path(version.gguf), version.name, 512) as served:
        deltas = speak(served)
    assert "".join(delta.text for delta in deltas) == text
    assert not [delta for delta in deltas if "�" in delta.text]


def test_tool_calls_are_text_for_who_offered_the_tools(forge: Forge) -> None:
    """A call arrives with its tags, as text, and offering tools changes the prompt."""
    version = forge.version(1, TOOL_CALL)
    with EmbeddedRuntime(Path(version.gguf), version.name, 1024) as served:
        bare, offered = speak(served), list(served.chat(HELLO, tools=[ADD]))
    assert "".join(delta.text for delta in offered) == "".join(TOOL_CALL)
    assert offered[-1].prompt_tokens > bare[-1].prompt_tokens


def test_length_ends_an_answer(forge: Forge) -> None:
    """A model that never ends is ended by `max_new_tokens`, with the reason."""
    version = forge.version(1, ["one ", "two "], repeat=True)
    with EmbeddedRuntime(Path(version.gguf), version.name, 512) as served:
        deltas = speak(served, max_new_tokens=4)
    assert "".join(delta.text for delta in deltas) == "one two one two "
    assert deltas[-1].done == "length"


def test_conversation_that_does_not_fit(runtime: EmbeddedRuntime) -> None:
    """A prompt longer than the context is a ModelError with both figures, before anything is said."""
    with pytest.raises(ModelError, match=r"\d+ tokens does not fit.*512"):
        next(runtime.chat([Message("user", "word " * 400)]))
    assert speak(runtime)[-1].done == "stop"


def test_template_that_refuses_a_conversation(forge: Forge) -> None:
    """A conversation that the model's template refuses is a ModelError in the template's words."""
    version = forge.version(1, ["hola"], "{{ raise_exception('only one turn') }}")
    with EmbeddedRuntime(Path(version.gguf), version.name, 512) as served, pytest.raises(ModelError, match="only one"):
        speak(served)


def test_file_that_is_no_model(tmp_path: Path) -> None:
    """A file that llama.cpp will not load is a ModelError that names it."""
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF and nothing else")
    with pytest.raises(ModelError, match=r"broken\.gguf"):
        EmbeddedRuntime(path, "broken", 128)


def test_door_opens_what_is_configured(forge: Forge) -> None:
    """`embedded` loads the file, `ollama` names the server and the version; both say what they serve."""
    version = forge.version(1, ["hola"], HERMES)
    embedded = open_runtime("embedded", "", version, 128, threads=1)
    assert isinstance(embedded, EmbeddedRuntime)
    assert (embedded.name, embedded.context_tokens) == ("thau-nano-v1", 128)
    embedded.close()
    served = open_runtime("ollama", "ollama.example", version, 128)
    assert isinstance(served, OllamaRuntime)
    assert (served.url, served.name, served.context_tokens) == ("http://ollama.example:11434", "thau-nano-v1", 128)
    assert open_runtime("ollama", "", version, 128, namespace="lab").name == "lab/thau-nano-v1"


@pytest.mark.parametrize(
    ("template", "calling", "thinks"),
    [(HERMES, "tagged", False), (THINKING, "tagged", True), (OPENED, "tagged", True), (None, "schema", False)],
    ids=["hermes", "thinking", "opened", "chatml"],
)
def test_the_template_says_how_it_calls_and_thinks(
    forge: Forge,
    template: str | None,
    calling: str,
    thinks: bool,  # noqa: FBT001
) -> None:
    """Tags where the template writes them, else actions; thinking where the template can switch it."""
    version = forge.version(1, ["hola"], template)
    with EmbeddedRuntime(Path(version.gguf), version.name, 512) as served:
        assert (served.calling, served.thinks) == (calling, thinks)


def test_prompts_are_counted_exactly(forge: Forge) -> None:
    """What `count` says is what the reply says it took: with tools and thinking too."""
    version = forge.version(1, ["hola"], THINKING)
    with EmbeddedRuntime(Path(version.gguf), version.name, 1024) as served:
        counts = set()
        for tools, think in (((), False), ((), True), ((ADD,), True)):
            counted = served.count(HELLO, tools=tools, think=think)
            assert list(served.chat(HELLO, tools=tools, think=think))[-1].prompt_tokens == counted
            counts.add(counted)
    assert len(counts) == 3


@pytest.mark.parametrize(
    ("template", "think", "script"),
    [
        (THINKING, True, ["<think>", "¿Qué digo? ", "Hola.", "</think>", "\n\nBuenos días."]),
        (OPENED, True, ["¿Qué digo? ", "Hola.", "</think>", "\n\nBuenos días."]),
        (HERMES, False, ["<think>", "¿Qué digo? ", "Hola.", "</think>", "\n\nBuenos días."]),
    ],
    ids=["it opens", "the prompt opens", "unasked"],
)
def test_thoughts_are_apart(forge: Forge, template: str, think: bool, script: list[str]) -> None:  # noqa: FBT001
    """Whoever writes the opening tag, the thought is no part of the text."""
    version = forge.version(1, script, template)
    with EmbeddedRuntime(Path(version.gguf), version.name, 512) as served:
        deltas = list(served.chat(HELLO, think=think, actions=ACTIONS))
    assert "".join(delta.thinking for delta in deltas) == "¿Qué digo? Hola."
    assert "".join(delta.text for delta in deltas) == "Buenos días."


def test_actions_hold_what_is_called(forge: Forge) -> None:
    """A call that the schema allows passes unchanged; one that it does not never comes to its end."""
    version = forge.version(1, TOOL_CALL)
    with EmbeddedRuntime(Path(version.gguf), version.name, 1024) as served:
        said = "".join(delta.text for delta in served.chat(HELLO, tools=[ADD], actions=ACTIONS))
        other = {"anyOf": [{**ACTIONS["anyOf"][0], "properties": {"name": {"const": "subtract"}, "arguments": {}}}]}
        held = "".join(delta.text for delta in served.chat(HELLO, actions=other, max_new_tokens=40))
    assert said == "".join(TOOL_CALL)
    assert '"add"' not in held


def test_what_cannot_be_held_is_not(forge: Forge) -> None:
    """An action that no grammar can keep does not keep the model from speaking, nor from calling the others."""
    version = forge.version(1, TOOL_CALL)
    odd = {**ACTIONS["anyOf"][0], "properties": {"name": {"const": "odd"}, "arguments": {"not": {"type": "string"}}}}
    with EmbeddedRuntime(Path(version.gguf), version.name, 512) as served:
        deltas = list(served.chat(HELLO, actions={"anyOf": [odd, *ACTIONS["anyOf"]]}))
    assert "".join(delta.text for delta in deltas) == "".join(TOOL_CALL)


def test_every_token_is_counted(forge: Forge) -> None:
    """Also those that are part of a character."""
    text = "a" * 31 + "ñ" + "b" * 30 + "🙂"
    version = forge.version(1, [text])
    with EmbeddedRuntime(Path(version.gguf), version.name, 512) as served:
        whole = speak(served)[-1]
        assert whole.done == "stop"
        assert speak(served, max_new_tokens=whole.completion_tokens)[-1].completion_tokens == whole.completion_tokens
        assert speak(served, max_new_tokens=1)[-1].completion_tokens == 1
