"""Export beside PEFT's merge and llama.cpp's converter: speed, memory, bytes written, and the disk's own time.

usage: python -m tests.bench.bench_export [--shape 1.5b] [--kind f16] [--rounds 3] [--no-peer] [--folder DIR] [--json]

Without --shape: 1.5b beside the peer, then 7b alone, one round (the peer would need more than 15 GB of memory).
Bases are written into a scratch folder, which is removed: 10 GB for 1.5b, 32 GB for 7b.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.bench.export_report import show, summary
from tests.bench.export_runs import Child, Disk, Run, run_child, run_ours, run_peer, time_disk
from tests.bench.export_shapes import SHAPES
from tests.testkit.llama_cpp_source import SourceMissingError, find_source

PEERS_KINDS = ("f16", "bf16", "q8_0")
KINDS = (*PEERS_KINDS, "q6_k", "q5_k_m", "q4_k_m", "adapter")
ALONE = ("7b",)  # too large for the peer here


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", action="append", choices=list(SHAPES))
    parser.add_argument("--kind", action="append", choices=KINDS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--folder", type=Path, help="where the scratch folder is made (the disk that is measured)")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def say(line: str) -> None:
    """Progress, on standard error."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def measure(work: Path, kind: str, rounds: int, source: Path | None) -> dict[str, Any]:
    """All sides in turn, `rounds` times."""
    ours, peer, disk = list[Run](), list[Run](), list[Disk]()
    scratch = work / "scratch"
    for number in range(1, rounds + 1):
        ours.append(run_ours(work, kind, scratch))
        say(f"  {kind} round {number}: ours {ours[-1].wall_s:.1f} s, {ours[-1].peak / 1e6:.0f} MB")
        disk.append(time_disk(work, ours[-1].size, scratch))
        say(f"  {kind} round {number}: disk {disk[-1].total_s:.1f} s")
        if source is not None and kind in PEERS_KINDS:
            peer.append(run_peer(work, kind, scratch, source))
            say(f"  {kind} round {number}: peer {peer[-1].wall_s:.1f} s, {peer[-1].peak / 1e6:.0f} MB")
    return summary(ours, peer, disk)


def peers_source(*, wanted: bool) -> Path | None:
    """The converter's source; None where it is not wanted or, said so, not to be had."""
    if not wanted:
        return None
    try:
        return find_source()
    except SourceMissingError as error:
        say(f"NOT MEASURED: the peer; {error}")
        return None


def main() -> None:
    """Measure and print."""
    asked = arguments()
    results: dict[tuple[str, str], dict[str, Any]] = {}
    for shape in asked.shape or ("1.5b", "7b"):
        alone = shape in ALONE
        source = peers_source(wanted=not (asked.no_peer or alone))
        with tempfile.TemporaryDirectory(dir=asked.folder, prefix="thau-bench-") as folder:
            work = Path(folder, "work")
            say(f"{shape}: writing the base")
            run_child(Child([sys.executable, "-m", "tests.bench.export_shapes", shape, str(work)]))
            for kind in asked.kind or ("f16", "q8_0"):
                results[shape, kind] = measure(work, kind, 1 if alone else asked.rounds, source)
    if asked.json:
        sys.stdout.write(json.dumps({f"{shape} {kind}": found for (shape, kind), found in results.items()}) + "\n")
    else:
        show(results, Console(width=140))


if __name__ == "__main__":
    main()
