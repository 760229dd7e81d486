"""Does the harness bite? It runs against copies of the sources with one fault each, and must find every one.

A fault is an exact replacement that must match once, so that a changed source says so instead of proving nothing.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from tests.crash.mutant import Mutant
from tests.crash.version_mutants import OF_VERSIONS

ROOT = Path(__file__).parent.parent.parent
MINUTES = 3


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
        "the accepted set",
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
        "do not add up|the accepted set|every line where it stands",
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
        "data/rejected lacks",
    ),
    Mutant(
        "the ledger hears of a move before it is made",
        "thaud/intake.py",
        """            moved = retire(self.home.queue,""",
        """            self.ledger.retire_file(name, name)
            moved = retire(self.home.queue,""",
        "move.trained.before,ledger.retire_file.after",
        "trained files out of the drop-box",
    ),
    Mutant(
        "a request is removed before it is obeyed",
        "thaud/control.py",
        """        yield asked
        withdraw(path)
""",
        """        withdraw(path)
        yield asked
""",
        "remove.request.after",
        "was forgotten|resets were asked for",
    ),
    Mutant(
        "a request for training is remembered in memory alone",
        "thaud/daemon.py",
        "self.train_requested = ledger.meta(TRAIN_REQUESTED) is not None",
        "self.train_requested = False",
        "ledger.set_meta.after,remove.request.after,ledger.freeze_run.before",
        "was forgotten",
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
        "count as not taught|do not add up",
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
        "which is examined",
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
        "was not taught by its run|the alias is not on",
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
        "No such file|is not the certificate of",
    ),
    Mutant(
        "whatever is in a version's place is believed to be its file",
        "thaud/workdir.py",
        "    if not stands(target, sha256):\n",
        "    if not target.exists():\n",
        "clear.workdir,move.stranger",
        "the end of the run did not come|a run's end did not come|is not what it was",
    ),
    Mutant(
        "the models of refused runs are not swept up",
        "thaud/sweep.py",
        """            yield model
""",
        """            pass
""",
        "discard.gguf.before,ledger.end_run.after",
        "of a run that was refused",
    ),
    Mutant(
        "our temporary files are not swept up",
        "thaud/sweep.py",
        "        yield from temporary(folder, OURS, now)\n",
        "        pass\n",
        "file.adapter.between,file.answers.between",
        "a home without leftovers",
        10,
    ),
    Mutant(
        "a step that outlived its daemon is let be",
        "thaud/workdir.py",
        "            os.killpg(int(pid), signal.SIGKILL)\n",
        "            pass\n",
        "end.step",
        "the end of orphan processes|the end of the run",
    ),
    Mutant(
        "the projections are not written at start",
        "thaud/daemon.py",
        "        self.projected = False\n        self.reset_wanted",
        "        self.projected = True\n        self.reset_wanted",
        "ledger.promote.after,file.progress.before,file.trained_examples.before",
        "projections that say what the ledger says",
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
        "a home without leftovers",
    ),
    Mutant(
        "versions that were promoted while Ollama was not asked are forgotten",
        "thaud/registrar.py",
        "        while not stop.is_set():\n            sync.clear()\n",
        "        while not stop.is_set():\n            await sync.wait()\n            sync.clear()\n",
        "ollama.create,ollama.push,ollama.copy",
        "Ollama in step with the ledger",
    ),
    Mutant(
        "a version is registered before it is promoted",
        "thaud/registrar.py",
        "    for version in ledger.promoted_versions(settings.family):\n",
        "    for version in ledger.versions(settings.family):\n",
        "ledger.promote.before",
        "which is not promoted",
        errors=True,
    ),
    Mutant(
        "what a result names is believed unseen",
        "thaud/journal.py",
        """            if done is not None and (lost := await asyncio.to_thread(complaint, check, done)) is None:
                return done
""",
        """            lost = None
            if done is not None:
                return done
""",
        "ledger.receive.after",
        "is not made of the rows of its run",
    ),
    Mutant(
        "the trainer is handed other rows than were frozen",
        "thaud/artefacts.py",
        "self.journal.rows(spec.example_ids, row)",
        "self.journal.rows(spec.example_ids[1:], row)",
        "ledger.promote.after",
        "was trained on other rows",
    ),
    Mutant(
        "held-out examples are taught",
        "thaud/freezing.py",
        "    refuse_held_out(ledger, spec)\n    return spec\n",
        """    import dataclasses

    return dataclasses.replace(spec, example_ids=(*spec.example_ids, *spec.exam_ids))
""",
        "ledger.promote.after",
        "is held out and was tried|is to be taught what is held out|is held out",
    ),
    Mutant(
        "a version that continues is taken to know what its own run was taught alone",
        "thaud/ledger/lineages.py",
        "reversed(list(ancestry(ledger, run_id)))",
        "list(ancestry(ledger, run_id))[:1]",
        "none",
        "and says|and was taught",
        60,
    ),
    Mutant(
        "a run that continues leaves out what was refused before",
        "thaud/freezing.py",
        "    new = {age: [each for each in ids if each not in lineage.taught] for age, ids in taught.items()}\n",
        """    tried = "SELECT 1 FROM lessons JOIN examples ON seq = example_seq WHERE id = ?"
    new = {age: [each for each in ids if not ground.ledger.one(tried, each)] for age, ids in taught.items()}
""",
        "none",
        "leaves out",
        60,
    ),
    Mutant(
        "every run that continues goes on from the first version",
        "thaud/freezing.py",
        "    return Course(choice, mixed, ground.champion, digest_of(ground, ground.champion))\n",
        """    eldest = ground.ledger.versions(settings.family)[0]
    return Course(choice, mixed, eldest, digest_of(ground, eldest))
""",
        "none",
        "leaves out|goes on from",
        60,
    ),
    Mutant(
        "a training goes on from a checkpoint one step late",
        "tests/crash/steps/train.py",
        """        self.done, self.digest = state["done"], state["digest"].tobytes()
""",
        """        self.done, self.digest = state["done"] + (state["done"] < PARTS), state["digest"].tobytes()
""",
        "file.checkpoint.after",
        "is not made of the rows of its run|another adapter than",
    ),
    Mutant(
        "the sweep takes what a command is writing",
        "thaud/sweep.py",
        "temporary(home.queue, OF_QUEUE, now - OTHERS_S)",
        "temporary(home.queue, OF_QUEUE, now)",
        "sweep.leftover",
        "beside a start",
    ),
    Mutant(
        "a trained file takes the place of its namesake",
        "thaud/dropbox/retiring.py",
        "    target = next(each for each in names_in(trained, now.name) if not os.path.lexists(each))\n",
        "    target = trained / now.name\n",
        "none",
        "users' files as they were left",
        60,
    ),
    Mutant(
        "a proposal is removed before its example is in the drop-box",
        "thaud/proposals/accepting.py",
        """    path = write_examples(home.queue, [example_to_line(example)], STEM)
    withdraw(home.proposed, proposal)
    return path
""",
        """    withdraw(home.proposed, proposal)
    return write_examples(home.queue, [example_to_line(example)], STEM)
""",
        "remove.proposal.after",
        "the accepted set",
    ),
    *OF_VERSIONS,
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
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "base"))
    path = copy / mutant.path
    text = path.read_text(encoding="utf-8")
    assert text.count(mutant.old) == 1, f"{mutant.name}: its text is {text.count(mutant.old)} times in {mutant.path}"
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    return copy


def is_found(mutant: Mutant, within: Path) -> tuple[bool, str]:
    """Whether the oracle, looking at the copy, complains of what is wrong with it; and its words."""
    copy = mutated(mutant, within)
    options = ["--points", mutant.points, "--cycles", str(mutant.cycles), "--repeat", "2"]
    options += [] if mutant.errors else ["--no-errors"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash", *options, "--minutes", str(MINUTES), "--home-on", str(within), "--first"],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line for line in done.stdout.splitlines() if line.startswith("VIOLATION")]
    found = bool(said) and re.search(mutant.by, said[0]) is not None
    return found, said[0] if said else (done.stdout + done.stderr)[-300:]


def bite(console: Console, words: str = "") -> int:
    """Every mutant whose name has these words, one line each; 1 where one was not found."""
    missed, chosen = 0, [mutant for mutant in MUTANTS if words in mutant.name]
    with tempfile.TemporaryDirectory(prefix="thau-bite-") as folder:
        for mutant in chosen:
            found, said = is_found(mutant, Path(folder))
            missed += not found
            console.print(f"{'found    ' if found else 'NOT FOUND'}  {mutant.name}", highlight=False, soft_wrap=True)
            console.print(f"           {said[:300]}", style="dim", highlight=False, markup=False, soft_wrap=True)
    for name, why in EQUIVALENT.items():
        console.print(f"equivalent {name}: {why}", highlight=False, soft_wrap=True)
    console.print(f"{len(chosen) - missed} of {len(chosen)} mutants found", highlight=False)
    return 1 if missed else 0
