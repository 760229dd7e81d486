"""The door of the certify step: python -m thaud.steps.certify WORKDIR."""

import sys
import time

from thaud.steps.contract import CertifyResult, CertifySpec, run_step


def work(spec: CertifySpec) -> CertifyResult:
    """Certify one file. Raises ModelError where base, adapter or file cannot be read at all."""
    from thaud.steps.certify.certificate import certify  # noqa: PLC0415 - after the step's environment is set

    began = time.perf_counter()
    certificate = certify(spec)
    return CertifyResult(
        gguf_sha256=certificate["gguf_sha256"],
        passed=certificate["passed"],
        reasons=certificate["reasons"],
        certificate=certificate,
        seconds=time.perf_counter() - began,
    )


if __name__ == "__main__":
    sys.exit(run_step(CertifySpec, work, sys.argv))
