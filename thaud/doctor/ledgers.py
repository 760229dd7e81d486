"""Checks of the ledger itself: the file, its references, and what its tables say of each other."""

from collections.abc import Iterator

from thaud.curriculum import STAGES
from thaud.doctor.finding import Case, Finding, problem, warning
from thaud.doctor.homes import gb
from thaud.dropbox import Position
from thaud.ledger import soundness

LARGE_WAL = 64 << 20


def check_ledger_file(case: Case) -> Iterator[Finding]:
    """SQLite says that its file is whole, references hold, and the write-ahead log is not left lying."""
    if found := soundness.complaints(case.ledger):
        name = "indexes_damaged" if soundness.of_indexes_alone(found) else "ledger_damaged"
        yield problem(name, str(case.home.ledger), found[0], n=len(found))
    for (table, parent), rows in soundness.broken_references(case.ledger).items():
        yield problem("reference_broken", table, parent, n=rows)
    if not case.served and (size := soundness.wal_bytes(case.home.ledger)) > LARGE_WAL:
        yield warning("wal_large", str(case.home.ledger), gb(size))


def check_ledger_sense(case: Case) -> Iterator[Finding]:
    """Versions are numbered 1, 2, 3, ..., aliases point to one, the age is a stage, one run at most is under way."""
    families: dict[str, list[int]] = {}
    for version in case.ledger.versions():
        families.setdefault(version.family, []).append(version.n)
    for family, numbers in families.items():
        if sorted(numbers) != list(range(1, len(numbers) + 1)):
            yield problem("numbers_gap", family, ", ".join(map(str, numbers)))
    for family, n in soundness.aliases(case.ledger).items():
        if n not in families.get(family, ()):
            yield problem("alias_astray", family, n=n)
    for run in soundness.promoted_without_version(case.ledger):
        yield problem("version_lost", run)
    if case.ledger.age not in {stage.age for stage in STAGES}:
        yield problem("age_unknown", str(case.ledger.age))
    if len(unfinished := soundness.unfinished_runs(case.ledger)) > 1:
        yield problem("runs_unfinished", ", ".join(unfinished))


def check_counts(case: Case) -> Iterator[Finding]:
    """What the ledger keeps counted adds up."""
    for name in soundness.miscounted(case.ledger):
        yield problem("counts_differ", name)


def check_positions(case: Case) -> Iterator[Finding]:
    """How far each file of the drop-box was read can be read back."""
    for file, text in soundness.positions(case.ledger):
        try:
            Position.from_json(text)
        except (ValueError, TypeError):
            yield problem("position_unreadable", file)
