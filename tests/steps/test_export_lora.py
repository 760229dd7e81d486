"""Versions that are an adapter: a GGUF LoRA, and the base that such versions share."""

import fcntl
import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.steps.doors import through_door
from tests.steps.exporting import export, tensors_of, values_of
from tests.testkit.llama_cpp_source import lora_job, run_converters
from tests.testkit.tiny_models import write_tiny_adapter, write_tiny_base
from thaud.domain import ModelKind
from thaud.errors import ModelError, StorageError
from thaud.steps.contract import ExportSpec
from thaud.steps.export.adapter import WEIGHTS
from thaud.steps.export.lora import sidecar, write_adapter
from thaud.steps.export.plan import arrange
from thaud.steps.export.room import check_room
from thaud.steps.llama import LlamaModel

IDS = [40 + (7 * position) % 200 for position in range(48)]


def lora_spec(base: Path, adapter: Path, folder: Path, run: str = "run", kind: ModelKind = "f16") -> ExportSpec:
    return ExportSpec(
        base_dir=str(base),
        adapter_dir=str(adapter),
        out=str(folder / run / "model.gguf"),
        kind="adapter",
        name=f"thau-tiny-{run}",
        context_tokens=128,
        base_out=str(folder / "bases" / "abc-f16" / "model.gguf"),
        base_kind=kind,
    )


def export_lora(spec: ExportSpec) -> str:
    return write_adapter(spec, lambda _done, _total: None)[1]


def digest(path: Path | str | None) -> str:
    return hashlib.sha256(Path(str(path)).read_bytes()).hexdigest()


@pytest.mark.parametrize("rslora", [False, True], ids=["lora", "rslora"])
@pytest.mark.parametrize("model", ["qwen2", "llama"])
def test_base_with_the_lora_is_the_merged_model(tmp_path: Path, model: str, *, rslora: bool) -> None:
    """llama.cpp's logits of base and LoRA are those of the merged file, of Llama's permuted rows too, at either scale;
    those of the base alone are far off.
    """
    base = write_tiny_base(tmp_path / "base", kind=model, init_std=0.2)
    adapter = write_tiny_adapter(tmp_path / "adapter", base, use_rslora=rslora)
    spec = lora_spec(base, adapter, tmp_path)
    export_lora(spec)
    export(base, adapter, tmp_path / "merged.gguf")
    with (
        LlamaModel(tmp_path / "merged.gguf", 128, 1) as merged,
        LlamaModel(Path(str(spec.base_out)), 128, 1, adapter=Path(spec.out)) as both,
        LlamaModel(Path(str(spec.base_out)), 128, 1) as alone,
    ):
        wanted, found, without = (logits(each) for each in (merged, both, alone))
    error, moved = np.abs(found - wanted).mean(), np.abs(without - wanted).mean()
    assert error < 0.02 * moved


def logits(model: LlamaModel) -> Any:
    return np.concatenate([np.array(part) for part in model.logits(IDS)])


def test_lora_holds_what_was_trained_and_says_what_it_is(base: Path, adapter: Path, tmp_path: Path) -> None:
    """A and B are there in float32, not rounded; the keys name the base by its digest, alpha, kind and context."""
    spec = lora_spec(base, adapter, tmp_path)
    base_digest = export_lora(spec)
    values, tensors = values_of(Path(spec.out)), tensors_of(Path(spec.out))
    trained = load_file(adapter / WEIGHTS)
    wanted = trained["base_model.model.model.layers.1.mlp.down_proj.lora_B.weight"].numpy()
    np.testing.assert_array_equal(tensors["blk.1.ffn_down.weight.lora_b"].data, wanted)
    assert len(tensors) == len(trained)
    assert {key: value for key, value in values.items() if not key.startswith("GGUF.")} == {
        "general.architecture": "qwen2",
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": 16.0,
        "general.name": "thau-tiny-run",
        "thau.context_tokens": 128,
        "thau.base_sha256": base_digest,
    }
    assert base_digest == digest(spec.base_out)


@pytest.mark.parametrize("model", ["qwen2", "qwen3", "llama"])
def test_lora_is_the_one_llama_cpps_converter_writes(tmp_path: Path, converters: Path, model: str) -> None:
    """Every tensor, its name, type and bytes, and the adapter's keys are those of convert_lora_to_gguf.py."""
    base = write_tiny_base(tmp_path / "base", kind=model)
    adapter = write_tiny_adapter(tmp_path / "adapter", base)
    spec = lora_spec(base, adapter, tmp_path)
    export_lora(spec)
    run_converters(converters, [lora_job(adapter, base, tmp_path / "theirs.gguf")])
    ours, theirs = tensors_of(Path(spec.out)), tensors_of(tmp_path / "theirs.gguf")
    assert set(ours) == set(theirs)
    for name, tensor in theirs.items():
        assert ours[name].tensor_type == tensor.tensor_type
        np.testing.assert_array_equal(ours[name].data, tensor.data, name)
    keys = ("general.type", "general.architecture", "adapter.type", "adapter.lora.alpha")
    said, wanted = values_of(Path(spec.out)), values_of(tmp_path / "theirs.gguf")
    assert [said[key] for key in keys] == [wanted[key] for key in keys]


def test_base_is_written_once_and_shared(base: Path, adapter: Path, tmp_path: Path) -> None:
    """A second run finds the base whole by its digest, taken again, and leaves it as it is; it is the same file as a
    base exported anew, whatever run asked.
    """
    first, second = (lora_spec(base, adapter, tmp_path, run) for run in ("run-1", "run-2"))
    told = export_lora(first)
    shared = Path(str(first.base_out))
    before = shared.stat()
    assert export_lora(second) == told
    assert (shared.stat().st_ino, shared.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    shared.unlink()
    assert export_lora(second.model_copy(update={"context_tokens": 64})) == told == digest(shared)
    assert sorted(each.name for each in shared.parent.iterdir()) == ["model.gguf", "model.gguf.sha256"]


def flip(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-40, 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize(
    "damage",
    [flip, lambda path: os.truncate(path, 1000), lambda path: sidecar(path).unlink(), lambda path: flip(sidecar(path))],
    ids=["bit", "cut", "no digest", "wrong digest"],
)
def test_damaged_base_is_written_again(
    base: Path, adapter: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """A base that is not what its digest says, or has none, is replaced by the right one."""
    spec = lora_spec(base, adapter, tmp_path)
    told = export_lora(spec)
    damage(Path(str(spec.base_out)))
    assert export_lora(spec) == told == digest(spec.base_out)
    assert sidecar(Path(str(spec.base_out))).read_text() == f"{told}  model.gguf\n"


def test_two_that_need_a_base_wait_for_each_other(base: Path, adapter: Path, tmp_path: Path) -> None:
    """While one writes the base another waits, and then finds it."""
    spec = lora_spec(base, adapter, tmp_path)
    folder = Path(str(spec.base_out)).parent
    folder.mkdir(parents=True)
    handle = os.open(folder, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    told: list[str] = []
    other = threading.Thread(target=lambda: told.append(export_lora(spec)))
    other.start()
    other.join(0.5)
    assert other.is_alive()
    assert list(folder.iterdir()) == []
    os.close(handle)
    other.join(60)
    assert told == [digest(spec.base_out)]


def test_door_tells_of_both_files(base: Path, adapter: Path, tmp_path: Path) -> None:
    """The result names both files with their digests, and progress counts the tensors of both."""
    spec = lora_spec(base, adapter, tmp_path, kind="q8_0")
    code, result, events = through_door("export", spec, tmp_path / "work")
    assert code == 0
    assert (result["gguf_sha256"], result["base_sha256"]) == (digest(spec.out), digest(spec.base_out))
    assert (result["base_gguf"], result["tensors"]) == (spec.base_out, len(tensors_of(Path(spec.out))))
    total = len(tensors_of(Path(spec.out))) + len(tensors_of(Path(str(spec.base_out))))
    assert events[-1] == {"event": "tensor", "done": total, "total": total}
    assert values_of(Path(str(spec.base_out)))["general.file_type"] == 7


def test_lora_of_another_base_is_refused_before_anything_is_written(base: Path, tmp_path: Path) -> None:
    """An adapter that does not fit leaves neither file."""
    other = write_tiny_base(tmp_path / "other", hidden_size=128)
    spec = lora_spec(base, write_tiny_adapter(tmp_path / "adapter", other), tmp_path)
    with pytest.raises(ModelError, match="another base"):
        export_lora(spec)
    assert not Path(spec.out).exists()
    assert not Path(str(spec.base_out)).exists()


def test_scale_of_zero_is_refused(base: Path, tmp_path: Path) -> None:
    """llama.cpp takes an alpha of 0 for none and would apply the adapter in full."""
    adapter = write_tiny_adapter(tmp_path / "adapter", base, lora_alpha=0)
    with pytest.raises(ModelError, match="lora_alpha = 0"):
        export_lora(lora_spec(base, adapter, tmp_path))


def test_room_for_both_files_is_asked_at_once(tmp_path: Path) -> None:
    """Two files on one disk need the sum of both."""
    files = [(tmp_path / "lora.gguf", 60_000_000), (tmp_path / "base.gguf", 50_000_000)]
    check_room(files, lambda _: 110_000_000)
    with pytest.raises(
        StorageError, match=r"lora.gguf and .*base.gguf: it needs 110 MB and 100 MB are free .*free 10 MB"
    ):
        check_room(files, lambda _: 100_000_000)


@pytest.mark.parametrize(
    ("heads", "order"),
    [(None, range(8)), (1, (0, 4, 1, 5, 2, 6, 3, 7)), (2, (0, 2, 1, 3, 4, 6, 5, 7)), (4, range(8))],
)
def test_rows_are_reordered_as_llama_cpp_wants(heads: int | None, order: Sequence[int]) -> None:
    """The two halves of each head's rows are put in turn, of weights as of biases; without heads nothing moves."""
    for values in (torch.randn(8, 5), torch.randn(8)):
        found = torch.empty_like(values)
        arrange(found, heads, back=True).copy_(arrange(values, heads))
        assert torch.equal(found, values[list(order)])
