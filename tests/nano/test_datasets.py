"""The datasets: their sizes, groups and answers, and that no exam question was ever read in pretraining."""

import hashlib
import json
import subprocess
import sys
import unicodedata
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from thaud.nano.corpus import documents
from thaud.nano.datasets import FILES, examples, stale_files, write_files
from thaud.nano.facts import EXAM_WORDINGS, UNEXAMINED, parse_facts, without_accents, words_of
from thaud.nano.families import FAMILIES
from thaud.nano.pretrain import Schedule

FOLDER = Path(__file__).parents[2] / "data" / "datasets"
LEAST_LINES = {0: 136, 1: 268, 3: 670}
LEAST_TAUGHT = {0: 100, 1: 200, 3: 500}
YES_NO = {"si_es", "no_es", "can_en", "cannot_en"}
CORPUS_DOCUMENTS = 175_000
"""A little more than the shipped base read (its card says how many)."""


def lines(age: int) -> list[dict[str, str]]:
    return [json.loads(line) for line in (FOLDER / FILES[age]).read_text(encoding="utf-8").splitlines()]


def example_id(example: dict[str, str]) -> str:
    content, answer = (unicodedata.normalize("NFC", example[key]).strip() for key in ("instruction", "output"))
    messages = [{"content": content, "role": "user"}, {"content": answer, "role": "assistant"}]
    text = json.dumps({"messages": messages}, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def test_files_on_disk_are_what_the_generator_writes() -> None:
    """A dataset is never edited by hand: the files are the generator's, byte for byte."""
    assert stale_files(FOLDER) == []


def test_check_exits_with_one_when_a_file_differs(tmp_path: Path) -> None:
    """`--check` is a gate: it passes on fresh files, fails on a changed one and writes nothing."""
    write_files(tmp_path)
    command = [sys.executable, "-m", "thaud.nano.datasets", "--check", "--out", str(tmp_path)]
    assert subprocess.run(command, check=False).returncode == 0
    changed = tmp_path / FILES[1]
    changed.write_text("{}\n", encoding="utf-8")
    assert subprocess.run(command, check=False, capture_output=True).returncode == 1
    assert changed.read_text(encoding="utf-8") == "{}\n"


@pytest.mark.parametrize("age", FILES)
def test_every_group_is_one_fact_in_four_wordings(age: int) -> None:
    """A group of four shares one answer, so that three can be taught and one examined."""
    answers: dict[str, list[str]] = {}
    for line in lines(age):
        answers.setdefault(line["group"], []).append(line["output"])
    assert all(len(found) == EXAM_WORDINGS and len(set(found)) == 1 for found in answers.values())


@pytest.mark.parametrize("age", FILES)
def test_enough_is_left_to_teach_once_the_exam_is_held_out(age: int) -> None:
    """After one example of each group goes to the exam, the stage's minimum of taught examples remains."""
    found = lines(age)
    groups = {line["group"] for line in found}
    assert len(found) >= LEAST_LINES[age]
    assert len(found) - len(groups) >= LEAST_TAUGHT[age]


def test_every_wording_of_a_family_is_both_taught_and_examined() -> None:
    """The hash holds out every wording somewhere, so that no exam rests on one turn of phrase."""
    held_out: Counter[int] = Counter()
    for age in FILES:
        by_group: dict[str, list[dict[str, str]]] = {}
        for line in lines(age):
            by_group.setdefault(line["group"], []).append(line)
        held_out.update(group.index(min(group, key=example_id)) for group in by_group.values())
    assert len(held_out) == EXAM_WORDINGS
    assert min(held_out.values()) > sum(held_out.values()) / 8


def test_no_prompt_occurs_twice() -> None:
    """A question belongs to one group of one age, however it is punctuated."""
    prompts = Counter(words_of(example["instruction"]) for age in FILES for example in examples(age))
    assert [words for words, times in prompts.items() if times > 1] == []


@pytest.mark.parametrize("age", FILES)
def test_answers_are_short(age: int) -> None:
    """Ages 0 and 1 answer in one to three words, age 3 in a short phrase."""
    most = 3 if age < 3 else 5
    assert all(1 <= len(words_of(example["output"])) <= most for example in examples(age))


def test_the_newborn_answers_yes_and_no() -> None:
    """Age 0 has questions whose answer is sí or no, as many of one as of the other."""
    answers = Counter(example["output"] for example in examples(0))
    assert answers["Sí"] + answers["Yes"] == answers["No"] > 0


@pytest.mark.parametrize("age", FILES)
def test_arithmetic_stays_a_small_part(age: int) -> None:
    """Sums are less than 15% of an age's examples, since nano is weak at them."""
    sums = [example for example in examples(age) if example["group"].startswith("suma_es/")]
    assert len(sums) < 0.15 * len(lines(age))


def test_both_languages_are_taught_and_spanish_more() -> None:
    """Every age mixes Spanish and English, mostly Spanish."""
    for age in FILES:
        count = Counter(family.language for family in FAMILIES for fact in family.facts if fact.age == age)
        assert count["es"] > count["en"] > 0


def test_no_exam_question_occurs_in_the_pretraining_text() -> None:
    """Whatever the corpus says, in chat or in prose, it never says a dataset's prompt, accents and points ignored."""
    prompts = {without_accents(words_of(example["instruction"])) for age in FILES for example in examples(age)}
    lengths = sorted({len(prompt) for prompt in prompts})
    texts = (
        "".join(piece.text for piece in document) for document in islice(documents(Schedule().seed), CORPUS_DOCUMENTS)
    )
    leaked = set()
    for text in set(texts):
        words = without_accents(words_of(text))
        runs = (words[start : start + length] for length in lengths for start in range(len(words) - length + 1))
        leaked.update(prompts.intersection(runs))
    assert leaked == set()


def test_every_fact_asked_is_told_in_the_corpus() -> None:
    """No exam asks what nano could not have read: each family has its own corpus wordings that hold the answer."""
    for family in FAMILIES:
        assert all("{a}" in told.lower() or family.name in YES_NO for told in family.told)
        assert not set(family.exam) & set(family.asked)


def test_an_entry_without_an_answer_is_refused() -> None:
    """A table with a slip in it fails loudly, naming the entry."""
    with pytest.raises(ValueError, match="la nieve"):
        parse_facts({UNEXAMINED: "la nieve"})
