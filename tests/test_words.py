import string
from dataclasses import fields
from pathlib import Path

import pytest

import thaud
from thaud.curriculum import STAGES
from thaud.domain import RunState
from thaud.words import EN, ES, Words, sentence_of

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


def test_no_phrase_is_left_over() -> None:
    """The table holds what is said and nothing else."""
    code = "".join(path.read_text(encoding="utf-8") for path in SOURCES.rglob("*.py"))
    assert [field.name for field in fields(Words) if f"words.{field.name}" not in code] == []


def test_reasons_make_one_sentence() -> None:
    """One reason stands alone, several are joined as people do."""
    assert sentence_of([], "y") == ""
    assert sentence_of(["a"], "y") == "a"
    assert sentence_of(["a", "b", "c"], "y") == "a, b y c"
