"""Files that people and scripts look at, rebuilt from the ledger whenever it changes. Never read back as truth.

The one thing that is read is whether `cognitive_progress.json` is there: deleting it and restarting resets the age, as
the guide promises.
"""

import json
from typing import Any

from thaud.config import Settings
from thaud.durable import write_durably
from thaud.errors import StorageError
from thaud.home import Home
from thaud.ledger import Ledger, LedgerReader
from thaud.status import report_cognitive

PROGRESS_WRITTEN = "progress_written"


def project(home: Home, ledger: Ledger, settings: Settings) -> None:
    """Write all projections. Raises StorageError where the disk refuses; they are then as they were."""
    progress = json.dumps(progress_report(ledger, settings), ensure_ascii=False, indent=2)
    rows = (json.dumps(row, ensure_ascii=False) + "\n" for row in ledger.trained_examples(settings.family))
    try:
        home.logs.mkdir(parents=True, exist_ok=True)
        write_durably(home.progress, progress.encode() + b"\n", "progress")
        if ledger.meta(PROGRESS_WRITTEN) is None:
            ledger.set_meta(PROGRESS_WRITTEN, "1")
        write_durably(home.trained_examples, "".join(rows).encode(), "trained_examples")
    except OSError as error:
        raise StorageError(
            f"cannot write {error.filename or home.logs}: {error.strerror}; see df and ls -ld"
        ) from error


def progress_report(ledger: LedgerReader, settings: Settings) -> dict[str, Any]:
    """cognitive_progress.json: the age, its criteria, the champion, and how it came here."""
    champion = ledger.champion(settings.family)
    kinds = ("age_advanced", "reset")
    return {
        **report_cognitive(ledger, settings),
        "model": champion.name if champion else None,
        "total_examples_trained": ledger.trained_count(settings.family),
        "history": list(reversed(ledger.events(1000, kinds))),
    }


def progress_was_deleted(home: Home, ledger: LedgerReader) -> bool:
    """Whether somebody removed cognitive_progress.json, which asks for a reset."""
    return ledger.meta(PROGRESS_WRITTEN) is not None and not home.progress.exists()
