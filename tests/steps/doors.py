"""Run a step as the executor does: in a child of its own, through its door."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from thaud.steps.contract import RESULT, SPEC, Spec


def through_door(name: str, spec: Spec, workdir: Path) -> tuple[int, dict[str, Any], list[dict[str, Any]]]:
    """Exit code, result and progress of `python -m thaud.steps.NAME`. Its standard error must stay empty."""
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / SPEC).write_text(spec.model_dump_json())
    child = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", f"thaud.steps.{name}", str(workdir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    try:
        shown, complaints = child.stdout.read(), child.stderr.read()
        code = child.wait()
    finally:
        child.kill()
        child.stdin.close()
        child.stdout.close()
        child.stderr.close()
    assert complaints == ""
    result = json.loads((workdir / RESULT).read_text())
    return code, result, [json.loads(line) for line in shown.splitlines()]
