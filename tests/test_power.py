"""What SIGKILL cannot show: on a disk that loses power, bytes come before names and names before commits.

The system calls of a real daemon are traced, through intake, a run and its promotion, and their order is judged.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash.arena import Arena
from tests.crash.oracle import Oracle
from tests.testkit.daemon import wait_until
from tests.testkit.power import Disk, calls, read_trace, strace, why_not
from thaud.control import Request

ROOT = Path(__file__).parent.parent
DURABLY = "from thaud.durable import write_durably; from pathlib import Path; write_durably(Path({!r}), b'x', 'spec')"
COMMIT = (
    "from thaud.ledger import Ledger; from pathlib import Path;"
    " Ledger.open(Path({0!r})).note('x'); Path({1!r}).write_text('said')"
)


@pytest.fixture(autouse=True)
def _traced(tmp_path: Path) -> None:
    if reason := why_not(tmp_path):
        pytest.skip(reason)


def ended(trace: Path) -> bool:
    """Whether the tracer has written its last line."""
    lines = trace.read_text(errors="replace").splitlines() if trace.exists() else []
    return bool(lines) and "+++ exited with 0 +++" in lines[-1]


def test_a_daemon_makes_bytes_durable_before_names_and_names_before_commits(tmp_path: Path) -> None:
    """From a dropped file to a promoted version: no name before its bytes, no commit before the names it speaks of."""
    trace = tmp_path / "trace"
    with Arena(tmp_path / "home", 1) as arena:
        arena.start(prefix=strace(trace))
        arena.writer.drop_taught(12)
        arena.writer.drop_bad()
        arena.until(lambda: arena.passed("ledger.promote.after"), "a promotion", 120)
        arena.request(Request.RESET)
        oracle = Oracle(arena)
        arena.until(lambda: arena.passed("remove.request.after"), "a reset", 60)
        oracle.look(rest=True)
        arena.kill(15)
        wait_until(lambda: ended(trace), 60, "the end of the trace")
    disk = Disk(str(tmp_path / "home" / "data")).follow(read_trace(trace))
    assert disk.complaints == []
    names = {Path(name).name for name in disk.renamed}
    seen = {"spec.json", "result.json", "examples.jsonl", "adapter_model.safetensors", "model.gguf", "answers.jsonl"}
    assert names >= seen | {"version.json", "cognitive_progress.json", "trained_examples.jsonl"}
    assert any("/trained/" in name for name in disk.renamed)
    assert any("/versions/" in name and name.endswith("model.gguf") for name in disk.renamed)
    assert disk.commits > 10


def judged(*lines: str) -> list[str]:
    """The complaints about a made-up trace."""
    return Disk("/h").follow(calls(lines)).complaints


WRITE, SYNC = '7 write(3</h/.a.tmp>, ""..., 5) = 5', "7 fsync(3</h/.a.tmp>) = 0"
RENAME, FOLDER = '7 rename("/h/.a.tmp", "/h/a") = 0', "7 fsync(3</h>) = 0"
FRAMES, COMMITTED = (
    '7 pwrite64(4</h/ledger.sqlite3-wal>, ""..., 24, 0) = 24',
    "7 fdatasync(4</h/ledger.sqlite3-wal>) = 0",
)
EMPTIED = "7 ftruncate(4</h/ledger.sqlite3-wal>, 0) = 0"
UNLINK = '7 unlink("/h/request.json") = 0'


def test_the_judge_knows_a_good_order() -> None:
    """Write, fsync, rename, fsync of the folder, commit, fsync of the commit, and only then something else."""
    assert judged(WRITE, SYNC, RENAME, FOLDER, FRAMES, COMMITTED, EMPTIED, UNLINK) == []


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ((WRITE, RENAME, FOLDER), "before its bytes were fsynced"),
        ((SYNC, WRITE, RENAME, FOLDER), "before its bytes were fsynced"),
        (
            (WRITE, SYNC.replace("= 0", "= -1 EIO (Input/output error)"), RENAME, FOLDER),
            "before its bytes were fsynced",
        ),
        ((WRITE, SYNC, RENAME), "never fsynced"),
        ((WRITE, SYNC, RENAME, FRAMES, COMMITTED, FOLDER), "a commit came before"),
        ((WRITE, SYNC, RENAME, FOLDER.replace("7 fsync", "8 fsync"), FRAMES), "a commit came before"),
        ((FRAMES, UNLINK, COMMITTED), "before the fsync of the commit"),
        (
            (WRITE, "7 fsync(3</h/.a.tmp> <unfinished ...>", RENAME, "7 <... fsync resumed>) = 0", FOLDER),
            "before its bytes were fsynced",
        ),
    ],
)
def test_the_judge_knows_a_bad_order(lines: tuple[str, ...], complaint: str) -> None:
    """Each order that a power cut would punish is a complaint."""
    assert complaint in judged(*lines)[0]


def traced(code: str, tree: Path, tmp_path: Path) -> list[str]:
    """The complaints about a few lines of Python that use the sources in a folder."""
    trace = tmp_path / f"trace-{len(list(tmp_path.glob('trace-*')))}"
    command = [*strace(trace), sys.executable, "-c", code]
    subprocess.run(command, cwd=tree, env={"PYTHONPATH": str(tree)}, check=True, timeout=60)
    wait_until(lambda: ended(trace), 60, "the end of the trace")
    return Disk(str(tmp_path / "home")).follow(read_trace(trace)).complaints


FAULTS = {
    "no fsync of the bytes": ("durable.py", "        os.fsync(sink.fileno())\n", "", DURABLY, "bytes were fsynced"),
    "no fsync of the folder": ("durable.py", "    fsync_folder(path.parent)\n", "", DURABLY, "never fsynced"),
    "commits that are not fsynced": (
        "ledger/writer.py",
        'connection.execute("PRAGMA synchronous=FULL")',
        'connection.execute("PRAGMA synchronous=NORMAL")',
        COMMIT,
        "before the fsync of the commit",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_it_bites(tmp_path: Path, fault: str) -> None:
    """A copy of the sources with an fsync taken out is found out; the sources as they are, are not."""
    name, old, new, code, complaint = FAULTS[fault]
    (tmp_path / "home").mkdir()
    code = code.format(str(tmp_path / "home" / "ledger.sqlite3"), str(tmp_path / "home" / "said"))
    assert traced(code, ROOT, tmp_path) == []
    copy = tmp_path / "tree"
    shutil.copytree(ROOT / "thaud", copy / "thaud", ignore=shutil.ignore_patterns("__pycache__", "base"))
    path = copy / "thaud" / name
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")
    found = traced(code, copy, tmp_path)
    assert found
    assert complaint in found[0]
