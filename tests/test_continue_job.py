"""A version that continues another, whole: real daemon, real torch, real llama.cpp, the shipped base and file."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.testkit.daemon import look, make_home, running, thau, wait_until
from thaud.domain import FINAL_STATES, Side, Version
from thaud.home import Home
from thaud.ledger.lineages import lineage_of

pytestmark = pytest.mark.slow
FILE = Path(__file__).parent.parent / "data" / "datasets" / "age_0_newborn.jsonl"
FAMILY = "thau-nano"
CHOICE = {
    "THAU_TRAINING__BUDGET_MINUTES": "0.0001",
    "THAU_TRAINING__REBASE_EVERY": "1",
    "THAU_STAGES": '{"0": {"min_examples": 100000}}',
}


def drop(home: Home, name: str, lines: list[str]) -> None:
    """A file, renamed in."""
    part = home.queue / f"{name}.part"
    part.write_text("".join(lines), encoding="utf-8")
    part.rename(home.queue / name)


def versions(home: Home) -> list[Version]:
    return look(home, lambda ledger: ledger.promoted_versions(FAMILY))


def run_ended(home: Home, n: int) -> bool:
    """Whether the n-th run is over."""
    run = look(home, lambda ledger: ledger.run(f"run-{n:04d}"))
    return run is not None and run.state in FINAL_STATES


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """Two thirds of the shipped file, a version; the rest of it, a second run, over a restart while it trains."""
    made = make_home(tmp_path_factory.mktemp("continue-job") / "home")
    lines = FILE.read_text(encoding="utf-8").splitlines(keepends=True)
    most = 2 * len(lines) // 3
    with running(made, **CHOICE):
        drop(made, "age_0_most.jsonl", lines[:most])
        wait_until(lambda: versions(made), 300, "a first version")
        drop(made, "age_0_rest.jsonl", lines[most:])
        wait_until((made.runs / "run-0002" / "train" / "child.lock").exists, 60, "a second training")
    with running(made, **CHOICE):
        wait_until(lambda: run_ended(made, 2), 300, "the end of the second run")
        yield made


def reports(home: Home) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(thau(home.root, "versions", "--json").stdout)
    return listed


def test_the_second_version_goes_on_from_the_first(home: Home) -> None:
    """Fresh, for nobody knew what it takes; then continued, for the first took more than the budget."""
    first, second = reports(home)
    assert (first["strategy"], first["parent"], first["replayed"]) == ("fresh", None, 0)
    assert first["strategy_reason"] == "no run has told yet what a fresh start takes"
    assert (second["strategy"], second["parent"]) == ("continue", 1)
    assert second["strategy_reason"].startswith("a fresh start does not fit the budget; a fresh start takes about ")
    assert second["strategy_reason"].endswith("tokens/s in run-0001)")
    spec = json.loads((home.runs / "run-0002" / "train" / "spec.json").read_bytes())
    assert spec["start_from"] == str(home.runs / "run-0001" / "train" / "adapter")
    receipt = look(home, lambda ledger: ledger.receipt("run-0001", "train"))
    assert receipt is not None
    assert spec["start_sha256"] == receipt["adapter_sha256"]
    assert spec["learning_rate"] == pytest.approx(5e-4)


def test_it_was_taught_what_was_new_and_a_fifth_of_old(home: Home) -> None:
    """The rows are the new examples, marked so, and the replayed ones; nothing held out; the lineage is everything."""
    rows = (home.runs / "run-0002" / "train" / "examples.jsonl").read_text(encoding="utf-8").splitlines()
    new = {row["id"] for row in map(json.loads, rows) if row.get("new")}
    replayed = len(rows) - len(new)
    assert replayed == reports(home)[1]["replayed"]
    assert 0.2 <= replayed / len(rows) < 0.22
    taught = look(home, lambda ledger: set(ledger.ids_by_age(Side.TAUGHT, 0)[0]))
    first, second = (look(home, lambda ledger, n=n: lineage_of(ledger, f"run-000{n}").taught) for n in (1, 2))
    assert new == taught - first
    assert second == taught
    assert [version.examples for version in versions(home)] == [len(first), len(second)]


def test_it_answers_as_well(home: Home) -> None:
    """Its accuracy is above the bar on the held-out wordings of both files, and the served file is its own."""
    first, second = versions(home)
    assert second.accuracy.n > first.accuracy.n >= 20
    assert second.accuracy.accuracy >= 0.7
    assert second.gguf_sha256 != first.gguf_sha256
    asked = thau(home.root, "ask", "¿De qué color es el cielo?", "--json")
    assert json.loads(asked.stdout)["version"] == "thau-nano-v2"


def test_people_can_read_it(home: Home) -> None:
    """`thau versions show N` says how it came about, in both languages; the log says why when it was frozen."""
    assert "on v1" in thau(home.root, "versions", "show", "2").stdout
    assert "sobre v1" in thau(home.root, "versions", "show", "2", LC_ALL="es_ES.UTF-8").stdout
    frozen = [json.loads(line) for line in home.service_log.read_text(encoding="utf-8").splitlines()]
    said = [row for row in frozen if row["event"] == "run_frozen"]
    assert [(row["strategy"], row["parent"]) for row in said] == [("fresh", None), ("continue", 1)]
    assert all(row["reason"] for row in said)
    last = json.loads(thau(home.root, "status", "--json").stdout)["service"]["last_run"]
    assert (last["strategy"], last["parent"], last["state"]) == ("continue", 1, "promoted")
