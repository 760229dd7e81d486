"""Power that fails in the middle of an export: real processes, killed, and done again."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.steps.test_export_lora import export_lora, lora_spec
from tests.testkit.tiny_models import write_tiny_base
from thaud.failpoints import SETTING
from thaud.steps.contract import RESULT, SPEC, ExportSpec
from thaud.steps.export.writer import write_gguf


def export_with(spec: ExportSpec, workdir: Path, points: str) -> int:
    """The exit code of a step whose fail-points are armed."""
    workdir.mkdir()
    (workdir / SPEC).write_text(spec.model_dump_json())
    command = [sys.executable, "-m", "thaud.steps.export", str(workdir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env={**os.environ, SETTING: points}) as child:
        return child.wait()


def merged_spec(base: Path, out: Path) -> ExportSpec:
    return ExportSpec(base_dir=str(base), adapter_dir=None, out=str(out), kind="f16", name="x", context_tokens=128)


@pytest.mark.parametrize("point", ["before", "between", "after"])
def test_killed_at_a_failpoint_it_is_whole_or_not_there(base: Path, tmp_path: Path, point: str) -> None:
    """The name is taken by a whole file or by none, and the next export makes that file, with nothing beside it."""
    spec = merged_spec(base, tmp_path / "out" / "model.gguf")
    out = Path(spec.out)
    assert export_with(spec, tmp_path / "work", f"file.gguf.{point}=crash") == -signal.SIGKILL
    assert out.exists() == (point == "after")
    assert not (tmp_path / "work" / RESULT).exists()
    assert export_with(spec, tmp_path / "again", "") == 0
    assert [each.name for each in out.parent.iterdir()] == ["model.gguf"]
    write_gguf(spec.model_copy(update={"out": str(tmp_path / "wanted.gguf")}), lambda _done, _total: None)
    assert out.read_bytes() == (tmp_path / "wanted.gguf").read_bytes()


def test_killed_in_the_middle_of_the_tensors_it_leaves_a_temporary_name(tmp_path: Path) -> None:
    """Killed as soon as the first tensor is told of, there is no file of the name that was asked for; the next export
    overwrites what is left.
    """
    base = write_tiny_base(tmp_path / "base", num_hidden_layers=24, hidden_size=256, intermediate_size=2048)
    spec = merged_spec(base, tmp_path / "out" / "model.gguf").model_copy(update={"kind": "q4_k_m", "threads": 1})
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / SPEC).write_text(spec.model_dump_json())
    command = [sys.executable, "-m", "thaud.steps.export", str(tmp_path / "work")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline()
        child.kill()
    assert [each.name for each in Path(spec.out).parent.iterdir()] == [".model.gguf.tmp"]
    assert export_with(spec, tmp_path / "again", "") == 0
    assert [each.name for each in Path(spec.out).parent.iterdir()] == ["model.gguf"]


@pytest.mark.parametrize("number", range(1, 4), ids=["base", "digest", "lora"])
@pytest.mark.parametrize("point", ["between", "after"])
@pytest.mark.slow
def test_killed_adapter_export_is_made_good(base: Path, adapter: Path, tmp_path: Path, point: str, number: int) -> None:
    """At each effect of an adapter's export (its base, the base's digest, itself): the next export has both files, each
    the one it would have been, and no base without its digest is trusted.
    """
    wanted = lora_spec(base, adapter, tmp_path / "wanted")
    told = export_lora(wanted)
    spec = lora_spec(base, adapter, tmp_path / "crashed")
    assert export_with(spec, tmp_path / "work", f"file.gguf.{point}=crash@{number}") == -signal.SIGKILL
    assert export_lora(spec) == told
    for each in ("out", "base_out"):
        assert Path(getattr(spec, each)).read_bytes() == Path(getattr(wanted, each)).read_bytes()
    assert not list(tmp_path.rglob("crashed/**/*.tmp"))
