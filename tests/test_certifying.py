"""No certificate, no version: what a run does with its certificate, and with a shared base under an adapter."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.test_journal import damage, go_on, lose, until
from tests.test_pipeline import ScriptedSteps, feed, make, run
from tests.testkit.certificates import certificate_of
from thaud.artefacts import passed_certificate
from thaud.domain import RunState, Trigger
from thaud.errors import StorageError
from thaud.home import Home
from thaud.ledger import Ledger
from thaud.steps.contract import CertifySpec, ExamSpec, ExportSpec
from thaud.sweep import sweep

MANY = {"stages": {0: {"min_examples": 1000}}}  # so that the age stays
ADAPTER = {**MANY, "export": {"kind": "adapter", "base_kind": "q8_0"}}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path)
    for folder in made.folders():
        folder.mkdir(parents=True)
    return made


@pytest.fixture
def ledger(home: Home) -> Iterator[Ledger]:
    with Ledger.open(home.ledger) as opened:
        feed(opened, range(136))
        yield opened


def base_of(home: Home) -> Path:
    return home.bases / "d-q8_0" / "model.gguf"


class Noting(ScriptedSteps):
    """Keeps what each step was asked."""

    def export(self, spec: ExportSpec) -> dict[str, Any]:
        self.__dict__["exported"] = spec
        return super().export(spec)

    def certify(self, spec: CertifySpec) -> dict[str, Any]:
        self.__dict__["certified"] = spec
        return super().certify(spec)

    def exam(self, spec: ExamSpec) -> dict[str, Any]:
        self.__dict__.setdefault("examined", []).append(spec)
        return super().exam(spec)


def test_the_certificate_lies_beside_the_file_and_in_the_ledger(home: Home, ledger: Ledger) -> None:
    """A promoted version has a passed certificate of its very file: as the step's receipt, and as a file beside it."""
    assert run(make(home, ledger, ScriptedSteps())) is RunState.PROMOTED
    (version,) = ledger.versions()
    receipt = ledger.receipt(version.run_id, "certify")
    assert receipt is not None
    assert receipt["passed"]
    assert receipt["gguf_sha256"] == receipt["certificate"]["gguf_sha256"] == version.gguf_sha256
    beside = json.loads(Path(version.gguf).with_name("certificate.json").read_bytes())
    assert beside == receipt["certificate"]


def test_it_is_measured_on_what_was_held_out(home: Home, ledger: Ledger) -> None:
    """The step gets at most 32 held-out items, those of the current age first, and the frozen base and adapter."""
    ledger.set_age(1, "age_set")
    feed(ledger, range(200, 240), age=1)
    steps = Noting()
    run(make(home, ledger, steps))
    asked: CertifySpec = steps.__dict__["certified"]
    items = [json.loads(line) for line in Path(asked.items).read_text(encoding="utf-8").splitlines()]
    assert len(items) == 32
    assert {item["role"] for item in items} == {"held_out"}
    assert [item["age"] for item in items] == sorted((item["age"] for item in items), reverse=True)
    assert sum(item["age"] == 1 for item in items) == 10
    assert (asked.base_digest, asked.kind, asked.base_gguf) == ("d", "f16", None)
    assert asked.adapter_dir == str(home.runs / "run-0001" / "train" / "adapter")


def test_a_certificate_that_does_not_pass_refuses_the_run(home: Home, ledger: Ledger) -> None:
    """Rejected with the certificate's reasons, said as a verdict; no exam, no number, and the disk is given back."""
    steps = ScriptedSteps(against=("change: the file has 0% of the change", "stops: 1 of 8 answers came to an end"))
    assert run(make(home, ledger, steps)) is RunState.REJECTED
    (row,) = ledger.runs()
    assert row.reasons == tuple(f"certificate: {reason}" for reason in steps.against)
    assert ledger.versions() == []
    assert "exam" not in steps.ran
    assert not (home.runs / row.id / "export" / "model.gguf").exists()
    last = json.loads((home.runs / row.id / "progress.ndjson").read_text(encoding="utf-8").splitlines()[-1])
    assert (last["event"], last["accepted"], last["reasons"]) == ("verdict", False, list(row.reasons))


def test_a_refusal_survives_a_death_before_it_was_told(
    home: Home, ledger: Ledger, points: Callable[[str], None]
) -> None:
    """Where the ledger could not take the refusal, the next life reads the certificate again and refuses the same."""
    steps = ScriptedSteps(against=("fidelity: too far",))
    points("ledger.end_run.before=eio")
    with pytest.raises(StorageError):
        run(make(home, ledger, steps))
    row = ledger.unfinished_run()
    assert row is not None
    assert asyncio.run(make(home, ledger, steps).finish(row.id)) is RunState.REJECTED
    assert steps.ran.count("certify") == 1


@pytest.mark.parametrize("state", [RunState.EXPORTED, RunState.EXAMINED])
def test_a_file_that_was_made_otherwise_is_certified_again(home: Home, ledger: Ledger, state: RunState) -> None:
    """A certificate counts for the file that it names: another export, another certificate."""
    steps = ScriptedSteps()
    pipeline = make(home, ledger, steps)
    spec = until(pipeline, state)
    asyncio.run(pipeline.certify(spec, asyncio.run(pipeline.artefacts.exported(spec))))
    before = steps.ran.count("certify")
    lose(home.runs / spec.id / "export" / "model.gguf")
    steps.weights = b"others"
    asyncio.run(pipeline.examine(spec))
    assert go_on(pipeline, spec) is RunState.PROMOTED
    assert (before, steps.ran.count("certify")) == (1, 2)
    (version,) = ledger.versions()
    receipt = ledger.receipt(spec.id, "certify")
    assert receipt is not None
    assert receipt["gguf_sha256"] == version.gguf_sha256
    assert json.loads(Path(version.gguf).with_name("certificate.json").read_bytes()) == receipt["certificate"]


FORGERIES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "of another file": lambda receipt: {**receipt, "gguf_sha256": "0" * 64},
    "with another file inside": lambda receipt: {
        **receipt,
        "certificate": {**receipt["certificate"], "gguf_sha256": "0" * 64},
    },
    "passed with reasons": lambda receipt: {**receipt, "reasons": ["change: none"]},
    "of another shape": lambda receipt: {"gguf_sha256": receipt["gguf_sha256"], "passed": True},
    "none": lambda _: {},
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_no_certificate_no_version(home: Home, ledger: Ledger, forgery: str) -> None:
    """An examined run whose receipt is not a passed certificate of that very file gets no number, however good its
    answers: it is certified first.
    """
    steps = ScriptedSteps()
    pipeline = make(home, ledger, steps)
    spec = until(pipeline, RunState.EXAMINED)
    receipt = ledger.receipt(spec.id, "certify")
    assert receipt is not None
    ledger.receive(spec.id, "certify", FORGERIES[forgery](receipt), RunState.EXAMINED)
    exported = pipeline.journal.receipt(spec.id, "export")
    with pytest.raises(StorageError, match="no certificate"):
        pipeline.number(spec, exported, pipeline.report(spec, exported["gguf_sha256"]))
    (home.runs / spec.id / "certify" / "result.json").unlink()
    steps.against = ("prompts: they differ",)
    assert go_on(pipeline, spec) is RunState.REJECTED
    assert ledger.versions() == []
    assert steps.ran.count("certify") == 2


def test_a_run_of_an_earlier_release_is_certified_before_it_is_judged(home: Home, ledger: Ledger) -> None:
    """Examined by a THAU that knew no certificates, it gets one, keeps its answers, and is promoted."""
    steps = ScriptedSteps()
    pipeline = make(home, ledger, steps)
    spec = until(pipeline, RunState.EXAMINED)
    ledger.connection.execute("DELETE FROM journal WHERE step = 'certify'")
    (home.runs / spec.id / "certify" / "result.json").unlink()
    assert go_on(make(home, ledger, steps), spec) is RunState.PROMOTED
    assert [steps.ran.count(step) for step in ("train", "export", "certify", "exam")] == [1, 1, 2, 1]


def test_a_version_accepted_without_one_is_promoted_without_one(home: Home, ledger: Ledger) -> None:
    """Its number was given by an earlier release: it goes to its place, and no file claims what nobody measured."""
    pipeline = make(home, ledger, ScriptedSteps())
    spec = until(pipeline, RunState.ACCEPTED)
    ledger.connection.execute("DELETE FROM journal WHERE step = 'certify'")
    assert go_on(pipeline, spec) is RunState.PROMOTED
    assert not Path(ledger.versions()[0].gguf).with_name("certificate.json").exists()


def test_an_adapter_is_a_version_on_a_shared_base(home: Home, ledger: Ledger) -> None:
    """Kind and base are frozen; file and base go through certificate and exam; the version names both, with digests."""
    steps = Noting()
    assert run(make(home, ledger, steps, **ADAPTER)) is RunState.PROMOTED
    asked: ExportSpec = steps.__dict__["exported"]
    assert (asked.kind, asked.base_kind, asked.base_out) == ("adapter", "q8_0", str(base_of(home)))
    assert steps.__dict__["certified"].base_gguf == str(base_of(home))
    assert [each.base_gguf for each in steps.__dict__["examined"]] == [str(base_of(home))]
    (version,) = ledger.versions()
    assert (version.kind, version.base_gguf) == ("adapter", str(base_of(home)))
    assert version.base_sha256 == hashlib.sha256(base_of(home).read_bytes()).hexdigest()
    assert version.size_bytes == Path(version.gguf).stat().st_size
    assert ledger.receipt("run-0001", "export")["base_sha256"] == version.base_sha256  # type: ignore[index]


@pytest.mark.parametrize("kinds", [("f16", "adapter"), ("adapter", "q4_k_m")])
def test_champion_and_challenger_may_be_of_different_kinds(home: Home, ledger: Ledger, kinds: tuple[str, str]) -> None:
    """Each is asked as what it is: an adapter on its base, a merged model alone."""
    run(make(home, ledger, ScriptedSteps(), **MANY, export={"kind": kinds[0]}))
    feed(ledger, range(136, 200))
    steps = Noting(weights=b"better")
    assert run(make(home, ledger, steps, **MANY, export={"kind": kinds[1]})) is RunState.PROMOTED
    challenger, champion = steps.__dict__["examined"]
    bases = [str(home.bases / "d-f16" / "model.gguf") if kind == "adapter" else None for kind in reversed(kinds)]
    assert [challenger.base_gguf, champion.base_gguf] == bases
    assert [version.kind for version in ledger.versions()] == list(kinds)


@pytest.mark.parametrize("harm", [lose, damage])
@pytest.mark.parametrize("state", [RunState.EXPORTED, RunState.EXAMINED, RunState.ACCEPTED])
def test_a_base_that_is_lost_is_made_again(
    home: Home, ledger: Ledger, state: RunState, harm: Callable[[Path], None]
) -> None:
    """An adapter without its base is nothing: what the disk lost of the base is exported again, wherever the run is."""
    steps = ScriptedSteps()
    spec = until(make(home, ledger, steps, **ADAPTER), state)
    harm(base_of(home))
    assert go_on(make(home, ledger, steps, **ADAPTER), spec) is RunState.PROMOTED
    (version,) = ledger.versions()
    assert hashlib.sha256(base_of(home).read_bytes()).hexdigest() == version.base_sha256
    assert hashlib.sha256(Path(version.gguf).read_bytes()).hexdigest() == version.gguf_sha256


def test_the_bases_digest_is_taken_once_a_run(home: Home, ledger: Ledger) -> None:
    """It is large and shared: its digest is taken once for a run, and again where the file was touched."""
    pipeline = make(home, ledger, ScriptedSteps(), **ADAPTER)
    spec = until(pipeline, RunState.EXPORTED)
    assert len(pipeline.whole) == 1
    asyncio.run(pipeline.artefacts.exported(spec))
    assert len(pipeline.whole) == 1
    base_of(home).touch()
    asyncio.run(pipeline.artefacts.exported(spec))
    assert len(pipeline.whole) == 2


def test_bases_go_when_nobody_needs_them(home: Home, ledger: Ledger) -> None:
    """A base stays while a version is applied to it or a run may make one; what refused runs leave goes at the start,
    and half-written ones always.
    """
    pipeline = make(home, ledger, ScriptedSteps(against=("change: none",)), **ADAPTER)
    spec = until(pipeline, RunState.TRAINED)
    stranger = home.bases / "other-f16" / "model.gguf"
    stranger.parent.mkdir(parents=True)
    for path in (stranger, half := stranger.with_name(".model.gguf.tmp")):
        path.write_bytes(b"left")
    assert sweep(home, ledger) == [half]
    assert go_on(pipeline, spec) is RunState.REJECTED
    assert sorted(sweep(home, ledger)) == sorted([stranger.parent, base_of(home).parent])
    assert run(make(home, ledger, ScriptedSteps(weights=b"good"), **ADAPTER)) is RunState.PROMOTED
    assert sweep(home, ledger) == []
    ledger.give_up(ledger.versions())
    assert base_of(home).parent in sweep(home, ledger)
    assert not base_of(home).exists()


def test_a_certificate_counts_only_where_it_passed() -> None:
    """Whoever asks for the certificate of a file gets none that failed, that is of another file, or that is none."""
    certificate, failed = certificate_of("ab"), certificate_of("ab", reasons=["change: none"])
    said = {"gguf_sha256": "ab", "passed": True, "reasons": [], "certificate": certificate, "seconds": 1.0}
    assert passed_certificate(said, "ab") == certificate
    assert passed_certificate(said, "cd") is None
    refused = {**said, "passed": False, "reasons": ["change: none"], "certificate": failed}
    assert [passed_certificate(each, "ab") for each in (refused, {}, None)] == [None] * 3


def test_a_certificate_that_the_disk_refuses_waits(home: Home, ledger: Ledger, points: Callable[[str], None]) -> None:
    """Without room for certificate.json the version is not promoted; with it, it is, and the file is whole."""
    points("file.certificate.before=enospc")
    with pytest.raises(StorageError):
        run(make(home, ledger, ScriptedSteps()))
    row = ledger.unfinished_run()
    assert row is not None
    assert row.state is RunState.ACCEPTED
    assert asyncio.run(make(home, ledger, ScriptedSteps()).finish(row.id)) is RunState.PROMOTED
    assert Path(ledger.versions()[0].gguf).with_name("certificate.json").exists()


def test_a_lost_ledgers_certificate_is_not_believed(home: Home, ledger: Ledger) -> None:
    """What a step certify left in the folder of a run that is not frozen yet is cleared with the rest."""
    old = home.runs / "run-0001" / "certify" / "result.json"
    old.parent.mkdir(parents=True)
    old.write_text("{}", encoding="utf-8")
    asyncio.run(make(home, ledger, ScriptedSteps()).freeze(Trigger.EXAMPLES))
    assert not old.parent.exists()
