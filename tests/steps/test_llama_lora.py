"""llama.cpp with a GGUF LoRA on a base, and the logits of every position."""

from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.steps.exporting import export
from tests.testkit.tiny_models import write_tiny_adapter, write_tiny_base
from thaud.errors import ModelError
from thaud.steps.export.architectures import ARCHITECTURES
from thaud.steps.llama import LOGITS_TOKENS, LlamaModel, open_version
from thaud.workdir import WEIGHTS

IDS = [40 + (7 * position) % 200 for position in range(LOGITS_TOKENS + 9)]
SCALE = 2.0


def write_lora(adapter: Path, out: Path, architecture: str = "qwen2", cut: int = 0) -> Path:
    """A GGUF LoRA by hand, so that what is read does not depend on what we write. `cut`: columns left out of A."""
    names = ARCHITECTURES["qwen2"].tensors(2, tied=True)
    writer = gguf.GGUFWriter(out, architecture)
    writer.add_type("adapter")
    writer.add_name("by-hand")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", SCALE * 8)
    for source, values in load_file(adapter / WEIGHTS).items():
        module, half = source.removeprefix("base_model.model.").rsplit(".lora_", 1)
        kept = values[:, : values.shape[1] - cut] if half.startswith("A") else values
        writer.add_tensor(f"{names[module + '.weight']}.lora_{half[0].lower()}", np.ascontiguousarray(kept, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("lora")
    base = write_tiny_base(folder / "base")
    adapter = write_tiny_adapter(folder / "adapter", base)
    export(base, None, folder / "base.gguf")
    export(base, adapter, folder / "merged.gguf")
    return {
        "adapter": adapter,
        "base": folder / "base.gguf",
        "merged": folder / "merged.gguf",
        "lora": write_lora(adapter, folder / "lora.gguf"),
    }


def logits(model: LlamaModel) -> np.ndarray:
    return np.concatenate(list(model.logits(IDS)))


def test_logits_of_every_position_are_what_generating_goes_by(files: dict[str, Path]) -> None:
    """The best of the last row is what greedy generation says first, before and after; a row is one for each id."""
    with LlamaModel(files["merged"], 128, threads=1) as model:
        before = next(model.generate(IDS, 1))
        rows = logits(model)
        assert next(model.generate(IDS, 1)) == before
        assert len(rows) == len(IDS)
        said = model._piece(int(rows[-1].argmax())).decode("utf-8", "replace")
        assert said.startswith(before[0]) or before[0] == ""


def test_logits_come_in_blocks_of_bounded_size(files: dict[str, Path]) -> None:
    """However long the text, no block has more than LOGITS_TOKENS positions; each has its own memory."""
    with LlamaModel(files["merged"], 128, threads=1) as model:
        blocks = list(model.logits(IDS))
        assert [len(block) for block in blocks] == [LOGITS_TOKENS, 9]
        (alone,) = model.logits(IDS[:9])
        np.testing.assert_allclose(alone, blocks[0][:9], atol=1e-2)


def test_more_tokens_than_the_context_are_refused(files: dict[str, Path]) -> None:
    """Logits of a text that does not fit are an error with both figures."""
    with LlamaModel(files["merged"], 40, threads=1) as model, pytest.raises(ModelError, match=r"73 tokens .* of 40"):
        next(model.logits(IDS))


def test_base_with_the_adapter_is_the_merged_model(files: dict[str, Path]) -> None:
    """A LoRA on its base gives the merged model's logits, up to rounding; without it they are others."""
    with LlamaModel(files["merged"], 128, threads=1) as model:
        merged = logits(model)
    with LlamaModel(files["base"], 128, threads=1) as model:
        plain = logits(model)
    with open_version(files["lora"], files["base"], 128, threads=1) as model:
        adapted = logits(model)
        assert model.name == "by-hand"
        assert model.metadata("general.architecture") == "qwen2"
    assert np.abs(adapted - merged).max() < 0.02 * np.abs(merged).max()
    assert np.abs(plain - merged).max() > 5 * np.abs(adapted - merged).max()


def test_adapter_speaks_after_logits_too(files: dict[str, Path]) -> None:
    """The context that logits make anew has the adapter as well."""
    with open_version(files["lora"], files["base"], 128, threads=1) as model:
        before = list(model.generate(IDS, 16))
        logits(model)
        assert list(model.generate(IDS, 16)) == before
    with LlamaModel(files["base"], 128, threads=1) as plain:
        assert list(plain.generate(IDS, 16)) != before


def test_adapter_of_another_base_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    """An adapter of another architecture or shape, or none at all, is one line that names both files."""
    for stranger in (
        write_lora(files["adapter"], tmp_path / "other.gguf", architecture="llama"),
        write_lora(files["adapter"], tmp_path / "narrow.gguf", cut=8),
        files["base"],
        tmp_path / "missing.gguf",
    ):
        with pytest.raises(ModelError, match=stranger.name) as refusal:
            open_version(stranger, files["base"], 128, threads=1)
        assert "\n" not in str(refusal.value)
