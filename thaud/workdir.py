"""A run's folder: what its steps are handed, what they hand back, and the probes of both.

Owns the shapes of the files between pipeline and steps; refuses to know their order (pipeline.py).
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from thaud.domain import Answer, QueuedExample, Side
from thaud.errors import StorageError
from thaud.steps.contract import RESULT, SPEC, Spec

ResultT = TypeVar("ResultT", bound=Spec)


def finished_result(workdir: Path, spec: Spec, kind: type[ResultT]) -> ResultT | None:
    """The result that an earlier life left for this very spec, or None."""
    try:
        same = type(spec).model_validate_json((workdir / SPEC).read_bytes()) == spec
        result = json.loads((workdir / RESULT).read_bytes())
        return kind.model_validate(result) if same and result.pop("ok") else None
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return None  # none, or one that another release of THAU left


def train_row(each: QueuedExample) -> bytes:
    """One line of the trainer's input."""
    return json.dumps({"id": each.id, **each.example.content}, ensure_ascii=False).encode() + b"\n"


def exam_row(each: QueuedExample) -> bytes:
    """One line of the exam's input."""
    row = {"id": each.id, "age": each.age, "role": "held_out" if each.side is Side.HELD_OUT else "recall"}
    if each.example.grader:
        row["grader"] = each.example.grader
    return json.dumps({**row, **each.example.content}, ensure_ascii=False).encode() + b"\n"


def read_answers(path: Path) -> Iterator[Answer]:
    """The exam's output."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            yield Answer(row["id"], row["age"], row["answer"], row["score"], row["correct"])


def probe(path: Path, expected_sha256: str) -> None:
    """Take the digest again. Raises StorageError where the file is not what the step said."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from error
    if found != expected_sha256:
        raise StorageError(f"{path} has SHA-256 {found}, its step said {expected_sha256}: the disk lost something")
