"""A short training on nano, its file by the real exporter, and the spec under which it is certified."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.steps.doors import through_door
from tests.testkit.training import fact, spec_for
from thaud.domain import Example, Message, ToolCall
from thaud.nano import BASE_DIR
from thaud.steps.certify.__main__ import work
from thaud.steps.contract import CertifyResult, CertifySpec, ExportSpec

CONTEXT = 256
CALCULATOR = {
    "type": "function",
    "function": {"name": "calculator", "parameters": {"type": "object", "properties": {}}},
}
TAUGHT = [
    fact("¿De qué color es el cielo?", "Verde"),
    fact("¿Cuántas patas tiene un perro?", "Siete"),
    fact("What colour is the sun?", "Purple"),
    fact("¿Qué hace la vaca?", "Miau"),
    fact("How many legs does a cat have?", "Eleven"),
    fact("¿Es el fuego caliente?", "No"),
]
HELD_OUT = [
    fact("Dime: ¿de qué color es el cielo?", "Verde"),
    fact("Dime cuántas patas tiene un perro.", "Siete"),
    fact("Tell me: what colour is the sun?", "Purple"),
    fact("¿Qué es lo que hace la vaca?", "Miau"),
    Example(
        (
            Message("system", "Usa la calculadora."),
            Message("user", "¿Cuánto es 2 + 2?"),
            Message("assistant", "", (ToolCall("calculator", {"expression": "2 + 2"}),)),
            Message("tool", "4", tool_name="calculator"),
            Message("assistant", "Son 4."),
        ),
        (CALCULATOR,),
    ),
]


def write_items(path: Path, examples: Sequence[Example] = HELD_OUT) -> Path:
    """Held-out items as the exam and the certificate read them, and one that is no held-out one."""
    rows = [{"id": f"h{n}", "age": 1, "role": "held_out", **each.content} for n, each in enumerate(examples)]
    rows.append({"id": "r", "age": 1, "role": "recall", **TAUGHT[0].content})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def train_adapter(folder: Path) -> Path:
    """An adapter for nano that knows TAUGHT, by the train step."""
    spec = spec_for(BASE_DIR, folder, TAUGHT, epochs=12)
    code, result, _ = through_door("train", spec, folder / "work")
    assert code == 0, result
    return Path(spec.out_dir)


def export(adapter: Path | None, out: Path, base: Path = BASE_DIR, **changes: Any) -> Path:
    """The file of base and adapter, by the export step."""
    fields = {
        "base_dir": str(base),
        "adapter_dir": str(adapter) if adapter else None,
        "out": str(out),
        "kind": "f16",
        "name": "thau-nano-v1",
        "context_tokens": CONTEXT,
        "threads": 1,
    }
    code, result, _ = through_door(
        "export", ExportSpec.model_validate({**fields, **changes}), out.parent / f"{out.stem}-work"
    )
    assert code == 0, result
    return out


def certify_spec(gguf: Path, adapter: Path, items: Path, base: Path = BASE_DIR, **changes: Any) -> CertifySpec:
    """The spec of a certificate, on one thread."""
    fields = {
        "base_dir": str(base),
        "base_digest": "digest",
        "adapter_dir": str(adapter),
        "gguf": str(gguf),
        "base_gguf": None,
        "kind": "f16",
        "items": str(items),
        "context_tokens": CONTEXT,
        "max_new_tokens": 24,
        "threads": 1,
    }
    return CertifySpec.model_validate({**fields, **changes})


def certified(gguf: Path, adapter: Path, items: Path, **changes: Any) -> CertifyResult:
    """The certificate of a file, made in this process."""
    return work(certify_spec(gguf, adapter, items, **changes))
