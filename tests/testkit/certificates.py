"""What the step certify says, for steps that are scripted: a whole certificate of the very file that is there."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from thaud.steps.contract import CertifySpec


def certificate_of(
    gguf_sha256: str, kind: str = "f16", reasons: Sequence[str] = (), *, tools: bool = True
) -> dict[str, Any]:
    """A certificate in its full shape; one with reasons did not pass. `tools`: whether it promises them."""
    said = "the call came back as it was written" if tools else "the template knows no tools"
    return {
        "format": 1,
        "gguf_sha256": gguf_sha256,
        "kind": kind,
        "base_digest": "d",
        "adapter_sha256": "a",
        "passed": not reasons,
        "reasons": list(reasons),
        "prompts": {"ok": not reasons, "conversations": 12, "equal": 12, "as_one_text": 11, "differences": [*reasons]},
        "fidelity": {"ok": True, "positions": 400, "top1": 0.999, "bar": 0.995, "kl": 0.0001},
        "change": {"ok": True, "kl_from_base": 0.5, "share": 1.0, "bar": 0.8},
        "stops": {"ok": True, "asked": 8, "stopped": 8, "bar": 0.9},
        "tools": {"ok": True, "promised": tools, "detail": said},
        "capabilities": ["completion", "tools"] if tools else ["completion"],
    }


def certify_result(spec: CertifySpec, reasons: Sequence[str] = (), *, tools: bool = True) -> dict[str, Any]:
    """The step's result about the file that lies where the spec says."""
    digest = hashlib.sha256(Path(spec.gguf).read_bytes()).hexdigest()
    certificate = certificate_of(digest, spec.kind, reasons, tools=tools)
    passed = not reasons
    return {
        "gguf_sha256": digest,
        "passed": passed,
        "reasons": list(reasons),
        "certificate": certificate,
        "seconds": 0.1,
    }
