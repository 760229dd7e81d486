from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.scripted import ScriptedRuntime, says
from tests.testkit.scripted_gguf import write_scripted_gguf
from thaud.domain import Message
from thaud.serving.embedded import EmbeddedRuntime
from thaud.serving.runtime import Runtime

TEXT = "Son cuarenta y dos."


def scripted(_: Path) -> Runtime:
    return ScriptedRuntime([says(TEXT), says(TEXT)], name="same", context_tokens=512)


def embedded(folder: Path) -> Runtime:
    write_scripted_gguf(folder / "same.gguf", [TEXT])
    return EmbeddedRuntime(folder / "same.gguf", "same", 512)


@pytest.fixture(params=[scripted, embedded])
def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Runtime]:
    make: Callable[[Path], Runtime] = request.param
    made = make(tmp_path)
    yield made
    if isinstance(made, EmbeddedRuntime):
        made.close()


def test_the_double_is_like_the_thing(runtime: Runtime) -> None:
    """Scripted or on llama.cpp: the text in pieces, one last delta that says stop, the same again when asked again."""
    for _ in range(2):
        deltas = list(runtime.chat([Message("user", "¿6*7?")], max_new_tokens=64))
        assert "".join(delta.text for delta in deltas) == TEXT
        assert [delta.done for delta in deltas] == [None] * (len(deltas) - 1) + ["stop"]
        assert deltas[-1].prompt_tokens > 0
        assert deltas[-1].completion_tokens > 0
    assert (runtime.name, runtime.context_tokens) == ("same", 512)
