"""A real daemon without training: it takes in, obeys, resets, and ends in order."""

import json
import os
import shutil
import signal
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.testkit.daemon import look, make_home, running, start, thau, wait_until
from thaud.home import Home
from thaud.ledger import Ledger, LedgerReader
from thaud.ledger.schema import MIGRATIONS
from thaud.systemd import notify

LINE = json.dumps({"instruction": "¿Color del cielo?", "output": "azul"}) + "\n"
NO_TRAINING = {"AUTO_TRAIN_ENABLED": "false"}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path / "home")


def taken(home: Home) -> int:
    return sum(sum(sides.values()) for sides in look(home, LedgerReader.counts_by_age).values())


def lines(count: int, start_at: int = 0) -> str:
    rows = (
        {"instruction": f"¿Cuánto es {n} más {n}?", "output": str(2 * n)} for n in range(start_at, start_at + count)
    )
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_a_dropped_file_is_enough(home: Home) -> None:
    """A file renamed or copied into the drop-box is in the ledger, bad lines quarantined, without another step."""
    with running(home, **NO_TRAINING):
        (home.queue / "facts.jsonl").write_text(lines(50) + "{oops\n", encoding="utf-8")
        wait_until(lambda: taken(home) == 50, what="50 examples")
        wait_until((home.rejected / "facts.jsonl").exists, what="the quarantine")
    (row,) = map(json.loads, (home.rejected / "facts.jsonl").read_text(encoding="utf-8").splitlines())
    assert (row["file"], row["line"], row["raw"]) == ("facts.jsonl", 51, "{oops")
    assert (home.queue / "facts.jsonl").exists()


def test_what_was_dropped_while_nobody_looked_is_taken_in_once(home: Home) -> None:
    """Files from before the start are read; restarting reads nothing twice."""
    (home.queue / "before.jsonl").write_text(lines(10), encoding="utf-8")
    for _ in range(2):
        with running(home, **NO_TRAINING):
            wait_until(lambda: taken(home) == 10, what="10 examples")
    assert taken(home) == 10


def test_appended_lines_and_a_late_last_line(home: Home) -> None:
    """Lines appended later are taken in; an unterminated last line counts when the file is quiet."""
    file = home.queue / "log.jsonl"
    with running(home, **NO_TRAINING):
        file.write_text(lines(2), encoding="utf-8")
        wait_until(lambda: taken(home) == 2, what="2 examples")
        with file.open("a", encoding="utf-8") as more:
            more.write(lines(1, 2).rstrip("\n"))
        wait_until(lambda: taken(home) == 3, what="the unterminated line")
    assert file.exists()


def test_the_folder_may_be_deleted_and_made_again(home: Home) -> None:
    """A drop-box made anew is watched again, without a restart."""
    with running(home, **NO_TRAINING):
        shutil.rmtree(home.queue)
        wait_until(lambda: "watch_renewed" in home.service_log.read_text(encoding="utf-8"), what="a renewed watch")
        home.queue.mkdir(exist_ok=True)
        (home.queue / "new.jsonl").write_text(LINE, encoding="utf-8")
        assert wait_until(lambda: taken(home) == 1, what="the example")


def replaced(home: Home) -> None:
    shutil.copy(home.ledger, home.root / "copy")
    (home.root / "copy").replace(home.ledger)


def without_its_log(home: Home) -> None:
    home.ledger.with_name(f"{home.ledger.name}-wal").unlink()


@pytest.mark.parametrize("change", [replaced, without_its_log])
def test_a_ledger_that_is_taken_away_stops_the_intake(home: Home, change: Callable[[Home], None]) -> None:
    """Nothing is written into a file that no name leads to any more: a pause says so, and what was dropped stays."""
    with running(home, **NO_TRAINING):
        (home.queue / "a.jsonl").write_text(LINE, encoding="utf-8")
        wait_until(lambda: taken(home) == 1, what="the example")
        change(home)
        (home.queue / "b.jsonl").write_text(lines(5), encoding="utf-8")
        wait_until(lambda: "removed or replaced" in home.state.read_text("utf-8"), what="the pause")
    with running(home, **NO_TRAINING):
        assert wait_until(lambda: taken(home) == 6, what="all examples")


def test_a_second_daemon_is_refused(home: Home) -> None:
    """One line, naming the process that is there; exit code 4; the first goes on."""
    with running(home, **NO_TRAINING) as first:
        second = thau(home.root, "start")
        assert second.returncode == 4
        assert f"process {first.pid}" in second.stderr
        assert "Traceback" not in second.stderr
        assert first.poll() is None


def test_deleting_the_lock_does_not_let_in_a_second_one(home: Home) -> None:
    """Lock files are what people delete: the folder itself is held as well."""
    with running(home, **NO_TRAINING):
        home.lock.unlink()
        assert thau(home.root, "start").returncode == 4
        assert thau(home.root, "doctor", "--fix").returncode == 4


def test_a_newer_home_is_refused(home: Home) -> None:
    """A ledger from a newer THAU ends the start with exit code 5 and the way out."""
    with Ledger.open(home.ledger) as ledger:
        ledger.connection.execute("PRAGMA user_version=99")
    refused = thau(home.root, "start")
    assert refused.returncode == 5
    assert "upgrade THAU" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_taken_port_is_one_clear_line(home: Home) -> None:
    """The port, and how to choose another; no traceback; nothing left running."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        refused = thau(home.root, "start", THAU_API__PORT=port)
    assert refused.returncode != 0
    assert port in refused.stderr
    assert "THAU_API__PORT" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_deleting_the_progress_file_resets_the_age(home: Home) -> None:
    """The guide's way: remove cognitive_progress.json and restart; the age is 0 and the reset is an event."""
    with running(home, **NO_TRAINING):
        pass
    with Ledger.open(home.ledger) as ledger:
        ledger.set_age(3, "age_advanced")
    home.progress.unlink()
    with running(home, **NO_TRAINING):
        assert look(home, lambda ledger: ledger.age) == 0
        assert json.loads(home.progress.read_bytes())["current_age"] == 0
    assert look(home, lambda ledger: [event["kind"] for event in ledger.events(1)]) == ["reset"]


def test_reset_works_with_and_without_a_daemon(home: Home) -> None:
    """`thau reset --yes` reaches a running daemon, and works alone."""
    for with_daemon in (True, False):
        with Ledger.open(home.ledger) as ledger:
            ledger.set_age(1, "age_advanced")
        if with_daemon:
            with running(home, **NO_TRAINING):
                assert thau(home.root, "reset", "--yes").returncode == 0
                wait_until(lambda: look(home, lambda ledger: ledger.age) == 0, what="age 0")
        else:
            assert thau(home.root, "reset", "--yes").returncode == 0
        assert look(home, lambda ledger: ledger.age) == 0


def test_training_on_nothing_says_so(home: Home) -> None:
    """`thau train` with no example is an event, not a run."""
    with running(home, **NO_TRAINING):
        thau(home.root, "train")
        wait_until(
            lambda: "nothing_to_train" in [event["kind"] for event in look(home, lambda ledger: ledger.events())],
            what="the event",
        )
    assert look(home, lambda ledger: ledger.runs()) == []


def test_systemd_hears_ready_alive_and_stopping(home: Home, tmp_path: Path) -> None:
    """READY=1 when it can work, WATCHDOG=1 within the interval, STOPPING=1 at the end."""
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(address))
        systemd.settimeout(30)
        environment = {"NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "200000"}
        with running(home, **NO_TRAINING, **environment):
            heard = {systemd.recv(100)}
            while b"WATCHDOG=1" not in heard or b"READY=1" not in heard:
                heard.add(systemd.recv(100))
        while b"STOPPING=1" not in heard:
            heard.add(systemd.recv(100))
    assert heard == {b"READY=1", b"WATCHDOG=1", b"STOPPING=1"}


def test_a_migration_may_take_its_time(home: Home, tmp_path: Path) -> None:
    """Before the ledger of an earlier release is brought up to date, the log says so, and systemd is asked to wait."""
    home.ledger.unlink()
    with closing(sqlite3.connect(home.ledger)) as old:
        old.executescript(f"{MIGRATIONS[0]}; PRAGMA user_version=1;")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(30)
        with running(home, **NO_TRAINING, NOTIFY_SOCKET=str(tmp_path / "notify")):
            assert [systemd.recv(100), systemd.recv(100)] == [b"EXTEND_TIMEOUT_USEC=3600000000", b"READY=1"]
    assert '"migrating"' in home.service_log.read_text(encoding="utf-8")


def test_a_service_manager_that_does_not_read_holds_nothing_up(tmp_path: Path) -> None:
    """Whether its socket is full, closed or gone, telling it returns at once and raises nothing."""
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        for _ in range(10_000):
            notify(str(address), "WATCHDOG=1")
        assert manager.recv(100) == b"WATCHDOG=1"
    notify(str(address), "WATCHDOG=1")
    address.unlink()
    notify(str(address), "WATCHDOG=1")


def test_sigkill_and_start_again_loses_nothing(home: Home) -> None:
    """Killed while files pour in, and started again: every line is there once."""
    daemon = start(home, **NO_TRAINING)
    for number in range(20):
        (home.queue / f"part-{number}.jsonl").write_text(lines(100, number * 100), encoding="utf-8")
        if number == 10:
            os.kill(daemon.pid, signal.SIGKILL)
            daemon.wait()
    with running(home, **NO_TRAINING):
        wait_until(lambda: taken(home) == 2000, what="2000 examples")
    assert look(home, lambda ledger: ledger.one("PRAGMA integrity_check")) == "ok"


def test_a_base_that_cannot_be_had_is_said_in_status(home: Home, tmp_path: Path) -> None:
    """No training begins without its base; status says why and the way out, and the examples stay pending."""
    missing = tmp_path / "no-base-here"
    with running(home, THAU_BASE=str(missing), THAU_TRAINING__MIN_NEW_EXAMPLES="8"):
        (home.queue / "facts.jsonl").write_text(lines(40), encoding="utf-8")
        said = wait_until(
            lambda: json.loads(thau(home.root, "status", "--json").stdout)["service"]["not_started"], what="the reason"
        )
    assert str(missing) in said
    assert "neither a folder nor a hub id" in said
    assert look(home, lambda ledger: ledger.pending("thau-nano", 0)[0]) > 0


def test_a_closed_terminal_ends_the_daemon_and_a_service_looks_again(home: Home) -> None:
    """SIGHUP ends a daemon whose standard input is a terminal, in order; without one it goes on and scans."""
    ours, theirs = os.openpty()
    on_terminal = start(home, stdin=theirs, **NO_TRAINING)
    on_terminal.send_signal(signal.SIGHUP)
    assert on_terminal.wait(30) == 0
    os.close(ours)
    os.close(theirs)
    with running(home, **NO_TRAINING) as service:
        service.send_signal(signal.SIGHUP)
        (home.queue / "facts.jsonl").write_text(LINE, encoding="utf-8")
        wait_until(lambda: taken(home) == 1, what="the example")
        assert service.poll() is None
