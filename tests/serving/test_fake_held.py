"""What the fake says under `format`, with a model that would say anything."""

import json
from pathlib import Path
from random import Random

import jsonschema
import pytest

from agent.actions import union
from tests.serving.kit import Forge
from tests.testkit.random_gguf import write_random_gguf
from tests.testkit.schemas import tool_schema
from thaud.domain import Message
from thaud.rendering import CHATML
from thaud.serving.fake.held import grammar_of
from thaud.serving.fake.protocol import Refusal
from thaud.serving.fake_ollama import FakeOllama, Generation
from thaud.serving.ollama import OllamaServer
from thaud.serving.ollama_runtime import OllamaRuntime
from thaud.serving.reconcile import register
from tools.base import Risk, Tool

SCHEMAS = 40
CONTEXT = 8192


@pytest.mark.parametrize("generation", ["new", "old"])
def test_every_call_by_format_validates(tmp_path: Path, generation: Generation) -> None:
    """Sampled from random weights over the wire, calls of chance schemas parse and validate, all of them.

    Texts may hold the ends of turns that the model stops at elsewhere: under a schema they do not end it.
    """
    path = tmp_path / "thau-nano-v1.gguf"
    write_random_gguf(path, CHATML)
    with FakeOllama(generation) as fake:
        register(OllamaServer(fake.url), Forge(tmp_path).of_file(1, path), CONTEXT, ["<|im_end|>"])
        runtime = OllamaRuntime(fake.url, "thau-nano-v1", CONTEXT)
        for seed in range(80, 80 + SCHEMAS):
            tool = Tool("act", "", Risk.COMPUTES, tool_schema(Random(seed)), dict, lambda _, __: "")
            actions = union([tool], answer=False)
            heard = list(
                runtime.chat([Message("user", "go")], actions=actions, max_new_tokens=4000, temperature=1.0, seed=seed)
            )
            assert heard[-1].done == "stop"
            jsonschema.validate(json.loads("".join(delta.text for delta in heard)), actions)


def test_schema_beyond_the_grammar_is_refused() -> None:
    """What cannot be held is refused, not half held."""
    with pytest.raises(Refusal, match="JSON schema conversion failed"):
        grammar_of({"type": "string", "pattern": "^a$"}, thinks=False)
