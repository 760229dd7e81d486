"""A home on a small tmpfs that fills up, and gets room again. Every daemon is real, and every ENOSPC is the kernel's.

The fake steps of the crash harness stand in for the real ones, but for one slow test.
"""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.crash.steps.door import CRASH
from tests.testkit.daemon import look, make_home, running, start, thau, wait_until
from tests.testkit.scripted_gguf import write_scripted_gguf
from thaud.domain import RunState
from thaud.home import Home
from thaud.ledger import TRAIN_REQUESTED, LedgerReader

NO_TRAINING = {"AUTO_TRAIN_ENABLED": "false"}
TRAINING = {"THAU_TRAINING__MIN_NEW_EXAMPLES": "8", "THAU_EXAM__MIN_ITEMS": "1", "THAU_GATE__ALPHA": "0.9"}
TEMPLATE = "{% for m in messages %}{{ m['role'] }}\n{{ m['content'] }}\n{% endfor %}\n"
SPACE = "size=24m"


@contextmanager
def tmpfs(folder: Path, options: str = SPACE) -> Iterator[Path]:
    """A file system of its own, mounted on a folder."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "thau-test", str(folder)], check=False, capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A home on a tmpfs of 24 MB; its drop-box is a link to a folder on the machine's own disk."""
    with tmpfs(tmp_path / "disk") as disk:
        made = make_home(disk / "home")
        share = tmp_path / "share"
        share.mkdir()
        made.queue.rmdir()
        made.queue.symlink_to(share)
        yield made


def fill(home: Home, leave: int = 0) -> Path:
    """Take all room but `leave` bytes; returns the ballast."""
    ballast = home.root / "ballast"
    with ballast.open("ab", buffering=0) as sink, suppress(OSError):
        while True:
            sink.write(bytes(4096))
    if leave:
        os.truncate(ballast, ballast.stat().st_size - leave)
    return ballast


def free(home: Home) -> int:
    room = os.statvfs(home.root)
    return room.f_bavail * room.f_frsize


def lines(count: int, start_at: int = 0, bad: int = 0) -> str:
    rows = [{"instruction": f"¿{n} más {n}?", "output": str(2 * n)} for n in range(start_at, start_at + count)]
    return "".join([json.dumps(row) + "\n" for row in rows] + [f"{{bad {n}\n" for n in range(bad)])


def taken(home: Home) -> int:
    return sum(sum(sides.values()) for sides in look(home, LedgerReader.counts_by_age).values())


def paused(home: Home) -> dict[str, Any]:
    """What is paused, by name, as `thau status --json` says."""
    shown = thau(home.root, "status", "--json")
    assert shown.returncode == 0, shown.stderr
    return {each["what"]: each for each in json.loads(shown.stdout)["paused"]}


def wait_for_pause(home: Home, what: str) -> dict[str, Any]:
    found: dict[str, Any] = wait_until(lambda: paused(home).get(what), what=f"a pause of {what}")
    return found


# Intake


def test_intake_pauses_says_so_and_goes_on(home: Home) -> None:
    """The ledger finds no room: status says what, why and since when, on the full disk; with room it goes on by itself,
    and every line is there once.
    """
    with running(home, **NO_TRAINING):
        ballast = fill(home)
        (home.queue / "facts.jsonl").write_text(lines(5000, bad=300), encoding="utf-8")
        pause = wait_for_pause(home, "intake")
        english = thau(home.root, "status").stdout
        spanish = thau(home.root, "status", LC_ALL="es_ES.UTF-8").stdout
        asked = thau(home.root, "train")
        assert free(home) < 1 << 20
        ballast.unlink()
        wait_until(lambda: taken(home) == 5000, what="5000 examples")
        wait_until(lambda: not paused(home), what="the end of the pause")
    assert pause["no_room"]
    assert pause["since"] <= pause["next_try"]
    assert re.search(r"Reading the queue is paused since .* UTC: .*\. Nothing is lost; it goes on by itself", english)
    assert re.search(r"La lectura de la cola está en pausa desde .* No se pierde nada; sigue solo", spanish)
    assert "Little room on the disk: " in english
    assert asked.returncode == 8
    assert "No space left on device; see df" in asked.stderr
    quarantined = [json.loads(row) for row in (home.rejected / "facts.jsonl").read_text("utf-8").splitlines()]
    assert sorted(row["line"] for row in quarantined) == list(range(5001, 5301))
    assert look(home, LedgerReader.rejection_count) == 300
    assert look(home, lambda ledger: ledger.one("PRAGMA integrity_check")) == "ok"


def test_it_goes_on_within_seconds_of_room(home: Home) -> None:
    """Nobody waits for the next try by the clock: room is looked for every second."""
    with running(home, **NO_TRAINING):
        ballast = fill(home)
        (home.queue / "facts.jsonl").write_text(lines(2000), encoding="utf-8")
        wait_for_pause(home, "intake")
        ballast.unlink()
        assert wait_until(lambda: taken(home) == 2000, 4.0, what="2000 examples")


@pytest.mark.parametrize("leave", [4096, 40_960, 204_800, 1_000_000])
def test_a_disk_that_fills_in_the_middle(home: Home, leave: int) -> None:
    """Wherever in its writing intake runs out of room: quarantine file, WAL, database; afterwards all is there once."""
    with running(home, **NO_TRAINING, THAU_QUEUE__BATCH_BYTES="65536"):
        ballast = fill(home, leave)
        for n in range(4):
            (home.queue / f"part-{n}.jsonl").write_text(lines(3000, n * 3000, bad=50), encoding="utf-8")
        wait_for_pause(home, "intake")
        ballast.unlink()
        wait_until(lambda: taken(home) == 12_000, what="12000 examples")
        wait_until(lambda: look(home, LedgerReader.rejection_count) == 200, what="200 rejections")
    for n in range(4):
        rows = [json.loads(row) for row in (home.rejected / f"part-{n}.jsonl").read_text("utf-8").splitlines()]
        assert sorted(row["line"] for row in rows) == list(range(3001, 3051))


def test_sigkill_on_a_full_disk_loses_nothing(home: Home) -> None:
    """Killed while paused, started again on the full disk: it starts, says that it is paused, and goes on with room."""
    daemon = start(home, stdin=subprocess.DEVNULL, **NO_TRAINING)
    (home.queue / "a.jsonl").write_text(lines(1000), encoding="utf-8")
    wait_until(lambda: taken(home) == 1000, what="1000 examples")
    ballast = fill(home)
    (home.queue / "b.jsonl").write_text(lines(4000, 1000), encoding="utf-8")
    wait_for_pause(home, "intake")
    daemon.kill()
    daemon.wait()
    assert not paused(home), "the last words of a dead daemon are not believed"
    with on_full_disk(home) as again:
        wait_for_pause(home, "intake")
        ballast.unlink()
        wait_until(lambda: taken(home) == 5000, what="5000 examples")
        assert again.poll() is None


@contextmanager
def on_full_disk(home: Home) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon whose log may have no room: it is there when its lock is held and its state can be read."""
    daemon = subprocess.Popen(
        [sys.executable, "-m", "thaud.cli", "--home", str(home.root), "start"],
        env={**os.environ, "THAU_API__PORT": "0", "THAU_SERVING__OLLAMA_ENABLED": "false", **NO_TRAINING},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        yield daemon
    finally:
        daemon.send_signal(signal.SIGTERM)
        _, said = daemon.communicate(timeout=30)
    assert daemon.returncode == 0, said
    assert b"Traceback" not in said
    assert b"Logging error" not in said


def test_full_at_the_first_start(home: Home) -> None:
    """A new home on a full disk: the daemon starts, waits for room, and works when there is some."""
    ballast = fill(home)
    (home.queue / "a.jsonl").write_text(lines(100), encoding="utf-8")
    with on_full_disk(home) as daemon:
        assert daemon.stderr is not None
        said = daemon.stderr.readline()
        while b"paused" not in said:
            said = daemon.stderr.readline()
        ballast.unlink()
        wait_until(lambda: taken(home) == 100, what="100 examples")


def test_a_log_without_room_says_nothing_about_it(home: Home) -> None:
    """The log file on the full disk loses lines; standard error has no traceback of logging, however much is said."""
    with on_full_disk(home):
        port = wait_until(lambda: http_port(home), what="the HTTP door")
        ballast = fill(home)
        for _ in range(60):
            force = urllib.request.Request(f"http://127.0.0.1:{port}/training/force", method="POST")
            urllib.request.urlopen(force, timeout=10).close()
        assert home.service_log.read_text("utf-8").count('"requested"') < 60
        (home.queue / "a.jsonl").write_text(lines(3000), encoding="utf-8")
        wait_for_pause(home, "intake")
        first = wait_for_pause(home, "intake")["next_try"]
        wait_until(lambda: paused(home)["intake"]["next_try"] > first, what="another try")
        ballast.unlink()
        wait_until(lambda: taken(home) == 3000, what="3000 examples")


def http_port(home: Home) -> int | None:
    said = home.service_log.read_text("utf-8") if home.service_log.exists() else ""
    found = re.search(r'"port": (\d+), "event": "http_listening"', said)
    return int(found[1]) if found else None


def test_http_answers_on_a_full_disk(home: Home) -> None:
    """GET /status says the pause, and a training that is asked for meanwhile is neither an error nor forgotten."""
    with running(home, **NO_TRAINING):
        port = wait_until(lambda: http_port(home), what="the HTTP door")
        ballast = fill(home)
        (home.queue / "a.jsonl").write_text(lines(3000), encoding="utf-8")
        wait_for_pause(home, "intake")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=10) as answer:
            report = json.load(answer)
        ballast.unlink()
        wait_until(lambda: taken(home) == 3000, what="3000 examples")
    assert [each["what"] for each in report["paused"]] == ["intake"]
    assert report["daemon"] is True


# Runs, with the fake steps


@pytest.fixture
def training(home: Home) -> Home:
    """A home whose daemon trains with the fake steps."""
    notes = home.root / CRASH
    notes.mkdir()
    write_scripted_gguf(notes / "template.gguf", ["azul"], chat_template=TEMPLATE)
    return home


def fake_steps(home: Home) -> list[str]:
    return [sys.executable, "-m", "tests.crash.daemon", str(home.root)]


@pytest.mark.parametrize(
    ("step", "point"), [("train", "adapter"), ("export", "gguf"), ("exam", "answers"), ("train", "result")]
)
def test_a_run_waits_for_room_in_its_state(training: Home, tmp_path: Path, step: str, point: str) -> None:
    """The disk fills while a step works: the run keeps its state, status says so, and it ends in one version."""
    gate = tmp_path / "gate"
    note = {"step": step, "setting": f"file.{point}.before=wait:{gate}"}
    (training.root / CRASH / "child.json").write_text(json.dumps(note), encoding="utf-8")
    with running(training, command=fake_steps(training), **TRAINING):
        (training.queue / "facts.jsonl").write_text(lines(40), encoding="utf-8")
        wait_until(Path(f"{gate}.reached").exists, what="the step")
        ballast = fill(training)
        gate.touch()
        pause = wait_for_pause(training, "runs")
        report = json.loads(thau(training.root, "status", "--json").stdout)
        assert report["running"] is not None
        assert report["service"]["not_started"] is None
        ballast.unlink()
        wait_until(lambda: versions(training) == 1, 10, what="the version")
        wait_until(lambda: projected(training), what="the projections")
    assert pause["no_room"]
    (run,) = look(training, LedgerReader.runs)
    assert run.state is RunState.PROMOTED


def versions(home: Home) -> int:
    return len(look(home, lambda ledger: ledger.promoted_versions("thau-nano")))


def projected(home: Home) -> bool:
    """Whether data/logs has what the ledger has, which is something."""
    count = look(home, lambda ledger: ledger.trained_count("thau-nano"))
    return 0 < count == len(taught(home))


def taught(home: Home) -> list[str]:
    return home.trained_examples.read_text("utf-8").splitlines() if home.trained_examples.exists() else []


def test_projections_stay_whole_until_there_is_room(training: Home, tmp_path: Path) -> None:
    """On a disk that fills after a promotion the old files of data/logs stay whole, and the new ones come with room."""
    gate = tmp_path / "gate"
    setting = {"THAU_FAILPOINTS": f"file.progress.before=wait:{gate}@2"}  # the first is at the start
    with running(training, command=fake_steps(training), **TRAINING, **setting):
        before = training.progress.read_bytes()
        (training.queue / "facts.jsonl").write_text(lines(40), encoding="utf-8")
        wait_until(Path(f"{gate}.reached").exists, what="the projection")
        ballast = fill(training)
        gate.touch()
        wait_for_pause(training, "projections")
        assert training.progress.read_bytes() == before
        assert taught(training) == []
        (training.queue / "more.jsonl").write_text("", encoding="utf-8")
        ballast.unlink()
        wait_until(lambda: projected(training), what="the projections")
        assert json.loads(training.progress.read_bytes())["model"] == "thau-nano-v1"


def test_logs_that_may_not_be_written_do_not_hold_up_the_queue(home: Home) -> None:
    """Projections that are refused are a pause of their own: what is dropped is taken in meanwhile."""
    with running(home, **NO_TRAINING):
        home.trained_examples.unlink()
        home.trained_examples.mkdir()
        (home.trained_examples / "in the way").touch()
        thau(home.root, "reset", "--yes")
        assert not wait_for_pause(home, "projections")["no_room"]
        (home.queue / "facts.jsonl").write_text(lines(10), encoding="utf-8")
        wait_until(lambda: taken(home) == 10, what="10 examples")
        (home.trained_examples / "in the way").unlink()
        home.trained_examples.rmdir()
        wait_until(lambda: not paused(home), what="the end of the pause")
    assert home.trained_examples.read_text("utf-8") == ""


def test_a_training_that_was_asked_for_is_remembered(training: Home, tmp_path: Path) -> None:
    """Killed after the request was obeyed and before the run is frozen, the daemon trains in its next life, once."""
    settings = {"AUTO_TRAIN_ENABLED": "false", "THAU_EXAM__MIN_ITEMS": "1"}
    gate = tmp_path / "gate"
    note = {"step": "bases", "setting": f"file.result.before=wait:{gate}"}
    (training.root / CRASH / "child.json").write_text(json.dumps(note), encoding="utf-8")
    (training.queue / "facts.jsonl").write_text(lines(40), encoding="utf-8")
    daemon = start(training, stdin=subprocess.DEVNULL, command=fake_steps(training), **settings)
    wait_until(lambda: taken(training) == 40, what="40 examples")
    assert thau(training.root, "train").returncode == 0
    wait_until(Path(f"{gate}.reached").exists, what="the base's step")
    daemon.kill()
    daemon.wait()
    assert list(training.control.iterdir()) == []
    gate.touch()
    with running(training, command=fake_steps(training), **settings):
        wait_until(lambda: versions(training) == 1, what="the version")
    assert look(training, lambda ledger: ledger.meta(TRAIN_REQUESTED)) is None
    assert len(look(training, LedgerReader.runs)) == 1


@pytest.mark.slow
def test_a_real_run_waits_for_room(tmp_path: Path) -> None:
    """Real torch, real export, on a disk that fills while it trains: the run goes on with room, and is the only one."""
    with tmpfs(tmp_path / "disk", "size=160m") as disk:
        home = make_home(disk / "home")
        with running(home, **TRAINING):
            (home.queue / "facts.jsonl").write_text(lines(40), encoding="utf-8")
            wait_until(lambda: look(home, LedgerReader.unfinished_run), 120, what="the run")
            ballast = fill(home)
            wait_until(lambda: paused(home).get("runs"), 120, what="the pause")
            ballast.unlink()
            wait_until(lambda: look(home, LedgerReader.unfinished_run) is None, 200, what="the end of the run")
        (run,) = look(home, LedgerReader.runs)
        assert run.state in {RunState.PROMOTED, RunState.REJECTED}
