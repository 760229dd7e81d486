"""Whether walls stand here: a program is really run behind them, with the same flags, and tries what it may not do.

Owns the probe and its judgement; a wall that is not tried is not believed. What the probe finds is remembered for this
process alone.
"""

import json
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from thaud.errors import ToolError
from tools.outside import Bounds, Sandbox
from tools.sandbox.bubblewrap import Bubblewrap
from tools.sandbox.landlock import Landlock
from tools.sandbox.plan import Policy, Runtime
from tools.workspace import Workspace

MAKERS: dict[str, Callable[[Policy], Sandbox]] = {"bubblewrap": Bubblewrap, "landlock": Landlock}
SECRET, SECRET_AND_WORKSPACE = "secret", 2
BOUNDS = Bounds(wall_s=20.0)
REMEDIES = {
    "bubblewrap": (
        "install the package `bubblewrap` and allow unprivileged user namespaces "
        "(Ubuntu: an AppArmor profile for bwrap; Docker: see packaging/README.md)"
    ),
    "landlock": "use Linux 6.7 or later with landlock in the list of `lsm=`",
}
# Each attempt of which walls let something through is named in what it prints; its own folder must be open to it.
PROBE = """
import ctypes, json, os, socket, sys
outside, parent = sys.argv[1], int(sys.argv[2])
def opened(): open(outside).read()
def written(): open(outside, "a").write("written"); open(outside + ".new", "w").close(); raise OSError  # told outside
def connected(): socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
def local(): socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
def signalled(): os.kill(parent, 0)
def environment(): open(f"/proc/{parent}/environ").read(1)
def debugged():
    if ctypes.CDLL(None).ptrace(0, 0, 0, 0): raise OSError
def privileged():
    if ctypes.CDLL(None).prctl(39, 0, 0, 0, 0) == 1: raise OSError
tries = {"files are read": opened, "": written,
    "the network is reached": connected, "local sockets are reached": local, "processes are signalled": signalled,
    "environments are read": environment, "processes are debugged": debugged, "privileges are gained": privileged}
found = []
for name, attempt in tries.items():
    try: attempt()
    except (OSError, PermissionError): continue
    found.append(name)
open("here", "w").close()
print(json.dumps({"through": found, "wrote": os.path.exists("here")}))
"""


def find_walls(kind: str, policy: Policy) -> Sandbox:
    """The walls of a kind (`auto`: the first that stand), tried before. Raises ToolError saying why there are none."""
    kinds = list(MAKERS) if kind == "auto" else [kind]
    reasons = {each: why_not(each, policy.runtime) for each in kinds}
    for each, reason in reasons.items():
        if reason is None:
            return MAKERS[each](policy)
    said = "; ".join(f"{each}: {reason} - {REMEDIES[each]}" for each, reason in reasons.items())
    raise ToolError(f"programs are not run, because there are no walls for them here. {said}")


@cache
def why_not(kind: str, runtime: Runtime) -> str | None:
    """Why walls of a kind do not stand here, None where they do; tried once, around an empty folder."""
    with tempfile.TemporaryDirectory(prefix="thau-probe-") as folder:
        workspace = Path(folder, "workspace")
        workspace.mkdir()
        policy = Policy(Workspace(workspace), BOUNDS, runtime)
        secret = Path(folder, "secret")
        secret.write_text(SECRET, encoding="ascii")
        return judged(MAKERS[kind](policy), policy, secret)


def judged(sandbox: Sandbox, policy: Policy, secret: Path) -> str | None:
    """What the probe let through, or why it did not run; None where everything held."""
    argv = [policy.runtime.launcher, "-I", "-S", "-c", PROBE, str(secret), str(os.getpid())]
    try:
        finished = sandbox.run(argv)
    except ToolError as error:
        return str(error)
    try:
        found = json.loads(finished.output)
    except ValueError:
        return " ".join(finished.output.split())[:300] or f"it ended with {finished.code}"
    through = list(found["through"])
    if secret.read_text(encoding="ascii") != SECRET or len(list(secret.parent.iterdir())) > SECRET_AND_WORKSPACE:
        through.append("files are written")
    if through:
        return f"it does not hold: {', '.join(through)}"
    return None if found["wrote"] else "the workspace cannot be written"
