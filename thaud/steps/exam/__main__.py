"""The door of the exam step: python -m thaud.steps.exam WORKDIR."""

import hashlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thaud.domain import GraderName, Message, canonical_json
from thaud.durable import write_durably
from thaud.errors import ModelError
from thaud.grading import grade
from thaud.rendering import compile_template
from thaud.steps.contract import ExamResult, ExamSpec, emit, run_step, throttle
from thaud.steps.llama import LlamaModel, open_version


@dataclass(frozen=True, slots=True)
class Item:
    """One question: a conversation whose last message is the expected answer."""

    id: str
    age: int
    role: str
    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...]
    grader: GraderName | None


def read_items(path: Path) -> Iterator[Item]:
    """The items of a step's JSONL file, in its order."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            grader = GraderName(row["grader"]) if row.get("grader") else None
            messages = tuple(Message.from_json(each) for each in row["messages"])
            yield Item(row["id"], row["age"], row["role"], messages, tuple(row.get("tools") or ()), grader)


def answer(model: LlamaModel, item: Item, max_new_tokens: int) -> str:
    """The model's greedy answer. Silence where the prompt does not fit its context or its template refuses it.

    Raises ModelError where llama.cpp fails: that says nothing about what the model knows.
    """
    try:
        pieces = model.renderer.prompt(item.messages[:-1], item.tools)
    except ModelError:
        return ""
    prompt = model.encode(pieces)
    if len(prompt) >= model.context_tokens:
        return ""
    return "".join(text for text, _ in model.generate(prompt, max_new_tokens))


def examine(model: LlamaModel, items: Sequence[Item], max_new_tokens: int) -> Iterator[dict[str, Any]]:
    """Ask every item and grade the answers, in order."""
    for item in items:
        said = answer(model, item, max_new_tokens)
        score, correct = grade(item.messages[-1], said, item.grader)
        yield {
            "id": item.id,
            "age": item.age,
            "role": item.role,
            "answer": said,
            "score": score,
            "correct": correct,
        }


def work(spec: ExamSpec) -> ExamResult:
    """Examine one GGUF, or a GGUF LoRA on its base; the digest is that of the file that the version is.

    Raises ModelError where llama.cpp cannot load or run it, or its template is no template.
    """
    began = time.perf_counter()
    items = list(read_items(Path(spec.items)))
    with Path(spec.gguf).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    say = throttle(emit)
    rows: list[dict[str, Any]] = []
    base = Path(spec.base_gguf) if spec.base_gguf is not None else None
    with open_version(Path(spec.gguf), base, spec.context_tokens, spec.threads) as model:
        compile_template(model.template)
        for row in examine(model, items, spec.max_new_tokens):
            rows.append(row)
            right = sum(each["correct"] for each in rows)
            say("item", last=len(rows) == len(items), done=len(rows), total=len(items), right=right)
    write_durably(Path(spec.answers), "".join(canonical_json(row) + "\n" for row in rows).encode(), "answers")
    return ExamResult(answers=spec.answers, gguf_sha256=digest, asked=len(rows), seconds=time.perf_counter() - began)


if __name__ == "__main__":
    sys.exit(run_step(ExamSpec, work, sys.argv))
