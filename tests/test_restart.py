"""SIGKILL of a real daemon in each step of a real run on nano: nothing is lost, nothing is doubled."""

import json
import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.crash.arena import Arena
from tests.crash.cycles import Cycles, Tally
from tests.crash.oracle import Oracle
from tests.testkit.daemon import look, make_home, running, start, wait_until
from thaud.domain import RunState, Side
from thaud.home import Home
from thaud.ledger import LedgerReader

SMALL_RUN = {"THAU_TRAINING__EPOCHS": "1", "THAU_TRAINING__MIN_NEW_EXAMPLES": "8", "THAU_GATE__ALPHA": "0"}
DATASET = Path(__file__).parent.parent / "data" / "datasets" / "age_0_newborn.jsonl"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = make_home(tmp_path / "home")
    some = DATASET.read_text(encoding="utf-8").splitlines(keepends=True)[:48]
    (made.queue / "age_0_some.jsonl").write_text("".join(some), encoding="utf-8")
    return made


def children_in(daemon: subprocess.Popen[bytes], step: str) -> list[psutil.Process]:
    """The daemon's children, once one of them is in the step; before that none."""
    children = psutil.Process(daemon.pid).children(recursive=True)
    return children if any(f"thaud.steps.{step}" in command_of(child) for child in children) else []


def command_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def state(home: Home) -> RunState | None:
    row = look(home, lambda ledger: ledger.run("run-0001"))
    return row.state if row else None


@pytest.mark.slow
@pytest.mark.parametrize("step", ["bases", "train", "export", "certify", "exam"])
def test_killed_in_a_step_it_goes_on_and_ends_once(home: Home, step: str) -> None:
    """Killed while a step is under way: its child ends too, and the next life takes the same run to one version."""
    daemon = start(home, **SMALL_RUN)
    children = wait_until(lambda: children_in(daemon, step), 120, f"step {step}")
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.wait()
    assert state(home) is not RunState.PROMOTED, "killed too late to prove anything"
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive
    with running(home, **SMALL_RUN):
        wait_until(lambda: state(home) is RunState.PROMOTED, 180, "the promotion")
        wait_until(lambda: list(home.trained.iterdir()), what="the trained file's move")
    with LedgerReader.open(home.ledger) as ledger:
        assert [version.name for version in ledger.versions()] == ["thau-nano-v1"]
        assert [run.id for run in ledger.runs()] == ["run-0001"]
        taught = ledger.ids_by_age(Side.TAUGHT, 0)[0]
        assert sorted(row["id"] for row in ledger.trained_examples("thau-nano")) == sorted(taught)
        (version,) = ledger.versions()
        certificate = json.loads(Path(version.gguf).with_name("certificate.json").read_bytes())
        assert (certificate["passed"], certificate["gguf_sha256"]) == (True, version.gguf_sha256)


def test_a_stopped_step_is_ended_by_the_next_daemon(tmp_path: Path) -> None:
    """A step that cannot notice its daemon's death (SIGSTOP) is killed by the next one before the step begins again."""
    with Arena(tmp_path / "home", 1) as arena:
        cycles = Cycles(arena, Oracle(arena), Tally())
        cycles.begin()
        cycles.leave_a_stopped_child()
        stopped = [psutil.Process(pid) for pid in arena.steps()]
        arena.kill()
        assert stopped
        assert all(child.is_running() for child in stopped), "it ended by itself, which proves nothing"
        arena.start()
        _, alive = psutil.wait_procs(stopped, timeout=20)
        assert not alive
        cycles.oracle.look(rest=True)
        assert look(arena.home, lambda ledger: [run.state for run in ledger.runs()]) == [RunState.PROMOTED]
