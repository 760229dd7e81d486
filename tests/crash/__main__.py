"""`python -m tests.crash`: kill real daemons at every fail-point and at random, and ask the oracle after each restart.

Exit status 1 on any violation (its home is kept, and its seed is printed) and where something was left out.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.crash.arena import Arena
from tests.crash.bite import bite
from tests.crash.cycles import Cycles, Tally
from tests.crash.machine import run_machine
from tests.crash.oracle import Oracle
from thaud.failpoints import POINTS

CYCLES_A_HOME = 40
ENOUGH = 10  # violations, to look at first
Cycle = Callable[[Cycles], None]


@dataclass(frozen=True)
class Planned:
    """One cycle: what it is called, and how it is done."""

    name: str
    do: Cycle


@dataclass
class Outcome:
    """What came of all of them. `violations`: (what, cycle, seed, home)."""

    tally: Tally = field(default_factory=Tally)
    violations: list[tuple[str, str, int, Path]] = field(default_factory=list)
    seconds: float = 0.0
    left_out: int = 0


def plan(points: Sequence[str], repeat: int, random_cycles: int, seed: int, *, errors: bool) -> list[Planned]:
    """Every point `repeat` times with a crash and once with each error, and random cycles, in a seeded order."""

    def at(point: str, action: str, nth: int) -> Planned:
        return Planned(f"{point}={action}@{nth}", lambda cycles: cycles.at_point(point, action, nth))

    planned = [at(point, "crash", nth) for point in points for nth in range(1, repeat + 1)]
    planned += [at(point, action, 1) for point in points for action in ("enospc", "eio") if errors]
    planned += [Planned("random", Cycles.at_random) for _ in range(random_cycles)]
    Random(seed).shuffle(planned)
    return planned


def homes(planned: Sequence[Planned]) -> Iterator[Sequence[Planned]]:
    """So many cycles on one home, then a new one: it stays small, and firsts come again."""
    for start in range(0, len(planned), CYCLES_A_HOME):
        yield planned[start : start + CYCLES_A_HOME]


def carry_out(
    planned: Sequence[Planned],
    seed: int,
    within: Path,
    deadline: float,
    done: Callable[[str], None],
    enough: int = ENOUGH,
) -> Outcome:
    """All cycles until the deadline (monotonic). A violation costs its home; the next cycle has a new one."""
    outcome, began = Outcome(), time.monotonic()
    queue = [list(each) for each in homes(planned)]
    number = 0
    while queue:
        left, number = queue.pop(0), number + 1
        if time.monotonic() > deadline or len(outcome.violations) >= enough:
            outcome.left_out += len(left)
            continue
        rest = on_one_home(left, seed + number, within / f"home-{number}", outcome, deadline, done)
        if rest:
            queue.insert(0, rest)
    outcome.seconds = time.monotonic() - began
    return outcome


def on_one_home(
    planned: list[Planned], seed: int, root: Path, outcome: Outcome, deadline: float, done: Callable[[str], None]
) -> list[Planned]:
    """Cycles on one home; what is left of them after a violation."""
    with Arena(root, seed) as arena:
        cycles = Cycles(arena, Oracle(arena), outcome.tally)
        name = "the first start"
        try:
            cycles.begin()
            while planned and time.monotonic() < deadline:
                each = planned.pop(0)
                name = each.name
                done(name)
                each.do(cycles)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            outcome.violations.append((f"{type(error).__name__}: {error}", name, seed, root))
            (root / "violation.txt").write_text(f"{name}\nseed {seed}\n{error!r}\n")
        finally:
            outcome.tally.restarts += arena.restarts
    if not outcome.violations or outcome.violations[-1][3] != root:
        arena.remove()
    if time.monotonic() >= deadline:
        outcome.left_out += len(planned)
        return []
    return planned


def summarise(outcome: Outcome, points: Sequence[str], console: Console) -> None:
    """One summary."""
    tally = outcome.tally
    kills = ", ".join(f"{kind} {count}" for kind, count in sorted(tally.kills.items()))
    missed = [point for point in points if point not in tally.hit]
    console.print(
        f"{tally.cycles} cycles, {tally.restarts} starts of a daemon, {len(tally.hit & set(points))} of "
        f"{len(points)} points hit; kills: {kills or 'none'}; "
        f"{len(outcome.violations)} violations; {outcome.seconds:.0f} s",
        highlight=False,
        soft_wrap=True,
    )
    if missed:
        console.print(f"not hit: {', '.join(missed)}", highlight=False, soft_wrap=True)
    if outcome.left_out:
        console.print(f"left out for want of time: {outcome.left_out} cycles", highlight=False, soft_wrap=True)
    for what, name, seed, root in outcome.violations:
        console.print(f"VIOLATION in {name}, seed {seed}, home {root}: {what}", highlight=False, soft_wrap=True)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cycles", type=int, default=500, help="random cycles (default 500)")
    parser.add_argument("--points", default="all", help="all, none, or names and beginnings of names with commas")
    parser.add_argument("--repeat", type=int, default=3, help="crashes at each point (default 3)")
    parser.add_argument("--no-errors", action="store_true", help="leave out ENOSPC and EIO")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--home-on", type=Path, help="folder for the homes, say on a tmpfs")
    parser.add_argument("--minutes", type=float, default=60.0, help="stop after so many (default 60)")
    parser.add_argument("--machine", action="store_true", help="the drop-box's state machine too, 20,000 steps")
    parser.add_argument("--first", action="store_true", help="end with the first violation")
    parser.add_argument(
        "--bite", nargs="?", const="", metavar="WORDS", help="run against mutated copies (named so); each must be found"
    )
    return parser.parse_args(argv)


def chosen(points: str) -> list[str]:
    """The points that an option names."""
    if points in {"all", "none"}:
        return list(POINTS) if points == "all" else []
    return [point for point in POINTS if point.startswith(tuple(points.split(",")))]


def main(argv: Sequence[str]) -> int:
    """Run it."""
    asked, console = parse(argv), Console()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that daemons end with the harness
    if asked.bite is not None:
        return bite(console, asked.bite)
    points = chosen(asked.points)
    planned = plan(points, asked.repeat, asked.cycles, asked.seed, errors=not asked.no_errors)
    within = Path(tempfile.mkdtemp(prefix="thau-crash-", dir=asked.home_on))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    deadline = time.monotonic() + asked.minutes * 60
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("crash", total=len(planned))
        outcome = carry_out(
            planned,
            asked.seed * 1000,
            within,
            deadline,
            lambda name: progress.update(task, advance=1, description=f"{name:<40}"),
            1 if asked.first else ENOUGH,
        )
    summarise(outcome, points, console)
    if not outcome.violations:
        within.rmdir()
    machine = run_machine(console) if asked.machine else 0
    sound = not (outcome.violations or outcome.left_out or machine)
    console.print("all is well" if sound else "not all is well: see above", highlight=False)
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
