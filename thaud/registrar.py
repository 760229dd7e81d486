"""Keeps an Ollama server in step with the ledger: what was promoted appears there by itself, the alias follows.

Owns when to reconcile and what is remembered of it; refuses to know how (serving/reconcile.py).
"""

import asyncio
import os

import structlog

from thaud import curriculum
from thaud.config import Settings
from thaud.errors import ThauError
from thaud.ledger import Ledger
from thaud.serving.address import reachable
from thaud.serving.reconcile import Outcome, Wanted, reconcile
from thaud.waiting import left_behind_at, wait

log = structlog.get_logger()


async def keep_in_step(settings: Settings, ledger: Ledger, sync: asyncio.Event, stop: asyncio.Event) -> None:
    """Reconcile at start, whenever `sync` is set, and on a timer while the server is away, until `stop`."""
    while not stop.is_set():
        sync.clear()
        if settings.serving.ollama_enabled:
            try:
                await reconcile_once(settings, ledger, stop)
            except ThauError as error:
                log.warning("ollama_not_reconciled", reason=str(error))
            except Exception:
                log.exception("ollama_not_reconciled")
        await wait(sync, settings.serving.retry_s)


async def reconcile_once(settings: Settings, ledger: Ledger, stop: asyncio.Event) -> None:
    """Make the server hold the family's versions and alias, and remember what it holds. Raises ServerError."""
    host, champion = settings.serving.ollama_host, ledger.champion(settings.family)
    wanted = wanted_on_server(settings, ledger)
    if champion is None or not wanted or not await asyncio.to_thread(reachable, host):
        return
    from thaud.serving.ollama import OllamaServer  # noqa: PLC0415 - httpx only where there is a server

    server = OllamaServer(host)
    outcome = await left_behind_at(stop, lambda: reconcile(server, wanted, champion, log.info))
    if outcome is None:
        return
    known = {(row["host"], row["name"]): (row["state"], row["detail"]) for row in ledger.registrations()}
    for name, held in held_by_server(outcome, settings.family, champion.name).items():
        if known.get((host, name)) != held:
            ledger.register(host, name, *held)


def wanted_on_server(settings: Settings, ledger: Ledger) -> list[Wanted]:
    """Promoted versions whose file is there, with the context of their stage."""
    stages = curriculum.stages_with(settings.stages)
    return [
        Wanted(version, curriculum.stage_at(stages, version.age).context_tokens, ("<|im_end|>",))
        for version in ledger.promoted_versions(settings.family)
        if os.path.exists(version.gguf)  # noqa: PTH110
    ]


def held_by_server(outcome: Outcome, family: str, champion: str) -> dict[str, tuple[str, str]]:
    """What a reconciliation found, by name: (`served` or `failed`, detail). The alias is named after the family."""
    held = dict.fromkeys((*outcome.kept, *(receipt.name for receipt in outcome.receipts)), ("served", ""))
    held |= {name: ("failed", reason) for name, reason in outcome.failed.items()}
    held[family] = ("failed", outcome.alias_failure) if outcome.alias_failure else ("served", champion)
    return held
