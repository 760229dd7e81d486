"""The repairs, each for one kind of finding. To be called by whoever holds the daemon's lock.

What cannot be named is never deleted: it is moved to `data/orphans/DATE/`, under the path that it had.
"""

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from thaud.artefacts import passed_certificate
from thaud.config import Settings
from thaud.control import has_lost_ledger
from thaud.doctor.examination import Examined
from thaud.doctor.finding import Finding
from thaud.doctor.histories import RECEIPTS
from thaud.domain import RunState
from thaud.dropbox import Position
from thaud.durable import fsync_folder, write_durably
from thaud.errors import StorageError, ThauError, in_words
from thaud.failpoints import reach
from thaud.home import Home
from thaud.ledger import Ledger, soundness
from thaud.projections import project
from thaud.quarantine import rewrite
from thaud.sweep import swept

NO_FOLDER = "folder_missing"


@dataclass(frozen=True, slots=True)
class Done:
    """One repair of what a check had found. `failure` says why it could not be done."""

    check: str
    finding: Finding
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Bench:
    """What repairs work with."""

    home: Home
    settings: Settings
    ledger: Ledger


def mend(home: Home, settings: Settings, found: Sequence[Examined]) -> list[Done]:
    """Repair what can be repaired without risk, in the order of the checks; what was done, and what could not be."""
    findings = [(one.check, finding) for one in found for finding in one.findings]
    done = [tried(partial(make_folder, each), check, each) for check, each in findings if each.name == NO_FOLDER]
    if not home.ledger.exists() or has_lost_ledger(home):
        return done  # a new one would know nothing of the runs and versions that are there
    try:
        ledger = Ledger.open(home.ledger)
    except (ThauError, sqlite3.Error):
        return done
    with ledger:
        bench = Bench(home, settings, ledger)
        for check, finding in findings:
            if (repair := REPAIRS.get(finding.name)) is not None:
                done.append(tried(partial(repair, bench, finding), check, finding))
    return done


def tried(repair: Callable[[], None], check: str, finding: Finding) -> Done:
    """Do one repair, and say what kept it from being done."""
    try:
        repair()
    except (ThauError, OSError) as error:
        return Done(check, finding, in_words(error))
    except sqlite3.Error as error:
        return Done(check, finding, str(error))
    return Done(check, finding)


def make_folder(finding: Finding) -> None:
    """A folder that is missing."""
    assert finding.path is not None
    finding.path.mkdir(parents=True, exist_ok=True)


def remove(_: Bench, finding: Finding) -> None:
    """What is ours and of no use. Raises StorageError."""
    assert finding.path is not None
    if not swept(finding.path):
        raise StorageError(f"cannot remove {finding.path}: check its owner and mode")


def set_aside(bench: Bench, finding: Finding) -> None:
    """Move what nobody owns out of the way, under the path that it had. Raises OSError."""
    assert finding.path is not None
    day = bench.home.orphans / datetime.now(UTC).strftime("%Y-%m-%d")
    target = day / finding.path.relative_to(bench.home.data)
    target.parent.mkdir(parents=True, exist_ok=True)
    reach("move.stranger.before")
    finding.path.rename(free_name(target))
    fsync_folder(target.parent)
    fsync_folder(finding.path.parent)
    reach("move.stranger.after")


def free_name(path: Path) -> Path:
    """The path, or where it is taken the first free one of x-2, x-3, ..."""
    free, number = path, 1
    while free.exists() or free.is_symlink():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free


def rebuild_quarantine(bench: Bench, finding: Finding) -> None:
    """A file in quarantine, from the ledger."""
    assert finding.path is not None
    rewrite(bench.ledger, finding.path)


def rebuild_projections(bench: Bench, _: Finding) -> None:
    """All projections, from the ledger."""
    project(bench.home, bench.ledger, bench.settings)


def rebuild_certificate(bench: Bench, finding: Finding) -> None:
    """The certificate beside a version, from the ledger. Raises OSError."""
    version = next(each for each in bench.ledger.versions() if each.name == finding.subject)
    certificate = passed_certificate(bench.ledger.receipt(version.run_id, "certify"), version.gguf_sha256)
    assert finding.path is not None
    finding.path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(finding.path, json.dumps(certificate, indent=2).encode(), "certificate")


def read_again(bench: Bench, finding: Finding) -> None:
    """A file whose position cannot be read is read from its start; what is known of it is not stored twice."""
    soundness.forget_position(bench.ledger, finding.subject, Position(0, 0, 0, 0).to_json())


def end_run(bench: Bench, finding: Finding) -> None:
    """A run that can never go on ends, with the reason; a new one may begin."""
    reason = f"thau doctor: it could not go on ({finding.name.replace('_', ' ')} {finding.detail or finding.n or ''})"
    bench.ledger.end_run(finding.subject, RunState.FAILED, [reason])


def take_run_back(bench: Bench, finding: Finding) -> None:
    """A run without a receipt goes back to where the step is done again; one that has its number already ends."""
    run = bench.ledger.run(finding.subject)
    assert run is not None
    if run.state is RunState.ACCEPTED:
        end_run(bench, finding)
    else:
        soundness.take_back(bench.ledger, run.id, dict(RECEIPTS[run.state])[finding.detail])


REPAIRS: Mapping[str, Callable[[Bench, Finding], None]] = {
    "ledger_refused": lambda *_: None,  # opening the writer has brought it up to date
    "indexes_damaged": lambda bench, _: soundness.reindex(bench.ledger),
    "wal_large": lambda bench, _: soundness.checkpoint(bench.ledger),
    "counts_differ": lambda bench, _: soundness.recount(bench.ledger),
    "position_unreadable": read_again,
    "request_unreadable": set_aside,
    "temporary_left": remove,
    "refused_left": remove,
    "pruned_left": remove,
    "base_stranger": set_aside,
    "certificate_differs": rebuild_certificate,
    "run_stranger": set_aside,
    "model_stranger": set_aside,
    "version_stranger": set_aside,
    "quarantine_differs": rebuild_quarantine,
    "projection_differs": rebuild_projections,
    "run_unreadable": end_run,
    "run_examples_gone": end_run,
    "run_receipt_gone": take_run_back,
    "registration_astray": lambda bench, finding: soundness.deregister(bench.ledger, finding.detail, finding.subject),
}


def can_mend(finding: Finding) -> bool:
    """Whether there is a repair for it."""
    return finding.name in REPAIRS or finding.name == NO_FOLDER
