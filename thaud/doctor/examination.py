"""All checks in order. What a working daemon is just doing looks wrong for a moment: there, only what is still so a
second later counts.
"""

import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from thaud.config import Settings
from thaud.control import has_lost_ledger
from thaud.doctor import histories, homes, ledgers, leftovers
from thaud.doctor.finding import Case, Check, Finding, Level, OnDigest, note, problem
from thaud.errors import HomeError, ThauError, in_words
from thaud.home import Home
from thaud.ledger import LedgerReader

SECOND_LOOK_S = 1.0
FOLDERS, OPENING, DAMAGED = "folders", "ledger", "ledger_damaged"
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
    "proposals": leftovers.check_proposals,
    "projections": leftovers.check_projections,
    "disk": homes.check_disk,
    "ollama": histories.check_ollama,
    "base": homes.check_base,
    "walls": homes.check_walls,
}
AT_REST = {"ledger", "versions", "disk", "ollama", "base", "walls"}  # not changed by a daemon at work
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
    if not home.ledger.exists() or has_lost_ledger(home):
        return [*found, Examined(OPENING, (problem("ledger_gone", str(home.ledger)),))]
    try:
        ledger = LedgerReader.open(home.ledger)
    except (ThauError, sqlite3.Error) as error:
        return [*found, Examined(OPENING, (problem(why_not_opened(error), str(home.ledger), str(error)),))]
    with ledger:
        case = Case(home, settings, ledger, served, quick, on_digest)
        first = said_once([guarded(name, partial(check, case)) for name, check in CHECKS.items()])
        return [*found, *(looked_at_again(case, each) for each in again_where_due(case, first))]


def why_not_opened(error: Exception) -> str:
    """A ledger of another release, one that the place refuses, or one that is damaged."""
    if isinstance(error, HomeError):
        return "ledger_refused"
    return "check_failed" if isinstance(error.__cause__, sqlite3.OperationalError) else DAMAGED


def said_once(found: list[Examined]) -> list[Examined]:
    """A damaged ledger stops many checks: what to do is said with the first; the others were stopped."""
    damaged = [one.check for one in found if any(each.name == DAMAGED for each in one.findings)]
    return [Examined(one.check, (note("not_checked"),)) if one.check in damaged[1:] else one for one in found]


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
        said = in_words(error) if isinstance(error, OSError) else str(error) or repr(error)
        found.append(problem(DAMAGED if damaged else "check_failed", name, said))
    return Examined(name, tuple(found))
