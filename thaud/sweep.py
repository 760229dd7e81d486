"""What a crash leaves behind, cleaned when the daemon starts and by `thau doctor --fix`.

Owns what may go: our own temporary names, models of runs that were refused, files of versions that were given up and
bases that no version shares, checkpoints of trainings that are over, folders of runs that never began, steps whose
daemon is gone. Refuses to touch whatever it cannot name. To be called by whoever holds the daemon's lock.
"""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import structlog

from thaud.domain import FINAL_STATES, RunState
from thaud.durable import fsync_folder, remove
from thaud.errors import StorageError
from thaud.failpoints import reach
from thaud.home import Home
from thaud.ledger import LedgerReader
from thaud.lifecycle import given_up
from thaud.steps.contract import CHECKPOINTS, LOCK, RESULT
from thaud.workdir import end_survivor

OTHERS_S = 3600.0  # commands write into these folders without a lock: its temporary names may be in use
OF_QUEUE = re.compile(r"\.(?:.+-[0-9a-f]{16}\.jsonl|import-[0-9a-f]{16})\.tmp\Z")
OF_CONTROL = re.compile(r"\.[a-z]+-[0-9a-f]{32}\.json\.tmp\Z")
OF_PROPOSED = re.compile(r"\.[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}\.json\.tmp\Z")
OF_TRAINED = re.compile(r"\.retire\.tmp\Z")
OF_LOGS = re.compile(r"\.(?:cognitive_progress\.json|trained_examples\.jsonl)\.tmp\Z")
OF_BASE = {"model.gguf", ".model.gguf.tmp", "model.gguf.sha256", ".model.gguf.sha256.tmp"}
OURS = re.compile(r"\..+\.tmp\Z")
BEFORE_FREEZING = {"bases", "progress.ndjson"}
log = structlog.get_logger()


def sweep(home: Home, ledger: LedgerReader) -> list[Path]:
    """End what outlived its daemon and remove what is left over; what was removed.

    What will not end or cannot be removed is logged, and stays for the next time.
    """
    for lock in sorted(home.runs.glob(f"*/*/{LOCK}")):
        try:
            end_survivor(lock.parent)
        except (StorageError, OSError) as error:
            log.warning("step_outlives_its_daemon", workdir=str(lock.parent), reason=str(error))
    removed = [each for each in leftovers(home, ledger, time.time()) if swept(each)]
    if removed:
        log.info("swept", files=len(removed), first=str(removed[0]))
    return removed


def leftovers(home: Home, ledger: LedgerReader, now: float) -> Iterator[Path]:
    """What no ledger accounts for and nobody is writing: `now` is in seconds since the epoch."""
    yield from temporary(home.queue, OF_QUEUE, now - OTHERS_S)
    yield from temporary(home.control, OF_CONTROL, now - OTHERS_S)
    yield from temporary(home.proposed, OF_PROPOSED, now - OTHERS_S)
    yield from temporary(home.trained, OF_TRAINED, now)
    below = [each for top in (home.versions, home.runs, home.bases) for each in sorted(top.rglob("*")) if each.is_dir()]
    yield from temporary(home.logs, OF_LOGS, now)
    for folder in (home.rejected, home.cache, *below):
        yield from temporary(folder, OURS, now)
    for model in home.runs.glob("*/export/model.gguf"):
        run = ledger.run(model.parent.parent.name)
        if run is not None and run.state in {RunState.REJECTED, RunState.FAILED}:
            yield model
    yield from (path for path in given_up(ledger) if home.bases not in path.parents)
    yield from unused_bases(home, ledger)
    for checkpoints in home.runs.glob(f"*/train/{CHECKPOINTS}"):
        run = ledger.run(checkpoints.parent.parent.name)
        over = run is not None and (
            run.state in FINAL_STATES or (run.state is not RunState.FROZEN and (checkpoints.parent / RESULT).exists())
        )  # a lost adapter is trained again in any state, and until then has no result
        if over:
            yield checkpoints
    unborn = home.runs / ledger.next_run_id()
    if unborn.is_dir() and {each.name for each in unborn.iterdir()} <= BEFORE_FREEZING:
        yield unborn


def unused_bases(home: Home, ledger: LedgerReader) -> Iterator[Path]:
    """Folders of shared bases that no version with a file is applied to, and that no run under way may be making use
    of: of versions that were given up, and what refused runs leave.
    """
    run = ledger.unfinished_run()
    if run is not None and run.spec.get("export_kind") == "adapter":
        return
    needed = {version.base_gguf for version in ledger.versions() if version.pruned_at is None}
    unneeded = (base for base in sorted(home.bases.glob("*")) if str(base / "model.gguf") not in needed)
    yield from filter(is_base, unneeded)


def is_base(folder: Path) -> bool:
    """Whether something in data/bases is a shared base of ours: a model and its digest, or one half written."""
    return folder.is_dir() and not folder.is_symlink() and {each.name for each in folder.iterdir()} <= OF_BASE


def temporary(folder: Path, names: re.Pattern[str], before: float) -> Iterator[Path]:
    """Our temporary files in a folder that were last written before a time, in seconds since the epoch."""
    for path in sorted(folder.glob(".*.tmp")):
        try:
            if names.match(path.name) and path.is_file() and path.lstat().st_mtime <= before:
                yield path
        except OSError:
            continue


def swept(path: Path) -> bool:
    """Remove one; False where the disk refuses."""
    try:
        reach("sweep.leftover.before")
        remove(path)
        fsync_folder(path.parent)
        reach("sweep.leftover.after")
    except OSError as error:
        log.warning("not_swept", path=str(path), reason=str(error))
        return False
    return True
