"""Homes with a history, built through the real ledger, for tests that look at one."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from thaud.config import initial_toml
from thaud.domain import Example, Message, RunSpec, RunState, Score, Side, Trigger, Version
from thaud.home import Home
from thaud.ledger import Ledger, NewExample, NewFile

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def make_home(root: Path, size: str = "nano") -> Home:
    """A home as `thau init` leaves it."""
    home = Home(root)
    for folder in home.folders():
        folder.mkdir(parents=True, exist_ok=True)
    home.config.write_text(initial_toml(size, None), encoding="utf-8")
    Ledger.open(home.ledger).close()
    return home


def open_ledger(home: Home) -> Ledger:
    """The writer, with a clock that stands still."""
    return Ledger.open(home.ledger, clock=lambda: NOW)


def take_in(ledger: Ledger, age: int, n: int, file: str, side: Side = Side.TAUGHT) -> list[str]:
    """Take in n examples of an age; their ids."""
    rows: list[NewExample] = []
    for number in range(n):
        question = f"{file}: pregunta {number}"
        example = Example((Message("user", question), Message("assistant", f"respuesta {number}")), age=age)
        rows.append(NewExample(example, example.id, age, side, f"group:{question}", number + 1))
    sightings = [(row.line, row.id) for row in rows]
    ledger.take_in(NewFile(file, "{}", finished=True, examples=rows, sightings=sightings, rejections=()))
    return [row.id for row in rows]


def freeze(ledger: Ledger, ids: list[str], age: int, family: str, **changes: Any) -> RunSpec:
    """A run on these examples, frozen. `changes` are fields of its spec."""
    spec = RunSpec(
        id=ledger.next_run_id(),
        family=family,
        size=family.removeprefix("thau-"),
        base="/bases/x",
        base_digest="d",
        age=age,
        context_tokens=128,
        seed=0,
        trigger=Trigger.EXAMPLES,
        example_ids=tuple(ids),
        exam_ids=(),
        recall_ids=(),
        champion=None,
        learning_rate=1e-3,
        epochs=1,
        rank=32,
        alpha=64,
        batch_examples=16,
        export_kind="f16",
    )
    spec = replace(spec, **changes)
    ledger.freeze_run(spec)
    return spec


def promote(
    ledger: Ledger, spec: RunSpec, n: int, score: Score, advance_to: int | None, gguf: str = "/gone/model.gguf"
) -> Version:
    """Accept a frozen run as version n and promote it."""
    version = Version(
        family=spec.family,
        n=n,
        run_id=spec.id,
        age=spec.age,
        gguf=gguf,
        gguf_sha256="a" * 64,
        size_bytes=10_000_000,
        accuracy=score,
        examples=len(spec.example_ids),
        accepted_at=ledger.now(),
    )
    ledger.accept(version, ("the first of its family",), {})
    ledger.promote(version, advance_to)
    return version


def seed_guide_sample(home: Home, family: str = "thau-1.5b") -> None:
    """The guide's sample: age 3 with 350 of 500 examples at 82%, 750 examples in three trainings."""
    with open_ledger(home) as ledger:
        ids: list[str] = []
        history = ((0, 150, Score(30, 27), 1), (1, 250, Score(40, 34), 3), (3, 350, Score(50, 41), None))
        for n, (age, count, score, advance_to) in enumerate(history, 1):
            ids += take_in(ledger, age, count, f"age_{age}.jsonl")
            promote(ledger, freeze(ledger, ids, age, family), n, score, advance_to)


def fail_run(ledger: Ledger, ids: list[str], reason: str, family: str = "thau-nano") -> RunSpec:
    """A run that was frozen and failed."""
    spec = freeze(ledger, ids, 0, family)
    ledger.end_run(spec.id, RunState.FAILED, [reason])
    return spec
