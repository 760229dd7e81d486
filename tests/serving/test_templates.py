"""The Go template for old servers."""

from importlib import resources
from pathlib import Path

import pytest

from tests.serving.kit import HERMES
from tests.testkit.scripted_gguf import write_scripted_gguf
from thaud.errors import ServerError, StorageError
from thaud.rendering import CHATML
from thaud.serving.fake.checks import go_abilities
from thaud.serving.templates import SKELETON, ChatFormat, go_template, go_template_of, recognise

BEFORE = "\n\n# Tools\n\nYou may call functions described within <tools></tools>:\n<tools>"
AFTER = '\n</tools>\n\nAnswer each call as\n<tool_call>\n{"name": <name>}\n</tool_call>'
DEFAULT = "You are a helpful assistant."


def test_sentences_are_found_by_rendering() -> None:
    """The default system sentence and the words around the tools are read off what the Jinja template renders."""
    assert recognise(HERMES) == ChatFormat(DEFAULT, BEFORE, DEFAULT + BEFORE, AFTER)


def test_sentences_stand_in_the_skeleton_as_they_are() -> None:
    """A template with a default sentence becomes the contract's skeleton with its three strings, and nothing else."""
    made = go_template(ChatFormat(DEFAULT, BEFORE, DEFAULT + BEFORE, AFTER))
    otherwise = f"else }}}}<|im_start|>system\n{DEFAULT}<|im_end|>\n{{{{ "
    expected = SKELETON.replace("[default]", DEFAULT).replace("[before]", BEFORE).replace("[after]", AFTER)
    assert made == expected.replace("[otherwise]", otherwise)
    assert made.endswith("<|im_start|>assistant\n")


def test_no_default_sentence_is_invented() -> None:
    """A base whose template says nothing by default gets a Go template that says nothing by default."""
    found = recognise(CHATML)
    assert found == ChatFormat(None)
    assert found is not None
    made = go_template(found)
    assert "else" not in made
    assert not go_abilities(made).tools


def test_shipped_base_has_a_go_template() -> None:
    """nano's own template is recognised, tools and all, and gets no default sentence."""
    found = recognise(resources.files("thaud.nano").joinpath("base/chat_template.jinja").read_text("utf-8"))
    assert found is not None
    assert found.default_system is None
    assert found.before_tools is not None
    able = go_abilities(go_template(found))
    assert (able.tools, able.round_trip) == (True, True)


def test_braces_in_a_sentence_stay_text() -> None:
    """What looks like an action of Go's template engine is written so that it is none."""
    made = go_template(ChatFormat("Use {{ braces }}."))
    assert 'Use {{ "{{" }} braces }}.' in made


@pytest.mark.parametrize(
    "jinja",
    [
        "{% for m in messages %}[INST] {{ m.content }} [/INST]{% endfor %}",
        HERMES.replace("<tool_response>", "<result>"),
        HERMES.replace("assistant\\n'", "assistant\\n<think>'"),
        "{% broken",
        "{{ raise_exception('never') }}",
    ],
    ids=["llama", "other tool results", "thinking", "broken", "refusing"],
)
def test_unknown_template_is_refused(jinja: str, tmp_path: Path) -> None:
    """A template that is not the skeleton's is refused with the remedy, rather than served wrongly."""
    path = tmp_path / "model.gguf"
    write_scripted_gguf(path, ["hola"], chat_template=jinja)
    with pytest.raises(ServerError, match=r"older than 0\.30.*model\.gguf: update Ollama"):
        go_template_of(path)


def test_file_that_vanished(tmp_path: Path) -> None:
    """A version's file that is gone is a StorageError that names it."""
    with pytest.raises(StorageError, match=r"gone\.gguf"):
        go_template_of(tmp_path / "gone.gguf")
