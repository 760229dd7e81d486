"""Whether a run is due: what ledger and settings say, for curriculum.py to decide. Owns neither clock nor loop."""

from datetime import UTC, datetime

from thaud import curriculum
from thaud.config import Settings
from thaud.domain import Trigger
from thaud.ledger import LedgerReader


def situation_of(ledger: LedgerReader, family: str, quiet_for_s: float, *, requested: bool) -> curriculum.Situation:
    """What the ledger says now. `quiet_for_s`: seconds since the drop-box changed; `requested`: by somebody.

    Raises StorageError.
    """
    pending, unseen = ledger.pending(family, ledger.age)
    since = ledger.waiting_since(family, ledger.age)
    ago = (datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds() if since else None
    return curriculum.Situation(
        pending=pending,
        unseen=unseen,
        trainable=ledger.trainable(ledger.age),
        quiet_for_s=quiet_for_s,
        last_run_ago_s=ago,
        failures=ledger.failures(),
        requested=requested,
    )


def due(situation: curriculum.Situation, settings: Settings) -> Trigger | None:
    """What makes a run due, by the settings; None where none is."""
    training = settings.training
    return curriculum.when_to_train(
        situation,
        enabled=training.auto_train_enabled,
        min_new_examples=training.min_new_examples,
        quiet_s=settings.queue.quiet_s,
        interval_s=training.auto_train_interval_hours * 3600,
    )
