"""What the export's benchmark found, as a table for people: medians, ratios, aims met or missed. Measures nothing."""

import statistics
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.export_runs import Disk, Run

FASTER, SMALLER, NEAR_DISK, LARGE_PEAK, EXACT = 4.0, 1 / 6, 2.0, 2e9, 1.01
NOTES = """\
Whole processes, start-up and loading included, the base out of the page cache before each; ours takes the SHA-256 too.
peer: PEFT merge_and_unload in bfloat16 and save_pretrained, llama.cpp's convert_hf_to_gguf.py, sha256sum.
written: what the kernel counts for the processes (ru_oublock). disk: reading the base and writing as many bytes as the
result has, with fsync, nothing between. Peaks are ru_maxrss, mapped pages included."""


def middle(runs: Sequence[Run]) -> dict[str, float]:
    """Medians of one side's rounds."""
    found = {
        name: float(statistics.median(getattr(run, name) for run in runs))
        for name in ("wall_s", "peak", "high_water", "written", "size")
    }
    return found | {f"{step}_s": statistics.median(run.steps[step] for run in runs) for step in runs[0].steps}


def summary(ours: Sequence[Run], peer: Sequence[Run], disk: Sequence[Disk]) -> dict[str, Any]:
    """Medians of all sides, and the ratios: times as fast, share of the peak, bytes written per byte of the file,
    times the disk's own time.
    """
    mine = middle(ours)
    found: dict[str, Any] = {"ours": mine, "written_per_byte": mine["written"] / mine["size"]}
    if peer:
        found["peer"] = middle(peer)
        found["times_as_fast"] = found["peer"]["wall_s"] / mine["wall_s"]
        found["share_of_peak"] = mine["peak"] / found["peer"]["peak"]
    if disk:
        reads, writes = (statistics.median(getattr(each, name) for each in disk) for name in ("read_s", "write_s"))
        found["disk"] = {"read_s": reads, "write_s": writes, "total_s": reads + writes}
        found["times_the_disk"] = mine["wall_s"] / found["disk"]["total_s"]
    return found


def aims(shape: str, found: dict[str, Any]) -> list[tuple[str, str, bool]]:
    """(aim, what was seen, whether it was met); only what was measured."""
    rows = [("the file, written once", f"{found['written_per_byte']:.3f} times", found["written_per_byte"] <= EXACT)]
    if "peer" in found:
        fast, share = found["times_as_fast"], found["share_of_peak"]
        rows.append(("4 times as fast as the peer", f"{fast:.1f} times", fast >= FASTER))
        rows.append(("a sixth of the peer's peak at most", f"1/{1 / share:.1f}", share <= SMALLER))
    if "disk" in found:
        rows.append(("twice the disk's own time", f"{found['times_the_disk']:.2f} times", is_near(found)))
    if shape == "7b":
        peak = found["ours"]["peak"]
        rows.append(("2 GB of memory at most", f"{peak / 1e9:.2f} GB", peak <= LARGE_PEAK))
    return rows


def is_near(found: dict[str, Any]) -> bool:
    """Whether the export takes at most twice the disk's time."""
    return bool(found["times_the_disk"] <= NEAR_DISK)


def show(results: dict[tuple[str, str], dict[str, Any]], console: Console) -> None:
    """Print all."""
    table = Table("shape", "kind", "side", "wall s", "steps s", "peak MB", "written MB", "file MB")
    for (shape, kind), found in results.items():
        for side in ("ours", "peer"):
            if side in found:
                table.add_row(shape, kind, side, *cells(found[side]))
        if "disk" in found:
            disk = found["disk"]
            table.add_row(
                shape, kind, "disk", f"{disk['total_s']:.1f}", f"read {disk['read_s']:.1f}, write {disk['write_s']:.1f}"
            )
    console.print(table)
    for (shape, kind), found in results.items():
        for aim, seen, met in aims(shape, found):
            console.print(f"{shape} {kind}: {aim}: {seen} - {'met' if met else 'MISSED'}")
    console.print(NOTES)


def cells(side: dict[str, float]) -> list[str]:
    """A row's figures."""
    known = ("merge_s", "convert_s", "digest_s")
    steps = ", ".join(f"{name[:-2]} {side[name]:.1f}" for name in known if name in side)
    sizes = [f"{side[name] / 1e6:,.0f}" for name in ("peak", "written", "size")]
    return [f"{side['wall_s']:.1f}", steps, *sizes]
