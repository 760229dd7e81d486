"""What versions were taught, one after the other, against what their runs were frozen with and handed.

Computed here from the runs alone, in their order; thaud.ledger.lineages is what it is held against.
"""

import hashlib
import json
from collections.abc import Sequence

from tests.crash.arena import Arena
from tests.crash.files import TRAINED, adapter_in
from thaud.domain import RunState
from thaud.ledger import LedgerReader, RunIds, RunRow
from thaud.steps.contract import TrainSpec


def wrong_lineage(arena: Arena, ledger: LedgerReader, runs: Sequence[tuple[RunRow, RunIds]]) -> str | None:
    """What is wrong with the runs, oldest first; None where each was taught what its version lacked."""
    ages = {row["id"]: row["age"] for row in ledger.connection.execute("SELECT id, age FROM examples")}
    versions = {version.run_id: version for version in ledger.versions()}
    knows: dict[int, set[str]] = {}
    tried: set[str] = set()
    promoted: set[str] = set()
    for run, ids in runs:
        spec, own = run.spec, set(ids.example_ids)
        known = knows.get(spec["parent"], set())
        within = {each for each in tried if ages[each] <= run.age}
        if dropped := within - known - own:
            return f"{run.id} leaves out {len(dropped)} examples that its version would not know"
        if spec["replayed"] != len(own & known):
            return f"{run.id} replays {len(own & known)} examples and says {spec['replayed']}"
        if (spec["strategy"] == "continue") != (spec["parent"] is not None) or spec["parent"] not in {
            None,
            spec["champion"],
        }:
            return f"{run.id} ({spec['strategy']}) goes on from {spec['parent']}, the champion is {spec['champion']}"
        parent = next((each.run_id for each in versions.values() if each.n == spec["parent"]), None)
        if run.state in TRAINED and (wrong := wrongly_begun(arena, run, parent, promoted)):
            return wrong
        tried |= own
        if (version := versions.get(run.id)) is not None:
            knows[version.n] = known | own
            if version.examples != len(knows[version.n]):
                return f"{version.name} says {version.examples} examples and was taught {len(knows[version.n])}"
        if run.state is RunState.PROMOTED:
            promoted |= own
    return None


def wrongly_begun(arena: Arena, run: RunRow, parent: str | None, promoted: set[str]) -> str | None:
    """Whether a run's trainer was given another adapter than its parent's, or was told otherwise what is new."""
    folder = arena.home.runs / run.id / "train"
    spec = TrainSpec.model_validate_json((folder / "spec.json").read_bytes())
    begun = str(arena.home.runs / parent / "train" / "adapter") if parent else None
    digest = hashlib.sha256(adapter_in(arena.home.runs / parent / "train")).hexdigest() if parent else None
    if (spec.start_from, spec.start_sha256) != (begun, digest):
        return f"{run.id} was begun on {spec.start_from}, and its parent is {parent}"
    rows = map(json.loads, (folder / "examples.jsonl").read_text(encoding="utf-8").splitlines())
    strange = [row["id"] for row in rows if row.get("new", False) == (row["id"] in promoted)]
    return f"{run.id} was told wrongly of {len(strange)} examples whether they are new" if strange else None
