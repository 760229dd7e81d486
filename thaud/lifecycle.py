"""Which version answers, and which keep their files: the rules of `thau rollback` and `thau prune`, and their doing.

Both are a commit in the ledger first. The alias is where every reader looks, so it moves at once; files that are given
up are removed after, and what a crash leaves of them is removed at the next start (sweep.py). Whoever changes something
here holds the daemon's lock. Refuses Ollama, which follows the ledger (registrar.py), and the adapters of runs, which
are never removed.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from thaud.config import Settings
from thaud.domain import Version
from thaud.durable import fsync_folder
from thaud.errors import NoVersionError, StorageError, ThauError, UsageError
from thaud.failpoints import reach
from thaud.ledger import Ledger, LedgerReader
from thaud.workdir import probe

ROLLED_BACK, REFUSED = "rolled_back", "not_rolled_back"  # events: the first is the ledger's own, the second ours
Tell = Callable[..., None]  # an event and its values, for a log


def carry_out(ledger: Ledger, settings: Settings, asked: Mapping[str, Any], tell: Tell) -> None:
    """Do what a request's values ask for: `n`, the version that is to answer, or `names`, the files to be given up.

    `tell` hears what was done. Raises StorageError where the ledger refuses; done twice it does no harm.
    """
    if "n" in asked:
        roll_back(ledger, settings.family, asked["n"], "requested", tell)
    else:
        prune(ledger, settings.family, settings.export.keep_versions, asked["names"], tell)


# Rollback


def choose(ledger: LedgerReader, family: str, n: int | None) -> Version:
    """The version to go back to: number `n`, else the last one promoted before the champion that has its file.

    Raises NoVersionError, and UsageError with the numbers that there are.
    """
    champion, promoted = ledger.champion(family), ledger.promoted_versions(family)
    kept = [version for version in promoted if version.pruned_at is None]
    if champion is None or not promoted:
        raise NoVersionError(f"there is no version of {family} yet: add examples and let `thau start` train one")
    if n is not None:
        return numbered(ledger, family, n, kept)
    earlier = [version for version in kept if version.n < champion.n]
    if not earlier:
        raise UsageError(
            f"{champion.name} answers, and no version before it has its file: name another with `thau rollback N`;"
            f" there are {numbers(kept)}"
        )
    return earlier[-1]


def numbered(ledger: LedgerReader, family: str, n: int, kept: Sequence[Version]) -> Version:
    """Version `n`, which may answer. Raises UsageError where it may not."""
    found = next((version for version in ledger.versions(family) if version.n == n), None)
    if found is None:
        raise UsageError(f"there is no {family}-v{n}: choose one of {numbers(kept)}")
    if found.pruned_at is not None:
        raise UsageError(f"{pruned_words(found)}: choose one of {numbers(kept)}")
    if found not in kept:
        raise UsageError(f"{found.name} was accepted and not promoted: choose one of {numbers(kept)}")
    return found


def pruned_words(version: Version) -> str:
    """Why a version has no file."""
    return f"the file of {version.name} was given up on {(version.pruned_at or '')[:10]} (`thau prune`)"


def numbers(versions: Sequence[Version]) -> str:
    """The numbers that there are."""
    return ", ".join(str(version.n) for version in versions)


def expect_file(version: Version, *, quick: bool = False) -> None:
    """Raise StorageError where a version's file, or the base under it, is lost or is not what was examined.

    `quick` looks at the size alone; else it takes the digests, seconds a gigabyte.
    """
    try:
        reason = complaint(version, quick=quick)
    except (StorageError, OSError) as error:
        reason = str(error)
    if reason is not None:
        raise StorageError(
            f"{version.name} cannot answer: {reason}; restore the file from a backup, or choose another version"
        )


def complaint(version: Version, *, quick: bool) -> str | None:
    """What is wrong with a version's files, or nothing. Raises OSError and StorageError where they cannot be read."""
    for path, digest in ((version.gguf, version.gguf_sha256), (version.base_gguf, version.base_sha256)):
        if path is None:
            continue
        if not Path(path).is_file():
            return f"{path} is gone"
        if digest is not None and not quick:
            probe(Path(path), digest)
    size = Path(version.gguf).stat().st_size
    return None if size == version.size_bytes else f"{version.gguf} has {size} bytes, not {version.size_bytes}"


def roll_back(ledger: Ledger, family: str, n: int, why: str, tell: Tell) -> bool:
    """Let version `n` answer from now on, if it may; an event says why not. Whether the alias moved.

    Its digest is the asker's to take: it may take seconds. Raises StorageError where the ledger refuses.
    """
    try:
        version = choose(ledger, family, n)
        expect_file(version, quick=True)
    except ThauError as error:
        tell(REFUSED, n=n, reason=str(error))
        ledger.note(REFUSED, n=n, reason=str(error))
        return False
    if version == ledger.champion(family):
        return False
    ledger.move_alias(version, why)
    tell(ROLLED_BACK, version=version.name, why=why)
    return True


# Prune


class Reason(StrEnum):
    """Why a version keeps its file."""

    CHAMPION = "champion"
    RECENT = "recent"
    BEST = "best"
    RUN = "run"


@dataclass(frozen=True, slots=True)
class Choice:
    """What a prune gives up, and what stays, each with the reasons."""

    given_up: tuple[Version, ...]
    kept: tuple[tuple[Version, tuple[Reason, ...]], ...]


def choice(ledger: LedgerReader, family: str, keep: int) -> Choice:
    """Of the promoted versions that have their files all but the last `keep`, the champion, the best of each age (by
    accuracy, the newer of two alike), and the champion that a run under way is measured against.
    """
    promoted = [version for version in ledger.promoted_versions(family) if version.pruned_at is None]
    champion, run = ledger.champion(family), ledger.unfinished_run()
    spec = run.spec if run is not None and run.family == family else {}
    best = {version.age: version for version in sorted(promoted, key=lambda each: (each.accuracy.accuracy, each.n))}
    rules: dict[Reason, Callable[[Version], bool]] = {
        Reason.CHAMPION: lambda version: version == champion,
        Reason.RECENT: lambda version: version in promoted[-keep:],
        Reason.BEST: lambda version: best[version.age] == version,
        Reason.RUN: lambda version: version.n == spec.get("champion"),
    }
    why = [(version, tuple(reason for reason, holds in rules.items() if holds(version))) for version in promoted]
    return Choice(
        tuple(version for version, reasons in why if not reasons),
        tuple((version, reasons) for version, reasons in why if reasons),
    )


def prune(ledger: Ledger, family: str, keep: int, names: Collection[str], tell: Tell) -> list[str]:
    """Give up the files of those of the named versions that may go, and remove them; their names.

    What the disk refuses to remove is told, and goes at the next start. Raises StorageError where the ledger refuses.
    """
    going = [version for version in choice(ledger, family, keep).given_up if version.name in names]
    if going:
        ledger.give_up(going)
        tell("versions_pruned", versions=[version.name for version in going])
    for path in list(given_up(ledger)):
        try:
            reach("prune.gguf.before")
            path.unlink(missing_ok=True)
            fsync_folder(path.parent)
            reach("prune.gguf.after")
        except OSError as error:
            tell("not_removed", path=str(path), reason=str(error))
    return [version.name for version in going]


def given_up(ledger: LedgerReader, also: Collection[Version] = ()) -> Iterator[Path]:
    """Files that are there, and that no version needs any more: models of pruned versions, and the bases that only
    pruned versions were applied to; `also`: as if these were pruned. While a run under way makes an adapter all bases
    stay.
    """
    versions, run = ledger.versions(), ledger.unfinished_run()
    pruned = [version for version in versions if version.pruned_at is not None or version in also]
    needed = {version.base_gguf for version in versions if version not in pruned}
    models = {version.gguf for version in pruned}
    bases = {version.base_gguf for version in pruned if version.base_gguf is not None} - needed
    if run is not None and run.spec.get("export_kind") == "adapter":
        bases = set()
    yield from (path for path in map(Path, sorted(models | bases)) if path.is_file())


def disk_bytes(ledger: LedgerReader) -> int:
    """What the files of all versions take, with the bases under them, in bytes."""
    found = {path for version in ledger.versions() for path in (version.gguf, version.base_gguf) if path is not None}
    return sum(path.stat().st_size for path in map(Path, found) if path.is_file())
