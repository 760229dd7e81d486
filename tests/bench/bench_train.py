"""The train step beside its peer: TRL's SFTTrainer with PEFT, as a user would run it.

usage: python -m tests.bench.bench_train [SHAPE...] [--compare] [--growth] [--start] [--daemon] [--all] [--json]

compare   nano, mid, 0.5b (or the shapes named): ours, the padded peer and the packed one in turns, a process each
growth    tokens/s and peak at 1,000, 5,000 and 20,000 examples       start    from the spawn to the first step
daemon    what the daemon takes while a run trains

Without a part's name all parts run. The sides train the same examples from the same base with the same rank, rate and
number of examples a step; one judge takes all held-out losses. --all adds the peer in bf16 and on its defaults, and
ours in fp32. Aims are told as met or missed; the exit code is 1 only where ours cannot run. Where TRL is missing, ours
is measured alone.
"""

import argparse
import json
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.bench.train_growth import measure_parts
from tests.bench.train_peer import MODES
from tests.bench.train_report import NOTES, arithmetic, part_aims, show_parts, show_shape, summary
from tests.bench.train_report import aims as aims_of
from tests.bench.train_runs import (
    BARE,
    OURS,
    Figures,
    RunFailedError,
    Work,
    adapter_of,
    as_json,
    ask,
    losses_of,
    machine,
    peer_is_here,
    prepare,
    run_side,
)
from tests.bench.train_shapes import COMPARED, SHAPES

PARTS = ("compare", "growth", "start", "daemon")
PEERS = ("pad", "pack")
NO_PEER = "TRL is not installed, so ours is measured alone; the peer comes with: pip install '.[bench]'"


def compare(work: Work, ways: list[str], rounds: int, console: Console) -> dict[str, Any]:
    """All sides in turns on one shape. A side of the peer that fails is named and left out from then on."""
    found: dict[str, list[Figures]] = {way: [] for way in ways}
    failed: dict[str, str] = {}
    products = []
    for turn in range(rounds):
        products.append(ask("products", work.name))
        for way in (each for each in ways if each not in failed):
            try:
                run = run_side(work, way, turn, place(work, way, turn))
            except RunFailedError as error:
                failed[way] = f"no result: {error}"
                console.print(f"{work.name} {turn + 1}/{rounds} {way}: {error}")
                continue
            found[way].append(run)
            console.print(
                f"{work.name} {turn + 1}/{rounds} {way}: {run.tokens_per_s:,.0f} tokens/s, {run.peak_mib:,.0f} MiB"
            )
    losses = judge(work, found)
    if not found["ours"]:
        sys.exit(f"ours cannot run on {work.name}: {failed['ours']}")
    return {
        "rounds": rounds,
        "facts": work.facts._asdict(),
        "base_loss": losses[BARE],
        "medians": summary(found),
        "arithmetic": arithmetic(work, found, products),
        "remarks": {way: runs[-1].remark for way, runs in found.items() if runs},
        "failed": failed,
        "runs": as_json(found),
    }


def place(work: Work, way: str, turn: int) -> Path:
    """A run's work directory."""
    return work.folder / f"{way}-{turn}"


def judge(work: Work, found: dict[str, list[Figures]]) -> dict[str, float]:
    """Write every run's held-out loss into its figures. Returns them by adapter, with the bare base's."""
    adapters = {
        (way, turn): str(adapter_of(place(work, way, turn))) for way, runs in found.items() for turn in range(len(runs))
    }
    losses = losses_of(work, [BARE, *adapters.values()])
    for (way, turn), adapter in adapters.items():
        found[way][turn] = replace(found[way][turn], loss=losses[adapter])
    return losses


def chosen_ways(asked: argparse.Namespace) -> list[str]:
    """Ours, and the peer's ways where it is installed."""
    ways = asked.ways.split(",") if asked.ways else [*OURS, *MODES] if asked.all else ["ours", *PEERS]
    if strangers := set(ways) - {*OURS, *MODES}:
        sys.exit(f"no such way: {', '.join(sorted(strangers))}; there are {', '.join((*OURS, *MODES))}")
    ways = list(dict.fromkeys(["ours", *ways]))
    return ways if peer_is_here() else [way for way in ways if way in OURS]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", metavar="SHAPE", help=f"of {', '.join(SHAPES)}; default {COMPARED}")
    for part in PARTS:
        parser.add_argument(f"--{part}", action="store_true")
    parser.add_argument("--all", action="store_true", help="every way of both sides")
    parser.add_argument("--ways", help="these ways instead, by commas")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, progress on stderr")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--examples", type=int, help="of each shape, instead of its own number")
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--growth-counts", default="1000,5000,20000")
    parser.add_argument("--growth-steps", type=int, default=300, help="optimiser steps of each run; 0 is all")
    asked = parser.parse_args()
    if strangers := set(asked.shapes) - set(SHAPES):
        parser.error(f"no such shape: {', '.join(sorted(strangers))}")
    if not any(getattr(asked, part) for part in PARTS):
        vars(asked).update(dict.fromkeys(PARTS, True))
    return asked


def compare_all(asked: argparse.Namespace, progress: Console, screen: Console | None) -> dict[str, Any]:
    """Every shape, shown as soon as it is there."""
    if not peer_is_here():
        progress.print(NO_PEER)
    reports: dict[str, Any] = {}
    for name in asked.shapes or COMPARED:
        with tempfile.TemporaryDirectory() as folder:
            work = prepare(name, Path(folder) / name, asked.examples)
            reports[name] = compare(work, chosen_ways(asked), asked.rounds, progress)
            reports[name]["aims"] = aims_of(reports[name]["medians"], reports[name]["arithmetic"])
            if screen:
                show_shape(screen, work, reports[name])
    return reports


def main() -> None:
    """The parts that are asked for."""
    asked = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the child of the moment is ended too
    progress = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    screen = None if asked.json else Console(highlight=False, markup=False, width=120)
    found: dict[str, Any] = {"machine": machine(), "peer": peer_is_here()}
    if screen:
        screen.print(found["machine"])
    counts = [int(each) for each in asked.growth_counts.split(",")]
    growth = (counts, asked.growth_steps, asked.rounds) if asked.growth else None
    try:
        parts = measure_parts(growth, asked.starts if asked.start else 0, daemon=asked.daemon)
    except RunFailedError as error:
        sys.exit(f"ours cannot run: {error}")
    found |= {**parts, "aims": part_aims(parts)}
    if screen and parts:
        show_parts(screen, parts)
    if asked.compare:
        found["shapes"] = compare_all(asked, progress, screen)
        if screen:
            screen.print(NOTES)
    if asked.json:
        print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
