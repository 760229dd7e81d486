"""A row of the ledger as a value. Owns which column is which field; refuses to ask for rows (reader.py)."""

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thaud.domain import Answer, Example, GraderName, Message, QueuedExample, RunState, Score, Side, Version


@dataclass(frozen=True, slots=True)
class FileRow:
    """A file of the drop-box, as far as it was read. `position` is the drop-box's own JSON."""

    name: str
    position: str
    finished: bool
    retired_to: str | None


@dataclass(frozen=True, slots=True)
class RunIds:
    """The examples that a run names: taught, in training order; asked and held out; asked and taught."""

    example_ids: tuple[str, ...]
    exam_ids: tuple[str, ...]
    recall_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run and how far it is. `spec` and `report` are the JSON that the pipeline wrote, but for the ids (RunIds)."""

    seq: int
    id: str
    family: str
    age: int
    state: RunState
    trigger: str
    spec_text: str
    reasons: tuple[str, ...]
    report: dict[str, Any] | None
    created_at: str
    changed_at: str

    @property
    def spec(self) -> dict[str, Any]:
        """What it was frozen with, parsed where it is asked for."""
        parsed: dict[str, Any] = json.loads(self.spec_text)
        return parsed


def read_file(row: sqlite3.Row) -> FileRow:
    """A row of `files`."""
    return FileRow(row["name"], row["position"], bool(row["finished"]), row["retired_to"])


def read_example(row: sqlite3.Row) -> QueuedExample:
    """A row of `examples`."""
    content = json.loads(row["content"])
    key: str = row["group_key"]
    example = Example(
        messages=tuple(Message.from_json(message) for message in content["messages"]),
        tools=tuple(content.get("tools", ())),
        age=row["age"],
        group=key.removeprefix("group:") if key.startswith("group:") else None,
        grader=GraderName(row["grader"]) if row["grader"] else None,
        metadata=json.loads(row["metadata"]),
    )
    return QueuedExample(example, row["id"], row["age"], Side(row["side"]), row["file"], row["line"])


def read_answer(row: sqlite3.Row) -> Answer:
    """A row of `answers`."""
    return Answer(row["example_id"], row["age"], row["answer"], row["score"], bool(row["correct"]))


def read_run(row: sqlite3.Row) -> RunRow:
    """A row of `runs`."""
    return RunRow(
        seq=row["seq"],
        id=row["id"],
        family=row["family"],
        age=row["age"],
        state=RunState(row["state"]),
        trigger=row["trigger"],
        spec_text=row["spec"],
        reasons=tuple(json.loads(row["reasons"])),
        report=json.loads(row["report"]) if row["report"] else None,
        created_at=row["created_at"],
        changed_at=row["changed_at"],
    )


def read_ids(row: sqlite3.Row) -> RunIds:
    """A row of `run_ids`."""
    return RunIds(*(tuple(json.loads(row[name])) for name in ("example_ids", "exam_ids", "recall_ids")))


def read_version(row: sqlite3.Row, folder: Path) -> Version:
    """A row of `versions`. A file in the ledger's own folder is known from there on: a home may be moved."""
    return Version(
        family=row["family"],
        n=row["n"],
        run_id=row["run_id"],
        age=row["age"],
        gguf=str(folder / row["gguf"]),
        gguf_sha256=row["gguf_sha256"],
        size_bytes=row["size_bytes"],
        accuracy=Score(row["asked"], row["correct"]),
        examples=row["examples"],
        accepted_at=row["accepted_at"],
        kind=row["kind"],
        base_gguf=str(folder / row["base_gguf"]) if row["base_gguf"] else None,
        base_sha256=row["base_sha256"],
        pruned_at=row["pruned_at"],
    )
