import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.steps.doors import through_door
from tests.testkit.tiny_models import write_tiny_base
from thaud.errors import BaseUnavailableError
from thaud.steps.bases import base_digest, complaint, resolve_base
from thaud.steps.contract import BaseSpec
from thaud.steps.export.preflight import check_fit


@pytest.fixture
def copy(base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base, tmp_path / "copy"))


def test_existing_folder_is_itself(base: Path) -> None:
    """A folder that holds a model is used where it is."""
    assert resolve_base(str(base)) == base


def test_sharded_folder_is_whole_only_with_every_shard(tmp_path: Path) -> None:
    """Each file that the index names must be there."""
    folder = write_tiny_base(tmp_path, shard="50KB")
    shards = sorted(folder.glob("*.safetensors"))
    assert len(shards) > 1
    assert resolve_base(str(folder)) == folder
    shards[0].unlink()
    with pytest.raises(BaseUnavailableError, match=shards[0].name):
        resolve_base(str(folder))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_missing_file_is_named(copy: Path, name: str) -> None:
    """A folder that lacks a file is refused with the file's name."""
    (copy / name).unlink()
    with pytest.raises(BaseUnavailableError, match=name):
        resolve_base(str(copy))


@pytest.mark.parametrize(
    ("change", "said"),
    [({"model_type": "mamba"}, "mamba"), ({"quantization_config": {"bits": 4}}, "quantised")],
)
def test_model_that_cannot_be_exported_is_refused_at_once(copy: Path, change: dict[str, object], said: str) -> None:
    """An architecture or a form that the export would refuse is refused before anything is trained."""
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, **change}))
    assert said in str(complaint(copy))


def test_name_that_is_neither_folder_nor_hub_id() -> None:
    """A path that does not exist is not looked for on the hub."""
    with pytest.raises(BaseUnavailableError, match="neither a folder nor a hub id"):
        resolve_base("/no/such/folder here")


def test_offline_error_names_model_cache_and_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network the error says which model, where it was looked for, and what to do."""
    from huggingface_hub import constants  # noqa: PLC0415

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BaseUnavailableError) as caught:
        resolve_base("Qwen/Qwen2.5-0.5B-Instruct")
    said = str(caught.value)
    assert "Qwen/Qwen2.5-0.5B-Instruct" in said
    assert str(tmp_path) in said
    assert "--base PATH" in said
    assert "\n" not in said


def test_digest_follows_what_decides_an_outcome(copy: Path) -> None:
    """Weights, configuration, tokenizer and template change the digest; notes beside them do not."""
    first = base_digest(copy)
    (copy / "README.md").write_text("a note")
    assert base_digest(copy) == first
    seen = {first}
    for name in ("config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors"):
        kept = (copy / name).read_bytes()
        (copy / name).write_bytes(kept + b" ")
        seen.add(base_digest(copy))
        (copy / name).write_bytes(kept)
    assert len(seen) == 5


def test_door_describes_the_base(base: Path, tmp_path: Path) -> None:
    """The step answers with folder, digest, architecture and context."""
    code, result, events = through_door("bases", BaseSpec(base=str(base)), tmp_path / "work")
    assert code == 0
    assert result == {
        "ok": True,
        "base_dir": str(base),
        "digest": base_digest(base),
        "architecture": "qwen2",
        "context_tokens": 512,
    }
    assert events[0]["event"] == "resolve"


def test_door_fails_in_one_line(tmp_path: Path) -> None:
    """A base that is not there is exit code 1 and one line."""
    code, result, _ = through_door("bases", BaseSpec(base=str(tmp_path)), tmp_path / "work")
    assert code == 1
    assert result["ok"] is False
    assert "config.json" in result["error"]


Damage = Callable[[Path], object]


def changed(name: str, change: Callable[[dict[str, Any]], object]) -> Damage:
    """A damage to one of the JSON files."""

    def damage(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return damage


def setting(**values: Any) -> Damage:
    """Other values in config.json."""
    return changed("config.json", lambda config: config.update(values))


def weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Damage:
    """Other tensors."""

    def damage(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    return damage


def cut(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


LAYER = "model.layers.1.mlp.up_proj.weight"
DAMAGES: dict[str, tuple[Damage, str]] = {
    "cut short": (cut, "was cut short"),
    "no weights": (lambda folder: (folder / "model.safetensors").write_bytes(b""), "was cut short"),
    "whole numbers": (weights(lambda found: found.update({LAYER: found[LAYER].to(torch.int8)})), f"{LAYER} is I8"),
    "a layer less": (weights(lambda found: found.pop(LAYER)), f"no tensor {LAYER}"),
    "layers too many": (setting(num_hidden_layers=1), "does not mention: model.layers.1"),
    "another width": (setting(hidden_size=128), "its config.json makes it"),
    "a vocabulary too large": (setting(vocab_size=1000), "its config.json makes it (1000, 64)"),
    "no head": (setting(tie_word_embeddings=False), "no tensor lm_head.weight"),
    "a second head": (weights(lambda found: found.update({"lm_head.weight": found[LAYER].clone()})), "differs"),
    "no context": (changed("config.json", lambda config: config.pop("max_position_embeddings")), "max_position"),
    "a word for a number": (setting(max_position_embeddings="many"), "'many'"),
    "stretched positions": (setting(rope_parameters={"rope_type": "yarn", "factor": 4.0}), "yarn"),
    "a token too many": (
        changed("tokenizer.json", lambda made: made["added_tokens"].append({"id": 5000, "content": "x"})),
        "vocabulary ends at",
    ),
    "no merges": (changed("tokenizer.json", lambda made: made["model"].pop("merges")), "merges"),
    "another split": (changed("tokenizer.json", lambda made: made.update(pre_tokenizer=None)), "only Qwen2's"),
    "a broken template": (lambda folder: (folder / "chat_template.jinja").write_text("{% for %}"), "no valid Jinja"),
    "a template without an end": (
        lambda folder: (folder / "chat_template.jinja").write_text("{{ messages[0].content }}"),
        "template",
    ),
    "a template that is no text": (lambda folder: (folder / "chat_template.jinja").write_bytes(b"\xff"), "damaged"),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_base_that_training_or_export_would_refuse_is_refused_before(copy: Path, what: str) -> None:
    """Nobody trains for hours on a base that the export refuses: one line says at once what is amiss with it."""
    damage, said = DAMAGES[what]
    check_fit(copy)
    damage(copy)
    with pytest.raises(BaseUnavailableError) as caught:
        check_fit(copy)
    assert said in str(caught.value)
    assert str(copy) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_untied_sharded_base_fits(tmp_path: Path) -> None:
    """A head of its own and weights in several files are no damage; nor is a copy of the embedding as the head."""
    check_fit(write_tiny_base(tmp_path / "untied", tied=False, shard="50KB"))
    tied = write_tiny_base(tmp_path / "tied")
    embedding = "model.embed_tokens.weight"
    weights(lambda found: found.update({"lm_head.weight": found[embedding].clone()}))(tied)
    check_fit(tied)


def test_door_refuses_a_damaged_base(copy: Path, tmp_path: Path) -> None:
    """The step itself looks, so that no run begins."""
    cut(copy)
    code, result, _ = through_door("bases", BaseSpec(base=str(copy)), tmp_path / "work")
    assert code == 1
    assert "was cut short" in result["error"]
