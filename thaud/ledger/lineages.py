"""Questions about what versions were taught, one after the other, and about what training them took.

A version that continued knows what its parent was taught and what it was taught itself; one that did not, what it was
taught itself. What a run's trainer set aside it was not taught. Refuses to choose (strategy.py) and to change anything.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from thaud.ledger.arrivals import key_of
from thaud.ledger.reader import LedgerReader
from thaud.ledger.rows import RunRow
from thaud.steps.contract import HELD_BACK
from thaud.strategy import Pace


@dataclass(slots=True)
class Lineage:
    """What a version was taught, and what it was to be taught and could not be: id -> longest context it was tried in.

    `in_a_row` counts the runs that continued, up to its own.
    """

    taught: set[str] = field(default_factory=set)
    unusable: dict[str, int] = field(default_factory=dict)
    in_a_row: int = -1

    def may_learn(self, example_id: str, context_tokens: int) -> bool:
        """Whether an example can be new to it: not taught, and not set aside already in as much context."""
        return example_id not in self.taught and self.unusable.get(example_id, 0) < context_tokens


def lineage_of(ledger: LedgerReader, run_id: str) -> Lineage:
    """What the version of a run knows. The run has trained; of one whose receipt is lost nothing was set aside."""
    lineage = Lineage()
    for run in reversed(list(ancestry(ledger, run_id))):
        receipt = ledger.receipt(run.id, "train") or {"set_aside": ()}
        aside = {each["id"]: each["reason"] for each in receipt["set_aside"]}
        context = run.spec["context_tokens"]
        lineage.taught.update(each for each in ledger.run_ids(run.id).example_ids if each not in aside)
        unusable = (each for each, reason in aside.items() if reason != HELD_BACK)
        lineage.unusable.update({each: max(context, lineage.unusable.get(each, 0)) for each in unusable})
        lineage.in_a_row += 1
    for each in lineage.taught & lineage.unusable.keys():
        del lineage.unusable[each]
    return lineage


def ancestry(ledger: LedgerReader, run_id: str) -> Iterator[RunRow]:
    """A run, the run of the version that it continues, and so on up to the one that began afresh."""
    run = ledger.run(run_id)
    while run is not None:
        yield run
        run = parent_of(ledger, run)


def parent_of(ledger: LedgerReader, run: RunRow) -> RunRow | None:
    """The run of the version that a run continues, None where it began afresh."""
    sql = "SELECT run_id FROM versions WHERE family = ? AND n = ?"
    found = ledger.one(sql, run.family, run.spec.get("parent"))
    return ledger.run(found) if found else None


def is_new(ledger: LedgerReader, run: tuple[str, str], example_id: str) -> bool:
    """Whether no version that was promoted before a run, (family, id), was taught an example."""
    family, run_id = run
    sql = "SELECT taught_by FROM lessons WHERE family = ? AND example_seq = (SELECT seq FROM examples WHERE key = ?)"
    return ledger.one(sql, family, key_of(example_id)) in {None, run_id}


def pace_of(ledger: LedgerReader, family: str) -> Pace | None:
    """What the family's last run that trained has measured; None where there is none, or it measured nothing."""
    sql = (
        "SELECT run_id FROM journal JOIN runs ON runs.id = journal.run_id"
        " WHERE step = 'train' AND receipt IS NOT NULL AND family = ? ORDER BY seq DESC LIMIT 1"
    )
    run = ledger.run(ledger.one(sql, family))
    receipt = ledger.receipt(run.id, "train") if run else None
    if run is None or receipt is None:
        return None
    passes = run.spec["epochs"] * (ledger.example_count(run.id) - len(receipt["set_aside"]))
    speed = receipt.get("tokens_per_s") or (receipt["tokens"] / receipt["seconds"] if receipt["seconds"] else 0.0)
    if passes <= 0 or not receipt["tokens"] or not speed:
        return None
    return Pace(run.id, receipt["tokens"] / passes, speed)
