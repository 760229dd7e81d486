"""Each fault is found by its name; what is safe is mended, what is not is named with what people can do."""

import asyncio
import sqlite3
from collections.abc import Callable

import pytest

from tests.doctor import faults
from tests.doctor.faults import FAULTS, NAMED
from tests.doctor.kit import SETTINGS, fixed, found, snapshot_of, write
from tests.testkit.daemon import thau
from thaud.control import only_daemon
from thaud.doctor import Level, examine, mend, say
from thaud.domain import RunState
from thaud.home import Home
from thaud.intake import Intake
from thaud.ledger import Ledger, LedgerReader


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_found_and_mended(home: Home, fault: Callable[[Home], None]) -> None:
    """Each fault is found by its name, looking changes nothing, --fix mends it, and nothing else is wrong then."""
    fault(home)
    name, left = FAULTS[fault]
    before = snapshot_of(home)
    assert name in found(home)
    if fault is not faults.large_wal:
        assert snapshot_of(home) == before
    assert set(fixed(home)) == left
    assert set(found(home)) == left


def test_what_cannot_be_named_is_moved_and_not_deleted(home: Home) -> None:
    """Strangers lie in data/orphans/DATE/ under the path that they had, whole; a second one finds room beside it."""
    for _ in range(2):
        faults.stranger_run(home)
        faults.stranger_version(home)
        assert fixed(home) == {}
    (day,) = home.orphans.iterdir()
    names = {str(path.relative_to(day)) for path in day.rglob("*") if path.is_file()}
    assert names == {f"runs/run-0009{n}/train/adapter.bin" for n in ("", "-2")} | {
        f"versions/thau-nano-v7{n}/model.gguf" for n in ("", "-2")
    }


def test_a_users_own_file_in_the_queue_is_left_alone(home: Home) -> None:
    """A temporary file of somebody else's, and what is not read, stay where they are."""
    faults.half_written(home)
    write(home.queue / "notes.txt")
    assert found(home)["queue_unread"].level is Level.WARNING
    assert set(fixed(home)) == {"queue_unread"}
    assert {path.name for path in home.queue.iterdir()} >= {".mine.jsonl.tmp", "notes.txt"}
    assert (home.data / ".mine.json.tmp").exists()
    assert (home.logs / ".mine.log.tmp").exists()


@pytest.mark.parametrize("fault", [faults.ledger_gone, faults.ledger_emptied], ids=lambda fault: fault.__name__)
def test_without_its_ledger_a_home_with_versions_stays_as_it_is(home: Home, fault: Callable[[Home], None]) -> None:
    """Nobody begins from nothing over what is there: neither --fix nor the service nor init makes a new ledger."""
    fault(home)
    before = snapshot_of(home)
    fixed(home)
    for command in ("start", "init"):
        refused = thau(home.root, command)
        assert refused.returncode == 8, refused
        assert "restore it from a backup" in refused.stderr
    after = snapshot_of(home)
    assert after.items() >= before.items()
    assert after.get("data/ledger.sqlite3", b"") == b""


def test_a_damaged_ledger_is_said_once(home: Home) -> None:
    """However many checks it stops: the others say that they could not be made, not that all is well."""
    faults.damaged_table(home)
    examined = examine(home, SETTINGS, served=False)
    said = [each.name for one in examined for each in one.findings]
    assert said.count("ledger_damaged") == 1
    assert "not_checked" in said


def test_a_correction_under_way_is_left_alone(home: Home) -> None:
    """A line that stands in a row's place is how `thau retry` pairs them: --fix adds no row beside it."""
    faults.quarantine_being_corrected(home)
    before = snapshot_of(home)
    assert found(home)["quarantine_edited"].level is Level.WARNING
    assert set(fixed(home)) == {"quarantine_edited"}
    assert snapshot_of(home) == before


def test_a_file_that_is_read_again_gives_nothing_twice(home: Home) -> None:
    """After its position was mended the intake reads the file from its start, to no effect."""
    faults.damaged_position(home)
    fixed(home)
    with Ledger.open(home.ledger) as ledger:
        before = ledger.one("SELECT count(*) FROM examples"), ledger.rejection_count()
        asyncio.run(Intake(home, SETTINGS, ledger).take_in())
        assert (ledger.one("SELECT count(*) FROM examples"), ledger.rejection_count()) == before
    assert found(home) == {}


def test_a_run_that_lost_its_receipt_goes_back(home: Home) -> None:
    """It goes back to the step that is to be done again, and is taken to its end from there."""
    faults.lost_receipt(home)
    fixed(home)
    with LedgerReader.open(home.ledger) as ledger:
        run_row = ledger.unfinished_run()
        assert run_row is not None
        assert run_row.state is RunState.FROZEN


def test_indexes_are_made_anew(home: Home) -> None:
    """An index that lacks a row is found by integrity_check, and REINDEX is the repair; the rows are as before."""
    connection = sqlite3.connect(home.ledger)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.execute("CREATE INDEX spare ON events (kind)")
    connection.execute("PRAGMA writable_schema=ON")
    connection.execute("UPDATE sqlite_schema SET sql = 'CREATE INDEX spare ON events (at)' WHERE name = 'spare'")
    connection.commit()
    connection.close()
    assert found(home)["indexes_damaged"].n > 0
    assert fixed(home) == {}


@pytest.mark.parametrize("fault", NAMED, ids=lambda fault: fault.__name__)
def test_what_is_not_safe_to_mend_is_named(home: Home, fault: Callable[[Home], None]) -> None:
    """It is found with a remedy, and still found after --fix, which does not pretend."""
    fault(home)
    finding = found(home)[NAMED[fault]]
    assert all(say(finding, language)[1] for language in ("es", "en"))  # type: ignore[arg-type]
    with only_daemon(home):
        mend(home, SETTINGS, examine(home, SETTINGS, served=False))
    assert NAMED[fault] in found(home)
