"""The ledger on a real SQLite file."""

import json
import sqlite3
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from thaud.curriculum import Members
from thaud.domain import Answer, Example, Message, RunSpec, RunState, Score, Side, Trigger, Version
from thaud.errors import DiskFullError, HomeError, HomeTooNewError, StorageError
from thaud.failpoints import FAILPOINTS
from thaud.ledger import Ledger, LedgerReader, NewExample, NewFile, NewRejection

FAMILY = "thau-nano"


@pytest.fixture
def ledger(tmp_path: Path):  # noqa: ANN201
    with Ledger.open(tmp_path / "ledger.sqlite3", lambda: datetime(2026, 1, 2, tzinfo=UTC)) as opened:
        yield opened


def new(number: int, *, age: int = 0, side: Side = Side.TAUGHT, line: int | None = None) -> NewExample:
    example = Example((Message("user", f"¿{number}?"), Message("assistant", str(number))))
    return NewExample(example, example.id, age, side, f"prompt:{number}", line or number)


def batch(name: str, *examples: NewExample, **changes: object) -> NewFile:
    sightings = [(each.line, each.id) for each in examples]
    fields = {"name": name, "position": "{}", "finished": True, "examples": examples, "sightings": sightings}
    return NewFile(**{**fields, "rejections": (), **changes})  # type: ignore[arg-type]


def spec(run_id: str, ids: tuple[str, ...], age: int = 0) -> RunSpec:
    return RunSpec(
        id=run_id, family=FAMILY, size="nano", base="b", base_digest="d", age=age, context_tokens=128, seed=1,
        trigger=Trigger.EXAMPLES, example_ids=ids, exam_ids=(), recall_ids=(), champion=None, learning_rate=1e-3,
        epochs=1, rank=8, alpha=16, batch_examples=4, export_kind="f16",
    )  # fmt: skip


def version(run_id: str, n: int) -> Version:
    return Version(FAMILY, n, run_id, 0, "/g", "s", 1, Score(30, 25), 2, "2026-01-02T00:00:00.000+00:00")


def promote(ledger: Ledger, run_id: str, n: int, ids: tuple[str, ...], advance_to: int | None = None) -> None:
    ledger.freeze_run(spec(run_id, ids))
    ledger.accept(version(run_id, n), ["fine"], {})
    ledger.promote(version(run_id, n), advance_to)


def test_an_example_is_stored_once_however_often_it_is_seen(ledger: Ledger) -> None:
    """The same content in two files, or read twice, is one example with every place kept."""
    ledger.take_in(batch("a.jsonl", new(1), new(2)))
    ledger.take_in(batch("b.jsonl", new(1, line=7)))
    ledger.take_in(batch("a.jsonl", new(1), new(2), restarted=True))
    assert ledger.counts_by_age() == {0: {"taught": 2}}
    assert ledger.one("SELECT count(*) FROM sightings") == 3
    assert ledger.known_ids([new(1).id, new(9).id]) == {new(1).id}


def test_what_went_in_comes_out(ledger: Ledger) -> None:
    """An example's content, file and line survive the round trip."""
    ledger.take_in(batch("a.jsonl", new(5, age=3, side=Side.HELD_OUT)))
    (found,) = ledger.examples([new(5).id])
    assert (found.example.messages, found.age, found.side) == (new(5).example.messages, 3, Side.HELD_OUT)
    assert (found.file, found.line, found.id) == ("a.jsonl", 5, found.example.id)


def test_tools_keep_the_order_of_their_keys(ledger: Ledger) -> None:
    """A tool comes back as it went in, since templates print it in that order and the server expects it."""
    tool = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"z": 1, "a": 2}}}
    example = Example((Message("user", "u"), Message("assistant", "a")), tools=(tool,))
    ledger.take_in(batch("a.jsonl", NewExample(example, example.id, 0, Side.TAUGHT, "prompt:t", 1)))
    (found,) = ledger.examples([example.id])
    assert json.dumps(found.example.tools[0]) == json.dumps(tool)
    assert found.example.id == example.id


def test_an_id_that_is_missing_is_named(ledger: Ledger) -> None:
    """A ledger that names what it does not hold says which, and what to do."""
    with pytest.raises(StorageError, match="names example nope"):
        list(ledger.examples(["nope"]))


def test_pending_counts_what_no_promoted_version_knows(ledger: Ledger) -> None:
    """Taught examples up to the age are pending until a promoted run had them; a tried one is no longer unseen."""
    ledger.take_in(batch("a.jsonl", new(1), new(2), new(3, side=Side.HELD_OUT), new(4, age=1)))
    assert ledger.pending(FAMILY, 0) == (2, 2)
    ledger.freeze_run(spec("run-0001", (new(1).id,)))
    assert ledger.pending(FAMILY, 0) == (2, 1)
    ledger.end_run("run-0001", RunState.REJECTED, ["worse"])
    assert ledger.pending(FAMILY, 0) == (2, 1)
    promote(ledger, "run-0002", 1, (new(1).id, new(2).id))
    assert ledger.pending(FAMILY, 0) == (0, 0)
    assert ledger.pending(FAMILY, 1) == (1, 1)
    assert ledger.pending("thau-7b", 0) == (2, 2)
    assert ledger.trained_count(FAMILY) == 2
    assert ledger.waiting_by_age(FAMILY) == {1: 1}


def test_a_file_is_finished_when_all_its_taught_examples_are(ledger: Ledger) -> None:
    """Held-out examples do not keep a file in the queue; one that waits for a later stage does."""
    ledger.take_in(batch("done.jsonl", new(1), new(2, side=Side.HELD_OUT)))
    ledger.take_in(batch("later.jsonl", new(1), new(3, age=6)))
    ledger.take_in(batch("half-read.jsonl", new(1), finished=False))
    assert ledger.finished_files(FAMILY) == []
    promote(ledger, "run-0001", 1, (new(1).id,))
    assert ledger.finished_files(FAMILY) == ["done.jsonl"]
    ledger.retire_file("done.jsonl", "trained/done.jsonl")
    assert ledger.finished_files(FAMILY) == []


def test_promotion_is_one_commit(ledger: Ledger) -> None:
    """Alias, lessons, state and age change together, with their events."""
    ledger.take_in(batch("a.jsonl", new(1)))
    promote(ledger, "run-0001", 1, (new(1).id,), advance_to=1)
    champion = ledger.champion(FAMILY)
    assert champion is not None
    assert (champion.name, ledger.age) == ("thau-nano-v1", 1)
    assert [event["kind"] for event in ledger.events(2)] == ["age_advanced", "version_promoted"]
    row = ledger.run("run-0001")
    assert row is not None
    assert row.state is RunState.PROMOTED
    assert [row["version"] for row in ledger.trained_examples(FAMILY)] == ["thau-nano-v1"]


def test_a_broken_transaction_leaves_nothing(ledger: Ledger) -> None:
    """When the commit of a batch fails half-way, none of it is there."""
    good, twice = new(1), batch("a.jsonl", new(1))
    with pytest.raises(StorageError, match="could not be written"):
        ledger.take_in(NewFile("a.jsonl", "{}", True, [good], [(1, good.id)], [NewRejection(2, "r", None)]))  # type: ignore[arg-type]
    assert ledger.counts_by_age() == {}
    ledger.take_in(twice)
    assert ledger.counts_by_age() == {0: {"taught": 1}}


def test_reset_keeps_examples_and_versions(ledger: Ledger) -> None:
    """Age 0 again, the event kept, nothing else lost."""
    ledger.take_in(batch("a.jsonl", new(1)))
    promote(ledger, "run-0001", 1, (new(1).id,), advance_to=1)
    ledger.reset_age("asked")
    assert ledger.age == 0
    assert ledger.events(1)[0]["before"] == 1
    assert len(ledger.versions(FAMILY)) == 1
    assert ledger.trained_count(FAMILY) == 1


def test_rejections_are_kept_once(ledger: Ledger) -> None:
    """The same bad line of the same file is quarantined once."""
    bad = NewRejection(3, "not JSON", "{oops")
    ledger.take_in(batch("a.jsonl", rejections=[bad]))
    ledger.take_in(batch("a.jsonl", rejections=[bad]))
    assert [row["raw"] for row in ledger.rejections()] == ["{oops"]


def test_answers_are_kept_by_digest(ledger: Ledger) -> None:
    """A champion's answers come back for its own file only."""
    answer = Answer("e1", 0, "azul", 1.0, correct=True)
    ledger.keep_answers("digest", [answer])
    assert ledger.answers("digest", ["e1", "e2"]) == {"e1": answer}
    assert ledger.answers("other", ["e1"]) == {}


def test_members_of_groups(ledger: Ledger) -> None:
    """The split sees how many of a group are on each side."""
    ledger.take_in(batch("a.jsonl", new(1), new(2, side=Side.HELD_OUT)))
    assert ledger.members(["prompt:1", "prompt:2", "prompt:3"]) == {
        "prompt:1": Members(1, 0),
        "prompt:2": Members(0, 1),
    }


def test_failures_count_since_the_last_success(ledger: Ledger) -> None:
    """Three failures in a row are three; a run that ended otherwise starts the count again."""
    for number in range(1, 4):
        ledger.freeze_run(spec(f"run-000{number}", ()))
        ledger.end_run(f"run-000{number}", RunState.FAILED, ["x"])
    assert ledger.failures() == 3
    ledger.freeze_run(spec("run-0004", ()))
    ledger.end_run("run-0004", RunState.REJECTED, ["x"])
    assert ledger.failures() == 0
    assert ledger.next_run_id() == "run-0005"


def test_reader_changes_nothing(ledger: Ledger) -> None:
    """A reader sees commits at once and cannot write."""
    with LedgerReader.open(ledger.path) as reader:
        ledger.take_in(batch("a.jsonl", new(1)))
        assert reader.counts_by_age() == {0: {"taught": 1}}
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.connection.execute("DELETE FROM examples")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_migration_that_the_disk_refuses_is_said(tmp_path: Path, when: str) -> None:
    """No traceback: one sentence with the ledger in it; the next try goes on from there."""
    path = tmp_path / "ledger.sqlite3"
    FAILPOINTS.arm(f"ledger.migrate.{when}=enospc")
    try:
        with pytest.raises(StorageError, match=r"cannot migrate .*No space left"):
            Ledger.open(path)
    finally:
        FAILPOINTS.charges.clear()
        FAILPOINTS.on = False
    Ledger.open(path).close()


def test_a_home_may_be_moved(tmp_path: Path) -> None:
    """The file of a version is found beside the ledger, wherever both are by now; one elsewhere stays where it is."""
    there = tmp_path / "there"
    there.mkdir()
    with Ledger.open(there / "ledger.sqlite3") as ledger:
        ledger.freeze_run(spec("run-0001", ()))
        ledger.accept(replace(version("run-0001", 1), gguf=str(there / "versions" / "v1.gguf")), ["fine"], {})
        promote(ledger, "run-0002", 2, ())
    here = there.rename(tmp_path / "here")
    with LedgerReader.open(here / "ledger.sqlite3") as reader:
        assert [each.gguf for each in reader.versions()] == [str(here / "versions" / "v1.gguf"), "/g"]


def test_a_newer_ledger_is_refused_untouched(ledger: Ledger) -> None:
    """A home from a newer THAU says so, to readers and writers, and is left as it is."""
    ledger.connection.execute("PRAGMA user_version=99")
    with pytest.raises(HomeTooNewError, match="schema 99"):
        LedgerReader.open(ledger.path)
    with pytest.raises(HomeTooNewError, match="upgrade THAU"):
        Ledger.open(ledger.path)


def test_no_ledger_says_init(tmp_path: Path) -> None:
    """Reading a home that was never made names the way out."""
    with pytest.raises(HomeError, match="thau init"):
        LedgerReader.open(tmp_path / "ledger.sqlite3")


def test_commits_survive_sigkill(tmp_path: Path) -> None:
    """What was committed before a SIGKILL is there; what was in a transaction is not."""
    program = f"""
import os, signal
from pathlib import Path
from thaud.ledger import Ledger
ledger = Ledger.open(Path({str(tmp_path / "l.sqlite3")!r}))
ledger.note("committed")
with ledger.transaction("note") as sql:
    ledger._note("lost")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    with Ledger.open(tmp_path / "l.sqlite3") as ledger:
        assert [event["kind"] for event in ledger.events()] == ["committed"]
        assert ledger.one("PRAGMA integrity_check") == "ok"


def test_a_full_disk_is_said_as_such_and_keeps_nothing_of_a_batch(ledger: Ledger) -> None:
    """The error names the cause, the batch is not there by half, and it goes in when there is room."""
    pages = ledger.one("PRAGMA page_count")
    ledger.connection.execute(f"PRAGMA max_page_count={pages}")
    many = batch("a.jsonl", *(new(number) for number in range(2000)))
    with pytest.raises(DiskFullError, match="full"):
        ledger.take_in(many)
    assert (ledger.counts_by_age(), ledger.file("a.jsonl")) == ({}, None)
    ledger.connection.execute("PRAGMA max_page_count=1000000")
    ledger.take_in(many)
    assert ledger.counts_by_age() == {0: {"taught": 2000}}


def test_what_was_set_aside_is_not_taught_and_asks_for_no_run(ledger: Ledger) -> None:
    """An example that a run could not use is in no list of trained ones; its file stays; a later run can teach it."""
    first, second = new(1), new(2)
    ledger.take_in(batch("a.jsonl", first, second))
    ledger.freeze_run(spec("run-0001", (first.id, second.id)))
    ledger.accept(version("run-0001", 1), ["fine"], {})
    ledger.promote(version("run-0001", 1), None, [second.id])
    assert [row["id"] for row in ledger.trained_examples(FAMILY)] == [first.id]
    assert (ledger.pending(FAMILY, 0), ledger.finished_files(FAMILY)) == ((0, 0), [])
    promote(ledger, "run-0002", 2, (first.id, second.id))
    assert [row["run"] for row in ledger.trained_examples(FAMILY)] == ["run-0001", "run-0002"]
    assert ledger.finished_files(FAMILY) == ["a.jsonl"]


def test_events_of_a_kind_are_found_behind_any_number_of_others(ledger: Ledger) -> None:
    """A month of complaints does not push the growth out of the history."""
    ledger.set_age(1, "age_advanced")
    for _ in range(60):
        ledger.note("run_not_started", reason="no base")
    assert [event["after"] for event in ledger.events(1, ["age_advanced", "reset"])] == [1]
    assert {event["kind"] for event in ledger.events()} == {"run_not_started"}
