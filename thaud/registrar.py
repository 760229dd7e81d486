"""Keeps an Ollama server in step with the ledger: what was promoted appears there by itself, the alias follows.

Owns when to reconcile and what is remembered of it; refuses to know how (serving/reconcile.py). Remembered is, for each
name, a row of registrations (state `served`, `failed`, or `uploading` while that takes long; detail; the server's
report), under the version's or the family's own name, without the namespace; and the last look at the server, whole
(synced.py).
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog

from thaud import curriculum
from thaud.artefacts import certificate_of
from thaud.config import Settings
from thaud.domain import Version
from thaud.errors import ServerError, ThauError
from thaud.ledger import Ledger, LedgerReader
from thaud.serving.address import reachable
from thaud.serving.reconcile import House, Outcome, Wanted, reconcile
from thaud.serving.registering import Log
from thaud.synced import Synced, put_down, read_synced
from thaud.waiting import left_behind_at, wait

LONGEST_S = 3600.0
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Plan:
    """What a server is to hold, as the ledger said at one moment."""

    host: str
    wanted: Sequence[Wanted]
    unwanted: Sequence[str]
    champion: Version | None
    house: House


def plan(settings: Settings, ledger: Ledger, *, take_over: bool = False, afresh: bool = True) -> Plan:
    """Read it from the ledger. `afresh`: what failed its proof is tried again. Raises StorageError."""
    given_up = [version.name for version in ledger.versions(settings.family) if version.pruned_at is not None]
    house = House(ledger.home_id(), settings.serving.namespace, take_over)
    champion = ledger.champion(settings.family)
    wanted = wanted_on_server(settings, ledger)
    wanted = [replace(each, refusal=None) for each in wanted] if afresh else wanted
    return Plan(settings.serving.ollama_host, wanted, given_up, champion, house)


def wanted_on_server(settings: Settings, ledger: LedgerReader) -> list[Wanted]:
    """Promoted versions that are not given up, with the context of their stage and what is known of them there."""
    known = {row["name"]: row for row in ledger.registrations() if row["host"] == settings.serving.ollama_host}
    wanted = []
    for version in ledger.promoted_versions(settings.family):
        if version.pruned_at is None:
            row = known.get(version.name) or {}
            report = row.get("report") or {}
            same = report.get("gguf_sha256") == version.gguf_sha256
            refusal = (str(report["refused_by"]), str(report["reason"])) if same and "refused_by" in report else None
            proved = same and refusal is None
            served = report.get("served_sha256") if proved else None
            own = replace(as_served(settings, version), promised=promised_by(ledger, version))
            wanted.append(replace(own, served_sha256=served, unproved=not proved, refusal=refusal))
    return wanted


def as_served(settings: Settings, version: Version) -> Wanted:
    """A version with the context of its stage: on a server, and in the Modelfile that `thau export` writes."""
    stage = curriculum.stage_at(curriculum.stages_with(settings.stages), version.age)
    return Wanted(version, stage.context_tokens)


def promised_by(ledger: LedgerReader, version: Version) -> frozenset[str]:
    """The capabilities of a version's certificate; one from before there were certificates promises to talk."""
    return frozenset((certificate_of(ledger, version) or {}).get("capabilities") or ("completion",))


def carry_out(planned: Plan, say: Log) -> Outcome:
    """Bring the server in step. It takes as long as uploads take. Raises ServerError where it does not answer."""
    from thaud.serving.ollama import OllamaServer  # noqa: PLC0415 - httpx only where there is a server

    server = OllamaServer(planned.host)
    return reconcile(server, planned.wanted, planned.champion, say, unwanted=planned.unwanted, house=planned.house)


def remember(ledger: Ledger, planned: Plan, outcome: Outcome, family: str) -> Synced:
    """Put down what a reconciliation found and did. Raises StorageError."""
    rows = {row["name"]: row for row in ledger.registrations() if row["host"] == planned.host}
    reports = {receipt.model: receipt.report() for receipt in outcome.receipts} | refusals(planned, outcome)
    names = found(planned, outcome)
    held = {name: ("failed" if state == "failed" else "served", why) for name, (state, why) in names.items()}
    if planned.champion is not None:
        why = outcome.alias_failure
        held[family] = ("failed", why) if why else ("served", planned.champion.name)
    for name, (state, why) in held.items():
        row = rows.get(name)
        if name in reports or row is None or (row["state"], row["detail"]) != (state, why):
            ledger.register(planned.host, name, state, why, reports.get(name))
    for name in {*planned.unwanted, *outcome.deleted} & rows.keys():
        ledger.unregister(planned.host, name)
    return Synced(
        planned.host,
        "in_step" if outcome.complete else "behind",
        outcome.deletion_failure or "",
        names=names | dict.fromkeys(outcome.deleted, ("deleted", "")),
        alias=planned.house.name(family) if planned.champion else None,
        version=planned.champion.name if planned.champion else None,
        alias_failure=outcome.alias_failure,
    )


def refusals(planned: Plan, outcome: Outcome) -> dict[str, dict[str, Any]]:
    """What is remembered of versions that failed their proof now: by which release of the server."""
    return {
        each.version.name: {
            "gguf_sha256": each.version.gguf_sha256,
            "refused_by": outcome.server_version,
            "reason": outcome.failed[each.version.name],
        }
        for each in planned.wanted
        if each.version.name in outcome.refused and each.refusal is None
    }


def found(planned: Plan, outcome: Outcome) -> dict[str, tuple[str, str]]:
    """What became of each wanted version: served (made or proved now), kept or failed, and why."""
    made = {receipt.model for receipt in outcome.receipts}
    return {
        (name := each.version.name): (
            ("failed", outcome.failed[name]) if name in outcome.failed else ("served" if name in made else "kept", "")
        )
        for each in planned.wanted
    }


def waiting_for(planned: Plan, state: str, why: str, ledger: LedgerReader) -> Synced:
    """A server that could not be asked: what it was last seen to hold is still so, the rest waits."""
    served = {row["name"] for row in ledger.registrations() if (row["host"], row["state"]) == (planned.host, "served")}
    versions = (each.version.name for each in planned.wanted)
    names = {name: ("kept" if name in served else "waiting", "") for name in versions}
    champion = planned.champion.name if planned.champion else None
    return Synced(planned.host, state, why, names=names, version=champion)


def broken_off(planned: Plan, state: str, why: str, ledger: Ledger) -> Synced:
    """The same, after a look that may have died in an upload: nobody uploads any more. Raises StorageError."""
    for row in ledger.registrations():
        if (row["host"], row["state"]) == (planned.host, "uploading"):
            ledger.register(planned.host, row["name"], "failed", why)
    return waiting_for(planned, state, why, ledger)


class Registrar:
    """The daemon's part: when to look, and what was asked for meanwhile. `sync` calls it at once, `stop` ends it."""

    def __init__(self, settings: Settings, ledger: Ledger, sync: asyncio.Event, stop: asyncio.Event) -> None:
        self.settings, self.ledger, self.sync, self.stop = settings, ledger, sync, stop
        self.asked: list[str] = []
        self.take_over = False
        self.afresh = True
        self.answers = False

    def ask(self, values: Mapping[str, Any]) -> None:
        """`thau sync`: look now. `values`: its id, under which the answer is found, and `take_over`."""
        self.asked.append(str(values.get("id", "")))
        self.take_over = self.take_over or values.get("take_over") is True
        self.sync.set()

    async def keep_in_step(self) -> None:
        """Reconcile at start, whenever `sync` is set, and on a timer, until `stop`.

        The timer begins with `serving.retry_s` after whatever was news, and doubles up to an hour while nothing is.
        """
        stop, sync = self.stop, self.sync
        pause_s = self.settings.serving.retry_s
        while not stop.is_set():
            sync.clear()
            news = await self.look_or_log()
            pause_s = self.settings.serving.retry_s if news else min(LONGEST_S, 2 * pause_s)
            await self.rest(pause_s)

    async def look_or_log(self) -> bool:
        """Look at the server; whether there was news. Nothing that happens there ends the daemon."""
        try:
            return await self.look()
        except ThauError as error:
            log.warning("ollama_not_reconciled", reason=str(error))
        except Exception:
            log.exception("ollama_not_reconciled")
        return True

    async def look(self) -> bool:
        """One reconciliation, remembered; whether anything was done or has changed. Raises StorageError."""
        asked, take_over = list(self.asked), self.take_over
        if not self.settings.serving.ollama_enabled and not asked:
            return False
        planned = plan(self.settings, self.ledger, take_over=take_over, afresh=self.afresh or bool(asked))
        self.afresh = False
        before = read_synced(self.ledger)
        if (synced := await self.ask_server(planned)) is None:
            return False
        put_down(self.ledger, synced, asked)
        del self.asked[: len(asked)]
        self.take_over = bool(self.asked) and self.take_over
        return not synced.same_as(before) or "served" in {state for state, _ in synced.names.values()}

    async def ask_server(self, planned: Plan) -> Synced | None:
        """What the server has to say; None where the daemon is to stop before it has."""
        if not self.settings.serving.ollama_enabled:
            return Synced(planned.host, "off", "the service runs with serving.ollama_enabled = false: restart it")
        self.answers = await asyncio.to_thread(reachable, planned.host)
        if not self.answers:
            return broken_off(planned, "away", f"nobody answers at {planned.host}", self.ledger)
        if not planned.wanted and not planned.unwanted:
            return Synced(planned.host, "in_step")
        say = self.saying(planned.host)
        try:
            outcome = await left_behind_at(self.stop, lambda: carry_out(planned, say))
        except ServerError as error:
            log.warning("ollama_not_reconciled", reason=str(error))
            there = await asyncio.to_thread(reachable, planned.host)
            return broken_off(planned, "refused" if there else "away", str(error), self.ledger)
        return remember(self.ledger, planned, outcome, self.settings.family) if outcome else None

    def saying(self, host: str) -> Log:
        """The log of the thread that reconciles; an upload's progress goes into the ledger too."""
        loop = asyncio.get_running_loop()

        def say(event: str, **fields: Any) -> None:
            log.info(event, **fields)
            if event == "ollama_uploading" and not self.stop.is_set():
                loop.call_soon_threadsafe(self.tell_upload, host, fields)

        return say

    def tell_upload(self, host: str, said: Mapping[str, Any]) -> None:
        """How far an upload has come, for `thau status` and `thau sync`."""
        try:
            self.ledger.register(host, said["name"], "uploading", f"{said['sent']}/{said['size']}")
        except ThauError as error:
            log.warning("ollama_progress_not_noted", reason=str(error))

    async def rest(self, pause_s: float) -> None:
        """Until somebody asks, the time is over, or the server has come or gone, which is looked at cheaply."""
        serving = self.settings.serving
        over_at = time.monotonic() + pause_s
        while not self.sync.is_set() and (left_s := over_at - time.monotonic()) > 0:
            await wait(self.sync, min(left_s, serving.retry_s))
            if self.sync.is_set() or not serving.ollama_enabled:
                continue
            if await asyncio.to_thread(reachable, serving.ollama_host) != self.answers:
                return


def sync_once(settings: Settings, ledger: Ledger, say: Callable[..., None], *, take_over: bool) -> Synced:
    """One reconciliation by whoever holds the daemon's lock. Raises StorageError; a server that is away is told."""
    planned = plan(settings, ledger, take_over=take_over)
    if not reachable(planned.host):
        synced = broken_off(planned, "away", f"nobody answers at {planned.host}", ledger)
    elif not planned.wanted and not planned.unwanted:
        synced = Synced(planned.host, "in_step")
    else:
        try:
            synced = remember(ledger, planned, carry_out(planned, say), settings.family)
        except ServerError as error:
            synced = broken_off(planned, "refused" if reachable(planned.host) else "away", str(error), ledger)
    put_down(ledger, synced, ())
    return replace(synced, at=ledger.now())
