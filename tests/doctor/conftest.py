"""A home with a real history, for each test its own."""

import asyncio
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doctor.kit import SETTINGS
from tests.seeded import make_home
from tests.test_pipeline import ScriptedSteps
from thaud.domain import RunState, Trigger
from thaud.home import Home
from thaud.intake import Intake
from thaud.ledger import Ledger
from thaud.pipeline import Pipeline
from thaud.projections import project


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in os.environ if each.startswith("THAU_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("THAU_SERVING__OLLAMA_ENABLED", "false")


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with a history: two files taken in, one bad line, one promoted version, projections."""
    home = make_home(tmp_path_factory.mktemp("grown") / "home")
    rows = ({"instruction": f"¿{n}?", "output": str(n), "age": 0} for n in range(150))
    (home.queue / "age_0.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (home.queue / "bad.jsonl").write_text('{"x": 1}\n{"instruction": "a", "output": "b"}\n', encoding="utf-8")
    with Ledger.open(home.ledger) as ledger:
        asyncio.run(history(home, ledger))
    return home


async def history(home: Home, ledger: Ledger) -> None:
    intake = Intake(home, SETTINGS, ledger)
    await intake.take_in()
    pipeline = Pipeline(home, SETTINGS, ledger, ScriptedSteps())
    spec = await pipeline.freeze(Trigger.EXAMPLES)
    assert await pipeline.finish(spec.id) is RunState.PROMOTED
    await intake.retire_trained()
    project(home, ledger, SETTINGS)


@pytest.fixture
def home(grown: Home, tmp_path: Path) -> Iterator[Home]:
    """A copy of it in its place, because the ledger holds absolute paths."""
    aside = tmp_path / "aside"
    grown.root.rename(aside)
    shutil.copytree(aside, grown.root)
    yield grown
    shutil.rmtree(grown.root)
    aside.rename(grown.root)
