"""The reference, a layer at a time, against whole models of transformers under peft's adapter."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from tests.testkit.tiny_models import KINDS, write_tiny_adapter, write_tiny_base
from thaud.errors import ModelError
from thaud.steps.certify import reference
from thaud.steps.certify.lora import read_lora
from thaud.steps.certify.reference import Skeleton, open_reference
from thaud.steps.train.model import WEIGHTS, old_names_tolerated

ROWS = [[5, 40, 300, 7, 7, 12], [9], list(range(20, 150)), [1, 2]]
BASES = [*((kind, True) for kind in KINDS), *((kind, False) for kind in ("qwen2", "qwen3", "llama"))]


def silent(event: str, **fields: object) -> None:
    """No progress."""


def whole_models(base: Path, adapter: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of ROWS, end to end, by the whole base and by it under the adapter."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        plain = torch.cat([model(torch.tensor([row])).logits[0] for row in ROWS])
        with old_names_tolerated():
            adapted = PeftModel.from_pretrained(model, adapter)
        return plain, torch.cat([adapted(torch.tensor([row])).logits[0] for row in ROWS])


@pytest.mark.parametrize(("kind", "tied"), BASES, ids=str)
@pytest.mark.parametrize("rslora", [False, True])
def test_a_layer_at_a_time_is_the_whole_model(tmp_path: Path, kind: str, *, tied: bool, rslora: bool) -> None:
    """Each architecture, tied or not, sharded, with LoRA and rsLoRA: logits equal to 1e-4, and the adapter counts."""
    base = write_tiny_base(tmp_path / "base", kind=kind, tied=tied, init_std=0.2, shard="60KB")
    adapter = write_tiny_adapter(tmp_path / "adapter", base, std=0.05, use_rslora=rslora)
    wanted = whole_models(base, adapter)
    with open_reference(Skeleton(base), base, read_lora(adapter), ROWS, silent) as found:
        ours = found.logits(0, len(found.base))
        part = found.logits(3, 9)
    assert float((wanted[0] - wanted[1]).abs().max()) > 1
    for mine, theirs in zip(ours, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(part[1], wanted[1][3:9], rtol=1e-4, atol=1e-4)


def test_a_large_head_is_read_in_parts(base: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that is too large to be held gives the same logits."""
    with open_reference(Skeleton(base), base, read_lora(adapter), ROWS, silent) as found:
        whole = found.logits(0, 5)
        found.head._held = None
        monkeypatch.setattr(reference, "HEAD_ROWS", 100)
        parts = found.logits(0, 5)
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-5)


def test_layers_let_go_of_their_weights(base: Path, adapter: Path) -> None:
    """When a layer has been used, nothing of it stays in memory."""
    skeleton = Skeleton(base)
    assert all(weight.is_meta for weight in skeleton.decoder.parameters())
    with open_reference(skeleton, base, read_lora(adapter), ROWS, silent):
        kept = {name for name, weight in skeleton.decoder.named_parameters() if not weight.is_meta}
    assert kept == {"norm.weight"}


def test_an_adapter_of_another_base_is_refused(base: Path, tmp_path: Path) -> None:
    """An adapter that changes what the base does not have cannot have been trained on it."""
    other = write_tiny_base(tmp_path / "other", num_hidden_layers=3)
    adapter = write_tiny_adapter(tmp_path / "adapter", other)
    with (
        pytest.raises(ModelError, match=r"model\.layers\.2\.\w+\.\w+, which the base does not have"),
        open_reference(Skeleton(base), base, read_lora(adapter), ROWS, silent),
    ):
        pass


def test_a_damaged_adapter_is_named(adapter: Path, tmp_path: Path) -> None:
    """What cannot be read at all is an error that names the file."""
    (tmp_path / "adapter_config.json").write_bytes((adapter / "adapter_config.json").read_bytes())
    (tmp_path / WEIGHTS).write_bytes((adapter / WEIGHTS).read_bytes()[:1000])
    with pytest.raises(ModelError, match=WEIGHTS):
        read_lora(tmp_path)
