"""Which version answers and which have their files, against what was promoted and asked for; and the ways to ask.

Each function says what is wrong, or nothing.
"""

from tests.crash.arena import Arena
from tests.testkit.daemon import look
from thaud.control import Request
from thaud.ledger import LedgerReader
from thaud.lifecycle import choice, given_up

FAMILY = "thau-nano"
KEPT = 1  # as SETTINGS of the arena has it
MOVES = {"version_promoted": "version", "rolled_back": "after"}


def wrong_alias(ledger: LedgerReader) -> str | None:
    """Whether the alias is on another version than the one that was promoted or gone back to last."""
    last = next(iter(ledger.events(1, list(MOVES))), None)
    wanted = last and last[MOVES[last["kind"]]]
    champion = ledger.champion(FAMILY)
    if (champion and champion.name) != wanted:
        return f"the alias is not on {wanted}: {champion and champion.name}"
    return f"{champion.name} answers and was given up" if champion and champion.pruned_at else None


def unanswered(arena: Arena, ledger: LedgerReader) -> str | None:
    """The version that was to answer, where the daemon neither made it answer nor said why not."""
    if arena.wanted is None:
        return None
    n, since = arena.wanted
    for event in ledger.events(1000, ["rolled_back", "not_rolled_back"]):
        if event["at"] >= since and (event.get("n") == n or event.get("after") == f"{FAMILY}-v{n}"):
            return None
    return f"going back to version {n}, asked for at {since}, was forgotten"


def files_given_up(arena: Arena) -> list[str]:
    """Files that a prune should have removed."""
    return look(arena.home, lambda ledger: [f"{path} (given up)" for path in map(str, given_up(ledger))])


def go_back(arena: Arena) -> bool:
    """Ask for another version to answer; False where there is none that could."""
    found = look(arena.home, lambda ledger: (ledger.promoted_versions(FAMILY), ledger.champion(FAMILY)))
    others = [each for each in found[0] if each.pruned_at is None and each != found[1]]
    if others:
        arena.request(Request.ROLLBACK, n=arena.random.choice(others).n)
    return bool(others)


def prune(arena: Arena) -> bool:
    """Ask for the files of all versions to be given up that may; False where there is none."""
    going = look(arena.home, lambda ledger: choice(ledger, FAMILY, KEPT).given_up)
    if going:
        arena.request(Request.PRUNE, names=[version.name for version in going])
    return bool(going)
