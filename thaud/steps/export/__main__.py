"""The door of the export step: python -m thaud.steps.export WORKDIR."""

import sys
import time

from thaud.steps.contract import ExportResult, ExportSpec, emit, run_step, throttle


def work(spec: ExportSpec) -> ExportResult:
    """Write one GGUF; two where it is an adapter whose base is not there yet."""
    from thaud.steps.export.lora import write_adapter  # noqa: PLC0415 - after the step's environment is set
    from thaud.steps.export.writer import write_gguf  # noqa: PLC0415

    began = time.perf_counter()
    say, base = throttle(emit), None

    def tell(done: int, total: int) -> None:
        say("tensor", last=done == total, done=done, total=total)

    if spec.kind == "adapter":
        written, base = write_adapter(spec, tell)
    else:
        written = write_gguf(spec, tell)
    return ExportResult(
        gguf=spec.out,
        gguf_sha256=written.sha256,
        size_bytes=written.size_bytes,
        tensors=written.tensors,
        seconds=time.perf_counter() - began,
        base_gguf=spec.base_out if base else None,
        base_sha256=base,
    )


if __name__ == "__main__":
    sys.exit(run_step(ExportSpec, work, sys.argv))
