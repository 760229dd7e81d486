"""How a step's end is read, and what of its chatter is let through."""

import asyncio
import errno
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from thaud.errors import DiskFullError, StepError
from thaud.executor import LINE_LIMIT, follow, read_result
from thaud.steps.contract import BaseResult, BaseSpec
from thaud.workdir import finished_result

CHATTER = f"""
import json, sys
print("x" * {2 * LINE_LIMIT})
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
