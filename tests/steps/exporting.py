"""Exports in one call, and what is in the file."""

from pathlib import Path
from typing import Any

import gguf

from thaud.domain import ModelKind
from thaud.steps.contract import ExportSpec
from thaud.steps.export.writer import write_gguf


def export(base: Path, adapter: Path | None, out: Path, kind: ModelKind = "f16", threads: int = 2) -> ExportSpec:
    """One GGUF of a merged model."""
    spec = ExportSpec(
        base_dir=str(base),
        adapter_dir=str(adapter) if adapter else None,
        out=str(out),
        kind=kind,
        name="thau-tiny-v1",
        context_tokens=128,
        threads=threads,
    )
    write_gguf(spec, lambda _done, _total: None)
    return spec


def tensors_of(path: Path) -> dict[str, gguf.ReaderTensor]:
    """By name, in the file's order."""
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


def values_of(path: Path) -> dict[str, Any]:
    """The metadata."""
    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}
