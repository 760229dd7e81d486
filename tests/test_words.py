import string
from dataclasses import fields
from pathlib import Path

import pytest

import thaud
from thaud.curriculum import STAGES
from thaud.domain import Answer, ExamReport, RunState
from thaud.gate import judge
from thaud.words import EN, ES, Words, reasons_in, sentence_of

SOURCES = Path(thaud.__file__).parent


def placeholders(phrase: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(phrase) if name}


@pytest.mark.parametrize("name", [field.name for field in fields(Words) if field.type is str])
def test_languages_take_the_same_values(name: str) -> None:
    """A phrase is filled in with the same values in every language, and is never empty."""
    spanish, english = getattr(ES, name), getattr(EN, name)
    assert spanish
    assert english
    assert placeholders(spanish) == placeholders(english)


@pytest.mark.parametrize("words", [ES, EN], ids=["es", "en"])
def test_every_stage_and_state_has_words(words: Words) -> None:
    """There is no stage and no state of a run that people are shown the code word of."""
    assert words.stages.keys() == {stage.name for stage in STAGES}
    assert words.states.keys() == {str(state) for state in RunState}
    assert all(stage.name and stage.description for stage in words.stages.values())


def exam(age: int, **right: str) -> ExamReport:
    """Answers to the ages a0, a1: one for each character, 1 right, 0 wrong, _ empty."""
    held_out = tuple(
        Answer(f"{name}-{n}", int(name[1:]), "" if mark == "_" else "x", float(mark == "1"), mark == "1")
        for name, marks in right.items()
        for n, mark in enumerate(marks)
    )
    return ExamReport("digest", age, held_out)


@pytest.mark.parametrize(
    ("challenger", "champion", "spanish"),
    [
        (exam(0, a0="_" * 20), None, "todas las respuestas están vacías"),
        (exam(0, a0="0" * 20), None, "ninguna de las 20 respuestas del examen es correcta"),
        (exam(0, a0="1" * 20), None, "primera versión: 20/20 (100%) a la edad 0"),
        (exam(0, a0="1" * 20), exam(0, a0="1" * 20), "no es peor que la anterior: 20/20 (100%) frente a 20/20 (100%)"),
        (
            exam(0, a0="0" * 20),
            exam(0, a0="1" * 20),
            "peor a la edad 0: 0/20 (0%) frente a 20/20 (100%) de la anterior",
        ),
        (
            exam(1, a0="1" * 13 + "0" * 7, a1="1" * 20),
            exam(1, a0="1" * 14 + "0" * 6, a1="1" * 20),
            "edad 0 olvidada: 13/20 (65%), por debajo del 70% requerido; la anterior, 14/20 (70%)",
        ),
    ],
)
def test_every_verdict_is_said_in_spanish(challenger: ExamReport, champion: ExamReport | None, spanish: str) -> None:
    """Each sentence of the gate has its translation with the same figures; English stays as the gate said it."""
    reasons = judge(challenger, champion, {0: 0.7, 1: 0.75}, alpha=0.05, min_items=20).reasons
    assert reasons_in(ES, reasons).startswith(spanish)
    assert reasons_in(EN, reasons) == "; ".join(reasons)
    assert reasons_in(ES, ["step train died"]) == "step train died"


def test_no_phrase_is_left_over() -> None:
    """The table holds what is said and nothing else."""
    code = "".join(path.read_text(encoding="utf-8") for path in SOURCES.rglob("*.py"))
    assert [field.name for field in fields(Words) if f"words.{field.name}" not in code] == []


def test_reasons_make_one_sentence() -> None:
    """One reason stands alone, several are joined as people do."""
    assert sentence_of([], "y") == ""
    assert sentence_of(["a"], "y") == "a"
    assert sentence_of(["a", "b", "c"], "y") == "a, b y c"
