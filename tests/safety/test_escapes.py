"""The escape suite: what programs try behind walls, each probe judged by itself and beside the same without walls."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.safety.inside.harness import PROBES
from tests.safety.walls import WALLS, Results, need, tried
from tools.sandbox import Unsafe

FEWEST = 60
NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
SYSTEM_PYTHON = "/usr/bin/python3"
REPOSITORY = Path(__file__).parents[2]
AS_NOBODY = """
import json, sys, tempfile
from pathlib import Path
from tests.safety.place import make_place, run_probes
from tools.sandbox import Policy, Runtime, Unsafe, why_not
from tools.sandbox.bubblewrap import Bubblewrap
from tools.sandbox.landlock import Landlock
found = {}
for name, make in (("none", Unsafe), ("bubblewrap", Bubblewrap), ("landlock", Landlock)):
    if name != "none" and (reason := why_not(name, Runtime.of_this())):
        found[name] = reason
        continue
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as root, make_place(Path(root)) as place:
        found[name] = run_probes(place, make(Policy(place.workspace)))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def control(results: Results, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[bool, str]]:
    """The same probes without walls: what gets through there shows that the probe works."""
    results.probes["none"] = tried(tmp_path_factory.mktemp("control"), Unsafe)
    return results.probes["none"]


@pytest.fixture(scope="module", params=list(WALLS))
def walled(
    request: pytest.FixtureRequest,
    results: Results,
    control: dict[str, tuple[bool, str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, tuple[bool, str]]:
    """The probes behind walls."""
    walls = str(request.param)
    try:
        need(walls)
    except pytest.skip.Exception as skipped:
        results.absent[walls] = str(skipped)
        raise
    results.probes[walls] = tried(tmp_path_factory.mktemp("walled"), WALLS[walls])
    return results.probes[walls]


@pytest.mark.parametrize("probe", list(PROBES))
def test_no_probe_gets_through(
    walled: dict[str, tuple[bool, str]], control: dict[str, tuple[bool, str]], probe: str
) -> None:
    """A program behind walls does not get what the same program gets without them."""
    assert not walled[probe][0]
    if not control[probe][0]:
        pytest.skip(f"held, but not shown on this machine, so not counted: {control[probe][1] or 'nothing changed'}")


def test_enough_probes_are_shown_to_work(
    walled: dict[str, tuple[bool, str]], control: dict[str, tuple[bool, str]]
) -> None:
    """At least sixty probes that get through without walls are held by them."""
    assert sum(control[name][0] and not walled[name][0] for name in PROBES) >= FEWEST


def test_an_ordinary_user_has_the_same_walls(results: Results, tmp_path: Path) -> None:
    """Walls do not rest on being root: nobody's programs are held too, and at least sixty probes show it."""
    if os.getuid() != 0:
        pytest.skip("everything here is tried as an ordinary user already")
    if not shutil.which("setpriv") or not runs_for_nobody(tmp_path):
        pytest.skip("no Python of the system that an ordinary user may run with this checkout")
    finished = as_nobody(["-c", AS_NOBODY])
    assert finished.returncode == 0, finished.stderr[-3000:]
    found = json.loads(finished.stdout.splitlines()[-1])
    control = results.probes["none, nobody"] = found.pop("none")
    for walls, probes in found.items():
        if isinstance(probes, str):
            results.absent[f"{walls}, nobody"] = probes
            continue
        results.probes[f"{walls}, nobody"] = probes
        assert [name for name, (through, _) in probes.items() if through] == []
        assert sum(control[name][0] for name in probes) >= FEWEST
    if all(isinstance(probes, str) for probes in found.values()):
        pytest.skip(f"an ordinary user has no walls here: {found}")


def as_nobody(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Run the system's Python as nobody, on this checkout."""
    environment = {
        "PYTHONPATH": str(REPOSITORY),
        "PATH": os.environ["PATH"],
        "HOME": "/",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    argv = [*NOBODY, SYSTEM_PYTHON, "-B", *arguments]
    return subprocess.run(argv, env=environment, cwd="/", capture_output=True, text=True, timeout=120, check=False)


def runs_for_nobody(tmp_path: Path) -> bool:
    """Whether that Python is new enough and sees this checkout."""
    if not Path(SYSTEM_PYTHON).exists() or sys.platform != "linux":
        return False
    return as_nobody(["-c", "import sys, tools.sandbox; assert sys.version_info >= (3, 11)"]).returncode == 0
