"""What is in a file tensor by tensor and key by key: right files have it all, and what logits hardly show is found."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.steps.certified import CONTEXT, certified, certify_spec, write_items
from tests.testkit.changed_gguf import values_of, write_changed
from tests.testkit.tiny_models import write_tiny_adapter, write_tiny_base
from thaud.steps.certify.certificate import contents_section
from thaud.steps.certify.inside import Compared, File, look_inside
from thaud.steps.certify.lora import read_lora
from thaud.steps.certify.reference import Skeleton
from thaud.steps.certify.stored import open_stored
from thaud.steps.contract import ExportSpec
from thaud.steps.export.lora import write_adapter
from thaud.steps.export.writer import write_gguf
from thaud.steps.tokenizer import read_tokenizer
from thaud.steps.train.model import WEIGHTS

KINDS = (("qwen2", "qwen2", True), ("qwen3", "qwen2", False), ("llama", "sentencepiece", False),
         ("llama of wide heads", "llama 3", True), ("llama 3", "llama 3", True),
         ("llama, drawn together", "sentencepiece without its file", True),
         ("llama with biases", "llama 3", False))  # fmt: skip


def contents(base: Path, adapter: Path, file: Path, base_file: Path | None = None) -> dict[str, Any]:
    """The certificate's section alone."""
    files = [File(each) for each in (file, base_file) if each is not None]
    skeleton, spec = Skeleton(base), certify_spec(file, adapter, base / "no-items", base)
    with open_stored(base) as weights:
        right = Compared(weights, skeleton.config, read_lora(adapter))
        found = look_inside(files[0], files[1] if base_file else None, right)
        return contents_section(spec, found, files, read_tokenizer(base), skeleton)


def export(adapter: Path, out: Path, base: Path, kind: str = "f16", shared: Path | None = None) -> Path:
    """The file of base and adapter, written in this process; with `shared`, a LoRA on a base at Q8_0."""
    fields = {"base_dir": str(base), "adapter_dir": str(adapter), "out": str(out), "kind": kind, "name": "thau-v1",
              "context_tokens": CONTEXT, "threads": 1, "base_kind": "q8_0",
              "base_out": str(shared) if shared else None}  # fmt: skip
    spec = ExportSpec.model_validate(fields)
    (write_adapter if shared else write_gguf)(spec, lambda done, total: None)
    return out


def without(adapter: Path, module: str, out: Path) -> Path:
    """The adapter with nothing learned in the modules of that name."""
    shutil.copytree(adapter, out)
    halves = load_file(adapter / WEIGHTS)
    gone = {name: torch.zeros_like(half) for name, half in halves.items() if module in name and "lora_B" in name}
    assert gone
    save_file(halves | gone, out / WEIGHTS)
    return out


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: " ".join(map(str, kind)))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Base, adapter and folder."""
    kind, words, tied = request.param
    folder = tmp_path_factory.mktemp("made")
    base = write_tiny_base(folder / "base", kind=kind, words=words, tied=tied, init_std=0.2)
    return base, write_tiny_adapter(folder / "adapter", base, std=0.02), folder


@pytest.mark.parametrize("kind", ["f16", "bf16", "q8_0", "q4_k_m"])
def test_right_files_have_it_all(made: tuple[Path, Path, Path], kind: str) -> None:
    """Each architecture and vocabulary, at each type: as near as the type rounds; without one module it is not."""
    base, adapter, folder = made
    right = contents(base, adapter, export(adapter, folder / f"{kind}.gguf", base, kind=kind))
    assert (right["ok"], right["differences"]) == (True, [])
    assert right["tensors"] >= 20
    for module, name in (("layers.1.self_attn.q_proj", "blk.1.attn_q"), ("layers.0.mlp.down_proj", "blk.0.ffn_down")):
        less = without(adapter, module, folder / f"{kind}-{name}")
        found = contents(base, adapter, export(less, folder / f"{kind}-{name}.gguf", base, kind=kind))
        assert [each for each in found["differences"] if each.startswith(f"{name}.weight has ")], found
        assert all(name in each for each in found["differences"])


def test_an_adapter_beside_its_base(made: tuple[Path, Path, Path]) -> None:
    """A GGUF LoRA and its base are compared apart: what is missing in the one, or is another base, is said."""
    base, adapter, folder = made
    shared = folder / "shared" / "model.gguf"
    file = export(adapter, folder / "lora.gguf", base, "adapter", shared)
    assert contents(base, adapter, file, shared)["differences"] == []
    less = without(adapter, "layers.1.self_attn.k_proj", folder / "less")
    lacking = export(less, folder / "less.gguf", base, "adapter", shared)
    differences = contents(base, adapter, lacking, shared)["differences"]
    assert differences
    assert all("blk.1.attn_k" in each for each in differences), differences
    other = write_changed(shared, folder / "other.gguf", {}, {"blk.1.ffn_norm.weight": lambda data: data + 1})
    assert "blk.1.ffn_norm.weight is" in contents(base, adapter, file, other)["differences"][0]


def keys_of(file: Path) -> dict[str, Any]:
    """Keys that few logits show, with values that are wrong."""
    values = values_of(file)
    arch = values["general.architecture"]
    merges = values.get("tokenizer.ggml.merges", [])
    scores = values.get("tokenizer.ggml.scores", [])
    return {
        f"{arch}.attention.layer_norm_rms_epsilon": 1e-5,
        f"{arch}.context_length": 64,
        f"{arch}.rope.freq_base": 10001.5,
        "thau.context_tokens": CONTEXT + 1,
        "tokenizer.ggml.add_eos_token": True,
        **({"tokenizer.ggml.merges": [*merges[:-2], merges[-1], merges[-2]]} if merges else {}),
        **({"tokenizer.ggml.scores": [-each for each in scores]} if scores else {}),
    }


def test_wrong_keys_are_found(made: tuple[Path, Path, Path]) -> None:
    """Each is a difference of its own."""
    base, adapter, folder = made
    file = export(adapter, folder / "keys.gguf", base)
    for key, value in keys_of(file).items():
        found = contents(base, adapter, write_changed(file, folder / "changed.gguf", {key: value}))
        assert len(found["differences"]) == 1, (key, found)


WRONG: dict[str, Callable[[Any], Any]] = {
    "blk.1.attn_norm.weight": lambda data: data * np.float32(1.02),
    "output_norm.weight": np.zeros_like,
    "token_embd.weight": lambda data: data[::-1].copy(),
    "blk.0.attn_v.weight": lambda data: data * np.float16(1.01),
    "rope_freqs.weight": np.ones_like,
}


def test_wrong_tensors_are_found(made: tuple[Path, Path, Path]) -> None:
    """A tensor that is another version's, slightly; Llama 3's factors, which short texts do not need."""
    base, adapter, folder = made
    file = export(adapter, folder / "tensors.gguf", base)
    there = WRONG.keys() & File(file).tensors.keys()
    assert len(there) >= len(WRONG) - 1  # only Llama 3 has factors
    for name in sorted(there):
        found = contents(base, adapter, write_changed(file, folder / "changed.gguf", {}, {name: WRONG[name]}))
        assert len(found["differences"]) >= 1, (name, found)
        assert all(name in each or "rope_freqs" in each for each in found["differences"])


def test_what_the_certificate_says(made: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """The whole certificate names the section in its reasons, and is refused for it alone or with others."""
    base, adapter, folder = made
    file = export(adapter, folder / "whole.gguf", base)
    wrong = write_changed(file, tmp_path / "wrong.gguf", {"thau.context_tokens": 7})
    right, found = (certified(each, adapter, write_items(tmp_path / "items"), base=base) for each in (file, wrong))
    assert right.certificate["contents"]["ok"]
    assert [each for each in found.reasons if each not in right.reasons] == [
        f"contents: thau.context_tokens is 7, it was trained for {CONTEXT}"
    ]
