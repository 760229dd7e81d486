"""Checks of files: what nothing accounts for, quarantine and projections against the ledger."""

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from thaud import projections, sweep
from thaud.doctor.finding import Case, Finding, note, problem, warning
from thaud.doctor.histories import says
from thaud.doctor.homes import folder_bytes, gb
from thaud.domain import RunState
from thaud.dropbox import scan
from thaud.home import CONFIG_NAME, Home
from thaud.ledger import soundness
from thaud.proposals.folder import read_all
from thaud.quarantine import is_being_corrected, is_in_step, quarantine_files

IN_FLIGHT_S = 3600.0
OF_DATA = re.compile(r"\.daemon\.json\.tmp\Z")
OF_CONFIG = re.compile(rf"\.{re.escape(CONFIG_NAME)}\.tmp\Z")
OF_IMPORT = re.compile(r"\.import-[0-9a-f]{16}\.tmp\Z")


def check_leftovers(case: Case) -> Iterator[Finding]:
    """What a crash left: our temporary files, models of refused runs and of versions that were given up, the folder of
    a run that never began.

    While a daemon works only temporary files count that nobody has written to for an hour.
    """
    for path in left_over(case, time.time()):
        yield warning(name_of(case.home, path), shown(case.home, path), path=path)


def name_of(home: Home, path: Path) -> str:
    """What a leftover is called: half written, of a version that was given up, or of a run that was refused."""
    if path.name.endswith(".tmp"):
        return "temporary_left"
    return "refused_left" if path.is_relative_to(home.runs) else "pruned_left"


def shown(home: Home, path: Path) -> str:
    """A path from the home on, where it is below it."""
    return str(path.relative_to(home.root) if path.is_relative_to(home.root) else path)


def left_over(case: Case, now: float) -> Iterator[Path]:
    """The paths of it. `now` is in seconds since the epoch."""
    home, before = case.home, now - IN_FLIGHT_S if case.served else now
    for path in sweep.leftovers(home, case.ledger, before):
        if not case.served or path.name.endswith(".tmp"):
            yield path
    yield from sweep.temporary(home.data, OF_DATA, before)
    yield from sweep.temporary(home.root, OF_CONFIG, now - IN_FLIGHT_S)
    yield from sweep.temporary(home.queue, OF_IMPORT, now - IN_FLIGHT_S)


def check_strangers(case: Case) -> Iterator[Finding]:
    """Folders and models that no run and no version owns."""
    expected = case.ledger.next_run_id()
    for folder in folders_in(case.home.runs):
        run = case.ledger.run(folder.name)
        if run is None and folder.name != expected:
            yield warning("run_stranger", folder.name, path=folder)
        elif (
            run is not None and run.state is RunState.PROMOTED and (model := folder / "export" / "model.gguf").exists()
        ):
            yield warning("model_stranger", str(model.relative_to(case.home.root)), path=model)
    owned = {Path(version.gguf).parent.name for version in case.ledger.versions()}
    for folder in folders_in(case.home.versions):
        if folder.name not in owned:
            yield warning("version_stranger", folder.name, path=folder)
    for stray in strange_bases(case):
        yield warning("base_stranger", stray.name, path=stray)
    if case.home.orphans.is_dir():
        yield note("orphans_kept", gb(folder_bytes(case.home.orphans)))


def strange_bases(case: Case) -> list[Path]:
    """What lies in data/bases, is no base, and holds none that a version is applied to."""
    bases = [version.base_gguf for version in case.ledger.versions() if version.pruned_at is None]
    needed = {Path(base).parent for base in bases if base is not None}
    return [each for each in sorted(case.home.bases.glob("*")) if not sweep.is_base(each) and each not in needed]


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, links not followed."""
    return sorted(each for each in folder.iterdir() if each.is_dir() and not each.is_symlink())


def check_queue(case: Case) -> Iterator[Finding]:
    """What lies in the drop-box can be read; what lies beside the trained files is known."""
    found = scan(case.home.queue)
    for ignored in found.ignored:
        yield warning("queue_unread", ignored.name, ignored.reason)
    for file in found.files:
        if not os.access(case.home.queue / file.name, os.R_OK):
            yield warning("queue_unreadable", file.name)
    known = soundness.retired_names(case.ledger)
    if strangers := sorted(each.name for each in case.home.trained.iterdir() if each.name not in known):
        yield note("trained_strangers", ", ".join(strangers[:3]), n=len(strangers))


def check_quarantine(case: Case) -> Iterator[Finding]:
    """The files in quarantine have the lines that the ledger has as rejected, and no line that was corrected."""
    for path in quarantine_files(case.home, case.ledger):
        if is_in_step(case.ledger, path):
            continue
        if is_being_corrected(case.ledger, path):
            yield warning("quarantine_edited", path.name)
        else:
            yield problem("quarantine_differs", path.name, path=path)


def check_proposals(case: Case) -> Iterator[Finding]:
    """Every file in data/proposed can be read; how many wait."""
    waiting, damaged = read_all(case.home.proposed)
    for each in damaged:
        yield warning("proposal_damaged", each.name, each.reason)
    if waiting:
        yield note("proposals_wait", n=len(waiting))


def check_projections(case: Case) -> Iterator[Finding]:
    """What people and scripts read says what the ledger says."""
    home, ledger = case.home, case.ledger
    if projections.progress_was_deleted(home, ledger):
        yield warning("progress_deleted", home.progress.name)
        return
    if ledger.meta(projections.PROGRESS_WRITTEN) is None:
        return
    wanted = json.loads(json.dumps(projections.progress_report(ledger, case.settings)))
    if not says(home.progress, wanted):
        yield problem("projection_differs", home.progress.name)
    if not home.trained_examples.exists() or digest_of(home.trained_examples) != trained_digest(case):
        yield problem("projection_differs", home.trained_examples.name)


def digest_of(path: Path) -> str:
    """Of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def trained_digest(case: Case) -> str:
    """Of trained_examples.jsonl as it should be."""
    digest = hashlib.sha256()
    for row in case.ledger.trained_examples(case.settings.family):
        digest.update(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()
