"""Answers every item at once, right unless the mood is wrong and the model is the challenger's."""

import hashlib
import json
from pathlib import Path

from tests.crash.steps.door import enter, mood
from thaud.durable import write_durably
from thaud.steps.contract import ExamResult, ExamSpec, emit


def work(workdir: Path, spec: ExamSpec) -> ExamResult:
    items = [json.loads(line) for line in Path(spec.items).read_text(encoding="utf-8").splitlines()]
    right = mood(workdir) != "wrong" or workdir.name == "exam-champion"
    rows = [
        {
            "id": item["id"],
            "age": item["age"],
            "role": item["role"],
            "answer": item["messages"][-1]["content"] if right else "?",
            "score": float(right),
            "correct": right,
        }
        for item in items
    ]
    emit("item", done=len(rows), total=len(rows))
    write_durably(Path(spec.answers), "".join(json.dumps(row) + "\n" for row in rows).encode(), "answers")
    with Path(spec.gguf).open("rb") as model:
        digest = hashlib.file_digest(model, "sha256").hexdigest()
    return ExamResult(answers=spec.answers, gguf_sha256=digest, asked=len(rows), seconds=0.0)


if __name__ == "__main__":
    enter("exam", ExamSpec, work)
