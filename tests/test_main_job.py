"""The main job, whole: real daemon, real torch, real llama.cpp, the shipped base and files."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testkit.daemon import look, make_home, running, thau, wait_until
from tests.testkit.kinds import all_held_out, measure, spec_of, table
from tests.testkit.merged import check_same_answers
from thaud.domain import Answer, ExportKind, Side, Version, score_answers
from thaud.executor import run_step
from thaud.home import Home
from thaud.ledger import LedgerReader
from thaud.steps.contract import ExamResult, ExamSpec, ExportResult, ExportSpec
from thaud.steps.llama import LlamaModel
from thaud.workdir import read_answers

pytestmark = pytest.mark.slow
DATASETS = Path(__file__).parent.parent / "data" / "datasets"
FILES = ("age_0_newborn.jsonl", "age_1_infant.jsonl")
FAMILY = "thau-nano"


def grown(ledger: LedgerReader) -> bool:
    """Two versions, and nothing pending at the current age."""
    return len(ledger.promoted_versions(FAMILY)) >= 2 and ledger.unfinished_run() is None


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home into which the shipped files were copied, and nothing else was done."""
    made = make_home(tmp_path_factory.mktemp("main-job") / "home")
    with running(made):
        for name in FILES:
            shutil.copy(DATASETS / name, made.queue)
        wait_until(lambda: look(made, grown), 540, "two versions")
        wait_until(lambda: len(list(made.trained.iterdir())) == 2, what="both files in trained/")
        yield made


def versions(home: Home) -> list[Version]:
    return look(home, lambda ledger: ledger.promoted_versions(FAMILY))


def test_it_grew_up(home: Home) -> None:
    """At least two accepted versions and age 1 or above, from two copied files."""
    assert [version.n for version in versions(home)] == [1, 2]
    assert [version.age for version in versions(home)] == [0, 1]
    assert look(home, lambda ledger: ledger.age) >= 1


def test_accuracy_is_above_the_bars_on_held_out_wordings(home: Home) -> None:
    """Each version reaches its stage's bar on at least twenty items that no run was taught."""
    for version, bar in zip(versions(home), (0.70, 0.75), strict=True):
        assert version.accuracy.n >= 20
        assert version.accuracy.accuracy >= bar, version
    with LedgerReader.open(home.ledger) as ledger:
        held_out = {each for ids in ledger.ids_by_age(Side.HELD_OUT, 15).values() for each in ids}
        for run in ledger.runs():
            assert not held_out & set(ledger.run_ids(run.id).example_ids)
            assert set(ledger.run_ids(run.id).exam_ids) <= held_out


def test_the_new_version_answers(home: Home) -> None:
    """`thau ask` answers most of ten held-out questions of age 0 from the newest version."""
    with LedgerReader.open(home.ledger) as ledger:
        items = list(ledger.examples(ledger.ids_by_age(Side.HELD_OUT, 0)[0][:10]))
    asked = [thau(home.root, "ask", item.example.prompt[-1].content, "--json") for item in items]
    assert {each.returncode for each in asked} == {0}
    answers = [json.loads(each.stdout) for each in asked]
    assert {answer["version"] for answer in answers} == {"thau-nano-v2"}
    right = sum(
        answer["answer"].strip().casefold() == item.example.completion.content.casefold()
        for answer, item in zip(answers, items, strict=True)
    )
    assert right >= 6


def test_the_base_alone_scores_clearly_lower(home: Home, tmp_path: Path) -> None:
    """The same exam, put to the base without an adapter, gets less than half of what the version gets."""
    run = look(home, lambda ledger: ledger.run("run-0002"))
    assert run is not None
    items = home.runs / run.id / "exam" / "items.jsonl"
    export = ExportSpec(
        base_dir=run.spec["base"], adapter_dir=None, out=str(tmp_path / "base.gguf"), kind="f16", name="base",
        context_tokens=256,
    )  # fmt: skip
    exam = ExamSpec(gguf=export.out, items=str(items), answers=str(tmp_path / "answers.jsonl"), context_tokens=256)

    async def ask_base() -> list[Answer]:
        await run_step("export", export, ExportResult, tmp_path / "export", lambda _: None)
        await run_step("exam", exam, ExamResult, tmp_path / "exam", lambda _: None)
        return list(read_answers(Path(exam.answers)))

    held_out = set(look(home, lambda ledger: ledger.run_ids(run.id)).exam_ids)
    base = score_answers([answer for answer in asyncio.run(ask_base()) if answer.example_id in held_out])
    assert base.n == len(held_out) >= 100
    assert base.accuracy < versions(home)[1].accuracy.accuracy / 2


def test_smaller_types_lose_at_most_three_points(home: Home, tmp_path: Path) -> None:
    """The same adapter at Q8_0 and Q4_K_M, on every held-out item: within three points of F16."""
    spec = spec_of(home, "run-0002")
    items = all_held_out(home, spec, tmp_path / "items.jsonl")
    kinds: tuple[ExportKind, ...] = ("f16", "q8_0", "q4_k_m")
    found = [measure(home, spec, kind, items, tmp_path, certify=False) for kind in kinds]
    print(table(found))
    best, *smaller = (each.score for each in found)
    assert best.n >= 100
    assert all(abs(each.accuracy - best.accuracy) <= 0.03 for each in smaller)


def test_the_promoted_file_says_what_the_merged_model_says(home: Home) -> None:
    """Fifty held-out prompts, greedy: llama.cpp on the served F16 GGUF and transformers on base plus adapter agree."""
    version = versions(home)[1]
    with LedgerReader.open(home.ledger) as ledger:
        held_out = ledger.ids_by_age(Side.HELD_OUT, 1)
        questions = [each.example.prompt[-1].content for each in ledger.examples([*held_out[1], *held_out[0]][:50])]
        run = ledger.run(version.run_id)
    assert run is not None
    assert len(questions) == 50
    with LlamaModel(Path(version.gguf), 256, threads=1) as served:
        adapter = home.runs / run.id / "train" / "adapter"
        assert check_same_answers(served, Path(run.spec["base"]), adapter, questions) > 15


def test_each_version_has_a_certificate(home: Home) -> None:
    """Passed, of that very file, with what was trained measured on held-out prompts; in the ledger and beside it."""
    for version in versions(home):
        receipt = look(home, lambda ledger, run=version.run_id: ledger.receipt(run, "certify"))
        found = json.loads(Path(version.gguf).with_name("certificate.json").read_bytes())
        assert receipt["certificate"] == found
        assert (found["passed"], found["gguf_sha256"]) == (True, version.gguf_sha256)
        assert found["fidelity"]["top1"] >= 0.995
        assert found["prompts"]["equal"] == found["prompts"]["conversations"]


def test_the_home_has_what_the_guide_names(home: Home) -> None:
    """Drop-box, service log, progress and trained examples are where the guide looks for them."""
    assert home.queue == home.root / "data" / "training_queue"
    assert home.queue.is_dir()
    assert [json.loads(line) for line in home.service_log.read_text(encoding="utf-8").splitlines()]
    progress = json.loads(home.progress.read_bytes())
    assert progress["current_age"] >= 1
    taught = home.trained_examples.read_text(encoding="utf-8").splitlines()
    assert len(taught) == look(home, lambda ledger: ledger.trained_count(FAMILY)) >= 300
    assert {json.loads(line)["file"] for line in taught} == set(FILES)


def test_every_example_is_traceable(home: Home) -> None:
    """Each trained line of the projection leads back to that very line of the file."""
    for line in home.trained_examples.read_text(encoding="utf-8").splitlines()[::40]:
        row = json.loads(line)
        source = (home.trained / row["file"]).read_text(encoding="utf-8").splitlines()[row["line"] - 1]
        (found,) = look(home, lambda ledger, wanted=row["id"]: list(ledger.examples([wanted])))
        assert json.loads(source)["output"] == found.example.completion.content


def test_status_says_it_all(home: Home) -> None:
    """`thau status` has the guide's lines, in Spanish under a Spanish locale, and `--json` the same facts."""
    people = thau(home.root, "status", LC_ALL="es_ES.UTF-8").stdout
    for words in ("Modelo", "thau-nano-v2", "Edad", "Puede avanzar", "Accuracy requerida"):
        assert words in people
    facts = json.loads(thau(home.root, "status", "--json").stdout)
    assert facts["model"] == "thau-nano-v2"
    assert facts["cognitive"]["current_age"] >= 1
    assert facts["service"]["total_examples_trained"] >= 300


def test_a_killed_daemon_would_find_it_all_again(home: Home) -> None:
    """The ledger is whole, and every promoted version's file has its digest."""
    assert look(home, lambda ledger: ledger.one("PRAGMA integrity_check")) == "ok"
    for version in versions(home):
        assert Path(version.gguf).stat().st_size == version.size_bytes
