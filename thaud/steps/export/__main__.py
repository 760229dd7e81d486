"""The door of the export step: python -m thaud.steps.export WORKDIR."""

import sys
import time

from thaud.steps.contract import ExportResult, ExportSpec, emit, run_step, throttle


def work(spec: ExportSpec) -> ExportResult:
    """Write one GGUF."""
    from thaud.steps.export.writer import write_gguf  # noqa: PLC0415 - after the step's environment is set

    began = time.perf_counter()
    say = throttle(emit)
    written = write_gguf(spec, lambda done, total: say("tensor", last=done == total, done=done, total=total))
    return ExportResult(
        gguf=spec.out,
        gguf_sha256=written.sha256,
        size_bytes=written.size_bytes,
        tensors=written.tensors,
        seconds=time.perf_counter() - began,
    )


if __name__ == "__main__":
    sys.exit(run_step(ExportSpec, work, sys.argv))
