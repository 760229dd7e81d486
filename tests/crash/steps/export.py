"""Exports at once: the harness's GGUF, with a name of its own in place of `scripted`."""

import hashlib
from pathlib import Path

from tests.crash.steps.door import enter, notes_of
from thaud.durable import write_durably
from thaud.steps.contract import ExportResult, ExportSpec


def model_of(template: bytes, adapter: bytes, name: str) -> bytes:
    """What exporting makes of an adapter."""
    return template.replace(b"scripted", hashlib.sha256(adapter + name.encode()).hexdigest()[:8].encode(), 1)


def work(workdir: Path, spec: ExportSpec) -> ExportResult:
    adapter = (Path(spec.adapter_dir or "") / "adapter_model.safetensors").read_bytes()
    model = model_of((notes_of(workdir) / "template.gguf").read_bytes(), adapter, spec.name)
    write_durably(Path(spec.out), model, "gguf")
    digest = hashlib.sha256(model).hexdigest()
    return ExportResult(gguf=spec.out, gguf_sha256=digest, size_bytes=len(model), tensors=1, seconds=0.0)


if __name__ == "__main__":
    enter("export", ExportSpec, work)
