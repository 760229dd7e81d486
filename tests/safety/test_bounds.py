"""What keeps programs within bounds, and that nothing of them is left. Each has its control: without walls or with wide
bounds, the same program does what it is kept from.
"""

import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.safety.walls import OLD_ABI, WALLS, WIDEST, alive, need
from tests.testkit.daemon import wait_until
from tools.outside import Bounds, Finished, Sandbox
from tools.sandbox import Policy, Unsafe
from tools.sandbox.landlock import Landlock
from tools.workspace import Workspace

SMALL = Bounds(wall_s=20.0, cpu_s=10, memory_bytes=256 << 20, processes=16, file_bytes=8 << 20, disk_bytes=16 << 20)
TIGHTER = {"cpu": replace(SMALL, cpu_s=1), "names": replace(SMALL, disk_bytes=1 << 19)}
FORKS = """
import os, time
for made in range(60):
    if os.fork() == 0:
        time.sleep(2)
        os._exit(0)
time.sleep(PAUSE)
print("ALL", flush=True)
"""
THREADS = """
import threading, time
threading.stack_size(65536)
for made in range(300):
    threading.Thread(target=time.sleep, args=(2,), daemon=True).start()
time.sleep(PAUSE)
print("ALL", flush=True)
"""
ONE_LARGE = "held = bytearray(b'x') * (400 << 20); print('ALL')"
MANY_LARGE = """
import os, time
for each in range(6):
    if os.fork() == 0:
        held = bytearray(b"x") * (100 << 20)
        time.sleep(3)
        os._exit(0)
time.sleep(PAUSE)
print("ALL")
"""
SHARED_LARGE = """
import mmap, time
held = mmap.mmap(-1, 400 << 20)
for at in range(0, 400 << 20, 4096): held[at] = 1
time.sleep(PAUSE)
print("ALL")
"""
LARGE_FILE = "open('large', 'wb').write(bytes(20 << 20)); print('ALL')"
MANY_FILES = """
import time
for each in range(8): open(f"f{each}", "wb").write(bytes(4 << 20))
time.sleep(PAUSE)
print("ALL")
"""
TEMPORARY_FILES = MANY_FILES.replace('f"f{each}"', '__import__("os").environ["TMPDIR"] + f"/f{each}"')
NAMELESS_FILES = """
import os, time
kept = []
for each in range(8):
    kept.append(open("nameless", "wb"))
    os.unlink("nameless")
    kept[-1].write(bytes(4 << 20))
    kept[-1].flush()
time.sleep(PAUSE)
print("ALL")
"""
MANY_NAMES = """
import os, time
os.mkdir("d")
for each in range(2000): os.close(os.open(f"d/{each}", os.O_CREAT))
time.sleep(PAUSE)
print("ALL")
"""
HOT = "import time\nuntil = time.process_time() + 4\nwhile time.process_time() < until: pass\nprint('ALL')"
HOT_CHILDREN = """
import os, time
for each in range(3):
    if os.fork() == 0:
        until = time.process_time() + 0.5
        while time.process_time() < until: pass
        os._exit(0)
    os.wait()
print("ALL")
"""
OUTPUT = "import sys\nfor each in range(20): sys.stdout.write('x' * (1 << 20))\nprint('ALL', flush=True)"
LOCKED = """
import os
os.makedirs("locked/.git")
open("locked/.git/config", "w").write("planted")
os.chmod("locked", 0)
"""
DEEP = "import os; os.makedirs('deep/' + 'd/' * 80 + '.git')"
SURVIVOR = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 3)
        os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)", MARK])
    os._exit(0)
os.wait()
print("ALL", flush=True)
time.sleep(WAIT)
"""


@pytest.fixture(params=["bubblewrap", "landlock"])
def walled(request: pytest.FixtureRequest, folder: Path) -> Sandbox:
    need(str(request.param))
    return WALLS[str(request.param)](Policy(Workspace(folder), SMALL))


@pytest.fixture
def free(tmp_path: Path) -> Sandbox:
    """No walls, wide bounds, and a workspace of its own."""
    folder = tmp_path / "free"
    folder.mkdir()
    return Unsafe(Policy(Workspace(folder), WIDEST))


@pytest.fixture
def mark() -> Iterator[str]:
    """A word by which processes are found; whoever still has it at the end is ended."""
    word = f"survivor-{secrets.token_hex(6)}"
    yield word
    for pid in alive(word):
        os.kill(pid, signal.SIGKILL)


def python(sandbox: Sandbox, code: str, bounds: Bounds | None = None) -> Finished:
    return sandbox.run([sys.executable, "-I", "-S", "-"], stdin=code, bounds=bounds)


GREEDY = {
    "processes": (FORKS, "processes"),
    "threads": (THREADS, "processes"),
    "memory of many": (MANY_LARGE, "memory"),
    "shared memory": (SHARED_LARGE, "memory"),
    "memory of one": (ONE_LARGE, None),
    "file size": (LARGE_FILE, None),
    "disk": (MANY_FILES, "disk"),
    "temporary files": (TEMPORARY_FILES, "disk"),
    "files without a name": (NAMELESS_FILES, "disk"),
    "names": (MANY_NAMES, "disk"),
    "processor time": (HOT, "cpu"),
    "processor time of children": (HOT_CHILDREN, "cpu"),
    "output": (OUTPUT, "output"),
}


@pytest.mark.parametrize("greedy", list(GREEDY))
def test_a_bound_ends_a_program(walled: Sandbox, greedy: str) -> None:
    """What would take too much is refused or ended, in a word."""
    code, bound = GREEDY[greedy]
    finished = python(walled, code.replace("PAUSE", "15"), TIGHTER.get(greedy, TIGHTER.get(str(bound), SMALL)))
    either = (bound, None) if bound == "processes" else (bound,)  # Landlock's supervisor refuses before anyone looks
    assert finished.stopped in either, finished
    assert finished.code != 0
    assert "ALL" not in finished.output


@pytest.mark.parametrize("greedy", list(GREEDY))
def test_without_bounds_it_would_come_to_its_end(free: Sandbox, greedy: str) -> None:
    """The control of the test before: the same programs do work."""
    assert "ALL" in python(free, GREEDY[greedy][0].replace("PAUSE", "0.5")).output


def test_time_ends_a_program(walled: Sandbox) -> None:
    """The wall clock ends what does nothing for ever."""
    finished = walled.run(["sleep", "60"], bounds=Bounds(wall_s=0.3))
    assert (finished.stopped, finished.seconds < 20) == ("time", True)
    assert walled.run(["sleep", "0.3"]).stopped is None


def test_output_beyond_the_bound_is_in_a_file(walled: Sandbox, folder: Path) -> None:
    """Head and tail are told, everything is in a file of the workspace, in order."""
    bounds = Bounds(output_bytes=1000)
    finished = walled.run(["sh", "-c", "seq 1 2000"], bounds=bounds)
    whole = "".join(f"{each}\n" for each in range(1, 2001))
    assert finished.rest is not None
    assert (folder / finished.rest).read_text(encoding="ascii") == whole
    assert finished.output.startswith("1\n2\n")
    assert finished.output.endswith("1999\n2000\n")
    assert str(finished.rest) in finished.output
    assert len(finished.output) < 1200


def test_the_files_of_output_follow_no_link(walled: Sandbox, folder: Path, tmp_path: Path) -> None:
    """A program cannot have its output written elsewhere by putting a link where it will lie."""
    (tmp_path / "elsewhere").mkdir()
    finished = walled.run(
        ["sh", "-c", f"ln -s {tmp_path}/elsewhere .thau; seq 1 2000"], bounds=Bounds(output_bytes=1000)
    )
    assert finished.rest is None
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("code", [LOCKED, DEEP], ids=["locked", "deep"])
def test_what_cannot_be_looked_into_is_set_aside(walled: Sandbox, folder: Path, tmp_path: Path, code: str) -> None:
    """A folder closed to looks, or too deep for them, hides nothing guarded; without walls it stays."""
    python(walled, code)
    assert [path for path in folder.rglob(".git") if ".thau" not in path.parts] == []
    (tmp_path / "free").mkdir()
    subprocess.run([sys.executable, "-I", "-S", "-c", code], cwd=tmp_path / "free", check=True)
    for locked in (tmp_path / "free").iterdir():
        locked.chmod(0o700)
    assert list((tmp_path / "free").rglob(".git")) != []


def test_nothing_survives_the_end(walled: Sandbox, mark: str) -> None:
    """What has left its parents and its session is gone when the result is there."""
    code = SURVIVOR.replace("MARK", repr(mark)).replace("WAIT", "0.3")
    assert "ALL" in python(walled, code).output
    assert alive(mark) == []


def test_without_walls_it_would_survive(free: Sandbox, mark: str) -> None:
    """The control of the tests around it."""
    assert "ALL" in python(free, SURVIVOR.replace("MARK", repr(mark)).replace("WAIT", "0.3")).output
    assert alive(mark) != []


def test_nothing_survives_a_bound(walled: Sandbox, mark: str) -> None:
    """The same where a bound ended it."""
    code = SURVIVOR.replace("MARK", repr(mark)).replace("WAIT", "60")
    finished = python(walled, code, Bounds(wall_s=1.5))
    assert (finished.stopped, "ALL" in finished.output, alive(mark)) == ("time", True, [])


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # Ctrl-C may come between a file's opening and its `with`
def test_nothing_survives_ctrl_c(walled: Sandbox, mark: str) -> None:
    """Ctrl-C ends the program and all that came of it, and is passed on."""

    def interrupt() -> None:
        wait_until(lambda: alive(mark), 20.0, "the survivor")
        os.kill(os.getpid(), signal.SIGINT)

    waiting = threading.Thread(target=interrupt)
    waiting.start()
    with pytest.raises(KeyboardInterrupt):
        python(walled, SURVIVOR.replace("MARK", repr(mark)).replace("WAIT", "60"))
    waiting.join()
    assert alive(mark) == []


@pytest.mark.parametrize("walls", ["bubblewrap", "landlock"])
def test_nothing_survives_thau(walls: str, folder: Path, mark: str, tmp_path: Path) -> None:
    """When THAU itself is killed, its programs end too."""
    need(walls)
    code = SURVIVOR.replace("MARK", repr(mark)).replace("WAIT", "60")
    thau = f"""
import sys
from pathlib import Path
from tests.safety.walls import WALLS
from tools.sandbox import Policy
from tools.workspace import Workspace
walls = WALLS[{walls!r}](Policy(Workspace(Path({str(folder)!r}))))
walls.run([sys.executable, "-I", "-S", "-"], stdin={code!r})
"""
    environment = os.environ | {"TMPDIR": str(tmp_path)}  # its private folder is left there
    process = subprocess.Popen([sys.executable, "-c", thau], cwd=Path(__file__).parents[2], env=environment)
    wait_until(lambda: alive(mark), 20.0, "the survivor")
    process.kill()
    process.wait()
    wait_until(lambda: not alive(mark), 20.0, "the end of all")
    assert alive(mark) == []


def test_codes_and_signals_are_told(walled: Sandbox) -> None:
    """A program's exit code and signal come through, its processes may signal each other, an unknown one is 127."""
    assert walled.run(["sh", "-c", "exit 7"]).code == 7
    assert walled.run(["sh", "-c", "kill -TERM $$"]).code == -signal.SIGTERM
    assert walled.run(["sh", "-c", "sleep 60 & kill $!; wait $!; echo $?"]).output.endswith("143\n")
    assert walled.run(["no-such-program"]).code == 127


def test_old_landlock_lets_nobody_signal(folder: Path) -> None:
    """Where Landlock does not keep signals in, none are sent, not even to a child."""
    need("landlock")
    old = Landlock(Policy(Workspace(folder), SMALL), abi=OLD_ABI)
    assert "denied" in (said := old.run(["sh", "-c", "sleep 2 & kill $!"]).output.lower()) or "permitted" in said
