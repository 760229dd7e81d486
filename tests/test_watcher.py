"""Events as hints: told once, told on overflow, told when the watch itself is lost. Against the real inotify."""

import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from watchdog.observers.inotify_c import InotifyEvent

from tests.testkit.daemon import command_line, look, make_home, running, thau, wait_until
from thaud.config import Queue
from thaud.errors import StorageError
from thaud.home import Home
from thaud.ledger import LedgerReader
from thaud.watcher import Watcher
from thaud.watching import Watch

QUEUED_EVENTS = Path("/proc/sys/fs/inotify/max_queued_events")
NEVER = {"AUTO_TRAIN_ENABLED": "false", "THAU_QUEUE__RESCAN_S": "3600"}


def lines(count: int, start_at: int = 0) -> str:
    rows = ({"instruction": f"¿{n} más {n}?", "output": str(2 * n)} for n in range(start_at, start_at + count))
    return "".join(json.dumps(row) + "\n" for row in rows)


def taken(home: Home) -> int:
    return sum(sum(sides.values()) for sides in look(home, LedgerReader.counts_by_age).values())


class Told:
    """Counts the calls."""

    def __init__(self) -> None:
        self.times = 0
        self.event = threading.Event()

    def __call__(self) -> None:
        self.times += 1
        self.event.set()

    def waited(self) -> bool:
        """Whether a call came; the next is waited for anew."""
        came = self.event.wait(10)
        self.event.clear()
        return came


@contextmanager
def watching(watcher: Watcher) -> Iterator[Watcher]:
    watcher.start()
    try:
        yield watcher
    finally:
        watcher.stop()


@pytest.fixture
def told() -> Told:
    return Told()


def created(folder: Path) -> None:
    (folder / "a").touch()


def moved_in(folder: Path) -> None:
    (folder.parent / "b").touch()
    (folder.parent / "b").rename(folder / "b")


def written(folder: Path) -> None:
    with (folder / "old").open("a", encoding="utf-8") as file:
        file.write("x")


def made_readable(folder: Path) -> None:
    (folder / "old").chmod(0o644)


@pytest.mark.parametrize("change", [created, moved_in, written, made_readable])
def test_every_change_is_told(tmp_path: Path, told: Told, change: Callable[[Path], None]) -> None:
    """Created, moved in, written and made readable: each by itself is enough."""
    folder = tmp_path / "queue"
    folder.mkdir()
    (folder / "old").touch(0o600)
    with watching(Watcher((folder,), told)) as watcher:
        change(folder)
        assert told.waited()
        assert watcher.healthy


def test_a_burst_is_told_once_until_somebody_looks(tmp_path: Path, told: Told) -> None:
    """A thousand events are one call; after it was heard, the next event is another."""
    with watching(Watcher((tmp_path,), told)) as watcher:
        for n in range(1000):
            (tmp_path / f"{n}").touch()
        assert told.waited()
        seen = threading.Event()
        watcher.on_event, before = lambda _: seen.set(), watcher.on_event  # type: ignore[method-assign]
        (tmp_path / "last").touch()
        assert seen.wait(10)
        assert told.times == 1
        watcher.on_event = before  # type: ignore[method-assign]
        watcher.acknowledge()
        (tmp_path / "another").touch()
        assert told.waited()


class Deaf(Watcher):
    """Holds inotify's thread at its first event and hears no other, so that only an overflow can be told."""

    def __init__(self, folder: Path, told: Told) -> None:
        super().__init__((folder,), told)
        self.reached, self.go_on = threading.Event(), threading.Event()

    def on_event(self, event: InotifyEvent) -> None:
        self.reached.set()
        assert self.go_on.wait(60)


def test_a_real_overflow_is_told(tmp_path: Path, told: Told) -> None:
    """More events than the kernel keeps, while nobody reads: what it dropped is told, and the watch goes on."""
    with watching(Deaf(tmp_path, told)) as watcher:
        assert isinstance(watcher, Deaf)
        (tmp_path / "first").touch()
        assert watcher.reached.wait(10)
        for n in range(int(QUEUED_EVENTS.read_text()) // 2 + 1000):
            os.close(os.open(tmp_path / str(n), os.O_WRONLY | os.O_CREAT))  # created, closed: two events, not equal
        assert told.times == 0
        watcher.go_on.set()
        assert told.waited()
        assert watcher.healthy


def test_a_daemon_whose_events_overflow_misses_nothing(tmp_path: Path) -> None:
    """With room for two events in the kernel and no scan by the clock, every dropped file is taken in."""
    home = make_home(tmp_path / "home")
    before = QUEUED_EVENTS.read_text()
    if not os.access(QUEUED_EVENTS, os.W_OK) or os.geteuid():
        pytest.skip("lowering fs.inotify.max_queued_events takes root")
    QUEUED_EVENTS.write_text("2")
    try:
        with running(home, **NEVER):
            QUEUED_EVENTS.write_text(before)
            for n in range(300):
                (home.queue / f"{n}.jsonl").write_text(lines(1, n), encoding="utf-8")
            wait_until(lambda: taken(home) == 300, what="300 examples")
            said = home.service_log.read_text(encoding="utf-8")
    finally:
        QUEUED_EVENTS.write_text(before)
    assert "queue overflowed" in said


# A watch that is lost


def stopped(watch: Watch) -> None:
    assert watch.watcher.inotify is not None
    watch.watcher.inotify.stop()
    watch.watcher.inotify.join()


def broken(watch: Watch) -> None:
    def fail() -> None:
        raise RuntimeError("a bug")

    assert watch.watcher.inotify is not None
    watch.watcher.on_change = fail
    created(watch.home.queue)
    watch.watcher.inotify.join(10)
    (watch.home.queue / "a").unlink()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("end", [stopped, broken])
def test_a_dead_thread_is_noticed_and_replaced(tmp_path: Path, told: Told, end: Callable[[Watch], None]) -> None:
    """Where inotify's thread was stopped or died of an error, the watch is unhealthy; begun again, it tells."""
    home = Home(tmp_path)
    watch = Watch(home, Queue(), told)
    watch.start()
    assert not watch.renew_where_due()
    end(watch)
    assert watch.renew_where_due()
    watch.acknowledge()
    told.event.clear()
    created(home.queue)
    assert told.waited()
    watch.stop()


def test_renewing_leaks_no_descriptors(tmp_path: Path, told: Told) -> None:
    """A hundred renewals leave as many open files as one."""
    descriptors = Path("/proc/self/fd")
    with watching(Watcher((tmp_path,), told)) as watcher:
        open_before = len(list(descriptors.iterdir()))
        for _ in range(100):
            (tmp_path / "wake").touch()
            watcher.renew()
        assert len(list(descriptors.iterdir())) <= open_before + 3


def test_a_folder_that_cannot_be_watched_is_one_line(tmp_path: Path, told: Told) -> None:
    """A broken link and a file in the folder's place are named, with what to look at."""
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(StorageError, match=f"cannot watch {tmp_path / name}.*ls -ld"):
            Watcher((tmp_path / name,), told).start()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path / "home")


def renamed_away(home: Home) -> None:
    home.queue.rename(home.data / "old_queue")
    home.queue.mkdir(exist_ok=True)


def deleted_and_made(home: Home) -> None:
    shutil.rmtree(home.queue)
    home.queue.mkdir(exist_ok=True)


@pytest.mark.parametrize("replace", [renamed_away, deleted_and_made])
def test_another_folder_in_its_place_is_watched(home: Home, replace: Callable[[Home], None]) -> None:
    """A drop-box that was renamed away or deleted, and made again, is watched by events, at once."""
    with running(home, **NEVER):
        replace(home)
        (home.queue / "new.jsonl").write_text(lines(1), encoding="utf-8")
        wait_until(lambda: taken(home) == 1, what="the example")
        (home.queue / "newer.jsonl").write_text(lines(1, 1), encoding="utf-8")
        assert wait_until(lambda: taken(home) == 2, what="the example after it")


def mounted(folder: Path) -> None:
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "box", str(folder)], check=False).returncode:
        pytest.skip("mounting takes root")


def test_a_mount_put_over_the_drop_box_and_taken_away(home: Home) -> None:
    """What is mounted over the drop-box is watched by the next scan, and the folder below it again after that."""
    with running(home, **{**NEVER, "THAU_QUEUE__RESCAN_S": "0.5"}):
        mounted(home.queue)
        try:
            wait_until(lambda: "watch_renewed" in home.service_log.read_text(encoding="utf-8"), what="another watch")
            (home.queue / "on_mount.jsonl").write_text(lines(1), encoding="utf-8")
            wait_until(lambda: taken(home) == 1, what="the example on the mount")
        finally:
            subprocess.run(["umount", str(home.queue)], check=True)
        (home.queue / "below.jsonl").write_text(lines(1, 1), encoding="utf-8")
        assert wait_until(lambda: taken(home) == 2, what="the example below")


def test_a_link_to_another_file_system_is_a_drop_box(home: Home) -> None:
    """data/training_queue may be a symbolic link to a folder elsewhere; events come through it."""
    elsewhere = Path("/dev/shm") / f"thau-{os.getpid()}"
    elsewhere.mkdir()
    try:
        home.queue.rmdir()
        home.queue.symlink_to(elsewhere)
        with running(home, **NEVER):
            (elsewhere / "linked.jsonl").write_text(lines(1), encoding="utf-8")
            assert wait_until(lambda: taken(home) == 1, what="the example")
    finally:
        shutil.rmtree(elsewhere)


def test_a_broken_link_is_said(home: Home) -> None:
    """A drop-box that is a link to nowhere is one line and exit code 8."""
    home.queue.rmdir()
    home.queue.symlink_to(home.root / "share")
    refused = thau(home.root, "start")
    assert refused.returncode == 8
    assert f"it is a link to {home.root / 'share'}, which is not there" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_sighup_is_a_scan(home: Home) -> None:
    """Under polling once an hour, SIGHUP alone makes the daemon look."""
    with running(home, **NEVER, THAU_QUEUE__WATCH="poll", THAU_QUEUE__POLL_S="3600") as daemon:
        watch = wait_until(lambda: json.loads(thau(home.root, "status", "--json").stdout)["watching"], what="the watch")
        assert watch == {"by": "poll", "every_s": 3600, "why": 'queue.watch = "poll"'}
        (home.queue / "late.jsonl").write_text(lines(1), encoding="utf-8")
        daemon.send_signal(signal.SIGHUP)
        wait_until(lambda: taken(home) == 1, what="the example")


@pytest.mark.parametrize("limit", ["max_inotify_instances=0", "max_inotify_watches=1"])
def test_without_watches_it_polls_and_says_so(home: Home, limit: str) -> None:
    """At the system's limit of inotify instances or watches, the daemon starts, polls, and status says why."""
    name, _, value = limit.partition("=")
    script = f'echo {value} > /proc/sys/user/{name} && exec "$0" "$@"'
    command = ["unshare", "-Ur", "sh", "-c", script, *command_line(home)]
    if subprocess.run([*command[:4], f"echo {value} > /proc/sys/user/{name}"], check=False).returncode:
        pytest.skip("limits of a user namespace of one's own cannot be set here")
    with running(home, command=command, **NEVER, THAU_QUEUE__POLL_S="0.2"):
        (home.queue / "a.jsonl").write_text(lines(1), encoding="utf-8")
        wait_until(lambda: taken(home) == 1, what="the example")
        watch = json.loads(thau(home.root, "status", "--json").stdout)["watching"]
        said = home.service_log.read_text(encoding="utf-8")
    assert (watch["by"], watch["every_s"]) == ("poll", 0.2)
    assert "is used up; raise it with sysctl" in watch["why"]
    assert '"polling"' in said


def test_a_stop_right_after_a_start_says_nothing(home: Home) -> None:
    """Five starts, each ended at once: no thread complains in the log."""
    for _ in range(5):
        with running(home, **NEVER):
            pass
    levels = {json.loads(line)["level"] for line in home.service_log.read_text(encoding="utf-8").splitlines()}
    assert levels == {"info"}
