"""A promoted version whose file llama.cpp runs, with what its training and its certificate left in the ledger."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.seeded import freeze, open_ledger, take_in
from tests.testkit.scripted_gguf import write_scripted_gguf
from tests.testkit.tiny_models import TEMPLATE
from thaud.domain import Answer, ExamReport, RunState, Version
from thaud.home import Home
from thaud.ledger import Ledger

FAMILY = "thau-nano"
CERTIFICATE = {
    "format": 1,
    "kind": "q8_0",
    "passed": True,
    "reasons": [],
    "prompts": {"ok": True, "conversations": 14, "equal": 14, "as_one_text": 12, "differences": []},
    "fidelity": {"ok": True, "positions": 480, "top1": 0.9979, "bar": 0.985, "kl": 0.00123},
    "change": {"ok": True, "kl_from_base": 3.25, "share": 0.9981, "bar": 0.5},
    "stops": {"ok": True, "asked": 32, "stopped": 31, "bar": 0.5},
    "tools": {"ok": True, "promised": False, "detail": ""},
    "capabilities": ["completion"],
}


def accepted(home: Home, *, template: str | None = TEMPLATE, certificate: Any = CERTIFICATE, **changes: Any) -> Version:
    """A promoted version whose file llama.cpp runs; it says its own name. `changes` are fields of its row."""
    with open_ledger(home) as ledger:
        n = len(ledger.versions(FAMILY)) + 1
        path = home.versions / f"{FAMILY}-v{n}" / "model.gguf"
        path.parent.mkdir(parents=True)
        write_scripted_gguf(path, [f"I am number {n}."], chat_template=template, context_length=256)
        spec = freeze(ledger, take_in(ledger, 0, 3, f"{n}.jsonl"), 0, FAMILY, base=changes.pop("base", "/home/ana/own"))
        receipt(ledger, spec.id, certificate)
        version = Version(
            family=FAMILY,
            n=n,
            run_id=spec.id,
            age=0,
            gguf=str(path),
            gguf_sha256=sha256(path),
            size_bytes=path.stat().st_size,
            accuracy=exam().accuracy,
            examples=3,
            accepted_at=ledger.now(),
        )
        version = replace(version, **changes)
        ledger.accept(version, ("first version: 3/4 (75%) at age 0",), exam().to_json())
        ledger.promote(version, None)
        return version


def receipt(ledger: Ledger, run_id: str, certificate: Any) -> None:
    """What training and certificate handed in."""
    measured = {"steps": 7, "tokens": 900, "first_loss": 2.5, "last_loss": 0.25, "seconds": 3.0, "kl_to_base": 1.5}
    ledger.intend(run_id, "train")
    trained = {**measured, "precision": "bf16", "adapter_sha256": "b" * 64, "set_aside": [], "cut": []}
    ledger.receive(run_id, "train", trained, RunState.TRAINED)
    if certificate is not None:
        ledger.intend(run_id, "certify")
        ledger.receive(run_id, "certify", {"passed": True, "certificate": certificate}, RunState.EXPORTED)


def exam() -> ExamReport:
    answers = [Answer(str(n), 0, "x", float(n > 0), correct=n > 0) for n in range(4)]
    return ExamReport("d", 0, tuple(answers), tuple(answers[1:]))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
