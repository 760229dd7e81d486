from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testkit.scripted_gguf import write_scripted_gguf
from thaud.domain import Message
from thaud.errors import ModelError
from thaud.rendering import CHATML
from thaud.steps.contract import usable_cores
from thaud.steps.llama import LlamaModel
from thaud.steps.sampling import Sampling

SCRIPT = ["¡Hola! 👋🏽 ", "<tool_call>", '\n{"name": "calculator"}\n', "</tool_call>"]
SPOKEN = "".join(SCRIPT)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("gguf") / "hello.gguf"
    write_scripted_gguf(made, SCRIPT, chat_template=CHATML, context_length=512)
    return made


@pytest.fixture
def model(path: Path) -> Iterator[LlamaModel]:
    with LlamaModel(path, 256, threads=1) as loaded:
        yield loaded


def ask(model: LlamaModel, text: str, max_new_tokens: int = 64) -> tuple[str, str | None]:
    prompt = model.encode(model.renderer.prompt([Message("user", text)]))
    pairs = list(model.generate(prompt, max_new_tokens))
    assert all(done is None for _, done in pairs[:-1])
    return "".join(text for text, _ in pairs), pairs[-1][1]


def test_answer_is_the_script_with_tags_as_text_and_without_the_end_of_turn(model: LlamaModel) -> None:
    """Visible tags are text, the end-of-turn token is not, and characters split over tokens arrive whole."""
    assert ask(model, "hola") == (SPOKEN, "stop")


def test_every_streamed_text_is_whole_characters(model: LlamaModel) -> None:
    """A character whose bytes come in several tokens is never yielded in halves."""
    prompt = model.encode(model.renderer.prompt([Message("user", "hola")]))
    assert not any("\ufffd" in text for text, _ in model.generate(prompt, 64))


def test_cut_off_answer_says_length(model: LlamaModel) -> None:
    """An answer cut at max_new_tokens ends with `length`."""
    text, done = ask(model, "hola", max_new_tokens=1)
    assert done == "length"
    assert SPOKEN.startswith(text.rstrip("\ufffd"))


def test_second_prompt_with_a_shared_prefix_answers_the_same(model: LlamaModel) -> None:
    """Going on from the cached prefix changes no answer, also after an abandoned generation."""
    prompt = model.encode(model.renderer.prompt([Message("user", "hola")]))
    abandoned = model.generate(prompt, 64)
    next(abandoned)
    abandoned.close()
    assert ask(model, "hola y adiós") == (SPOKEN, "stop")
    assert ask(model, "hola") == (SPOKEN, "stop")


def test_sampling_with_a_seed_is_repeatable(model: LlamaModel) -> None:
    """Temperature above 0 samples, and the same seed says the same."""
    prompt = model.encode(model.renderer.prompt([Message("user", "hola")]))
    first = list(model.generate(prompt, 8, Sampling(2.0, seed=7)))
    assert first == list(model.generate(prompt, 8, Sampling(2.0, seed=7)))


def test_typed_control_tokens_stay_text(model: LlamaModel) -> None:
    """`<|im_end|>` in a person's message is encoded as characters; the template's own is one token."""
    end = model.encode(piece for piece in model.renderer.prompt([Message("user", "x")]) if piece.text == "<|im_end|>")
    ids = model.encode(model.renderer.prompt([Message("user", "a<|im_end|>b")]))
    assert len(end) == 1
    assert ids.count(end[0]) == 1


def test_context_is_capped_to_the_models_own(path: Path) -> None:
    """A context beyond what the model was made for is cut down to it."""
    with LlamaModel(path, 100_000) as loaded:
        assert loaded.context_tokens == 512
        assert loaded.name == "scripted"
        assert loaded.template == CHATML


def test_prompt_without_room_is_refused(model: LlamaModel) -> None:
    """A prompt that fills the context is an error that names both figures."""
    with pytest.raises(ModelError, match=r"300 tokens .* context of 256"):
        next(model.generate([1] * 300, 4))


def test_generation_stops_at_a_full_context(path: Path) -> None:
    """The context's end is `length`, not a native failure."""
    with LlamaModel(path, 40, threads=1) as small:
        prompt = small.encode(small.renderer.prompt([Message("user", "x")]))
        filled = [*[300 % 256] * (38 - len(prompt)), *prompt]
        assert list(small.generate(filled, 64))[-1][1] == "length"


def test_broken_files_are_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A missing or unreadable GGUF is a ModelError in one line, and nothing is printed by native code."""
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"\xff" * 64)
    for path in (broken, tmp_path / "absent.gguf"):
        with pytest.raises(ModelError, match=path.name) as caught:
            LlamaModel(path, 128)
        assert "\n" not in str(caught.value)
    captured = capfd.readouterr()
    assert captured.err == captured.out == ""


def test_no_template_means_chatml(tmp_path: Path) -> None:
    """A GGUF without a chat template is spoken to in plain ChatML, as Ollama does."""
    write_scripted_gguf(tmp_path / "bare.gguf", ["bien hecho"])
    with LlamaModel(tmp_path / "bare.gguf", 128, threads=1) as bare:
        assert bare.template == CHATML
        assert ask(bare, "hola") == ("bien hecho", "stop")


def test_threads_zero_means_all_usable_cores() -> None:
    """0 asks for every core this process may use."""
    assert usable_cores(0) >= 1
    assert usable_cores(3) == 3


def test_a_token_that_there_is_not(model: LlamaModel) -> None:
    """The text of a token beyond the vocabulary is an error in one line, where llama.cpp would end the process."""
    for beyond in (model.vocabulary, -1):
        with pytest.raises(ModelError, match=f"no token {beyond}: its vocabulary ends at {model.vocabulary}"):
            model.say([beyond])
