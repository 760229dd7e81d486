"""One measured run of the export's benchmark: children with their clock, peak memory and bytes written.

Both sides run alike: fresh processes, the base out of the page cache, the parent's clock. Loads no torch: a child's
peak begins with its parent's.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.testkit.llama_cpp_source import RUNNER, model_job
from thaud.steps.contract import RESULT, SPEC, ExportSpec

ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "PYTHONWARNINGS": "ignore"}
BLOCK = 512  # bytes, of getrusage(2)'s ru_oublock
BUFFER = 8 << 20
POLL_S = 0.02


class RunFailedError(Exception):
    """A child ended without a result; says how."""


@dataclass(frozen=True, slots=True)
class Child:
    """A command, what is said to it, and what it has in its environment beside ours."""

    command: Sequence[str]
    said: bytes = b""
    environment: dict[str, str] = field(default_factory=dict)
    leash: bool = False


@dataclass(frozen=True, slots=True)
class Used:
    """Seconds from spawn to end; bytes of peak resident memory, by getrusage and by /proc; bytes written."""

    wall_s: float
    peak: int
    high_water: int
    written: int


@dataclass(frozen=True, slots=True)
class Run:
    """A whole export: its steps' times, the largest peak, all that was written, and the size of the result."""

    steps: dict[str, float]
    peak: int
    high_water: int
    written: int
    size: int

    @property
    def wall_s(self) -> float:
        """All steps."""
        return sum(self.steps.values())


@dataclass(frozen=True, slots=True)
class Disk:
    """The disk's own time to read the base and to write as many bytes as the result has."""

    read_s: float
    write_s: float

    @property
    def total_s(self) -> float:
        """One after the other, as the aim counts it."""
        return self.read_s + self.write_s


def run_child(child: Child) -> Used:
    """Run to the end. Its standard input stays open where it is a leash. Raises RunFailedError."""
    began, high = time.perf_counter(), 0
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as complaints:
        said.write(child.said)
        said.seek(0)
        process = subprocess.Popen(
            child.command,
            stdin=subprocess.PIPE if child.leash else said,
            stdout=subprocess.DEVNULL,
            stderr=complaints,
            env={**os.environ, **ENVIRONMENT, **child.environment},
        )
        while True:
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            high = max(high, high_water(process.pid))
            time.sleep(POLL_S)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.stdin is not None:
            process.stdin.close()
        if process.returncode:
            complaints.seek(0)
            tail = complaints.read()[-2000:].decode(errors="replace")
            raise RunFailedError(f"{child.command[:4]} ended with {process.returncode}: {tail}")
    return Used(time.perf_counter() - began, usage.ru_maxrss * 1024, high, usage.ru_oublock * BLOCK)


def high_water(pid: int) -> int:
    """A process's VmHWM in bytes, 0 when it is gone. See proc(5), status."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def run_ours(work: Path, kind: str, scratch: Path) -> Run:
    """The step, as the daemon runs it. The result is removed again."""
    scratch.mkdir()
    spec: dict[str, Any] = {"base_dir": str(work / "base"), "adapter_dir": str(work / "adapter"), "kind": kind}
    places = {"out": str(scratch / "model.gguf"), "base_out": str(scratch / "base" / "model.gguf")}
    full = ExportSpec(**spec, **places, name="bench", context_tokens=512)
    (scratch / SPEC).write_text(full.model_dump_json(), encoding="utf-8")
    drop_from_cache(work)
    used = run_child(Child([sys.executable, "-m", "thaud.steps.export", str(scratch)], leash=True))
    assert json.loads((scratch / RESULT).read_bytes())["ok"]
    size = sum(each.stat().st_size for each in scratch.rglob("*.gguf"))
    shutil.rmtree(scratch)
    return Run({"export": used.wall_s}, used.peak, used.high_water, used.written, size)


def run_peer(work: Path, kind: str, scratch: Path, source: Path) -> Run:
    """PEFT's merge, llama.cpp's converter (its source in `source`), sha256sum. All is removed again."""
    scratch.mkdir()
    merged, out = scratch / "merged", scratch / "model.gguf"
    paths = os.pathsep.join(map(str, (source, source / "gguf-py")))
    merge = [sys.executable, "-m", "tests.bench.export_peer", str(work / "base"), str(work / "adapter"), str(merged)]
    job = json.dumps([asdict(model_job(merged, out, kind))]).encode()
    children = {
        "merge": Child(merge),
        "convert": Child([sys.executable, str(RUNNER), str(source)], job, {"PYTHONPATH": paths}),
        "digest": Child(["sha256sum", str(out)]),
    }
    drop_from_cache(work)
    used = {name: run_child(child) for name, child in children.items()}
    size = out.stat().st_size
    shutil.rmtree(scratch)
    return Run(
        {name: each.wall_s for name, each in used.items()},
        max(each.peak for each in used.values()),
        max(each.high_water for each in used.values()),
        sum(each.written for each in used.values()),
        size,
    )


def time_disk(work: Path, size: int, scratch: Path) -> Disk:
    """Read the base, not from the cache, and write `size` bytes down to the disk, with nothing between."""
    drop_from_cache(work)
    buffer = bytearray(os.urandom(BUFFER))
    began = time.perf_counter()
    for path in sorted((work / "base").glob("*.safetensors")):
        with path.open("rb", buffering=0) as source:
            while source.readinto(memoryview(buffer)):
                pass
    read = time.perf_counter() - began
    began, left = time.perf_counter(), size
    with scratch.open("wb", buffering=0) as sink:
        while left:
            left -= sink.write(memoryview(buffer)[: min(left, BUFFER)])
        os.fsync(sink.fileno())
    written = time.perf_counter() - began
    scratch.unlink()
    return Disk(read, written)


def drop_from_cache(work: Path) -> None:
    """Give up the pages of base and adapter, so that each run begins with the disk."""
    for path in work.rglob("*.safetensors"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
