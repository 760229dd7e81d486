from pathlib import Path

import pytest

from tests.testkit.scripted_gguf import build_vocabulary, write_scripted_gguf
from thaud.steps.llama import LlamaModel

MARKER = "<|after_tool|>"
TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"


@pytest.mark.parametrize(("ending", "said"), [("\n", "One thing."), (MARKER, "Another thing.")])
def test_each_ending_of_the_prompt_has_its_script(tmp_path: Path, ending: str, said: str) -> None:
    """llama.cpp says the script of the token that the template ends with, and stops."""
    path = tmp_path / "two.gguf"
    write_scripted_gguf(
        path,
        ["One thing."],
        after={MARKER: ["Another thing."]},
        chat_template=f"{TEMPLATE}{{{{ {ending!r} }}}}",
        context_length=256,
    )
    with LlamaModel(path, 256) as model:
        pairs = list(model.generate(model.encode(model.renderer.prompt([])), 64))
    assert ("".join(text for text, _ in pairs), pairs[-1][1]) == (said, "stop")


def test_a_token_that_would_lead_to_two_others_is_refused() -> None:
    """A special token can be said once in all scripts together; a lookup table knows one way on."""
    with pytest.raises(ValueError, match="<tool_call> is said twice"):
        build_vocabulary(["<tool_call>", "a call"], {MARKER: ["<tool_call>"]}, repeat=False)
