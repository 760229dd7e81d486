"""Calls valid by construction: random weights, sampled at temperature 1, cannot call wrongly.

The whole run is bench_agent's.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.kit import HERMES, Forge
from tests.testkit.random_gguf import write_random_gguf
from tests.testkit.validity import Tally, judge, sampled
from thaud.rendering import CHATML
from thaud.serving.embedded import EmbeddedRuntime
from thaud.serving.fake_ollama import FakeOllama
from thaud.serving.ollama import OllamaServer
from thaud.serving.ollama_runtime import OllamaRuntime
from thaud.serving.reconcile import register
from thaud.serving.runtime import Runtime

CONTEXT = 16384
SCHEMAS = 15


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("random")


@pytest.fixture(params=["tags", "actions", "format"])
def runtime(request: pytest.FixtureRequest, folder: Path) -> Iterator[Runtime]:
    """A model that says nonsense, in each way that holds one to a schema."""
    path = folder / f"{request.param}.gguf"
    write_random_gguf(path, HERMES if request.param == "tags" else CHATML)
    if request.param != "format":
        with EmbeddedRuntime(path, "random", CONTEXT, 1) as embedded:
            yield embedded
        return
    with FakeOllama("new") as server:
        version = Forge(folder).of_file(1, path)
        register(OllamaServer(server.url), version, CONTEXT)
        yield OllamaRuntime(server.url, version.name, CONTEXT)


def test_every_call_parses_and_validates(runtime: Runtime) -> None:
    """Whatever the schemas are, what comes is JSON that jsonschema finds nothing against, and it comes to an end."""
    tally = Tally()
    for seed in range(SCHEMAS):
        judge(runtime, seed, tally)
    assert (tally.wrong, tally.refused, tally.cut) == ([], [], 0)
    assert tally.calls


def test_without_the_grammar_nothing_is_valid(folder: Path) -> None:
    """The same model left to itself calls, and no call of its can be read: the judge can say no."""
    path = folder / "free.gguf"
    write_random_gguf(path, HERMES)
    with EmbeddedRuntime(path, "random", CONTEXT, 1) as runtime:
        said = ["".join(delta.text for delta in sampled(runtime, seed, None, 64)) for seed in range(6)]
    assert any("<tool_call>" in text for text in said)
    assert not any("</tool_call>" in text for text in said)
