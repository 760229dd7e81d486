"""Versions that are no F16 file, whole: real daemon, real torch, real llama.cpp, a handful of lessons on nano."""

import json
from pathlib import Path

import pytest

from tests.testkit.daemon import look, make_home, running, thau, wait_until
from thaud.domain import FINAL_STATES, Message, RunState, Version
from thaud.home import Home
from thaud.steps.contract import ExportSpec
from thaud.steps.export.writer import write_gguf
from thaud.steps.llama import LlamaModel, open_version
from thaud.sweep import is_base

pytestmark = pytest.mark.slow
FILE = Path(__file__).parent.parent / "data" / "datasets" / "age_0_newborn.jsonl"
LINES = 32
QUICKLY = {"THAU_TRAINING__EPOCHS": "2", "THAU_TRAINING__MIN_NEW_EXAMPLES": "8", "THAU_TRAINING__THREADS": "1"}
QUESTIONS = (
    "¿De qué color es el cielo?",
    "¿Qué hace la vaca?",
    "¿Cuántas patas tiene un perro?",
    "What colour is the sun?",
    "¿Es el fuego caliente?",
    "Di hola",
    "¿Cuánto es 1 + 1?",
    "How many legs does a cat have?",
)


def environment(kind: str) -> dict[str, str]:
    return {**QUICKLY, "THAU_EXPORT__KIND": kind}


def train(root: Path, kind: str) -> tuple[Home, Version]:
    """A home whose only run made a version of this kind."""
    home = make_home(root)
    some = FILE.read_text(encoding="utf-8").splitlines(keepends=True)[:LINES]

    def over() -> bool:
        run = look(home, lambda ledger: ledger.run("run-0001"))
        return run is not None and run.state in FINAL_STATES

    with running(home, **environment(kind)):
        (home.queue / "age_0_some.jsonl").write_text("".join(some), encoding="utf-8")
        wait_until(over, 240, "the end of the run")
    run = look(home, lambda ledger: ledger.run("run-0001"))
    assert run is not None
    assert run.state is RunState.PROMOTED, run.reasons
    (version,) = look(home, lambda ledger: ledger.promoted_versions("thau-nano"))
    return home, version


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Version]:
    return train(tmp_path_factory.mktemp("kinds") / "adapter", "adapter")


def merged(home: Home, version: Version, out: Path) -> Path:
    """The same run as one F16 file."""
    run = look(home, lambda ledger: ledger.run(version.run_id))
    assert run is not None
    spec = ExportSpec(
        base_dir=run.spec["base"],
        adapter_dir=str(home.runs / run.id / "train" / "adapter"),
        out=str(out),
        kind="f16",
        name="merged",
        context_tokens=run.spec["context_tokens"],
    )
    write_gguf(spec, lambda _done, _total: None)
    return out


def answers(model: LlamaModel) -> list[str]:
    """What a model says to the questions, greedily."""
    said = []
    for question in QUESTIONS:
        prompt = model.encode(model.renderer.prompt([Message("user", question)]))
        said.append("".join(text for text, _ in model.generate(prompt, 24)))
    return said


def test_an_adapter_is_megabytes_on_a_base_that_is_shared(adapted: tuple[Home, Version]) -> None:
    """The version's own file is a fraction of a model's; the base lies once in data/bases, with the digest it names."""
    home, version = adapted
    assert version.kind == "adapter"
    assert version.base_gguf is not None
    base = Path(version.base_gguf)
    assert version.size_bytes == Path(version.gguf).stat().st_size < base.stat().st_size / 2
    assert list(home.bases.rglob("*.gguf")) == [base]


def test_its_base_is_no_stranger_to_the_doctor(adapted: tuple[Home, Version]) -> None:
    """What the export leaves beside a base is known as ours, so that nobody sets the base aside."""
    home, version = adapted
    base = Path(version.base_gguf or "")
    assert is_base(base.parent)
    findings = json.loads(thau(home.root, "doctor", "--json").stdout)
    assert "base_stranger" not in json.dumps(findings)
    assert str(base.parent) not in json.dumps(findings)


def test_it_has_a_certificate_of_adapter_and_base(adapted: tuple[Home, Version]) -> None:
    """Measured with the adapter on that base, it passed, and lies beside the adapter."""
    _, version = adapted
    found = json.loads(Path(version.gguf).with_name("certificate.json").read_bytes())
    assert found["passed"]
    assert (found["kind"], found["gguf_sha256"]) == ("adapter", version.gguf_sha256)
    assert found["base_gguf_sha256"] == version.base_sha256
    assert found["fidelity"]["top1"] >= found["fidelity"]["bar"]


def test_it_answers_as_the_merged_model_does(adapted: tuple[Home, Version], tmp_path: Path) -> None:
    """Base and adapter say what the merged F16 file says, and the base alone does not; `thau ask` serves it so."""
    home, version = adapted
    assert version.base_gguf is not None
    base = Path(version.base_gguf)
    with LlamaModel(merged(home, version, tmp_path / "merged.gguf"), 128) as whole:
        expected = answers(whole)
    with open_version(Path(version.gguf), base, 128) as on_base:
        found = answers(on_base)
    with LlamaModel(base, 128) as alone:
        untaught = answers(alone)
    assert sum(one == other for one, other in zip(found, expected, strict=True)) >= len(QUESTIONS) - 1
    assert untaught != expected
    asked = thau(home.root, "ask", QUESTIONS[0], "--json", **environment("adapter"))
    assert json.loads(asked.stdout)["answer"] == found[0].strip()


def test_a_smaller_type_is_a_version_too(tmp_path: Path) -> None:
    """At Q8_0 the same way ends in a version with a certificate for that very file, and it answers."""
    home, version = train(tmp_path / "home", "q8_0")
    assert (version.kind, version.base_gguf) == ("q8_0", None)
    with LlamaModel(Path(version.gguf), 128) as model:
        assert model.metadata("general.file_type") == "7"
    receipt = look(home, lambda ledger: ledger.receipt(version.run_id, "certify"))
    assert receipt is not None
    assert (receipt["passed"], receipt["certificate"]["kind"]) == (True, "q8_0")
    assert receipt["gguf_sha256"] == version.gguf_sha256
    asked = thau(home.root, "ask", QUESTIONS[0], "--json", **environment("q8_0"))
    assert json.loads(asked.stdout)["answer"]
