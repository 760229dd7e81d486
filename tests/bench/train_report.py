"""What the trainer's benchmark found, as tables for people: medians, ratios, aims met or missed. Measures nothing."""

import statistics
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.train_runs import Figures, Work
from tests.bench.train_shapes import SHAPES, flops

FASTER = {"pad": 5.0, "pack": 2.0}
SMALLER, FIT, FLAT, START_S, UNCHANGED_MIB = 1 / 3, 0.60, 0.10, 6.0, 1.0
NO_WORSE = 0.001  # share of the loss: what another seed changes
SHOWN = ("tokens_per_s", "supervised_per_s", "peak_mib", "loss", "train_s", "wall_s", "steps", "tokens")
NOTES = """\
Training alone is timed (loading and tokenising are in `process s`); peaks are the whole process's (ru_maxrss).
Held-out loss: one judge for all, float32, answers alone. The peer learns the line feed after an end of turn too, one
token an example. The order of the examples is each side's own; seeds change with the round.
pack: one row at a time, quicker here than several; its examples do not see each other (transformers masks by position).
pad, pack: TRL in float32 without activation checkpointing. *-bf16: its bf16=True. pad-default: SFTConfig's own
precision and checkpointing (bf16, activations computed again)."""


def median(runs: list[Figures], name: str) -> float:
    """Of one figure over a side's rounds."""
    return statistics.median(getattr(run, name) for run in runs)


def summary(found: dict[str, list[Figures]]) -> dict[str, dict[str, float]]:
    """Medians by side."""
    return {way: {name: median(runs, name) for name in SHOWN} for way, runs in found.items() if runs}


def arithmetic(work: Work, found: dict[str, list[Figures]], products: list[dict[str, float]]) -> dict[str, Any]:
    """GFLOP/s of each side, and of plain products of the same sizes in the same run."""
    needed = flops(SHAPES[work.name], work.facts)
    plain = {name: statistics.median(each[name] for each in products) / 1e9 for name in ("fp32", "bf16")}
    return {
        "flops_per_token": needed / work.facts.tokens,
        "plain_gflops": plain,
        "gflops": {way: needed / median(runs, "train_s") / 1e9 for way, runs in found.items() if runs},
    }


def aims(middle: dict[str, dict[str, float]], sums: dict[str, Any]) -> list[tuple[str, str, bool]]:
    """(aim, what was seen, whether it was met) of one shape; only what was measured."""
    ours, found = middle["ours"], list[tuple[str, str, bool]]()
    for way, times in FASTER.items():
        if way in middle:
            ratio = ours["tokens_per_s"] / middle[way]["tokens_per_s"]
            found.append((f"{times:.0f} times the tokens/s of {way}", f"{ratio:.2f} times", ratio >= times))
    if "pad" in middle:
        share = ours["peak_mib"] / middle["pad"]["peak_mib"]
        found.append(("a third of pad's peak at most", f"{share:.2f} of it", share <= SMALLER))
    for way in FASTER:
        if way in middle:
            more = ours["loss"] - middle[way]["loss"]
            met = more <= NO_WORSE * middle[way]["loss"]
            found.append((f"held-out loss no worse than {way}'s (to {NO_WORSE:.1%})", f"{more:+.4f}", met))
    share = sums["gflops"]["ours"] / sums["plain_gflops"]["fp32"]
    found.append((f"{FIT:.0%} of plain fp32 products' arithmetic", f"{share:.0%}", share >= FIT))
    return found


def show_shape(console: Console, work: Work, report: dict[str, Any]) -> None:
    """One shape's tables."""
    middle, sums = report["medians"], report["arithmetic"]
    facts = work.facts
    title = f"{work.name}: {facts.examples:,} examples, {facts.tokens:,} tokens, medians of {report['rounds']}"
    table = Table(title=title, title_justify="left")
    for name in ("", "tokens/s", "learned/s", "peak MiB", "held-out", "training s", "process s", "steps", "ours is"):
        table.add_column(name, justify="right" if name else "left")
    for way, row in middle.items():
        beside = "" if way == "ours" else f"{middle['ours']['tokens_per_s'] / row['tokens_per_s']:.2f} x"
        table.add_row(
            way,
            *(f"{row[name]:,.0f}" for name in ("tokens_per_s", "supervised_per_s", "peak_mib")),
            f"{row['loss']:.4f}",
            *(f"{row[name]:,.1f}" for name in ("train_s", "wall_s")),
            f"{row['steps']:,.0f}",
            beside,
        )
    console.print(table)
    for way, line in [*report["remarks"].items(), *report["failed"].items()]:
        console.print(f"  {way}: {line}")
    console.print(f"  held-out loss of the base alone: {report['base_loss']:.4f}")
    show_sums(console, sums)
    show_aims(console, aims(middle, sums))


def show_sums(console: Console, sums: dict[str, Any]) -> None:
    """The arithmetic, in words."""
    plain = sums["plain_gflops"]
    console.print(
        f"  arithmetic: {sums['flops_per_token'] / 1e6:,.1f} MFLOP a token; plain products of these sizes reach "
        f"{plain['fp32']:,.0f} GFLOP/s in fp32 and {plain['bf16']:,.0f} in bf16"
    )
    for way, rate in sums["gflops"].items():
        shares = " and ".join(f"{rate / plain[name]:.0%} of {name}" for name in ("fp32", "bf16"))
        console.print(f"    {way:12} {rate:7,.0f} GFLOP/s: {shares}")


def show_aims(console: Console, found: list[tuple[str, str, bool]]) -> None:
    """A line each."""
    for aim, seen, met in found:
        console.print(f"  {'met   ' if met else 'MISSED'}  {aim}: {seen}")
    console.print()


def part_aims(parts: dict[str, Any]) -> list[tuple[str, str, bool]]:
    """Aims of the parts without a peer."""
    found: list[tuple[str, str, bool]] = []
    if "start_s" in parts:
        middle = statistics.median(parts["start_s"])
        found.append((f"first step on nano within {START_S:.0f} s of the spawn", f"{middle:.2f} s", middle <= START_S))
    if "daemon_mib" in parts:
        more = parts["daemon_mib"]["most"] - parts["daemon_mib"]["before"]
        aim = f"the daemon's memory is unchanged during a run (to {UNCHANGED_MIB:.0f} MiB)"
        found.append((aim, f"{more:+.2f} MiB", more <= UNCHANGED_MIB))
    if "growth" in parts:
        rates = [row["tokens_per_s"] for row in parts["growth"]]
        apart = max(rates) / min(rates) - 1
        counts = [row["examples"] for row in parts["growth"]]
        aim = f"tokens/s flat within {FLAT:.0%} from {min(counts):,} to {max(counts):,} examples"
        found.append((aim, f"{apart:.1%} apart", apart <= FLAT))
    return found


def show_parts(console: Console, parts: dict[str, Any]) -> None:
    """Growth, start-up and the daemon."""
    for row in parts.get("growth", ()):
        console.print(
            f"  growth: {row['examples']:6,} examples ({row['tokens']:,} tokens): {row['tokens_per_s']:8,.0f} tokens/s"
            f", peak {row['peak_mib']:,.0f} MiB, training begins after {row['start_s']:.1f} s"
        )
    if "start_s" in parts:
        console.print("  start-up: first step after " + ", ".join(f"{each:.2f}" for each in parts["start_s"]) + " s")
    if "daemon_mib" in parts:
        seen = parts["daemon_mib"]
        console.print(
            f"  daemon: {seen['before']:.1f} MiB before, {seen['first']:.1f} when training begins, at most "
            f"{seen['most']:.1f} and {seen['last']:.1f} at its end ({seen['samples']} samples)"
        )
    show_aims(console, part_aims(parts))
