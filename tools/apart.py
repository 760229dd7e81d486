"""Our own code on foreign data, in a child that can be ended. Owns its bounds; refuses to run anybody else's program.

Some questions cannot be bounded from inside: a regular expression that backtracks holds the whole process, and a parser
may fall over what it reads. The child gets JSON, gives JSON, and has a processor, memory and time of its own.
"""

import json
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE
from typing import Any

from thaud.errors import ToolError

MEMORY_BYTES = 1 << 30
HOME = str(Path(__file__).resolve().parents[1])
# Bounded before anything foreign is read. `-I` lets neither the folder nor the environment decide what is imported.
CHILD = """
import json, resource, sys
memory, cpu, module, home = json.loads(sys.argv[1])
sys.path.append(home)
resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
import importlib
json.dump(importlib.import_module(module).answer(json.load(sys.stdin)), sys.stdout)
"""


def ask_apart(module: str, question: Any, timeout_s: float) -> Any:
    """What a module's `answer` gives for a question; both are JSON.

    Raises TimeoutError where it takes longer, ToolError where it fails otherwise.
    """
    terms = json.dumps([MEMORY_BYTES, int(timeout_s) + 1, module, HOME])
    argv = [sys.executable, "-I", "-c", CHILD, terms]
    try:
        child = subprocess.Popen(argv, stdin=PIPE, stdout=PIPE, stderr=PIPE, encoding="ascii")
    except OSError as error:
        raise ToolError(f"cannot start {sys.executable}: {error.strerror}") from error
    with child:
        try:
            said, complaint = child.communicate(json.dumps(question), timeout_s)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"{module} took longer than {timeout_s:g} s") from error
        finally:
            child.kill()  # after Ctrl-C too; run() would leave it behind as a zombie
            child.wait()
    if child.returncode != 0:
        why = (complaint.strip().splitlines() or [f"exit code {child.returncode}"])[-1]
        raise ToolError(f"it could not be read: {why[:200]}")
    return json.loads(said)
