import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from thaud.errors import ToolError
from tools import run_python, run_shell
from tools.base import Context, Risk, Tool
from tools.outside import Bounds, Finished
from tools.sandbox import Policy, Unsafe, Walls, find_walls, probing, standing
from tools.sandbox.bubblewrap import Bubblewrap
from tools.sandbox.filters import NUMBERS, make_filter
from tools.sandbox.landlock import Landlock, enough
from tools.sandbox.plan import Runtime
from tools.sandbox.said import said
from tools.sandbox.survey import Hold, survey
from tools.workspace import Workspace

HEADER = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
STANDING = [kind for kind, reason in standing().items() if reason is None]
KINDS = {"bubblewrap": Bubblewrap, "landlock": Landlock}
NONE_STAND = "no walls stand on this machine"


@pytest.fixture
def policy(folder: Path) -> Policy:
    return Policy(Workspace(folder))


@pytest.fixture(params=list(KINDS))
def walled(request: pytest.FixtureRequest, policy: Policy) -> Bubblewrap | Landlock:
    if request.param not in STANDING:
        pytest.skip(f"{request.param} does not run here: {standing()[request.param]}")
    return KINDS[request.param](policy)


class Recorder:
    """A sandbox that remembers what it was to run."""

    name = "recorder"

    def __init__(self, finished: Finished) -> None:
        self.finished = finished
        self.asked: list[tuple[list[str], str, str]] = []

    def run(self, argv: list[str], *, folder: str = ".", stdin: str = "", bounds: Bounds | None = None) -> Finished:
        self.asked.append((argv, folder, stdin))
        return self.finished


def test_the_environment_is_an_allow_list(walled: Bubblewrap | Landlock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of THAU's environment language and time zone are passed on, and nothing else."""
    monkeypatch.setenv("THAU_TEST_SECRET", "secret")
    monkeypatch.setenv("LD_PRELOAD", "")
    monkeypatch.setenv("TZ", "Europe/Madrid")
    lines = walled.run(["env"]).output.splitlines()
    names = {line.partition("=")[0] for line in lines}
    assert "TZ=Europe/Madrid" in lines
    allowed = {"PATH", "HOME", "TMPDIR", "USER", "LOGNAME", "SHELL", "TERM", "PWD", "LANG", "LC_ALL", "LC_CTYPE", "TZ"}
    assert names <= allowed


def test_programs_see_workspace_and_runtime(walled: Bubblewrap | Landlock, folder: Path) -> None:
    """Files of the workspace are read and written, THAU's own Python has its libraries, input comes in."""
    (folder / "in.txt").write_text("there", encoding="utf-8")
    (folder / "sub").mkdir()
    code = "import pydantic, sys; open('out.txt', 'w').write(open('../in.txt').read() + sys.stdin.read()); print('ñ')"
    finished = walled.run([sys.executable, "-I", "-X", "utf8", "-c", code], folder="sub", stdin=" and input")
    assert (finished.code, finished.output) == (0, "ñ\n")
    assert (folder / "sub" / "out.txt").read_text(encoding="utf-8") == "there and input"


def test_nothing_is_left_beside_the_workspace(
    walled: Bubblewrap | Landlock, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The private folder is removed, however a program has left it; the workspace holds what it made and no more."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    walled.run(["sh", "-c", 'mkdir -p "$TMPDIR/a/b"; chmod 0 "$TMPDIR/a"; echo x > made'])
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert [path.name for path in folder.iterdir()] == ["made"]


def test_a_missing_home_cannot_be_planted(folder: Path) -> None:
    """What is protected and not there yet is set aside when a program makes it."""
    if not STANDING:
        pytest.skip(NONE_STAND)
    (folder / "thau").mkdir()
    walled = KINDS[STANDING[0]](Policy(Workspace(folder, protected=(folder / "thau" / "data",))))
    finished = walled.run(["sh", "-c", "mkdir -p thau/data/training_queue"])
    assert "set aside" in finished.output
    assert not (folder / "thau" / "data").exists()


def test_what_is_spared_lies_open(walled: Bubblewrap | Landlock, folder: Path) -> None:
    """The home's own workspace inside a protected home can be written; what is beside it is not even read."""
    (folder / "data" / "workspace").mkdir(parents=True)
    (folder / "data" / "ledger").write_text("secret", encoding="utf-8")
    workspace = Workspace(folder, protected=(folder / "data",), spared=(folder / "data" / "workspace",))
    open_walls = replace(walled, policy=Policy(workspace))
    finished = open_walls.run(["sh", "-c", "echo x > data/workspace/made; cat data/ledger; echo y > data/new"])
    assert (folder / "data" / "workspace" / "made").read_text(encoding="utf-8") == "x\n"
    assert "secret" not in finished.output
    assert not (folder / "data" / "new").exists()
    inside = replace(walled, policy=Policy(replace(workspace, root=folder / "data" / "workspace")))
    assert inside.run(["sh", "-c", "echo z > made"]).code == 0


@pytest.mark.parametrize("root", ["/", "/tmp", "/usr", "/proc/1", sys.prefix])
def test_some_folders_are_no_workspace(root: str) -> None:
    """Programs are not run where they could change the system, or the Python that runs THAU."""
    with pytest.raises(ToolError, match="programs are not run in"):
        Unsafe(Policy(Workspace(Path(root)))).policy.look()


def test_thaus_own_is_no_workspace(folder: Path) -> None:
    """Neither THAU's data nor what lies in it, but for what is spared."""
    protected = Workspace(folder / "queue", protected=(folder,))
    (folder / "queue").mkdir()
    with pytest.raises(ToolError, match="THAU's own"):
        Policy(protected).look()
    Policy(replace(protected, spared=(folder / "queue",))).look()


def test_a_folder_outside_is_refused(policy: Policy, tmp_path: Path, folder: Path) -> None:
    """Programs start in the workspace, not above it, nor where a link leads."""
    (folder / "link").symlink_to(tmp_path)
    for asked in ("..", "/", "link", "missing"):
        with pytest.raises(ToolError, match=r"outside the workspace|there is no folder"):
            policy.folder(asked)


def test_without_walls_nothing_runs(policy: Policy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where no walls stand, the refusal names each kind, why it does not stand and what to do."""
    monkeypatch.setenv("PATH", str(tmp_path))
    probing.why_not.cache_clear()
    try:
        with pytest.raises(ToolError, match=r"no walls.*bubblewrap is not installed.*`bubblewrap`"):
            find_walls("bubblewrap", policy)
        with pytest.raises(ToolError, match="no walls"):
            Walls("bubblewrap", policy).run(["true"])
    finally:
        probing.why_not.cache_clear()


def test_an_old_landlock_is_not_enough() -> None:
    """A kernel whose Landlock knows no networks, or that has none, is refused with what it would take."""
    for abi in (0, 3):
        with pytest.raises(ToolError, match="ABI 4"):
            enough(abi)
    assert enough(4) == 4


def test_an_unknown_machine_has_no_walls() -> None:
    """System calls are refused by number: without the numbers nothing is promised."""
    with pytest.raises(ToolError, match="sparc"):
        make_filter(namespaces=True, modes=True, scoped=True, machine="sparc")


@pytest.mark.skipif(not HEADER.exists(), reason="the kernel's headers are not installed")
def test_system_calls_have_the_kernels_numbers() -> None:
    """Each number of the filter is the one of the system's own header, as far as that goes."""
    kernel = {name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)", HEADER.read_text())}
    ours = {name: numbers[0] for name, numbers in NUMBERS.items() if numbers[0] is not None}
    assert {name: number for name, number in ours.items() if kernel.get(name, number) != number} == {}


def test_a_probe_that_gets_through_is_believed(policy: Policy) -> None:
    """The probe calls no walls walls: without any, it says what got through."""
    secret = policy.root.parent / "secret"
    secret.write_text(probing.SECRET, encoding="ascii")
    reason = probing.judged(Unsafe(policy), policy, secret)
    assert reason is not None
    found = probing.judged(QuietUnsafe(policy), policy, secret)
    assert found is not None
    for wall in ("files are read", "files are written", "the network is reached", "processes are signalled"):
        assert wall in found


class QuietUnsafe:
    """No walls, and no word about it."""

    name = "none"

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def run(self, argv: list[str], *, folder: str = ".", stdin: str = "", bounds: Bounds | None = None) -> Finished:
        done = subprocess.run(argv, cwd=self.policy.root, capture_output=True, text=True, check=False)
        return Finished(done.returncode, done.stdout, 0.0)


def test_unsafe_says_so_each_time(policy: Policy) -> None:
    """Without walls every result begins with a loud word about it, and the walls are called none."""
    unsafe = Unsafe(policy)
    assert unsafe.name == "none"
    assert unsafe.run(["echo", "hi"]).output.startswith("[UNSAFE")


@pytest.mark.skipif(not STANDING, reason=NONE_STAND)
def test_walls_are_found(policy: Policy) -> None:
    """`auto` takes the first that stand, and runs programs behind them."""
    walls = Walls("auto", policy)
    assert walls.name == STANDING[0]
    assert walls.run(["echo", "hi"]).output == "hi\n"


def test_names_are_held_as_the_lists_say(folder: Path) -> None:
    """Guarded names are kept, secret ones hidden, at any depth and in any case; others are free."""
    for name in (".GIT", "sub/.bashrc", "sub/.env", "sub/.config/fish", "free", "sub/env", "id_rsa"):
        (folder / name).mkdir(parents=True)
    held = {str(path.relative_to(folder)): each.hold for path, each in survey(folder).held.items()}
    hidden, kept = ("sub/.env", "id_rsa"), (".GIT", "sub/.bashrc", "sub/.config/fish")
    assert held == dict.fromkeys(hidden, Hold.HIDDEN) | dict.fromkeys(kept, Hold.KEPT)


def test_python_is_run_isolated(call: Callable[..., str], context: Context) -> None:
    """run_python gives the program, as it is, to the interpreter's input, apart from user and environment."""
    recorder = Recorder(Finished(0, "1\n", 0.1))
    tool, code = run_python.TOOL, "  print(1)\n"
    assert tool.perform(tool.accept({"code": code}), replace(context, sandbox=recorder)) == "1"
    argv, folder, stdin = recorder.asked[0]
    assert (argv[0], argv[1], argv[-1], folder, stdin) == (sys.executable, "-I", "-", ".", code)


def test_a_shell_command_is_run_by_sh(context: Context) -> None:
    """run_shell gives the command to sh, in the workspace."""
    recorder = Recorder(Finished(2, "no\n", 0.1))
    tool = run_shell.TOOL
    arguments = tool.accept({"command": "ls -l | wc"})
    assert tool.perform(arguments, replace(context, sandbox=recorder)) == "no\n[exit code 2]"
    assert recorder.asked == [(["sh", "-c", "ls -l | wc"], ".", "")]


@pytest.mark.parametrize(
    ("tool", "arguments"), [(run_python.TOOL, {"code": "1"}), (run_shell.TOOL, {"command": "true"})]
)
def test_programs_need_approval_and_a_sandbox(tool: Tool, arguments: dict[str, str], context: Context) -> None:
    """Both tools run things, show a person all of what they run, and do nothing without a sandbox."""
    assert (tool.risk, tool.foreign) == (Risk.RUNS, True)
    assert tool.subject(arguments) == next(iter(arguments.values()))
    with pytest.raises(ToolError, match="cannot be run"):
        tool.perform(tool.accept(arguments), context)


@pytest.mark.parametrize(
    ("finished", "text"),
    [
        (Finished(0, "", 0.1), "[it printed nothing]"),
        (Finished(0, "a\n", 0.1), "a"),
        (Finished(-11, "a\n", 0.1), "a\n[ended by SIGSEGV]"),
        (Finished(-9, "", 2.0, "memory"), "[stopped after 2.0 s: it used too much memory]"),
        (Finished(-63, "", 0.1), "[ended by signal 63]"),
    ],
)
def test_results_are_said(finished: Finished, text: str) -> None:
    """A model is told the output, how a program ended where that matters, and which bound ended it."""
    assert said(finished) == text


def test_a_runtime_of_the_system_is_not_bound_twice() -> None:
    """What lies below /usr is there already."""
    runtime = Runtime.of_this()
    assert all(not prefix.is_relative_to("/usr") for prefix in runtime.prefixes)
    assert os.path.realpath(runtime.python) == os.path.realpath(runtime.launcher)
    assert shutil.which(runtime.launcher)
