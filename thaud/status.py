"""What THAU is, knows and waits for, as one report: ledger and settings in, plain values out.

`thau status`, `GET /status` and `GET /stats` show it; words for people are the CLI's.
"""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from thaud.artefacts import certificate_of
from thaud.config import Settings
from thaud.control import daemon_runs, living_state, unreadable
from thaud.curriculum import Readiness, next_stage, readiness, stage_at, stages_with
from thaud.domain import Score, Stage, Version
from thaud.home import Home
from thaud.ledger import LedgerReader, RunRow
from thaud.proposals.folder import count_waiting
from thaud.synced import read_synced

SILENT_S = 600.0
LITTLE_BYTES = 512 << 20
TRAINING = (
    "steps",
    "first_loss",
    "last_loss",
    "seconds",
    "tokens_per_s",
    "supervised_tokens_per_s",
    "peak_memory_bytes",
    "kl_to_base",
    "stopped_early",
)
MADE = ("seed", "context_tokens", "learning_rate", "epochs", "rank", "alpha", "batch_examples", "precision")


def current_stage(ledger: LedgerReader, settings: Settings) -> Stage:
    """The stage that THAU is in."""
    return stage_at(stages_with(settings.stages), ledger.age)


def current_readiness(ledger: LedgerReader, settings: Settings) -> Readiness:
    """How far the champion meets the current stage's criteria."""
    stages = stages_with(settings.stages)
    stage = stage_at(stages, ledger.age)
    champion = ledger.champion(settings.family)
    score = champion.accuracy if champion and champion.age == stage.age else None
    return readiness(
        stage,
        ledger.trained_count(settings.family, stage.age),
        score,
        min_items=settings.exam.min_items,
        last=next_stage(stages, stage.age) is None,
    )


def score_json(score: Score | None) -> dict[str, Any] | None:
    """A score for reports, or null."""
    return score.to_json() if score else None


def report_cognitive(ledger: LedgerReader, settings: Settings) -> dict[str, Any]:
    """The age, and what the next one takes. `progress_pct` is that of the examples, 0 to 100."""
    stage = current_stage(ledger, settings)
    ready = current_readiness(ledger, settings)
    return {
        "current_age": stage.age,
        "stage": stage.name,
        "context_tokens": stage.context_tokens,
        "progress": {
            "examples": ready.examples,
            "min_examples": ready.min_examples,
            "progress_pct": min(100, round(100 * ready.examples / ready.min_examples)),
            "accuracy": score_json(ready.score),
            "min_accuracy": ready.min_accuracy,
            "min_items": ready.min_items,
            "can_advance": ready.ready,
            "blockers": [str(blocker) for blocker in ready.blockers],
        },
    }


def report_service(ledger: LedgerReader, settings: Settings) -> dict[str, Any]:
    """Totals: what was taken in, taught and refused."""
    pending, unseen = ledger.pending(settings.family, ledger.age)
    counts = ledger.counts_by_age()
    runs = ledger.runs(limit=1)
    return {
        "total_examples": sum(sum(sides.values()) for sides in counts.values()),
        "total_examples_trained": ledger.trained_count(settings.family),
        "trainings_completed": len(ledger.versions(settings.family)),
        "pending": pending,
        "pending_unseen": unseen,
        "waiting_by_age": {str(age): n for age, n in ledger.waiting_by_age(settings.family).items()},
        "held_out": sum(sides.get("held_out", 0) for sides in counts.values()),
        "rejected_lines": ledger.rejection_count(),
        "auto_train_enabled": settings.training.auto_train_enabled,
        "last_run": report_run(runs[0]) if runs else None,
        "not_started": not_started(ledger, runs[0].changed_at if runs else ""),
    }


def not_started(ledger: LedgerReader, since: str) -> str | None:
    """Why no run could begin or go on, where that was tried after the last one's last step."""
    tried = next(iter(ledger.events(1, ["run_not_started"])), None)
    return str(tried["reason"]) if tried and tried["at"] > since else None


def report_run(run: RunRow) -> dict[str, Any]:
    """A run in short."""
    return {
        "id": run.id,
        "state": str(run.state),
        "age": run.age,
        "trigger": run.trigger,
        **report_strategy(run),
        "reasons": list(run.reasons),
        "created_at": run.created_at,
        "changed_at": run.changed_at,
    }


def report_strategy(run: RunRow) -> dict[str, Any]:
    """Fresh or continued, from which version, how many examples were replayed, and why."""
    spec = run.spec
    return {
        "strategy": spec.get("strategy", "fresh"),
        "parent": spec.get("parent"),
        "replayed": spec.get("replayed", 0),
        "strategy_reason": spec.get("strategy_reason", ""),
    }


def report_version(version: Version, ledger: LedgerReader) -> dict[str, Any]:
    """A version in short."""
    run = ledger.run(version.run_id)
    return {
        "name": version.name,
        "n": version.n,
        "age": version.age,
        "accuracy": version.accuracy.to_json(),
        "size_bytes": version.size_bytes,
        "examples": version.examples,
        "accepted_at": version.accepted_at,
        "kind": version.kind,
        "pruned_at": version.pruned_at,
        "served": report_served(version, ledger),
        "run": version.run_id,
        "training": report_training(version.run_id, ledger),
        **(report_strategy(run) if run else {}),
    }


def report_served(version: Version, ledger: LedgerReader) -> dict[str, Any]:
    """Where a version answers: here, where its file is, and on the Ollama servers that are known to hold it.

    `report` is what a server showed when the version was made there, null where it was not asked.
    """
    rows = [row for row in ledger.registrations() if row["name"] == version.name]
    return {
        "embedded": version.pruned_at is None and Path(version.gguf).is_file(),
        "ollama": [{key: row[key] for key in ("host", "name", "state", "detail", "at", "report")} for row in rows],
    }


def report_whole(version: Version, ledger: LedgerReader) -> dict[str, Any]:
    """Everything of one version: what made it, its file, its exam, its certificate, where it answers.

    `certificate` is null for one that was made before there were certificates; `exam` is the gate's report.
    """
    run = ledger.run(version.run_id)
    spec = run.spec if run else {}
    return {
        **report_version(version, ledger),
        "champion": version == ledger.champion(version.family),
        "promoted": version in ledger.promoted_versions(version.family),
        "file": version.gguf,
        "gguf_sha256": version.gguf_sha256,
        "base": {
            "name": spec.get("base"),
            "digest": spec.get("base_digest"),
            "gguf": version.base_gguf,
            "gguf_sha256": version.base_sha256,
        },
        "made": {name: spec.get(name) for name in MADE},
        "trigger": run.trigger if run else None,
        "exam": run.report if run else None,
        "reasons": list(run.reasons) if run else [],
        "certificate": certificate_of(ledger, version),
    }


def report_training(run_id: str, ledger: LedgerReader) -> dict[str, Any]:
    """What came of a run's training: losses in nats a supervised token, speed, peak, divergence from the base. Null is
    what a receipt from before does not have.
    """
    receipt = ledger.receipt(run_id, "train") or {}
    return {name: receipt.get(name) for name in TRAINING}


def report_status(ledger: LedgerReader, settings: Settings) -> dict[str, Any]:
    """Everything that `thau status` shows."""
    champion = ledger.champion(settings.family)
    unfinished = ledger.unfinished_run()
    return {
        "model": champion.name if champion else None,
        "size": settings.size,
        "family": settings.family,
        "version": champion.n if champion else None,
        "running": report_run(unfinished) if unfinished else None,
        "cognitive": report_cognitive(ledger, settings),
        "service": report_service(ledger, settings),
        "ollama": ledger.registrations(),
        "ollama_state": report_synced(ledger, settings),
    }


def report_synced(ledger: LedgerReader, settings: Settings) -> dict[str, Any] | None:
    """The last look at the Ollama server (synced.py), with `waiting`; null where there was none at this one."""
    synced = read_synced(ledger)
    if synced is None or synced.host != settings.serving.ollama_host or not settings.serving.ollama_enabled:
        return None
    return {**asdict(synced), "waiting": synced.waiting}


def report_stats(ledger: LedgerReader, settings: Settings) -> dict[str, Any]:
    """`GET /stats`: the status with history and the guide's key figures."""
    status = report_status(ledger, settings)
    return {
        **status,
        "versions": [report_version(version, ledger) for version in ledger.versions(settings.family)],
        "runs": [report_run(run) for run in ledger.runs()],
        "metrics": {
            "examples_per_day": ledger.examples_per_day(datetime.now(UTC)),
            "advances": ledger.events(1000, ["age_advanced"]),
            "rejected_runs": ledger.rejected_run_count(),
        },
    }


def with_daemon(report: dict[str, Any], home: Home, now: datetime) -> dict[str, Any]:
    """A report with what the daemon says of itself (nothing where none runs) and what its disk and folders look like.

    `silent_since` is there where a step has said nothing for ten minutes; `disk.low` below 512 MiB.
    """
    state = living_state(home)
    said = asdict(state) if state else {}
    service = dict(report["service"])
    if state is not None:
        service["auto_train_enabled"] = state.auto_train_enabled
    paused = said.get("paused", ())
    held = any(each["what"] == "runs" for each in paused)
    if held or (state is not None and report["running"]):
        service["not_started"] = None
    silent = None if held else silent_since(report["running"], home, now)
    return {
        **report,
        "service": service,
        "daemon": daemon_runs(home),
        "watching": said.get("watching"),
        "paused": list(paused),
        "reading": said.get("reading"),
        "silent_since": silent if state else None,
        "unreadable_requests": unreadable(home),
        "proposals": count_waiting(home.proposed),
        "disk": report_disk(home),
    }


def report_disk(home: Home) -> dict[str, Any]:
    """Room where the home is, in bytes."""
    free = shutil.disk_usage(home.data).free
    return {"free_bytes": free, "low": free < LITTLE_BYTES}


def silent_since(running: dict[str, Any] | None, home: Home, now: datetime) -> str | None:
    """When the step under way last said something, where that is long ago. ISO 8601, UTC."""
    if running is None:
        return None
    latest = max([datetime.fromisoformat(running["changed_at"]), *signs_of(home.runs / running["id"])])
    return latest.isoformat(timespec="seconds") if (now - latest).total_seconds() > SILENT_S else None


def signs_of(folder: Path) -> Iterator[datetime]:
    """When a run's steps began, and when they last told of progress."""
    for path in (folder / "progress.ndjson", *folder.glob("*/spec.json")):
        with suppress(OSError):
            yield datetime.fromtimestamp(path.stat().st_mtime, UTC)
