"""How a step's end is read, and what of its chatter is let through."""

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.testkit.daemon import wait_until
from thaud.errors import DiskFullError, StepError
from thaud.executor import LINE_LIMIT, attend, end, follow, read_result
from thaud.steps.contract import LEASH_BROKEN, LOCK, BaseResult, BaseSpec, born_at
from thaud.workdir import end_survivor, finished_result, kill

CHATTER = f"""
import json, sys
print("x" * {2 * LINE_LIMIT})
print("[" * 100_000)
print(json.dumps({{"event": "step", "done": 1}}))
sys.stdout.write("y" * {2 * LINE_LIMIT})
"""


def test_a_line_without_end_is_chatter_like_any_other() -> None:
    """What libraries print may be of any length: the step's own events still come through."""
    events: list[dict[str, Any]] = []

    async def listen() -> int:
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", CHATTER, stdout=pipe, limit=LINE_LIMIT)
        await follow(child, events.append)
        return await child.wait()

    assert asyncio.run(listen()) == 0
    assert events == [{"event": "step", "done": 1}]


LEAVER = """
import json, os, time
left = os.fork()
if left == 0:
    time.sleep(600)
print(json.dumps({"left": left}), flush=True)
os._exit(3)
"""


def test_what_a_step_started_ends_with_it() -> None:
    """A process that a step forked and left behind holds neither the daemon up nor its step's files."""
    events: list[dict[str, Any]] = []

    async def listen() -> int:
        pipe = asyncio.subprocess.PIPE
        command = (sys.executable, "-c", LEAVER)
        child = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, start_new_session=True)
        return await asyncio.wait_for(attend(child, events.append), 30)

    assert asyncio.run(listen()) == 3
    wait_until(lambda: born_at(events[0]["left"]) is None, what="the end of what was left behind")


KEEPER = """
import os, signal, sys, time
from pathlib import Path
def keep(*_):
    time.sleep(0.2)
    Path(sys.argv[1]).write_text("kept")
    sys.exit(143)
signal.signal(signal.SIGTERM, keep if sys.argv[2] == "keeps" else signal.SIG_IGN)
print("{}", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("manner", ["keeps", "is deaf"])
def test_a_step_that_is_stopped_may_keep_what_it_has(tmp_path: Path, manner: str) -> None:
    """SIGTERM first, and time for a checkpoint; one that does not listen is killed when that is over."""

    async def stop() -> int | None:
        command = (sys.executable, "-c", KEEPER, str(tmp_path / "kept"), manner)
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, start_new_session=True)
        assert child.stdout is not None
        await child.stdout.readline()
        await end(child, 30.0 if manner == "keeps" else 0.2)
        return child.returncode

    assert asyncio.run(stop()) == (143 if manner == "keeps" else -signal.SIGKILL)
    assert (tmp_path / "kept").exists() == (manner == "keeps")


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (f"{os.strerror(errno.ENOSPC)}: adapter (disk full or no permission?)", DiskFullError),
        ("no room for model.gguf: it needs 41 MB and 0 MB are free there", DiskFullError),
        ("no example is short enough", StepError),
    ],
)
def test_a_full_disk_is_told_from_a_failed_step(tmp_path: Path, words: str, kind: type[Exception]) -> None:
    """A step that had no room is not a step that failed: the run waits instead of ending."""
    (tmp_path / "result.json").write_text(json.dumps({"ok": False, "error": words}), encoding="utf-8")
    with pytest.raises(kind, match=words[:10]):
        read_result("export", BaseResult, tmp_path, 1)


def test_a_result_of_another_release_is_done_again(tmp_path: Path) -> None:
    """A result that an older or newer THAU left is not taken for one of ours, and does not stop the run."""
    spec = BaseSpec(base="nano")
    (tmp_path / "spec.json").write_text(spec.model_dump_json(), encoding="utf-8")
    for old in ({"ok": True, "path": "/bases/nano"}, {"path": "/bases/nano"}, ["ok"]):
        (tmp_path / "result.json").write_text(json.dumps(old), encoding="utf-8")
        assert finished_result(tmp_path, spec, BaseResult) is None


HOLDER = """
import sys, time
from pathlib import Path
from thaud.steps.contract import take_workdir
take_workdir(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


def holder(workdir: Path) -> subprocess.Popen[bytes]:
    """A child that works in a workdir, as the executor starts it."""
    pipe = subprocess.PIPE
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(workdir)], stdin=pipe, stdout=pipe, start_new_session=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    return child


@pytest.mark.parametrize("stopped", [True, False])
def test_a_survivor_is_ended_before_its_step_begins_again(tmp_path: Path, *, stopped: bool) -> None:
    """Whoever holds the workdir is killed with its group, also where it is stopped, and is gone afterwards."""
    child = holder(tmp_path)
    if stopped:
        os.kill(child.pid, signal.SIGSTOP)
    end_survivor(tmp_path)
    assert child.wait(10) == -signal.SIGKILL
    child.communicate()
    end_survivor(tmp_path)


def test_a_number_that_is_another_process_by_now_is_not_killed(tmp_path: Path) -> None:
    """The lock names a process and its start: a stranger under the same number lives, and so does whom nobody holds."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True) as stranger:
        kill(f"{stranger.pid} 1")
        (tmp_path / LOCK).write_text(f"{stranger.pid} {born_at(stranger.pid)}")
        end_survivor(tmp_path)
        assert stranger.poll() is None
        assert stranger.stdin is not None
        stranger.stdin.write(b"\n")
    assert stranger.returncode == 0


def test_a_step_waits_for_its_forerunner_and_gives_up_without_a_daemon(tmp_path: Path) -> None:
    """Two children never work in one workdir; one whose daemon is gone ends before it writes anything."""
    first = holder(tmp_path)
    (tmp_path / "spec.json").write_text(BaseSpec(base="nano").model_dump_json())
    second = subprocess.Popen(
        [sys.executable, "-m", "tests.crash.steps.bases", str(tmp_path)], stdin=subprocess.PIPE, start_new_session=True
    )
    assert second.stdin is not None
    second.stdin.close()
    assert second.wait(30) == LEASH_BROKEN
    assert not (tmp_path / "result.json").exists()
    first.kill()
    first.communicate()
