"""What rounding costs: one adapter, trained as the demo trains, as every kind of file, on all held-out items.

usage: python -m tests.bench.bench_kinds [--home HOME] [--json] [KIND...]
The peer of each kind is F16, from the same adapter in the same run; printed are size, accuracy with its 95% interval,
points from F16, and the certificate's top-1 and KL against base plus adapter in float32. HOME: one that was trained
before (`python -m thaud.demo --keep`), whose newest version's run is measured; without it one is trained first.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from tests.testkit.daemon import look, make_home, running, wait_until
from tests.testkit.kinds import KINDS, all_held_out, measure, spec_of, table, to_json
from thaud.home import Home
from thaud.ledger import LedgerReader

DATASETS = Path(__file__).parent.parent.parent / "data" / "datasets"
FILES = ("age_0_newborn.jsonl", "age_1_infant.jsonl")
FAMILY = "thau-nano"
TRAIN_S = 1200.0


def trained(root: Path) -> Home:
    """A home that learned the demo's files, two versions on."""

    def grown(ledger: LedgerReader) -> bool:
        return len(ledger.promoted_versions(FAMILY)) >= 2 and ledger.unfinished_run() is None

    home = make_home(root)
    with running(home):
        for name in FILES:
            shutil.copy(DATASETS / name, home.queue)
        wait_until(lambda: look(home, grown), TRAIN_S, "two versions")
    return home


def main() -> None:
    """Train where needed, then measure every kind and print."""
    parser = argparse.ArgumentParser(description="What rounding costs: one adapter as every kind of file.")
    parser.add_argument("--home", type=Path, help="a home with a version, instead of training one")
    parser.add_argument("--json", action="store_true", help="every figure, for scripts")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)}; all by default")
    args = parser.parse_args()
    kinds = [each for each in KINDS if each == "f16" or not args.kinds or each in args.kinds]
    with tempfile.TemporaryDirectory(prefix="thau-kinds-") as folder:
        home = Home(args.home.absolute()) if args.home else trained(Path(folder) / "home")
        newest = look(home, lambda ledger: ledger.promoted_versions(FAMILY))[-1]
        spec = spec_of(home, newest.run_id)
        items = all_held_out(home, spec, Path(folder) / "items.jsonl")
        found = []
        for kind in kinds:
            found.append(measure(home, spec, kind, items, Path(folder) / "files", certify=True))
            sys.stderr.write(f"{kind}: {found[-1].score.right} of {found[-1].score.n}\n")
    print(to_json(found) if args.json else f"{newest.name}, {spec.id}, ages 0 to {spec.age}\n{table(found)}")


if __name__ == "__main__":
    main()
