import json
import math
import os
import resource
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.steps.exporting import export
from thaud.domain import ModelKind
from thaud.errors import ModelError, StorageError
from thaud.steps.export.room import check_memory, check_room
from thaud.steps.export.weights import open_weights


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


@pytest.mark.parametrize("kind", ["f16", "bf16", "q8_0", "q4_k_m"])
def test_adapter_whose_training_diverged_is_refused(base: Path, adapter: Path, tmp_path: Path, kind: ModelKind) -> None:
    """Values that no training that went well leaves are refused before anything is written, of any type; the remedy is
    the one that helps.
    """

    def grow(tensors: dict[str, torch.Tensor]) -> None:
        tensors[Q_PROJ + "B.weight"] *= 1e6

    grown = rewrite_adapter(adapter, tmp_path, grow)
    said = r"moves model.layers.0.self_attn.q_proj.weight by up to .* diverged; lower training.learning_rate"
    with pytest.raises(ModelError, match=said):
        export(base, grown, tmp_path / "out" / "model.gguf", kind)
    assert not list((tmp_path / "out").glob("*"))


def test_large_adapter_that_did_not_diverge_is_merged(base: Path, adapter: Path, tmp_path: Path) -> None:
    """What the quick bound cannot clear is computed: halves of large numbers whose product is small are exported."""

    def lean(tensors: dict[str, torch.Tensor]) -> None:
        down, up = torch.zeros(8, 64), torch.zeros(64, 8)
        down[0, 0] = down[1, 1] = up[0, 0] = 1.0
        down[0, 1], down[1, 0], up[1, 1] = 0.0, 3e5, 0.0
        tensors |= {Q_PROJ + "A.weight": down, Q_PROJ + "B.weight": up}

    export(base, rewrite_adapter(adapter, tmp_path, lean), tmp_path / "model.gguf")
    assert (tmp_path / "model.gguf").is_file()


def test_values_beyond_f16_in_the_base_are_refused(base: Path, tmp_path: Path) -> None:
    """A weight that F16 would turn into infinity is an error that names tensor and value; BF16 holds it, as it says."""
    large = changed(base, tmp_path, "config.json", {})
    tensors = load_file(large / "model.safetensors")
    tensors["model.layers.0.self_attn.q_proj.weight"][0, 0] = 1e6
    save_file(tensors, large / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"blk.0.attn_q.weight holds .* F16 can hold.* bf16"):
        export(large, None, tmp_path / "out" / "model.gguf")
    assert not list((tmp_path / "out").glob("*"))
    export(large, None, tmp_path / "model.gguf", "bf16")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "mamba"}, "mamba"),
        ({"use_sliding_window": True}, "sliding window"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "yarn"),
        ({"num_hidden_layers": 1}, "layers.1"),
        ({"num_hidden_layers": 3}, "layers.2"),
        ({"vocab_size": 100}, "embed_tokens.weight is .* config.json makes it"),
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
def test_unknown_pre_tokenizer_fails_closed(base: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    """A tokenizer that splits in a way that is not known is refused, never guessed, and nothing is written."""
    with pytest.raises(ModelError):
        export(changed(base, tmp_path, "tokenizer.json", change), None, tmp_path / "out" / "model.gguf")
    assert not list((tmp_path / "out").glob("*"))


def test_full_disk_is_refused_with_figures(tmp_path: Path) -> None:
    """Before anything is written, the error says how much is needed, how much is there and where."""
    file = tmp_path / "model.gguf"
    check_room([(file, 100)], lambda _: 100)
    with pytest.raises(StorageError, match=r"model.gguf: it needs 5,000 MB and 2,000 MB are free .* free 3,000 MB"):
        check_room([(file, 5_000_000_000)], lambda _: 2_000_000_000)


def test_too_little_memory_is_refused_with_figures(tmp_path: Path) -> None:
    """Before anything is written, the error says how much memory is needed, and how much is free."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 8000000 kB\nMemAvailable: 1000000 kB\n", encoding="utf-8")
    check_memory(700_000_000, tmp_path)
    with pytest.raises(ModelError, match=r"needs 2,268 MB of memory and 1,024 MB are free"):
        check_memory(2_000_000_000, tmp_path)


def test_damaged_weights_are_our_error(base: Path, tmp_path: Path) -> None:
    """Safetensors that cannot be mapped are a ModelError naming the file."""
    broken = changed(base, tmp_path, "config.json", {})
    (broken / "model.safetensors").write_bytes(b"\0" * 64)
    with pytest.raises(ModelError, match=r"model.safetensors cannot be read"):
        export(broken, None, tmp_path / "model.gguf")


def test_weights_that_become_shorter_are_our_error(base: Path, tmp_path: Path) -> None:
    """A file that is cut while it is read ends the export, and leaves none."""
    cut = changed(base, tmp_path, "config.json", {})
    with open_weights(cut) as weights:
        os.truncate(cut / "model.safetensors", 4000)
        with pytest.raises(ModelError, match="become shorter"):
            weights.read("model.embed_tokens.weight")


def test_full_disk_in_the_middle_leaves_nothing(base: Path, tmp_path: Path) -> None:
    """What fails in the thread that writes ends the export with the system's own error, and no file stays."""
    with pytest.raises(OSError, match="File too large"), file_size_limit(20_000):
        export(base, None, tmp_path / "model.gguf")
    assert list(tmp_path.iterdir()) == []


@contextmanager
def file_size_limit(most: int) -> Iterator[None]:
    """No file of this process may be longer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
