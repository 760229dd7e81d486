"""What of a config.json is exported, and what is refused when a base is chosen, before anything is trained."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.testkit.tiny_models import KINDS, LLAMA3_ROPE, write_tiny_base
from thaud.errors import BaseUnavailableError, ModelError
from thaud.steps.bases import base_digest
from thaud.steps.export.architectures import check_config, dimensions_of, plan_of
from thaud.steps.export.preflight import check_fit, misfit
from thaud.steps.tokenizer import read_json

CONFIG = {
    "model_type": "llama",
    "vocab_size": 100,
    "num_hidden_layers": 1,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-6,
}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "qwen3 with biases"])
@pytest.mark.parametrize("tied", [True, False])
def test_each_kind_of_base_fits(tmp_path: Path, kind: str, *, tied: bool) -> None:
    """Every architecture's names and shapes, as its config gives them, are those of its weights."""
    base = write_tiny_base(tmp_path, kind=kind, tied=tied)
    assert misfit(base) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model_type": "gemma"}, "architecture 'gemma'"),
        ({"model_type": "qwen2", "use_sliding_window": True}, "sliding window"),
        ({"model_type": "qwen3", "layer_types": ["full_attention", "sliding_attention"]}, "sliding window"),
        ({"model_type": "qwen3", "attention_bias": True}, "qwen3 with attention_bias"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "type 'yarn'"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}}, "type 'dynamic'"),
        ({"rope_scaling": {"rope_type": "linear"}}, "name no factor"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "name no low_freq_factor, high_freq_factor"),
        ({"model_type": "qwen2", "rope_parameters": LLAMA3_ROPE}, "type 'llama3'"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5"),
    ],
)
def test_what_llama_cpp_would_compute_otherwise_is_refused(change: Mapping[str, Any], reason: str) -> None:
    """A config that the two sides read differently is refused with the setting's name."""
    check_config(CONFIG)
    with pytest.raises(ModelError, match=reason):
        check_config({**CONFIG, **change})


def test_a_refused_config_is_refused_when_the_base_is_chosen(tmp_path: Path) -> None:
    """The check of a base, which precedes every run, says the reason; nothing is trained first."""
    base = write_tiny_base(tmp_path, kind="qwen3 with biases")
    with pytest.raises(BaseUnavailableError, match="qwen3 with attention_bias cannot be exported"):
        check_fit(base)


def test_a_weight_of_another_shape_is_refused(tmp_path: Path) -> None:
    """A config of other heads than the weights have is noticed, and the tensor named."""
    base = write_tiny_base(tmp_path, kind="llama of wide heads")
    config = read_json(base / "config.json")
    (base / "config.json").write_text(json.dumps({**config, "head_dim": 16}))
    with pytest.raises(BaseUnavailableError, match=r"layers\.0\.self_attn\.._proj\.weight is \(.*, 64\), its config"):
        check_fit(base)


def test_sizes_have_transformers_defaults() -> None:
    """Where a config is silent, heads have the size that transformers gives them."""
    silent = {name: value for name, value in CONFIG.items() if name != "num_key_value_heads"}
    assert (dimensions_of(silent).head_dim, dimensions_of(silent).key_heads) == (16, 4)
    assert dimensions_of({**silent, "model_type": "qwen3"}).head_dim == 128
    assert dimensions_of({**silent, "head_dim": 32}).head_dim == 32


def test_only_llamas_q_and_k_are_permuted() -> None:
    """The plan permutes q and k of llama, weights and biases, and nothing of the Qwens."""
    permuted = {row.name.removeprefix("blk.0."): row.heads for row in plan_of({**CONFIG, "attention_bias": True})}
    assert {name: heads for name, heads in permuted.items() if heads} == {
        "attn_q.weight": 4,
        "attn_q.bias": 4,
        "attn_k.weight": 2,
        "attn_k.bias": 2,
    }
    assert not any(row.heads for kind in ("qwen2", "qwen3") for row in plan_of({**CONFIG, "model_type": kind}))


def test_the_scores_file_is_part_of_a_base(tmp_path: Path) -> None:
    """tokenizer.model decides what an export is, so it is in the base's digest."""
    base = write_tiny_base(tmp_path, kind="llama", words="sentencepiece")
    before = base_digest(base)
    (base / "tokenizer.model").unlink()
    assert base_digest(base) != before
