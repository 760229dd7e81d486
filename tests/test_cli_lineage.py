"""`thau lineage`: what a version was taught, line by line, and where an example went."""

import json
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from tests.seeded import freeze, make_home, open_ledger, promote, take_in
from thaud.cli.lineage_words import EN, ES
from thaud.domain import Answer, Example, Message, RunSpec, RunState, Score, Side
from thaud.home import Home
from thaud.ledger import Ledger, LedgerReader, NewExample, NewFile
from thaud.ledger.whereabouts import Counting, teaching
from thaud.origins import report_lesson

FAMILY = "thau-nano"
Invoke = Callable[..., tuple[int, str, str]]
pytestmark = pytest.mark.usefixtures("plain_environment")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path / "home")


def left_out(ids: Sequence[str], reason: str) -> list[dict[str, str]]:
    return [{"id": each, "reason": reason} for each in ids]


def frozen(ledger: Ledger, ids: Sequence[str], parent: int | None = None, **changes: Any) -> RunSpec:
    """A run at age 0, fresh or on another version."""
    strategy = "fresh" if parent is None else "continue"
    return freeze(ledger, list(ids), 0, FAMILY, strategy=strategy, parent=parent, **changes)


def train(ledger: Ledger, spec: RunSpec, **found: Any) -> None:
    """The receipt of a training."""
    measured = {"steps": 7, "tokens": 900, "first_loss": 2.5, "last_loss": 0.25, "seconds": 3.0, "precision": "fp32"}
    receipt = {**measured, "adapter_sha256": "b" * 64, "set_aside": [], "cut": [], **found}
    ledger.intend(spec.id, "train")
    ledger.receive(spec.id, "train", receipt, RunState.TRAINED)


def document(said: tuple[int, str, str]) -> dict[str, Any]:
    code, out, err = said
    assert (code, err) == (0, "")
    parsed: dict[str, Any] = json.loads(out)
    return parsed


# A version


def test_every_example_is_there_with_file_and_line(thau: Invoke, home: Home) -> None:
    """The JSON names each example that the version was taught, in the order of arrival, and what decided it."""
    with open_ledger(home) as ledger:
        ids = take_in(ledger, 0, 3, "a.jsonl") + take_in(ledger, 0, 2, "b.jsonl")
        spec = frozen(ledger, ids[::-1])
        train(ledger, spec)
        promote(ledger, spec, 1, Score(20, 18), None)
    found = document(thau("lineage", "1", "--json"))
    assert [(each["id"], each["file"], each["line"]) for each in found["taught"]] == [
        (id_, file, line)
        for id_, (file, line) in zip(
            ids, [("a.jsonl", 1), ("a.jsonl", 2), ("a.jsonl", 3), ("b.jsonl", 1), ("b.jsonl", 2)], strict=True
        )
    ]
    assert {each["run"] for each in found["taught"]} == {"run-0001"}
    assert {each["first_taught_by"] for each in found["taught"]} == {"thau-nano-v1"}
    assert (found["seed"], found["base"], found["base_digest"], found["run"]) == (0, "/bases/x", "d", "run-0001")
    assert (found["hyperparameters"]["rank"], found["training"]["last_loss"]) == (32, 0.25)
    assert found["certificate"] is None
    assert found["set_aside"] == []


def test_a_version_that_continued_knows_what_its_parent_knew(thau: Invoke, home: Home) -> None:
    """Its line is said, and each example with the run of that line that taught it; what no run of it taught is not."""
    with open_ledger(home) as ledger:
        ids = take_in(ledger, 0, 6, "a.jsonl")
        first = frozen(ledger, ids[:4])
        train(ledger, first, set_aside=left_out(ids[2:4], "too long"), cut=left_out(ids[:2], "150 tokens"))
        promote(ledger, first, 1, Score(20, 18), None)
        second = frozen(ledger, ids[1:], parent=1)
        train(ledger, second, set_aside=left_out(ids[3:4], "far too long"))
        promote(ledger, second, 2, Score(20, 19), None)
    found = document(thau("lineage", "thau-nano-v2", "--json"))
    assert [each["version"] for each in found["line"]] == ["thau-nano-v1", "thau-nano-v2"]
    assert [(each["id"], each["run"], each["cut"]) for each in found["taught"]] == [
        (ids[0], "run-0001", "150 tokens"),
        (ids[1], "run-0001", None),  # the second run learned all of it
        (ids[2], "run-0002", None),
        (ids[4], "run-0002", None),
        (ids[5], "run-0002", None),
    ]
    assert found["set_aside"] == [
        {"id": ids[3], "file": "a.jsonl", "line": 4, "reason": "far too long", "run": "run-0002"}
    ]
    _, out, _ = thau("lineage", "2")
    assert "thau-nano-v1 -> thau-nano-v2" in out
    assert "far too long" in out


def test_people_get_a_summary_and_the_first_examples(thau: Invoke, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """For people the examples are --limit lines, and how many more there are is said; in the user's language."""
    with open_ledger(home) as ledger:
        spec = frozen(ledger, take_in(ledger, 0, 30, "a.jsonl"))
        train(ledger, spec, cut=left_out(spec.example_ids[:1], "150 tokens, the stage has 128"))
        promote(ledger, spec, 1, Score(20, 18), None)
    code, out, _ = thau("lineage", "--limit", "2")  # the champion
    assert code == 0
    assert "Examples taught: 30; the first 2:" in out
    assert "a.jsonl:1  0    v1" in out
    assert "a.jsonl: pregunta 1" in out
    assert "150 tokens, the stage has 128" in out
    assert "a.jsonl:3" not in out
    assert "28 more" in out
    monkeypatch.setenv("LC_ALL", "es_ES.UTF-8")
    assert "Ejemplos enseñados: 30; los 2 primeros:" in thau("lineage", "v1", "--limit", "2")[1]
    assert "30 more" not in thau("lineage", "--limit", "0")[1]


def test_further_places_are_counted(thau: Invoke, home: Home) -> None:
    """An example that stands on several lines is listed once, with how many lines hold it."""
    with open_ledger(home) as ledger:
        ids = take_in(ledger, 0, 3, "a.jsonl")
        again = NewFile("b.jsonl", "{}", True, (), [(1, ids[1]), (2, ids[2]), (9, ids[1])], ())
        ledger.take_in(again)
        promote(ledger, frozen(ledger, ids), 1, Score(20, 18), None)
    found = document(thau("lineage", "--json"))
    assert [each["places"] for each in found["taught"]] == [1, 3, 2]
    assert "a.jsonl:2 (+2)" in thau("lineage")[1]


def test_stretches_are_counted_where_they_overlap() -> None:
    """The count at a number is that of the stretches around it, both ends included."""
    stretches = [(1, 4), (2, 2), (2, 9), (6, 6)]
    counting = Counting(iter(stretches))
    assert [counting.at(n) for n in range(11)] == [
        sum(first <= n <= last for first, last in stretches) for n in range(11)
    ]


def test_a_long_line_is_not_held_in_memory(home: Home) -> None:
    """40,000 examples are listed in less memory than their ids take: a version may have been taught a million."""
    n = 40_000
    with open_ledger(home) as ledger:
        promote(ledger, freeze(ledger, take_in(ledger, 0, n, "a.jsonl"), 0, FAMILY), 1, Score(20, 18), None)
    with LedgerReader.open(home.ledger) as reader:
        tracemalloc.start()
        with teaching(reader, "run-0001") as lessons:
            listed = sum(len(report_lesson(each, FAMILY)["id"]) == 64 for each in lessons.taught())
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert listed == n
    assert peak < n * 64


def test_a_listing_leaves_nothing_behind(home: Home) -> None:
    """What is gathered for a listing is the connection's own: another listing and the ledger do not see it."""
    with open_ledger(home) as ledger:
        promote(ledger, freeze(ledger, take_in(ledger, 0, 3, "a.jsonl"), 0, FAMILY), 1, Score(20, 18), None)
    before = home.ledger.read_bytes()
    with LedgerReader.open(home.ledger) as reader:
        for _ in range(2):
            with teaching(reader, "run-0001") as lessons:
                assert next(lessons.taught()).line == 1  # and no further
        assert reader.one("SELECT count(*) FROM temp.sqlite_master") == 0
    assert home.ledger.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["lineage", "7"], 2, "choose one of 1"),
        (["lineage", "seven"], 2, "seven"),
        (["lineage", "thau-7b-v1"], 2, "thau-7b-v1"),
        (["lineage", "1", "--example", "ab" * 8], 2, "not both"),
        (["lineage", "--example", "abc"], 2, "at least 8 digits"),
        (["lineage", "--example", "nonsense"], 2, "FILE:LINE"),
        (["lineage", "--example", "ab" * 40], 2, "at least 8 digits"),
        (["lineage", "--example", "ab" * 8], 2, "abababab"),
        (["lineage", "--example", "a.jsonl:99"], 2, "thau rejected --file a.jsonl"),
    ],
)
def test_what_is_not_there_is_said(thau: Invoke, home: Home, words: list[str], code: int, said: str) -> None:
    """A number or an example that does not exist is named, with what to do."""
    with open_ledger(home) as ledger:
        promote(ledger, freeze(ledger, take_in(ledger, 0, 3, "a.jsonl"), 0, FAMILY), 1, Score(20, 18), None)
    found, out, err = thau(*words)
    assert (found, out) == (code, "")
    assert said in err
    assert err.count("\n") == 1


def test_without_a_version_there_is_nothing_to_show(thau: Invoke) -> None:
    """A new home has the exit code for that."""
    assert thau("lineage")[0] == 11


# An example


def test_an_example_is_found_by_its_id_and_by_its_line(thau: Invoke, home: Home) -> None:
    """The whole id, eight digits of it, capitals, and FILE:LINE (with a path before it) all name it."""
    with open_ledger(home) as ledger:
        ids = take_in(ledger, 0, 3, "a:b.jsonl")
    for named in (ids[1], ids[1][:8], ids[1][:37].upper(), "a:b.jsonl:2", "data/training_queue/a:b.jsonl:2"):
        assert document(thau("lineage", "--example", named, "--json"))["id"] == ids[1]


def test_a_line_that_no_file_has_names_nothing(thau: Invoke, home: Home) -> None:
    """Beyond what SQLite can count as well: exit code 2 and a sentence, no traceback."""
    with open_ledger(home) as ledger:
        take_in(ledger, 0, 3, "a.jsonl")
    for line in ("0", "4", "9" * 18, "9" * 40, "9" * 5000):
        code, _, err = thau("lineage", "--example", f"a.jsonl:{line}")
        assert (code, err.startswith("error: ")) == (2, True)


def test_the_beginning_of_two_ids_names_neither(thau: Invoke, home: Home) -> None:
    """An ambiguous beginning is refused with the ids that have it and their lines."""
    ids = ["abcdef12" + "0" * 56, "abcdef12" + "1" * 56]
    with open_ledger(home) as ledger:
        rows = [
            NewExample(Example((Message("user", id_), Message("assistant", "x"))), id_, 0, Side.TAUGHT, id_, line)
            for line, id_ in enumerate(ids, 1)
        ]
        sightings = [(row.line, row.id) for row in rows]
        ledger.take_in(NewFile("a.jsonl", "{}", finished=True, examples=rows, sightings=sightings, rejections=()))
    code, _, err = thau("lineage", "--example", "abcdef12")
    assert code == 2
    assert all(f"{id_} (a.jsonl:{line})" in err for line, id_ in enumerate(ids, 1))
    assert document(thau("lineage", "--example", "abcdef121", "--json"))["id"] == ids[1]


def test_the_way_of_an_example_is_told(thau: Invoke, home: Home) -> None:
    """Where it stands and stood, who tried it, who first taught it, which versions know it by their lines."""
    with open_ledger(home) as ledger:
        ids = take_in(ledger, 0, 3, "a.jsonl")
        ledger.take_in(NewFile("b.jsonl", "{}", True, (), [(4, ids[0])], ()))
        first = frozen(ledger, ids[:1])
        train(ledger, first)
        promote(ledger, first, 1, Score(20, 18), None)
        second = frozen(ledger, ids[1:], parent=1)
        train(ledger, second, set_aside=left_out(ids[2:], "too long"))
        promote(ledger, second, 2, Score(20, 18), None)
        third = frozen(ledger, ids[1:2])
        train(ledger, third)
        promote(ledger, third, 3, Score(20, 18), None)
        ledger.retire_file("a.jsonl", "a-2.jsonl")
    found = document(thau("lineage", "--example", ids[0], "--json"))
    assert [(each["file"], each["line"], each["retired_to"]) for each in found["places"]] == [
        ("a.jsonl", 1, "a-2.jsonl"),
        ("b.jsonl", 4, None),
    ]
    assert found["known_by"] == ["thau-nano-v1", "thau-nano-v2"]
    assert [each["version"] for each in found["first_taught_by"]] == ["thau-nano-v1"]
    assert [(each["run"], each["part"]) for each in found["runs"]] == [("run-0001", "taught")]
    assert found["state"] == "forgotten"
    aside = document(thau("lineage", "--example", ids[2], "--json"))
    assert (aside["known_by"], aside["runs"][0]["set_aside"], aside["state"]) == ([], "too long", "set_aside")
    assert document(thau("lineage", "--example", ids[1], "--json"))["state"] == "known"
    assert "a.jsonl:1 (now a-2.jsonl, in data/trained)" in thau("lineage", "--example", ids[0])[1]


def test_a_held_out_example_shows_what_was_answered(thau: Invoke, home: Home) -> None:
    """It is never taught; each version's answer to it is there, right or wrong."""
    with open_ledger(home) as ledger:
        ids, held = take_in(ledger, 0, 2, "a.jsonl"), take_in(ledger, 0, 1, "b.jsonl", Side.HELD_OUT)
        promote(ledger, frozen(ledger, ids, exam_ids=tuple(held)), 1, Score(1, 0), None)
        ledger.keep_answers("a" * 64, [Answer(held[0], 0, "no\nsé", 0.0, correct=False)])
    found = document(thau("lineage", "--example", held[0], "--json"))
    assert (found["side"], found["state"], found["known_by"]) == ("held_out", "held_out", [])
    assert found["runs"][0]["part"] == "asked"
    assert found["answers"] == [{"version": "thau-nano-v1", "answer": "no\nsé", "correct": False, "score": 0.0}]
    assert "thau-nano-v1: no sé (wrong)" in thau("lineage", "--example", held[0])[1]


def test_what_waits_says_for_what(thau: Invoke, home: Home) -> None:
    """An example waits for the next run, for its age, or for the end of the run under way; or it was refused."""
    with open_ledger(home) as ledger:
        ids, later = take_in(ledger, 0, 3, "a.jsonl"), take_in(ledger, 6, 1, "b.jsonl")
        refused = frozen(ledger, ids[:1])
        ledger.end_run(refused.id, RunState.REJECTED, ["worse"])
        frozen(ledger, ids[1:2])
    states = [document(thau("lineage", "--example", each, "--json"))["state"] for each in (*ids, *later)]
    assert states == ["refused", "in_run", "waiting", "waits_for_age"]
    assert "age 6" in thau("lineage", "--example", later[0])[1]


def test_both_languages_say_the_same() -> None:
    """No phrase is missing in either language."""
    for field in fields(EN):
        english, spanish = getattr(EN, field.name), getattr(ES, field.name)
        assert type(english) is type(spanish)
        assert english
        assert spanish
        if isinstance(english, dict):
            assert english.keys() == spanish.keys()
        if isinstance(english, tuple):
            assert len(english) == len(spanish)
