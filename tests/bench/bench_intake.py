"""Intake beside its peer: `datasets.load_dataset("json")` with the same validation and the same dedupe.

usage: python -m tests.bench.bench_intake [--lines N] [--files N] [--drops N] [--repeat N]

large   N lines in one file          small   N files of ten lines          latency   from rename to ledger, file by file

Each run is a child process of its own with a fresh cache or home; the sides alternate, medians are printed with the
ratio and the highest peak RSS. The peer in three ways: `map`, load_dataset, then map and filter, as its manual has
it; `rows`, a plain loop over its rows; `batches`, a loop over batches of 1,000, the quickest way that its API offers.
All judge a row by thaud.formats and drop what they have seen by its id. Ours also decides split and age, and commits.
Peculiar to the peer, and granted to it: the columns are told beforehand, no line is broken JSON (one makes it refuse
the file), no field changes its type. With --lines 0, --files 0 or --drops 0 that part is left out.
"""

import argparse
import asyncio
import json
import logging
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import structlog

from tests.testkit.daemon import make_home, running
from thaud.config import Settings
from thaud.domain import Example
from thaud.formats import judge
from thaud.home import Home
from thaud.intake import Intake
from thaud.ledger import Ledger, LedgerReader

PEERS = ("map", "rows", "batches")
LINES_A_FILE = 10
TEXT = (
    "el la de que y en un ser se no por con su para como estar tener le lo todo pero más hacer poder decir este ir otro"
    " ese si me ya ver porque dar cuando él muy sin vez mucho saber qué sobre mí alguno mismo yo también hasta año dos"
    " querer entre así primero desde grande eso ni nos llegar pasar tiempo ella sí día uno bien poco deber entonces"
    " poner cosa tanto hombre parecer nuestro tan donde ahora parte después vida quedar siempre creer niño corazón"
    " árbol canción mañana pingüino camión jardín"
)
WORDS = TEXT.split()


def lines(count: int, seed: int) -> Iterator[str]:
    """Spanish rows of about 190 bytes in three dialects; 2% repeat an earlier one, 1% are no examples."""
    dice, kept = random.Random(seed), list[str]()
    for number in range(count):
        luck = dice.random()
        if luck < 0.02 and kept:
            yield dice.choice(kept)
            continue
        row = bad_row(dice, number) if luck < 0.03 else good_row(dice, number)
        line = json.dumps(row, ensure_ascii=False) + "\n"
        if len(kept) < 5000:
            kept.append(line)
        yield line


def bad_row(dice: random.Random, number: int) -> dict[str, Any]:
    """A row without an answer."""
    return {"instruction": f"¿Y {number}?"} if dice.random() < 0.5 else {"instruction": f"¿Y {number}?", "output": " "}


def good_row(dice: random.Random, number: int) -> dict[str, Any]:
    """A question and an answer: 72% instruction and output, 15% messages, 13% prompt and completion."""
    asked = f"¿{' '.join(dice.choices(WORDS, k=dice.randint(5, 14))).capitalize()} número {number}?"
    said = f"{' '.join(dice.choices(WORDS, k=dice.randint(6, 22))).capitalize()}."
    dialect = dice.random()
    row: dict[str, Any]
    if dialect < 0.72:
        row = {"instruction": asked, "output": said}
        if dice.random() < 0.15:
            row["input"] = " ".join(dice.choices(WORDS, k=5))
    elif dialect < 0.87:
        row = {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]}
    else:
        row = {"prompt": asked, "completion": said}
    if dice.random() < 0.1:
        row["age"] = dice.choice([0, 1, 3])
    return row


def write_large(folder: Path, count: int) -> Path:
    """One file of so many lines."""
    folder.mkdir()
    with (folder / "large.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(lines(count, 7))
    return folder


def write_small(folder: Path, count: int) -> Path:
    """So many files of ten lines."""
    folder.mkdir()
    rows = lines(count * LINES_A_FILE, 9)
    for number in range(count):
        text = "".join(next(rows) for _ in range(LINES_A_FILE))
        (folder / f"{number:06d}.jsonl").write_text(text, encoding="utf-8")
    return folder


# One run, in a child process


def peer(source: Path, way: str) -> tuple[int, int, float]:
    """(rows, distinct examples, seconds) of the peer."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import datasets  # noqa: PLC0415 - the child that measures it alone needs it

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    text = datasets.Value("string")
    fields = ("instruction", "input", "output", "prompt", "completion")
    turns = datasets.List({"role": text, "content": text})
    columns = datasets.Features({**dict.fromkeys(fields, text), "messages": turns, "age": datasets.Value("int64")})
    files = sorted(str(file) for file in source.iterdir())
    with tempfile.TemporaryDirectory(dir=source.parent) as cache:
        began = time.perf_counter()
        rows = datasets.load_dataset("json", data_files=files, split="train", features=columns, cache_dir=cache)
        distinct = {"map": by_map, "rows": by_rows, "batches": by_batches}[way](rows)
        return len(rows), distinct, time.perf_counter() - began


def by_map(rows: Any) -> int:
    """As the manual has it: a column by map, then filter."""
    seen: set[str] = set()

    def named(row: Any) -> dict[str, str]:
        found = judge(dict(row))
        return {"id": found.id if isinstance(found, Example) else ""}

    def is_new(example_id: str) -> bool:
        before = len(seen)
        seen.add(example_id)
        return example_id != "" and len(seen) > before

    return len(rows.map(named).filter(is_new, input_columns="id"))


def by_rows(rows: Any) -> int:
    """A plain loop."""
    return len({found.id for row in rows if isinstance(found := judge(row), Example)})


def by_batches(rows: Any) -> int:
    """A loop over batches of columns."""
    seen: set[str] = set()
    for batch in rows.iter(batch_size=1000):
        for values in zip(*batch.values(), strict=True):
            found = judge(dict(zip(batch, values, strict=True)))
            if isinstance(found, Example):
                seen.add(found.id)
    return len(seen)


def ours(source: Path) -> tuple[int, int, float, float]:
    """(lines, examples in the ledger, seconds, longest time in seconds that the loop was kept) of the real intake."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        home = Home(Path(folder))
        for each in home.folders():
            each.mkdir(parents=True)
        for file in source.iterdir():
            os.link(file, home.queue / file.name)
        with Ledger.open(home.ledger) as ledger:
            intake = Intake(home, Settings(), ledger)
            began = time.perf_counter()
            taken, kept_s = asyncio.run(beside_a_heartbeat(intake))
            took_s = time.perf_counter() - began
            return taken, int(ledger.one("SELECT count(*) FROM examples")), took_s, kept_s


async def beside_a_heartbeat(intake: Intake) -> tuple[int, float]:
    """Take in while another task wants a turn all the time; the longest time that it did not have one."""
    work = asyncio.create_task(intake.take_in())
    longest, last = 0.0, time.perf_counter()
    while not work.done():
        await asyncio.sleep(0.001)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    return work.result(), longest


def child(way: str, source: Path) -> None:
    """One measured run; prints one line of JSON."""
    rows, distinct, seconds, *kept = ours(source) if way == "ours" else peer(source, way)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        json.dumps({"rows": rows, "distinct": distinct, "s": seconds, "rss_mib": peak, "kept_s": max(kept, default=0)})
    )


# All runs


def measured(way: str, source: Path) -> dict[str, float]:
    """One run in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.bench_intake", "--child", way, str(source)]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, float] = json.loads(out.splitlines()[-1])
    return found


def compare(title: str, source: Path, repeat: int) -> None:
    """Alternate the sides, print medians and ratios."""
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in ("ours", *PEERS)}
    for _ in range(repeat):
        for way, found in runs.items():
            found.append(measured(way, source))
    results = {(run["rows"], run["distinct"]) for found in runs.values() for run in found}
    assert len(results) == 1, f"the sides do not agree: {results}"
    ((rows, distinct),) = results
    print(f"\n{title}: {rows:,.0f} lines, {distinct:,.0f} distinct examples, medians of {repeat}")
    rates = {way: rows / statistics.median(run["s"] for run in found) for way, found in runs.items()}
    for way, found in runs.items():
        peak, ratio = max(run["rss_mib"] for run in found), rates["ours"] / rates[way]
        beside = "" if way == "ours" else f"   ours is {ratio:.2f} times as quick"
        name = "thau intake" if way == "ours" else f"datasets, {way}"
        print(f"  {name:18} {rates[way]:10,.0f} lines/s   peak RSS {peak:5.0f} MiB{beside}")
    print(f"  the loop was kept for at most {1000 * max(run['kept_s'] for run in runs['ours']):.0f} ms")


def latency(folder: Path, drops: int) -> None:
    """Rename small files into a running daemon's drop-box, one after the other, and wait for each in the ledger."""
    home, dice, took = make_home(folder), random.Random(3), list[float]()
    rows = lines(drops * LINES_A_FILE, 11)
    with running(home, THAU_TRAINING__AUTO_TRAIN_ENABLED="false"), LedgerReader.open(home.ledger) as ledger:
        for number in range(drops):
            hidden = home.queue / f".{number}.tmp"
            hidden.write_text("".join(next(rows) for _ in range(LINES_A_FILE)), encoding="utf-8")
            time.sleep(dice.uniform(0.02, 0.25))
            began = time.perf_counter()
            hidden.rename(home.queue / f"{number}.jsonl")
            wait_for(lambda name=f"{number}.jsonl": ledger.file(name) is not None)  # type: ignore[misc]
            took.append(time.perf_counter() - began)
    took.sort()
    p50, p99 = (1000 * took[min(len(took) - 1, int(len(took) * share))] for share in (0.5, 0.99))
    print(
        f"\nlatency: {drops} drops, rename to ledger: p50 {p50:.1f} ms, p99 {p99:.1f} ms, most {1000 * took[-1]:.1f} ms"
    )


def wait_for(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Look every millisecond."""
    deadline = time.perf_counter() + timeout_s
    while not condition():
        if time.perf_counter() > deadline:
            sys.exit("a drop did not reach the ledger")
        time.sleep(0.001)


def main() -> None:
    """All parts, or one child's run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, default in (("--lines", 1_000_000), ("--files", 20_000), ("--drops", 300), ("--repeat", 3)):
        parser.add_argument(option, type=int, default=default)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        child(asked.child[0], Path(asked.child[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if asked.lines:
            compare("large", write_large(root / "large", asked.lines), asked.repeat)
        if asked.files:
            compare("small", write_small(root / "small", asked.files), asked.repeat)
        if asked.drops:
            latency(root / "home", asked.drops)


if __name__ == "__main__":
    main()
