"""Files that are not what was trained: each fails with a reason that names what is wrong with it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.steps.certified import certified, certify_spec, export, train_adapter, write_items
from tests.steps.doors import through_door
from tests.testkit.changed_gguf import permuted, values_of, write_changed
from tests.testkit.tiny_models import write_tiny_adapter, write_tiny_base
from thaud.errors import ModelError
from thaud.nano import BASE_DIR
from thaud.steps.train.model import WEIGHTS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_adapter(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def file(adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(adapter, tmp_path_factory.mktemp("file") / "model.gguf")


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_items(tmp_path_factory.mktemp("items") / "items.jsonl")


@pytest.fixture
def reasons(file: Path, adapter: Path, items: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """Why the file does not pass once it is changed."""

    def find(metadata: Any = None, tensors: Any = None) -> list[str]:
        changed = write_changed(file, tmp_path / "changed.gguf", metadata or {}, tensors or {})
        result = certified(changed, adapter, items)
        assert result.passed is (not result.reasons)
        return result.reasons

    return find


def heads(reasons: list[str]) -> set[str]:
    """The sections that reasons are of."""
    return {reason.split(":")[0] for reason in reasons}


def test_a_file_written_again_unchanged_passes(reasons: Callable[..., list[str]]) -> None:
    """What the other tests change is what they find: writing again alone changes nothing."""
    assert reasons() == []


def test_a_truncated_file_cannot_be_read(file: Path, adapter: Path, items: Path, tmp_path: Path) -> None:
    """Half a file fails the step in one line that names it."""
    half = tmp_path / "half.gguf"
    half.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    code, result, _ = through_door("certify", certify_spec(half, adapter, items), tmp_path / "work")
    assert code == 1
    assert str(half) in result["error"]
    assert "\n" not in result["error"]


def test_damaged_weights(reasons: Callable[..., list[str]]) -> None:
    """A matrix of zeros in the middle: the first choices are others."""
    found = reasons(tensors={"blk.2.ffn_down.weight": np.zeros_like})
    assert any("fidelity: the file's first choice" in reason and "not those trained" in reason for reason in found)


def test_weights_that_are_no_numbers(reasons: Callable[..., list[str]]) -> None:
    """One NaN: said as such, and the certificate is still JSON."""
    found = reasons(
        tensors={
            "blk.1.ffn_up.weight": lambda data: (
                np.where(np.arange(data.size) == 7, np.nan, data.ravel()).reshape(data.shape).astype(data.dtype)
            )
        }
    )
    assert any("no finite numbers" in reason for reason in found)


def test_the_adapter_is_missing(adapter: Path, items: Path, tmp_path: Path) -> None:
    """The base exported alone has none of the change, and every other file of the same base as little."""
    result = certified(export(None, tmp_path / "base.gguf"), adapter, items)
    assert "change: the file has 0% of the change that the adapter makes" in " ".join(result.reasons)
    assert result.certificate["change"]["share"] == pytest.approx(0, abs=0.01)
    assert result.certificate["change"]["share_of_weights"] == pytest.approx(0, abs=0.01)
    assert heads(result.reasons) == {"contents", "fidelity", "change"}


def test_the_adapter_is_in_it_twice(adapter: Path, items: Path, tmp_path: Path) -> None:
    """Merged with twice its scale, it is not what was trained."""
    config = json.loads((adapter / "adapter_config.json").read_text())
    twice = tmp_path / "twice"
    twice.mkdir()
    (twice / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 2 * config["lora_alpha"]}))
    (twice / WEIGHTS).write_bytes((adapter / WEIGHTS).read_bytes())
    result = certified(export(twice, tmp_path / "twice.gguf"), adapter, items)
    assert "change" in heads(result.reasons)
    assert result.certificate["change"]["share_of_weights"] == pytest.approx(2, abs=0.01)


def test_an_adapter_of_nothing(file: Path, adapter: Path, items: Path, tmp_path: Path) -> None:
    """An adapter whose second halves are zero has not changed the base."""
    zero = tmp_path / "zero"
    zero.mkdir()
    (zero / "adapter_config.json").write_bytes((adapter / "adapter_config.json").read_bytes())
    halves = load_file(adapter / WEIGHTS)
    save_file(
        {name: torch.zeros_like(half) if "lora_B" in name else half for name, half in halves.items()}, zero / WEIGHTS
    )
    result = certified(export(zero, tmp_path / "zero.gguf"), zero, items)
    assert [reason for reason in result.reasons if "the adapter changes nothing" in reason]
    assert heads(result.reasons) == {"change"}


def test_a_file_of_another_model(adapter: Path, items: Path, tmp_path: Path) -> None:
    """Another base altogether: its tokens are others, and there is nothing to compare logits with."""
    other = write_tiny_base(tmp_path / "base", init_std=0.2)
    file = export(write_tiny_adapter(tmp_path / "other", other), tmp_path / "other.gguf", other)
    found = certified(file, adapter, items).reasons
    assert {"prompts", "tokens", "fidelity", "change"} <= heads(found)
    assert any("the base 3072: it is of another model" in reason for reason in found)


def test_a_file_of_another_training(adapter: Path, items: Path, tmp_path: Path) -> None:
    """The same base with another adapter: the tokens are right, the weights are not."""
    other = write_tiny_adapter(tmp_path / "other", BASE_DIR, std=0.03)
    found = certified(export(other, tmp_path / "other.gguf"), adapter, items).reasons
    assert {"contents", "fidelity", "change"} <= heads(found) <= {"contents", "fidelity", "change", "stops"}


def test_another_template(reasons: Callable[..., list[str]], file: Path) -> None:
    """A template that says one word otherwise: the first token that differs is named, with the conversation."""
    template = values_of(file)["tokenizer.chat_template"].replace("# Herramientas", "# Tools")
    found = reasons({"tokenizer.chat_template": template})
    assert heads(found) == {"prompts"}
    assert found[0].startswith("prompts: tools: token ")
    assert "in the file" in found[0]


def test_no_template(reasons: Callable[..., list[str]]) -> None:
    """A file without its template is shown as plain ChatML, which knows no tools."""
    found = reasons({"tokenizer.chat_template": None})
    assert heads(found) == {"prompts"}


def test_no_end_of_text(reasons: Callable[..., list[str]]) -> None:
    """A file that names no end-of-text token is named as such, also where llama.cpp guesses it."""
    found = reasons({"tokenizer.ggml.eos_token_id": None})
    assert any("names no end-of-text token (tokenizer.ggml.eos_token_id)" in reason for reason in found)


def test_another_end_of_text(reasons: Callable[..., list[str]]) -> None:
    """A file whose end-of-text token is another one."""
    assert any(
        "tokens: the file's end-of-text token is 65" in reason
        for reason in reasons({"tokenizer.ggml.eos_token_id": 65})
    )


def test_no_token_types(reasons: Callable[..., list[str]], file: Path) -> None:
    """Without kinds, control tokens are text: each is named."""
    count = len(values_of(file)["tokenizer.ggml.token_type"])
    found = reasons({"tokenizer.ggml.token_type": [int(gguf.TokenType.NORMAL)] * count})
    assert any(
        reason.startswith("tokens: token ") and "is normal in the file, control in training" in reason
        for reason in found
    )


def test_tags_that_would_vanish(reasons: Callable[..., list[str]], file: Path) -> None:
    """<tool_call> as a control token is silent in answers: the call does not come back, and that is said."""
    values = values_of(file)
    kinds = list(values["tokenizer.ggml.token_type"])
    kinds[values["tokenizer.ggml.tokens"].index("<tool_call>")] = int(gguf.TokenType.CONTROL)
    found = reasons({"tokenizer.ggml.token_type": kinds})
    assert {"tokens", "tools"} <= heads(found)
    assert any("'<tool_call>' is control in the file, user-defined in training" in reason for reason in found)
    assert any("tools: a call of get_weather comes back" in reason for reason in found)


def test_tokens_in_another_order(reasons: Callable[..., list[str]], file: Path) -> None:
    """Two tokens that changed places are named by their numbers."""
    tokens = list(values_of(file)["tokenizer.ggml.tokens"])
    tokens[2000], tokens[2001] = tokens[2001], tokens[2000]
    found = reasons({"tokenizer.ggml.tokens": tokens})
    assert any(reason.startswith("tokens: token 2000 is ") for reason in found)


@pytest.mark.parametrize("pre", ["gpt-2", "deepseek-coder"])
def test_another_pre_tokenizer(reasons: Callable[..., list[str]], pre: str) -> None:
    """Text that is split otherwise has other tokens: the conversation in which they differ is named."""
    found = reasons({"tokenizer.ggml.pre": pre})
    assert heads(found) == {"prompts"}


def test_permuted_queries_and_keys(reasons: Callable[..., list[str]], file: Path) -> None:
    """Queries and keys in Llama's order, where the model is a Qwen: weights and logits tell."""
    wrong = {f"blk.{layer}.attn_{name}.{part}": permuted(heads)
             for layer in range(4) for name, heads in (("q", 4), ("k", 2)) for part in ("weight", "bias")}  # fmt: skip
    found = reasons(tensors=wrong)
    assert {"contents", "fidelity"} <= heads(found) <= {"contents", "fidelity", "change", "stops"}


def test_another_kind_than_was_asked_for(file: Path, adapter: Path, items: Path) -> None:
    """A file that says of itself that it is of another kind."""
    found = certified(file, adapter, items, kind="q8_0").reasons
    assert found == ["kind: the file says that its weights are f16, q8_0 was asked for"]


def test_what_cannot_be_read_at_all(file: Path, adapter: Path, items: Path, tmp_path: Path) -> None:
    """No adapter, no base, no file: errors that name what is missing, not certificates."""
    for missing in ({"gguf": tmp_path / "no.gguf"}, {"adapter": tmp_path / "no-adapter"}):
        given: dict[str, Any] = {"gguf": file, "adapter": adapter, "items": items, **missing}
        with pytest.raises(ModelError, match=r"no\.gguf|no-adapter"):
            certified(**given)
    with pytest.raises(ModelError, match="no-base"):
        certified(file, adapter, items, base=tmp_path / "no-base")
