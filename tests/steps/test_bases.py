import json
import shutil
from pathlib import Path

import pytest

from tests.steps.doors import through_door
from tests.testkit.tiny_models import write_tiny_base
from thaud.errors import BaseUnavailableError
from thaud.steps.bases import base_digest, complaint, resolve_base
from thaud.steps.contract import BaseSpec


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
