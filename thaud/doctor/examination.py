"""All checks in order. What a working daemon is just doing looks wrong for a moment: there, only what is still so a
second later counts.
"""

import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from thaud.config import Settings
from thaud.doctor import histories, homes, ledgers, leftovers
from thaud.doctor.finding import Case, Check, Finding, Level, OnDigest, problem
from thaud.errors import HomeError, ThauError
from thaud.home import Home
from thaud.ledger import LedgerReader

SECOND_LOOK_S = 1.0
FOLDERS, OPENING = "folders", "ledger"
CHECKS: Mapping[str, Check] = {
    "ledger": ledgers.check_ledger_file,
    "sense": ledgers.check_ledger_sense,
    "counts": ledgers.check_counts,
    "positions": ledgers.check_positions,
    "daemon": homes.check_daemon,
    "progress": homes.check_progress,
    "runs": histories.check_runs,
    "versions": histories.check_versions,
    "leftovers": leftovers.check_leftovers,
    "strangers": leftovers.check_strangers,
    "queue": leftovers.check_queue,
    "quarantine": leftovers.check_quarantine,
    "projections": leftovers.check_projections,
    "disk": homes.check_disk,
    "ollama": histories.check_ollama,
    "base": homes.check_base,
}
AT_REST = {"ledger", "versions", "disk", "ollama", "base"}  # what a daemon at work does not change under our eyes
UNFORESEEN = (sqlite3.Error, OSError, ThauError, ValueError, TypeError, LookupError)


@dataclass(frozen=True, slots=True)
class Examined:
    """One check and what it found; nothing to be said where that is empty."""

    check: str
    findings: tuple[Finding, ...]

    @property
    def level(self) -> Level:
        """The worst that was found; a note where there is nothing to do."""
        levels = [finding.level for finding in self.findings]
        return Level.PROBLEM if Level.PROBLEM in levels else Level.WARNING if Level.WARNING in levels else Level.NOTE


def examine(
    home: Home, settings: Settings, *, served: bool, quick: bool = False, on_digest: OnDigest = lambda *_: None
) -> list[Examined]:
    """Look at everything; changes nothing. `served`: a daemon works on the home now. Never raises for what it finds."""
    found = [guarded(FOLDERS, partial(homes.check_folders, home))]
    if not home.ledger.exists():
        return [*found, Examined(OPENING, (problem("ledger_gone", str(home.ledger)),))]
    try:
        ledger = LedgerReader.open(home.ledger)
    except (ThauError, sqlite3.Error) as error:
        name = "ledger_refused" if isinstance(error, HomeError) else "ledger_damaged"
        return [*found, Examined(OPENING, (problem(name, str(home.ledger), str(error)),))]
    with ledger:
        case = Case(home, settings, ledger, served, quick, on_digest)
        first = [guarded(name, partial(check, case)) for name, check in CHECKS.items()]
        return [*found, *(looked_at_again(case, each) for each in again_where_due(case, first))]


def again_where_due(case: Case, first: list[Examined]) -> list[Examined]:
    """Wait a moment if anything is to be looked at again."""
    if any(is_doubtful(case, each) for each in first):
        time.sleep(SECOND_LOOK_S)
    return first


def looked_at_again(case: Case, before: Examined) -> Examined:
    """Only what is found twice, where the first look may have been at something in the middle."""
    if not is_doubtful(case, before):
        return before
    seen = {finding.identity for finding in before.findings}
    after = guarded(before.check, partial(CHECKS[before.check], case))
    return Examined(before.check, tuple(finding for finding in after.findings if finding.identity in seen))


def is_doubtful(case: Case, examined: Examined) -> bool:
    """Whether a daemon's work may be all that was found."""
    return case.served and examined.check not in AT_REST and examined.level is not Level.NOTE


def guarded(name: str, check: Callable[[], Iterable[Finding]]) -> Examined:
    """A check; what keeps it from its end is a finding as well."""
    found: list[Finding] = []
    try:
        found.extend(check())
    except UNFORESEEN as error:
        damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
        found.append(problem("ledger_damaged" if damaged else "check_failed", name, str(error) or repr(error)))
    return Examined(name, tuple(found))
