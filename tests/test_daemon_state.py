"""What the daemon says of itself: always readable, never believed of the dead, and said to people."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.testkit.daemon import make_home, running, thau, wait_until
from thaud.cli.pause_words import pause_words
from thaud.cli.status_view import pause_lines
from thaud.control import living_state, make_folders, only_daemon
from thaud.daemon_state import SIZE, DaemonState, Pause, StateFile, Watching, read_state
from thaud.errors import DiskFullError, StorageError
from thaud.failpoints import FAILPOINTS
from thaud.home import Home
from thaud.pausing import Pauses
from thaud.status import silent_since
from thaud.words import EN, ES, Words

NO_TRAINING = {"AUTO_TRAIN_ENABLED": "false"}
NOBODY = 65534
NOW = "2026-01-02T03:04:05+00:00"
STATE = DaemonState(
    os.getpid(),
    NOW,
    auto_train_enabled=True,
    watching=Watching("poll", 2.0, "why"),
    paused=(Pause("intake", "no room", NOW, NOW, no_room=True),),
    reading="facts.jsonl: 4000",
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path / "home")


# The file


def test_what_is_said_can_be_read(tmp_path: Path) -> None:
    """Written and read again it is the same, in a file whose size never changes."""
    file, path = StateFile(tmp_path / "daemon.json"), tmp_path / "daemon.json"
    for state in (STATE, DaemonState(1, NOW, auto_train_enabled=False), STATE):
        assert file.write(state)
        assert read_state(path) == state
        assert path.stat().st_size == SIZE
    file.close()


@pytest.mark.parametrize("letter", ["a", "ñ", '"', "\x00", "😀", "\udcff"])
def test_however_long_the_reasons_they_fit(letter: str) -> None:
    """Five pauses with endless reasons in any letters, and an endless file name, are cut to the file's size."""
    kinds = ("intake", "projections", "requests", "watching", "runs")
    paused = tuple(Pause(kind, letter * 5000, NOW, NOW, no_room=True) for kind in kinds)
    state = DaemonState(1, NOW, auto_train_enabled=True, paused=paused, reading=letter * 5000)
    data = state.to_bytes()
    assert len(data) == SIZE
    assert [each.what for each in DaemonState.from_bytes(data).paused] == list(kinds)


def test_an_earlier_life_s_file_needs_no_room(tmp_path: Path) -> None:
    """Where the file is there, nothing is allocated: it works on a disk that is full at the start."""
    path = tmp_path / "daemon.json"
    first = StateFile(path)
    assert first.write(STATE)
    first.close()
    FAILPOINTS.arm("file.state.before=enospc")
    try:
        again = StateFile(path)
        assert again.write(DaemonState(2, NOW, auto_train_enabled=True))
        again.close()
        path.unlink()
        assert not again.write(STATE)
        assert again.write(STATE), "it is tried again each time"
        again.close()
    finally:
        FAILPOINTS.charges.clear()
        FAILPOINTS.on = False


def test_a_file_that_somebody_removed_is_made_again(tmp_path: Path) -> None:
    """Removed while the daemon lives, it comes back with the next word."""
    path = tmp_path / "daemon.json"
    file = StateFile(path)
    assert file.write(STATE)
    path.unlink()
    assert file.write(STATE)
    assert read_state(path) == STATE
    file.close()


@pytest.mark.parametrize("garbage", [b"", b"{}", b"[]", b"null", b"\xff" * SIZE, b'{"pid": 1', b"[" * 200_000])
def test_garbage_says_nothing(tmp_path: Path, garbage: bytes) -> None:
    """A file that is no state is no error for who looks."""
    path = tmp_path / "daemon.json"
    path.write_bytes(garbage)
    assert read_state(path) is None


def test_only_the_holder_of_the_lock_is_believed(home: Home) -> None:
    """Last words of a daemon that was killed, or of another process, say nothing."""
    file = StateFile(home.state)
    assert file.write(STATE)
    assert living_state(home) is None
    with only_daemon(home):
        assert living_state(home) == STATE
        assert file.write(DaemonState(1, NOW, auto_train_enabled=True))
        assert living_state(home) is None
    file.close()


# Pauses


def test_a_pause_ends_by_the_clock_or_by_room(tmp_path: Path) -> None:
    """One for want of room is due when there is more than there was; another only when its time has come."""
    pauses = Pauses(tmp_path, lambda _: None)
    pauses.begin("intake", DiskFullError("full"), 3600)
    pauses.begin("runs", StorageError("no permission"), 3600)
    assert not pauses.due("intake")
    pauses.held["intake"] = pauses.held["intake"].__class__(pauses.held["intake"].said, 1e12, free=-(1 << 20))
    assert pauses.due("intake")
    assert not pauses.due("runs")
    pauses.begin("runs", StorageError("no permission"), 0)
    assert pauses.due("runs")


def test_a_pause_keeps_its_beginning(tmp_path: Path) -> None:
    """Tried again and refused again, it is still paused since the first time; done at last, it is over."""
    said: list[tuple[Pause, ...]] = []
    pauses = Pauses(tmp_path, said.append)
    for _ in range(2):
        with pauses.around("intake", 0):
            raise DiskFullError("full")
    assert said[0][0].since == said[1][0].since
    with pauses.around("intake", 0):
        pass
    assert said[-1] == ()
    assert pauses.next_s() is None


@pytest.mark.parametrize("words", [ES, EN], ids=["es", "en"])
def test_every_pause_is_said_in_words(words: Words) -> None:
    """No pause is shown by its code word, and each says what, since when, why and that nothing is lost."""
    kinds = ("intake", "projections", "requests", "watching", "runs")
    report = {
        "paused": [asdict(Pause(kind, "disk full", NOW, NOW, no_room=n % 2 == 0)) for n, kind in enumerate(kinds)],
        "silent_since": NOW,
        "reading": "a.jsonl: 9",
        "watching": asdict(Watching("poll", 2.0, "a share")),
        "unreadable_requests": ["x.json"],
        "disk": {"free_bytes": 12_000_000, "low": True},
    }
    said = [line for line, _ in pause_lines(report, pause_words(words))]
    assert len(said) == len(kinds) + 5
    for line, kind in zip(said, kinds, strict=False):
        assert kind not in line
        assert "2026-01-02 03:04 UTC: disk full. N" in line
    assert {"12 MB" in said[-1], "x.json" in said[-2], "2 s: a share" in said[-3]} == {True}


# What people see


def test_status_shows_the_daemon_s_own_settings(home: Home) -> None:
    """Automatic training that was turned off in the daemon's environment is off in status, whatever the CLI's says."""
    with running(home, **NO_TRAINING):
        wait_until(lambda: living_state(home), what="the state")
        report = json.loads(thau(home.root, "status", "--json").stdout)
        assert report["service"]["auto_train_enabled"] is False
        assert "automatic training off" in thau(home.root, "status").stdout
    assert json.loads(thau(home.root, "status", "--json").stdout)["service"]["auto_train_enabled"] is True


def test_a_request_that_is_none_is_shown(home: Home) -> None:
    """What lies in data/control and cannot be read is named by status and once in the log, and left alone; nobody waits
    for a pipe.
    """
    (home.control / "train.json").write_text("{", encoding="utf-8")
    os.mkfifo(home.control / "pipe.json")
    with running(home, **NO_TRAINING):
        wait_until(lambda: "request_not_read" in home.service_log.read_text(encoding="utf-8"), what="the warning")
        report = json.loads(thau(home.root, "status", "--json").stdout)
        assert "may be removed): pipe.json, train.json" in thau(home.root, "status").stdout
    assert report["unreadable_requests"] == ["pipe.json", "train.json"]
    assert home.service_log.read_text(encoding="utf-8").count("request_not_read") == 2
    assert (home.control / "train.json").exists()


def test_a_step_that_says_nothing_is_shown_after_ten_minutes(tmp_path: Path) -> None:
    """Since when it is silent: from its last progress, its beginning or the run's last state, whichever is latest."""
    home = Home(tmp_path)
    progress = home.runs / "run-0001" / "progress.ndjson"
    progress.parent.mkdir(parents=True)
    progress.touch()
    now = datetime.now(UTC)
    run = {"id": "run-0001", "changed_at": (now - timedelta(hours=3)).isoformat()}
    assert silent_since(run, home, now + timedelta(minutes=9)) is None
    said = silent_since(run, home, now + timedelta(minutes=11))
    assert said is not None
    assert abs((datetime.fromisoformat(said) - now).total_seconds()) < 5
    progress.unlink()
    assert silent_since(run, home, now) == (now - timedelta(hours=3)).isoformat(timespec="seconds")
    assert silent_since(None, home, now) is None


# Homes that cannot be written


@pytest.fixture
def others_home() -> Iterator[Home]:
    """A home where another user may look."""
    if os.geteuid():
        pytest.skip("another user takes root")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield make_home(Path(folder) / "home")


AS_NOBODY = f"""import os, sys, thaud.cli.work, thaud.daemon
from thaud.cli import main
os.setgroups([])
os.setgid({NOBODY})
os.setuid({NOBODY})
sys.exit(main())
"""  # what is imported is imported before, because the interpreter may lie where nobody may look


def as_nobody(home: Home) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", AS_NOBODY, "--home", str(home.root), "start"],
        env={**os.environ, "THAU_API__PORT": "0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("name", ["data", "data/logs", "data/control", "data/runs", "data/ledger.sqlite3"])
def test_what_belongs_to_somebody_else_is_one_line(others_home: Home, name: str) -> None:
    """A folder or file that another user owns ends the start with exit code 8, its name and what to do."""
    for path in (others_home.root, *others_home.root.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    foreign = others_home.root / name
    os.chown(foreign, 0, 0)
    if name == "data":
        others_home.lock.unlink()
    refused = as_nobody(others_home)
    assert refused.returncode == 8, refused.stderr
    assert str(foreign) in refused.stderr
    assert len([line for line in refused.stderr.splitlines() if line.startswith("error: ")]) == 1
    assert "Traceback" not in refused.stderr


def test_a_drop_box_that_may_not_be_read_is_one_line(others_home: Home) -> None:
    """A drop-box closed to the daemon's user is named."""
    for path in (others_home.root, *others_home.root.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    os.chown(others_home.queue, 0, 0)
    others_home.queue.chmod(0o700)
    refused = as_nobody(others_home)
    assert refused.returncode == 8, refused.stderr
    assert f"{others_home.queue}: it may not be read" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_read_only_home_is_one_line(home: Home) -> None:
    """On a file system that is mounted read-only: exit code 8 and what refused."""
    script = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    if subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode:
        pytest.skip("mounting takes root")
    start = [sys.executable, "-m", "thaud.cli", "--home", str(home.root), "start"]
    refused = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, str(home.root), *start],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert refused.returncode == 8
    assert "Read-only file system" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_what_has_a_folders_name_is_told_from_a_full_disk(home: Home) -> None:
    """A file in a folder's place and a link that leads nowhere each say what to do about them."""
    home.trained.rmdir()
    home.trained.touch()
    with pytest.raises(StorageError, match="something that is no folder has its name; move it away"):
        make_folders(home)
    home.trained.unlink()
    home.trained.symlink_to(home.root / "gone")
    with pytest.raises(StorageError, match=f"a link to {home.root / 'gone'}, which is not there; correct the link"):
        make_folders(home)


def test_folders_are_made_where_they_are_missing(home: Home) -> None:
    """A home without its data folder is a home again."""
    shutil.rmtree(home.data)
    make_folders(home)
    assert all(folder.is_dir() for folder in home.folders())
