"""Health before and after, and the checks that no single fault shows."""

import json
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.doctor.faults import champion_changed
from tests.doctor.kit import FAMILY, OFF, SETTINGS, aged, fixed, found, snapshot_of, spoil, write
from tests.seeded import freeze, make_home
from tests.testkit.daemon import QUICK, look, running, wait_until
from thaud.config import Settings
from thaud.control import daemon_runs
from thaud.doctor import Examined, Finding, Level, examine, say
from thaud.doctor.examination import CHECKS, looked_at_again
from thaud.doctor.finding import Case
from thaud.doctor.homes import check_folders, check_mount
from thaud.doctor.mending import REPAIRS
from thaud.doctor.sentences import CHECK_TITLES, SENTENCES
from thaud.home import Home
from thaud.ledger import Ledger, LedgerReader
from thaud.ledger.schema import MIGRATIONS


def test_a_healthy_home_is_found_healthy(home: Home) -> None:
    """No false alarms, and looking changes no file."""
    before = snapshot_of(home)
    assert found(home) == {}
    assert snapshot_of(home) == before


def test_fixing_a_healthy_home_changes_nothing(home: Home) -> None:
    """--fix has nothing to do where nothing is wrong."""
    before = snapshot_of(home)
    assert fixed(home) == {}
    assert snapshot_of(home) == before


def test_a_new_home_is_healthy(tmp_path: Path) -> None:
    """What `thau init` leaves, before any daemon."""
    assert found(make_home(tmp_path / "new")) == {}


def test_a_home_at_work_is_found_healthy(home: Home) -> None:
    """While a daemon runs and takes in, nothing in flight is taken for a fault."""
    with running(home, THAU_TRAINING__AUTO_TRAIN_ENABLED="false"):
        for number in range(20):
            row = json.dumps({"instruction": f"n{number}", "output": "x"})
            write(home.queue / f"new-{number}.jsonl", f"{row}\n{{bad\n".encode())
            assert found(home, served=True, quick=True) == {}


def test_a_home_that_trains_is_found_healthy(tmp_path: Path) -> None:
    """From the first example to a promoted version, no step and no hand-over is taken for a fault."""
    home = make_home(tmp_path / "home")
    rows = ({"instruction": f"¿{n}?", "output": str(n)} for n in range(60))
    write(home.root / "crash" / "template.gguf", b"scripted")  # what the fake export makes models of
    write(home.queue / "age_0.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    daemon = subprocess.Popen(
        [sys.executable, "-m", "tests.crash.daemon", str(home.root)],
        env={**os.environ, **QUICK},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def promoted() -> bool:
        assert found(home, served=True) == {}
        return look(home, lambda ledger: ledger.champion(FAMILY)) is not None

    try:
        wait_until(lambda: daemon_runs(home), what="a daemon")
        wait_until(promoted, 60, "a version")
    finally:
        daemon.terminate()
        assert daemon.wait(30) == 0
    assert found(home) == {}


def test_what_a_daemon_is_just_doing_is_no_fault(home: Home) -> None:
    """The folder of a run before its freeze and a model half written are in flight; after an hour they are not."""
    write(home.runs / "run-0002" / "bases" / "spec.json")
    half = write(home.runs / "run-0001" / "export" / ".model.gguf.tmp")
    assert found(home, served=True) == {}
    aged(half)
    assert set(found(home, served=True)) == {"temporary_left"}


def test_what_is_gone_a_moment_later_is_no_fault(home: Home) -> None:
    """While a daemon works only what is found twice counts; without one the first look does."""
    passing = Examined("quarantine", (Finding(Level.PROBLEM, "quarantine_differs", "bad.jsonl"),))
    with LedgerReader.open(home.ledger) as ledger:
        assert looked_at_again(Case(home, SETTINGS, ledger, served=True), passing).findings == ()
        assert looked_at_again(Case(home, SETTINGS, ledger, served=False), passing) == passing
        (home.rejected / "bad.jsonl").unlink()
        lasting = looked_at_again(Case(home, SETTINGS, ledger, served=True), passing)
        assert [each.identity for each in lasting.findings] == [("quarantine_differs", "bad.jsonl")]


def test_every_finding_has_words_and_every_repair_a_finding() -> None:
    """No name without its sentences in both languages, none left over, and no repair for what is never found."""
    sources = Path("thaud/doctor")
    code = "".join(path.read_text(encoding="utf-8") for path in sources.glob("*.py") if path.name != "sentences.py")
    code += Path("thaud/cli/mend.py").read_text(encoding="utf-8")
    assert [name for name in SENTENCES if f'"{name}"' not in code] == []
    assert set(REPAIRS) <= set(SENTENCES)
    assert CHECKS.keys() <= CHECK_TITLES.keys()
    for name in SENTENCES:
        for language in ("es", "en"):
            said = say(Finding(Level.NOTE, name, "S", "D", 3), language)  # type: ignore[arg-type]
            assert "{" not in "".join(said)


def test_quick_takes_no_digests(home: Home) -> None:
    """--quick sees another size and not another content; digests tell how far they are."""
    champion_changed(home)
    assert found(home, quick=True) == {}
    heard: list[tuple[str, int, int]] = []
    examine(home, SETTINGS, served=False, on_digest=lambda *said: heard.append(said))
    size = (home.versions / "thau-nano-v1" / "model.gguf").stat().st_size
    assert heard == [("thau-nano-v1", size, size)]


def test_a_deleted_progress_is_a_wish_and_not_a_fault(home: Home) -> None:
    """Deleting it asks for a reset at the next start: --fix does not write it again."""
    home.progress.unlink()
    fixed(home)
    assert not home.progress.exists()


def test_a_run_that_says_nothing_is_stuck(home: Home) -> None:
    """While a daemon runs, a step that has been silent for over an hour is named; a run alone waits for a daemon."""
    with Ledger.open(home.ledger) as ledger:
        run_id = freeze(ledger, [], 0, FAMILY).id
    progress = write(home.runs / run_id / "progress.ndjson")
    assert "run_waits" in found(home)
    home.lock.touch()
    aged(home.lock)
    assert "run_stuck" not in found(home, served=True)
    aged(progress)
    assert found(home, served=True)["run_stuck"].n == 120


def test_what_cannot_be_written_is_named() -> None:
    """A folder that this user may not write into is a problem, with its owner and mode."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        home = make_home(Path(place) / "home")
        home.rejected.chmod(0o555)
        with as_nobody():
            found_there = {each.subject: each for each in check_folders(home)}
        assert "dr-xr-xr-x" in found_there[str(home.rejected)].detail
        assert {each.name for each in found_there.values()} == {"not_writable"}


def test_a_ledger_on_a_network_file_system_is_named(home: Home) -> None:
    """SQLite's locks do not hold there: a problem, with the kind of file system."""
    local = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
    (finding,) = check_mount(home, f"{local}2 1 0:9 / {home.data} rw - nfs4 server:/share rw\n")
    assert (finding.name, finding.detail) == ("network_ledger", "nfs4")
    assert list(check_mount(home, local)) == []


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's rights, where a test has them."""
    if os.geteuid() != 0:
        yield
        return
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def test_an_older_ledger_is_brought_up_to_date(tmp_path: Path) -> None:
    """A ledger that only a daemon may migrate is found, and --fix does what the daemon would."""
    home = make_home(tmp_path / "old")
    home.ledger.unlink()
    connection = sqlite3.connect(home.ledger)
    connection.executescript(f"{MIGRATIONS[0]}; PRAGMA user_version=1; PRAGMA journal_mode=WAL")
    connection.close()
    assert "thau start" in found(home)["ledger_refused"].detail
    assert fixed(home) == {}


def test_little_room_is_said_before_it_is_none(home: Home) -> None:
    """Less free space than the next run needs is a warning."""
    spoil(home, "UPDATE versions SET size_bytes = 1 << 60")
    examined = examine(home, SETTINGS, served=False, quick=True)
    (disk,) = (one for one in examined if one.check == "disk")
    assert disk.level is Level.WARNING


def test_a_base_that_is_gone(home: Home, tmp_path: Path) -> None:
    """A base named by its folder must be there, whole; one of the hub is fetched when it is needed."""
    for base, name in ((tmp_path / "none", "base_gone"), (tmp_path, "base_incomplete")):
        examined = examine(home, Settings(base=str(base), **OFF), served=False, quick=True)
        assert [each.name for one in examined if one.check == "base" for each in one.findings] == [name]
    (base_of_hub,) = (
        one for one in examine(home, Settings(size="7b", **OFF), served=False, quick=True) if one.check == "base"
    )
    assert [each.name for each in base_of_hub.findings] == ["base_to_fetch"]


def test_a_base_that_a_version_is_applied_to_is_never_a_stranger(home: Home) -> None:
    """Whatever somebody puts beside a base in use, it is not set aside: the version could not answer without it."""
    base = home.bases / f"{'0' * 16}-f16" / "model.gguf"
    for path in (base, base.with_name("model.gguf.sha256"), base.with_name("notes.txt")):
        write(path)
    spoil(
        home,
        "UPDATE versions SET kind = 'adapter', base_gguf = ?, base_sha256 = ?",
        f"bases/{base.parent.name}/model.gguf",
        "0" * 64,
    )
    assert "base_stranger" not in found(home, quick=True)
    fixed(home)
    assert base.is_file()


def test_ollama_is_asked_briefly(home: Home, unused_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody at the address is a note; what is remembered of a server that is there is compared."""
    monkeypatch.delenv("THAU_SERVING__OLLAMA_ENABLED")
    away = Settings(serving={"ollama_host": f"127.0.0.1:{unused_port}"})
    (ollama,) = (one for one in examine(home, away, served=False, quick=True) if one.check == "ollama")
    assert [each.name for each in ollama.findings] == ["ollama_away"]


def test_a_server_that_lacks_a_version(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A promoted version that a server which answers is not known to hold is a warning; a refusal is told."""
    monkeypatch.delenv("THAU_SERVING__OLLAMA_ENABLED")
    with socket.create_server(("127.0.0.1", 0)) as server:
        host = f"http://127.0.0.1:{server.getsockname()[1]}"
        there = Settings(serving={"ollama_host": host})

        def names() -> list[str]:
            (one,) = (one for one in examine(home, there, served=False, quick=True) if one.check == "ollama")
            return [each.name for each in one.findings]

        assert names() == ["ollama_behind"]
        with Ledger.open(home.ledger) as ledger:
            ledger.register(host, "thau-nano-v1", "failed", "no room")
        assert names() == ["ollama_refused"]


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_findings_are_plain_values() -> None:
    """A finding is told from another by its name and its subject, whatever figures it has."""
    finding = Finding(Level.NOTE, "run_stuck", "run-0001", n=61)
    assert replace(finding, n=62).identity == finding.identity
