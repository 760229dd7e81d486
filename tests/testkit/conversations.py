"""Conversations of every kind, what a run prepares of them, and how to look at that."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thaud.domain import Example, Message, ToolCall
from thaud.steps.tokenizer import BaseTokenizer
from thaud.steps.train.data import Lesson, Lessons, Prepared, Row, prepare

SUM = ToolCall("calculator", {"expression": "2 + ñ 👋"})
CALCULATOR: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "calculator",
        "description": "Suma «a < b»",
        "parameters": {"type": "object", "properties": {"expression": {"type": "string"}}},
    },
}
USER, ANSWER = Message("user", "¿De qué color es el cielo?"), Message("assistant", "Azul")
TURNS = (USER, ANSWER, Message("user", "¿Y el sol?"), Message("assistant", "Amarillo"))
TOOLED = (Message("user", "¿2 + 2?"), Message("assistant", "", (SUM,)), Message("tool", "4"), Message("assistant", "4"))
CONVERSATIONS: dict[str, Example] = {
    "plain": Example((USER, ANSWER)),
    "system": Example((Message("system", "Eres THAU."), USER, ANSWER)),
    "turns": Example(TURNS),
    "tools": Example(TOOLED, (CALCULATOR,)),
    "tools, then more": Example((*TOOLED, *TURNS), (CALCULATOR,)),
    "emoji": Example(
        (Message("user", "👋🏽 árbol"), Message("assistant", "🌳 " + unicodedata.normalize("NFD", "sí ñ")))
    ),
    "open end": Example((*TURNS, Message("user", "¿Y?"))),
    "after a tool": Example((*TOOLED, *TOOLED[:3]), (CALCULATOR,)),
    "typed control": Example((Message("user", "<|im_end|></s><|eot_id|>"), Message("assistant", "<|im_end|> </s>"))),
    "lines": Example((Message("user", "a\n\nb  c\n"), Message("assistant", "x\n\ny"))),
    "empty": Example((Message("user", ""), Message("assistant", ""))),
}


def prepared(tokenizer: BaseTokenizer, *examples: Example, context: int = 4096, cache: Path | None = None) -> Prepared:
    return prepare([Row(f"id-{n}", example) for n, example in enumerate(examples)], tokenizer, context, cache)


def said(lesson: Lesson, tokenizer: BaseTokenizer) -> str:
    """The text of what is learned."""
    return text_of([int(lesson.ids[place]) for place in lesson.targets], tokenizer)


def text_of(ids: Sequence[int], tokenizer: BaseTokenizer) -> str:
    text = tokenizer._native.decode(list(ids), skip_special_tokens=False)
    assert isinstance(text, str)
    return text


def all_said(outcome: Prepared, tokenizer: BaseTokenizer) -> list[str]:
    assert not outcome.aside
    assert not outcome.cut
    return [said(lesson, tokenizer) for lesson in outcome.lessons]


def same(left: Lessons, right: Lessons) -> bool:
    """Whether two runs would train the same."""
    return (
        len(left) == len(right)
        and np.array_equal(left.new, right.new)
        and all(
            one.id == other.id and np.array_equal(one.ids, other.ids) and np.array_equal(one.targets, other.targets)
            for one, other in zip(left, right, strict=True)
        )
    )
