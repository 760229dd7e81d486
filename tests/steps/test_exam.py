import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.steps.doors import through_door
from tests.testkit.scripted_gguf import write_scripted_gguf
from thaud.errors import ModelError
from thaud.rendering import CHATML
from thaud.steps.contract import ExamSpec
from thaud.steps.exam.__main__ import examine, read_items
from thaud.steps.llama import LlamaModel


def item(number: int, expected: str, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"pregunta {number}"}, {"role": "assistant", "content": expected}]
    return {"id": f"i{number}", "age": 1, "role": "held_out", "messages": messages, **fields}


def spec_for(folder: Path, script: list[str], items: list[dict[str, Any]], **changes: Any) -> ExamSpec:
    gguf = folder / "model.gguf"
    write_scripted_gguf(gguf, script, chat_template=CHATML, context_length=256)
    (folder / "items.jsonl").write_text("".join(json.dumps(each) + "\n" for each in items))
    fields = {
        "gguf": str(gguf),
        "items": str(folder / "items.jsonl"),
        "answers": str(folder / "answers.jsonl"),
        "context_tokens": 128,
        "threads": 1,
    }
    return ExamSpec(**{**fields, **changes})


def rows_of(spec: ExamSpec) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(spec.answers).read_text().splitlines()]


def test_answers_are_graded_in_the_order_of_the_items(tmp_path: Path) -> None:
    """Each item is asked once, answered, graded by its grader or the inferred one, and written in order."""
    items = [
        item(1, "el gato azul"),
        item(2, "perro", role="recall", age=0),
        item(3, "azul", grader="contains"),
        item(4, "un gato azul grande", grader="f1"),
    ]
    spec = spec_for(tmp_path, ["Gato ", "azul."], items)
    code, result, events = through_door("exam", spec, tmp_path / "work")
    assert code == 0
    rows = rows_of(spec)
    assert [(row["id"], row["age"], row["role"]) for row in rows] == [
        ("i1", 1, "held_out"),
        ("i2", 0, "recall"),
        ("i3", 1, "held_out"),
        ("i4", 1, "held_out"),
    ]
    assert {row["answer"] for row in rows} == {"Gato azul."}
    assert [row["correct"] for row in rows] == [True, False, True, True]
    assert rows[3]["score"] == 0.8
    assert result["asked"] == 4
    assert result["gguf_sha256"] == hashlib.sha256(Path(spec.gguf).read_bytes()).hexdigest()
    assert events[-1] == {"event": "item", "done": 4, "total": 4, "right": 3}


def test_tool_calls_are_examined(tmp_path: Path) -> None:
    """A model that calls the expected tool with the expected arguments passes."""
    call = {"type": "function", "function": {"name": "sum", "arguments": {"b": 2.0, "a": 2}}}
    asked = item(1, "")
    asked["messages"][-1]["tool_calls"] = [call]
    script = ["<tool_call>", '\n{"name": "sum", "arguments": {"a": 2, "b": 2}}\n', "</tool_call>"]
    spec = spec_for(tmp_path, script, [asked])
    code, _, _ = through_door("exam", spec, tmp_path / "work")
    assert code == 0
    assert rows_of(spec)[0]["correct"] is True


def test_prompt_that_does_not_fit_is_silence(tmp_path: Path) -> None:
    """A prompt longer than the context is answered by nothing and scored 0; the exam goes on."""
    long = item(1, "sí")
    long["messages"][0]["content"] = "palabra " * 100
    spec = spec_for(tmp_path, ["sí"], [long, item(2, "sí")])
    code, _, _ = through_door("exam", spec, tmp_path / "work")
    assert code == 0
    assert [(row["answer"], row["score"]) for row in rows_of(spec)] == [("", 0.0), ("sí", 1.0)]


def test_length_limit_cuts_the_answer(tmp_path: Path) -> None:
    """No answer is longer than max_new_tokens."""
    spec = spec_for(tmp_path, ["uno ", "dos ", "tres "], [item(1, "uno dos")], max_new_tokens=2)
    code, _, _ = through_door("exam", spec, tmp_path / "work")
    assert code == 0
    assert rows_of(spec)[0]["answer"] == "uno dos "


def test_unloadable_file_is_one_line(tmp_path: Path) -> None:
    """A damaged GGUF fails the step in one line naming the file; no answers are left behind."""
    spec = spec_for(tmp_path, ["sí"], [item(1, "sí")])
    Path(spec.gguf).write_bytes(b"GGUF\x03\0\0\0garbage")
    code, result, _ = through_door("exam", spec, tmp_path / "work")
    assert code == 1
    assert spec.gguf in result["error"]
    assert "\n" not in result["error"]
    assert not Path(spec.answers).exists()


def test_template_that_is_none_fails_the_exam(tmp_path: Path) -> None:
    """A GGUF whose chat template does not compile fails the step; it is not silent on every item, which would be a
    verdict on what was learned.
    """
    spec = spec_for(tmp_path, ["sí"], [item(1, "sí")])
    write_scripted_gguf(Path(spec.gguf), ["sí"], chat_template="{% for %}", context_length=256)
    code, result, _ = through_door("exam", spec, tmp_path / "work")
    assert code == 1
    assert "no valid Jinja" in result["error"]


class Failing(LlamaModel):
    def _feed(self, tokens: Sequence[int]) -> None:
        raise ModelError("llama.cpp stopped with code 2")


def test_failing_llama_cpp_is_no_silence(tmp_path: Path) -> None:
    """Where llama.cpp itself fails, the exam fails: the model was not wrong, it was not asked."""
    spec = spec_for(tmp_path, ["sí"], [item(1, "sí")])
    with Failing(Path(spec.gguf), 128, 1) as model, pytest.raises(ModelError, match="code 2"):
        list(examine(model, list(read_items(Path(spec.items))), 8))
