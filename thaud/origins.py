"""What a version comes from and where an example went: ledger in, plain values out.

`thau lineage` shows it, and the model card of `thau export` is written from it. Words for people are the CLI's. Refuses
to look at files and settings.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from thaud.artefacts import certificate_of
from thaud.domain import FINAL_STATES, RunState, Side, Version
from thaud.ledger import LedgerReader, RunRow
from thaud.ledger.lineages import ancestry
from thaud.ledger.whereabouts import Found, Lesson, Omitted, Part, first_taught, left_out, parts_of, places_of
from thaud.status import report_strategy

HYPERPARAMETERS = (
    "learning_rate",
    "epochs",
    "rank",
    "alpha",
    "batch_examples",
    "context_tokens",
    "precision",
    "held_back_share",
    "patience",
)
UNTOLD = ("adapter_dir", "set_aside", "cut")  # of a training's receipt: lists of examples, and a path


# Versions


def report_provenance(version: Version, ledger: LedgerReader) -> dict[str, Any]:
    """All that is known of how a version came about, but for the examples themselves. What nobody kept is null."""
    run = ledger.run(version.run_id)
    spec = run.spec if run else {}
    return {
        "name": version.name,
        "family": version.family,
        "n": version.n,
        "age": version.age,
        "accepted_at": version.accepted_at,
        "run": version.run_id,
        "trigger": run.trigger if run else None,
        "line": list(report_line(ledger, version.run_id)),
        **(report_strategy(run) if run else {}),
        "seed": spec.get("seed"),
        "base": spec.get("base"),
        "base_digest": spec.get("base_digest"),
        "hyperparameters": {name: spec[name] for name in HYPERPARAMETERS if name in spec},
        "reasons": list(run.reasons) if run else [],
        "exam": run.report if run else None,
        "training": report_trained(ledger, version.run_id),
        "certificate": certificate_of(ledger, version),
        "file": report_file(version),
        "examples": version.examples,
    }


def report_line(ledger: LedgerReader, run_id: str) -> Iterator[dict[str, Any]]:
    """The runs that a version stands on, the one that began afresh first."""
    for run in reversed(list(ancestry(ledger, run_id))):
        yield {"run": run.id, "version": version_of(ledger, run), "strategy": run.spec.get("strategy", "fresh")}


def version_of(ledger: LedgerReader, run: RunRow | None) -> str | None:
    """The name of the version that a run made, None where it made none."""
    if run is None:
        return None
    made = (version.name for version in ledger.versions(run.family) if version.run_id == run.id)
    return next(made, None)


def report_trained(ledger: LedgerReader, run_id: str) -> dict[str, Any] | None:
    """What the trainer measured; examples that it left out are counted."""
    receipt = ledger.receipt(run_id, "train")
    if receipt is None:
        return None
    measured = {name: value for name, value in receipt.items() if name not in UNTOLD}
    return {**measured, **{name: len(receipt.get(name, ())) for name in ("set_aside", "cut")}}


def report_file(version: Version) -> dict[str, Any]:
    """The version's file, and the base that it is applied to where it is an adapter."""
    return {
        "gguf": version.gguf,
        "sha256": version.gguf_sha256,
        "size_bytes": version.size_bytes,
        "kind": version.kind,
        "base_gguf": version.base_gguf,
        "base_sha256": version.base_sha256,
        "pruned_at": version.pruned_at,
    }


def report_lesson(lesson: Lesson, family: str) -> dict[str, Any]:
    """An example that a version was taught."""
    return {
        "id": lesson.id,
        "age": lesson.age,
        "file": lesson.file,
        "line": lesson.line,
        "places": lesson.places,
        "run": lesson.run_id,
        "first_taught_by": f"{family}-v{lesson.first}" if lesson.first is not None else None,
        "cut": lesson.cut,
    }


def report_omitted(omitted: Omitted) -> dict[str, Any]:
    """An example that the trainer set aside."""
    return {
        "id": omitted.id,
        "file": omitted.file,
        "line": omitted.line,
        "reason": omitted.reason,
        "run": omitted.run_id,
    }


# Examples


def report_example(found: Found, ledger: LedgerReader, family: str) -> dict[str, Any]:
    """Where an example came from, who tried it, which versions know it, what they answered, and what it waits for."""
    row, parts = found.row, parts_of(ledger, found.row.id)
    runs = [report_part(ledger, part, row.id) for part in parts]
    taught_by = {run["run"] for run in runs if run["part"] == "taught" and run["trained"] and not run["set_aside"]}
    versions = ledger.versions()
    knowing = [version for version in versions if knows(ledger, version, taught_by)]
    return {
        "id": row.id,
        "age": row.age,
        "side": str(row.side),
        "received_at": found.received_at,
        "file": row.file,
        "line": row.line,
        "places": [
            {"file": each.file, "line": each.line, "retired_to": each.retired_to}
            for each in places_of(ledger, found.seq)
        ],
        "messages": [message.to_json() for message in row.example.messages],
        "state": state_of(found, ledger, family, runs, [version.name for version in knowing]),
        "first_taught_by": [
            {"family": name, "run": run_id, "version": version_of(ledger, ledger.run(run_id))}
            for name, run_id in first_taught(ledger, found.seq).items()
        ],
        "known_by": [version.name for version in knowing],
        "runs": runs,
        "answers": list(answers_to(ledger, versions, row.id)),
    }


def report_part(ledger: LedgerReader, part: Part, example_id: str) -> dict[str, Any]:
    """What a run did with an example. `part` is "taught" also where the trainer set it aside, which is said."""
    run = ledger.run(part.run_id)
    return {
        "run": part.run_id,
        "state": str(run.state) if run else None,
        "version": version_of(ledger, run),
        "part": "taught" if part.taught else "asked" if part.asked else "recalled",
        "trained": ledger.receipt(part.run_id, "train") is not None,
        "set_aside": left_out(ledger, part.run_id, "set_aside").get(example_id),
        "cut": left_out(ledger, part.run_id, "cut").get(example_id),
    }


def knows(ledger: LedgerReader, version: Version, taught_by: set[str]) -> bool:
    """Whether a version's line has a run that taught it."""
    return bool(taught_by) and any(run.id in taught_by for run in ancestry(ledger, version.run_id))


def answers_to(ledger: LedgerReader, versions: Sequence[Version], example_id: str) -> Iterator[dict[str, Any]]:
    """What each version said where it was asked."""
    for version in versions:
        for answer in ledger.answers(version.gguf_sha256, [example_id]).values():
            yield {
                "version": version.name,
                "answer": answer.answer,
                "correct": answer.correct,
                "score": answer.score,
            }


def state_of(
    found: Found, ledger: LedgerReader, family: str, runs: Sequence[Mapping[str, Any]], known_by: Sequence[str]
) -> str:
    """Where an example stands for a family: held_out, known, in_run, waits_for_age, set_aside, forgotten, refused or
    waiting. "forgotten": an earlier version knows it, the one that answers does not.
    """
    champion = ledger.champion(family)
    mine = [each for each in runs if (run := ledger.run(each["run"])) and run.family == family]
    holds = {
        "held_out": found.row.side is Side.HELD_OUT,
        "known": champion is not None and champion.name in known_by,
        "in_run": any(RunState(each["state"]) not in FINAL_STATES for each in mine),
        "waits_for_age": found.row.age > ledger.age,
        "set_aside": bool(mine) and mine[-1]["set_aside"] is not None,
        "forgotten": any(name.startswith(f"{family}-v") for name in known_by),
        "refused": bool(mine),
    }
    return next((state for state, held in holds.items() if held), "waiting")
