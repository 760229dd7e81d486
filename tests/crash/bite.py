"""Does the harness bite? It runs against copies of the sources with one fault each, and must find every one.

A fault is an exact replacement that must match once, so that a changed source says so instead of proving nothing.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

ROOT = Path(__file__).parent.parent.parent
MINUTES = 3


@dataclass(frozen=True)
class Mutant:
    """A fault in one file, and the cycles that must find it."""

    name: str
    path: str
    old: str
    new: str
    points: str
    cycles: int = 0


MUTANTS = (
    Mutant(
        "the position is committed before the examples",
        "thaud/ledger/writer.py",
        """        with self.transaction("take_in") as sql:
            arrivals.take_in(sql, batches, known, self.now())
""",
        """        bare = [NewFile(each.name, each.position, each.finished, (), (), ()) for each in batches]
        with self.transaction("take_in") as sql:
            arrivals.take_in(sql, bare, {}, self.now())
        with self.transaction("take_in") as sql:
            arrivals.take_in(sql, batches, known, self.now())
""",
        "ledger.take_in.after",
    ),
    Mutant(
        "intake without a transaction",
        "thaud/ledger/writer.py",
        """        with self.transaction("take_in") as sql:
            arrivals.take_in(sql, batches, known, self.now())
""",
        """        reach("ledger.take_in.before")
        arrivals.take_in(self.connection, batches, known, self.now())
        reach("ledger.take_in.after")
""",
        "none",
        120,
    ),
    Mutant(
        "rejected lines go into quarantine after the commit that ends their reading",
        "thaud/intake.py",
        """        if unresolved:
            append_rejections(self.home.rejected, unresolved)
""",
        """        self.later = getattr(self, "later", [])
        if self.later:
            append_rejections(self.home.rejected, self.later)
        self.later = unresolved
""",
        "append.quarantine,ledger.take_in.after",
    ),
    Mutant(
        "the ledger hears of a move before it is made",
        "thaud/intake.py",
        """            moved = retire(self.home.queue,""",
        """            self.ledger.retire_file(name, name)
            moved = retire(self.home.queue,""",
        "move.trained.before,ledger.retire_file.after",
    ),
    Mutant(
        "a request is removed before it is obeyed",
        "thaud/control.py",
        """        yield asked
        reach("remove.request.before")
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"cannot remove {path}: {error.strerror}; check the owner of its folder") from error
        reach("remove.request.after")
""",
        """        reach("remove.request.before")
        path.unlink(missing_ok=True)
        reach("remove.request.after")
        yield asked
""",
        "remove.request.after",
    ),
    Mutant(
        "a request for training is remembered in memory alone",
        "thaud/daemon.py",
        "self.train_requested = ledger.meta(TRAIN_REQUESTED) is not None",
        "self.train_requested = False",
        "ledger.set_meta.after,remove.request.after,ledger.freeze_run.before",
    ),
    Mutant(
        "a run is frozen and its examples marked in two transactions",
        "thaud/ledger/writer.py",
        """            sql.executemany(
                "INSERT INTO lessons (family""",
        """            sql.execute("COMMIT")
            reach("ledger.freeze_run.after")
            sql.execute("BEGIN IMMEDIATE")
            sql.executemany(
                "INSERT INTO lessons (family""",
        "ledger.freeze_run.after",
    ),
    Mutant(
        "a version gets its number in one transaction and its run the state in another",
        "thaud/ledger/writer.py",
        """            self.move(sql, version.run_id, RunState.ACCEPTED)
""",
        """            sql.execute("COMMIT")
            reach("ledger.accept.after")
            sql.execute("BEGIN IMMEDIATE")
            self.move(sql, version.run_id, RunState.ACCEPTED)
""",
        "ledger.accept.after",
    ),
    Mutant(
        "a promotion in two transactions",
        "thaud/ledger/writer.py",
        """            self.move(sql, version.run_id, RunState.PROMOTED)
""",
        """            sql.execute("COMMIT")
            reach("ledger.promote.after")
            sql.execute("BEGIN IMMEDIATE")
            self.move(sql, version.run_id, RunState.PROMOTED)
""",
        "ledger.promote.after",
    ),
    Mutant(
        "the receipt of a promotion is committed before the file has its place",
        "thaud/pipeline.py",
        """        await self.put_in_place(spec, version)
        await asyncio.to_thread(probe, Path(version.gguf), version.gguf_sha256)
        advance_to = self.age_after(spec, version)
        self.ledger.promote(version, advance_to, sorted(self.set_aside(spec)))
""",
        """        advance_to = self.age_after(spec, version)
        self.ledger.promote(version, advance_to, sorted(self.set_aside(spec)))
        await self.put_in_place(spec, version)
""",
        "ledger.promote.after,move.gguf.before",
    ),
    Mutant(
        "whatever is in a version's place is believed to be its file",
        "thaud/workdir.py",
        "    if not stands(target, sha256):\n",
        "    if not target.exists():\n",
        "clear.workdir,move.stranger",
    ),
    Mutant(
        "the models of refused runs are not swept up",
        "thaud/sweep.py",
        """            yield model
""",
        """            pass
""",
        "discard.gguf.before,ledger.end_run.after",
    ),
    Mutant(
        "our temporary files are not swept up",
        "thaud/sweep.py",
        "        yield from temporary(folder, OURS, now)\n",
        "        pass\n",
        "file.adapter.between,file.answers.between",
        10,
    ),
    Mutant(
        "a step that outlived its daemon is let be",
        "thaud/workdir.py",
        "            kill(holder)\n",
        "            pass\n",
        "end.step.before",
    ),
    Mutant(
        "the projections are not written at start",
        "thaud/daemon.py",
        "        self.projected = False\n        self.reset_wanted",
        "        self.projected = True\n        self.reset_wanted",
        "ledger.promote.after,file.progress.before,file.trained_examples.before",
    ),
    Mutant(
        "a request is written without a temporary name",
        "thaud/durable.py",
        """    with temporary.open("wb") as sink:
        sink.write(data)
""",
        """    with temporary.open("wb") as sink:
        if effect == "request":
            path.write_bytes(data[: len(data) // 2])
        sink.write(data)
""",
        "file.request.between",
    ),
    Mutant(
        "versions that were promoted while Ollama was not asked are forgotten",
        "thaud/registrar.py",
        "    while not stop.is_set():\n        sync.clear()\n",
        "    while not stop.is_set():\n        await sync.wait()\n        sync.clear()\n",
        "ollama.create,ollama.push,ollama.copy",
    ),
)
EQUIVALENT = {
    "exam answers kept without a transaction": "a part of them is kept again: INSERT OR REPLACE by GGUF and item",
    "put_in_place without looking whether the file is there": "the file is exported again, and is the same",
    "result.json written without a temporary name": "half a result is no result: the step is done again",
}


def mutated(mutant: Mutant, within: Path) -> Path:
    """A copy of the sources with the fault in it. AssertionError where it does not match once."""
    copy = within / "tree"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for name in ("thaud", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    path = copy / mutant.path
    text = path.read_text(encoding="utf-8")
    assert text.count(mutant.old) == 1, f"{mutant.name}: its text is {text.count(mutant.old)} times in {mutant.path}"
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    return copy


def is_found(mutant: Mutant, within: Path) -> tuple[bool, str]:
    """Whether the harness, run against the copy, finds a violation; and its words."""
    copy = mutated(mutant, within)
    options = ["--points", mutant.points, "--cycles", str(mutant.cycles), "--repeat", "2", "--no-errors"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash", *options, "--minutes", str(MINUTES), "--home-on", str(within), "--first"],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line for line in done.stdout.splitlines() if line.startswith("VIOLATION")]
    return bool(said), said[0] if said else (done.stdout + done.stderr)[-300:]


def bite(console: Console) -> int:
    """Every mutant, one line each; 1 where one was not found."""
    missed = 0
    with tempfile.TemporaryDirectory(prefix="thau-bite-") as folder:
        for mutant in MUTANTS:
            found, said = is_found(mutant, Path(folder))
            missed += not found
            console.print(f"{'found    ' if found else 'NOT FOUND'}  {mutant.name}", highlight=False, soft_wrap=True)
            console.print(f"           {said[:300]}", style="dim", highlight=False, markup=False, soft_wrap=True)
    for name, why in EQUIVALENT.items():
        console.print(f"equivalent {name}: {why}", highlight=False, soft_wrap=True)
    console.print(f"{len(MUTANTS) - missed} of {len(MUTANTS)} mutants found", highlight=False)
    return 1 if missed else 0
