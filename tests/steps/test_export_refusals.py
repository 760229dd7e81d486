import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.steps.test_export import export
from thaud.errors import ModelError, StorageError
from thaud.steps.export.metadata import pre_tokenizer
from thaud.steps.export.writer import check_room


def changed(folder: Path, tmp_path: Path, file: str, change: dict[str, Any]) -> Path:
    """A copy of a folder with fields of one of its JSON files changed."""
    copy = Path(shutil.copytree(folder, tmp_path / "changed"))
    fields = json.loads((copy / file).read_text())
    (copy / file).write_text(json.dumps({**fields, **change}))
    return copy


@pytest.mark.parametrize(
    "change",
    [
        {"use_dora": True},
        {"modules_to_save": ["lm_head"]},
        {"bias": "all"},
        {"rank_pattern": {"q_proj": 4}},
        {"peft_type": "IA3"},
        {"trainable_token_indices": [1]},
    ],
)
def test_adapter_that_is_not_plain_lora_is_refused(
    base: Path, adapter: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    """What a merge would drop or misread is refused by name, and no file appears."""
    with pytest.raises(ModelError, match=next(iter(change))):
        export(base, changed(adapter, tmp_path, "adapter_config.json", change), tmp_path / "out" / "model.gguf")
    assert not (tmp_path / "out" / "model.gguf").exists()


def rewrite_adapter(adapter: Path, tmp_path: Path, change: Any) -> Path:
    copy = Path(shutil.copytree(adapter, tmp_path / "rewritten"))
    tensors = load_file(copy / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, copy / "adapter_model.safetensors")
    return copy


Q_PROJ = "base_model.model.model.layers.0.self_attn.q_proj.lora_"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.update({"base_model.model.lm_head.lora_A.weight": torch.ones(8, 64)}), "lm_head"),
        (lambda t: t.pop(Q_PROJ + "A.weight"), "pair of rank"),
        (lambda t: t.update({Q_PROJ + "B.weight": torch.ones(63, 8)}), "another base"),
        (lambda t: t.update({Q_PROJ + "B.weight": torch.full((64, 8), math.nan)}), "no numbers"),
        (lambda t: t.update({Q_PROJ + "magnitude_vector": torch.ones(64)}), "plain LoRA"),
        (
            lambda t: t.update(
                {
                    "base_model.model.model.layers.9.mlp.up_proj.lora_A.weight": torch.ones(8, 64),
                    "base_model.model.model.layers.9.mlp.up_proj.lora_B.weight": torch.ones(96, 8),
                }
            ),
            "layers.9",
        ),
    ],
    ids=["head", "half", "shape", "nan", "dora", "layer"],
)
def test_adapter_of_another_model_is_refused(base: Path, adapter: Path, tmp_path: Path, change: Any, said: str) -> None:
    """Tensors that fit nowhere are refused by name: no part of a training vanishes silently."""
    with pytest.raises(ModelError, match=said):
        export(base, rewrite_adapter(adapter, tmp_path, change), tmp_path / "model.gguf")


def test_values_beyond_f16_are_refused(base: Path, adapter: Path, tmp_path: Path) -> None:
    """A merged weight that F16 would turn into infinity is an error that names tensor and value; Q8_0 holds it."""

    def grow(tensors: dict[str, torch.Tensor]) -> None:
        tensors[Q_PROJ + "B.weight"] *= 1e6

    grown = rewrite_adapter(adapter, tmp_path, grow)
    with pytest.raises(ModelError, match=r"blk.0.attn_q.weight holds .* F16"):
        export(base, grown, tmp_path / "model.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["rewritten"]
    export(base, grown, tmp_path / "model.gguf", "q8_0")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "mamba"}, "mamba"),
        ({"use_sliding_window": True}, "sliding window"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "yarn"),
        ({"num_hidden_layers": 1}, "layers.1"),
        ({"num_hidden_layers": 3}, "layers.2"),
        ({"vocab_size": 100}, "vocabulary ends at 100"),
    ],
)
def test_base_that_cannot_be_described_is_refused(
    base: Path, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    """A base whose shape, rotary settings or architecture the file could not state is refused."""
    with pytest.raises(ModelError, match=said):
        export(changed(base, tmp_path, "config.json", change), None, tmp_path / "model.gguf")


@pytest.mark.parametrize(
    "change",
    [
        {"normalizer": None},
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}},
        {"pre_tokenizer": None},
    ],
)
def test_unknown_pre_tokenizer_fails_closed(base: Path, change: dict[str, Any]) -> None:
    """A tokenizer that splits in another way than Qwen2's is refused, never guessed."""
    definition = json.loads((base / "tokenizer.json").read_text())
    assert pre_tokenizer(definition) == "qwen2"
    with pytest.raises(ModelError, match="only Qwen2's"):
        pre_tokenizer({**definition, **change})


def test_full_disk_is_refused_with_figures(tmp_path: Path) -> None:
    """Before anything is written, the error says how much is needed, how much is there and where."""
    check_room(tmp_path / "model.gguf", 100, 100)
    with pytest.raises(StorageError, match=r"model.gguf: it needs 5,000 MB and 2,000 MB are free .* free 3,000 MB"):
        check_room(tmp_path / "model.gguf", 5_000_000_000, 2_000_000_000)


def test_damaged_weights_are_our_error(base: Path, tmp_path: Path) -> None:
    """Safetensors that cannot be mapped are a ModelError naming the file."""
    broken = changed(base, tmp_path, "config.json", {})
    (broken / "model.safetensors").write_bytes(b"\0" * 64)
    with pytest.raises(ModelError, match=r"model.safetensors cannot be read"):
        export(broken, None, tmp_path / "model.gguf")
