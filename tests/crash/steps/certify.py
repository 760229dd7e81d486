"""Certifies at once what lies there, unless the mood is uncertified, or certifies another file."""

from pathlib import Path

from tests.crash.steps.door import enter, mood
from tests.testkit.certificates import certify_result
from thaud.steps.contract import CertifyResult, CertifySpec, emit

ANOTHER = "0" * 64  # SHA-256 of no file of ours


def work(workdir: Path, spec: CertifySpec) -> CertifyResult:
    items = len(Path(spec.items).read_text(encoding="utf-8").splitlines())
    emit("check", what="prompts")
    reasons = ("prompts: they differ, as it was told",) if mood(workdir) == "uncertified" else ()
    result = CertifyResult.model_validate(certify_result(spec, reasons, tools=False))
    of = {"gguf_sha256": ANOTHER} if mood(workdir) == "another file" else {}
    return result.model_copy(update={**of, "certificate": {**result.certificate, **of, "items": items}})


if __name__ == "__main__":
    enter("certify", CertifySpec, work)
