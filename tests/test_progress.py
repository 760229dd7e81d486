"""What a step says on its way through the daemon to the run's folder."""

import asyncio
import json
import sys
import tracemalloc
from pathlib import Path

from tests.seeded import make_home, open_ledger
from thaud.executor import LINE_LIMIT, attend, run_step
from thaud.journal import PROGRESS, Journal

EVENTS = 20_000
TALKER = f"""
import json
for done in range({EVENTS}):
    print(json.dumps({{"event": "step", "done": done, "total": {EVENTS}, "loss": 0.5, "note": "x" * 150}}))
"""


def test_a_long_runs_progress_costs_the_daemon_no_memory(tmp_path: Path) -> None:
    """20,000 events pass through the daemon, each into the file and none into its memory."""
    home = make_home(tmp_path / "home")
    (home.runs / "run-0001").mkdir(parents=True)

    async def listen(journal: Journal) -> int:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", TALKER, stdout=asyncio.subprocess.PIPE, limit=LINE_LIMIT, start_new_session=True
        )
        return await attend(child, lambda event: journal.tell("run-0001", "train", event))

    with open_ledger(home) as ledger:
        tracemalloc.start()
        try:
            assert asyncio.run(listen(Journal(home, ledger, run_step))) == 0
            held, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    said = (home.runs / "run-0001" / PROGRESS).read_bytes()
    assert [json.loads(line)["done"] for line in said.splitlines()] == list(range(EVENTS))
    assert len(said) > 5e6
    assert held < 1e6
    assert most < 2.5 * LINE_LIMIT + 1e6
