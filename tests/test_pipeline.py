"""The states of a run, with scripted steps that write real files; the real steps have tests of their own."""

import asyncio
import errno
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.testkit.certificates import certify_result
from thaud.config import Settings
from thaud.daemon import Daemon
from thaud.domain import Example, Message, RunState, Side, Trigger
from thaud.durable import write_durably
from thaud.errors import DiskFullError, StepError, StorageError
from thaud.home import Home
from thaud.ledger import Ledger, NewExample, NewFile
from thaud.pausing import Voice
from thaud.pipeline import Pipeline
from thaud.steps.contract import BaseSpec, CertifySpec, ExamSpec, ExportSpec, Spec, TrainSpec


@dataclass
class ScriptedSteps:
    """Steps that leave what real ones leave. `right` says whether an exam answer is right; `against` is what the
    certificate has against the model; `broken` names a step that fails; `asked` counts the items of each exam.
    """

    right: bool = True
    against: tuple[str, ...] = ()
    broken: str | None = None
    wrong_digest: bool = False
    ran: list[str] = field(default_factory=list)
    asked: list[tuple[str, int]] = field(default_factory=list)
    weights: bytes = b"weights"
    set_aside: list[dict[str, str]] = field(default_factory=list)
    error: Exception = field(default_factory=lambda: StepError("step X: broken on purpose"))

    async def __call__(self, name: str, spec: Spec, kind: type[Any], workdir: Path, on_event: Any) -> Any:
        workdir.mkdir(parents=True, exist_ok=True)
        write_durably(workdir / "spec.json", spec.model_dump_json().encode(), "spec")
        self.ran.append(name)
        on_event({"event": "start"})
        if name == self.broken:
            raise self.error
        result = getattr(self, name)(spec)
        write_durably(workdir / "result.json", json.dumps({"ok": True, **result}).encode(), "result")
        return kind.model_validate(result)

    def bases(self, spec: BaseSpec) -> dict[str, Any]:
        return {"base_dir": f"/bases/{spec.base}", "digest": "d", "architecture": "qwen2", "context_tokens": 4096}

    def train(self, spec: TrainSpec) -> dict[str, Any]:
        adapter = Path(spec.out_dir) / "adapter_model.safetensors"
        adapter.parent.mkdir(parents=True, exist_ok=True)
        adapter.write_bytes(Path(spec.examples).read_bytes())
        digest = "0" * 64 if self.wrong_digest else hashlib.sha256(adapter.read_bytes()).hexdigest()
        numbers = {"steps": 1, "tokens": 1, "supervised_tokens": 1, "first_loss": 1.0, "last_loss": 0.5}
        rest = {"seconds": 1.0, "peak_memory_bytes": 1, "set_aside": self.set_aside}
        return {"adapter_dir": str(adapter.parent), "adapter_sha256": digest, **numbers, **rest}

    def export(self, spec: ExportSpec) -> dict[str, Any]:
        out, base = Path(spec.out), {}
        out.write_bytes(self.weights + spec.name.encode())
        if spec.base_out is not None:
            shared = Path(spec.base_out)
            shared.parent.mkdir(parents=True, exist_ok=True)
            whole = f"{spec.base_dir} {spec.base_kind}".encode()
            if not shared.exists() or shared.read_bytes() != whole:
                shared.write_bytes(whole)
                shared.with_name("model.gguf.sha256").write_text("its digest, as the step writes it")
            base = {"base_gguf": spec.base_out, "base_sha256": hashlib.sha256(shared.read_bytes()).hexdigest()}
        digest, size = hashlib.sha256(out.read_bytes()).hexdigest(), out.stat().st_size
        return {"gguf": str(out), "gguf_sha256": digest, "size_bytes": size, "tensors": 1, "seconds": 1.0, **base}

    def certify(self, spec: CertifySpec) -> dict[str, Any]:
        return certify_result(spec, self.against)

    def exam(self, spec: ExamSpec) -> dict[str, Any]:
        items = [json.loads(line) for line in Path(spec.items).read_text(encoding="utf-8").splitlines()]
        self.asked.append((spec.gguf, len(items)))
        mark = {"answer": "x", "score": float(self.right), "correct": self.right}
        rows = [{"id": item["id"], "age": item["age"], "role": item["role"], **mark} for item in items]
        Path(spec.answers).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        digest = hashlib.sha256(Path(spec.gguf).read_bytes()).hexdigest()
        return {"answers": spec.answers, "gguf_sha256": digest, "asked": len(items), "seconds": 1.0}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path)
    for folder in made.folders():
        folder.mkdir(parents=True)
    return made


@pytest.fixture
def ledger(home: Home):  # noqa: ANN201
    with Ledger.open(home.ledger) as opened:
        yield opened


def feed(ledger: Ledger, numbers: range, *, age: int = 0) -> None:
    """One example for each number; every fourth is held out."""
    examples = []
    for number in numbers:
        example = Example((Message("user", f"¿{age}-{number}?"), Message("assistant", str(number))))
        side = Side.HELD_OUT if number % 4 == 0 else Side.TAUGHT
        examples.append(NewExample(example, example.id, age, side, f"prompt:{age}-{number}", number))
    name = f"f{age}-{numbers.start}.jsonl"
    ledger.take_in(NewFile(name, "{}", True, examples, [(each.line, each.id) for each in examples], ()))


def run(pipeline: Pipeline) -> RunState:
    """Freeze and finish one run."""

    async def whole() -> RunState:
        spec = await pipeline.freeze(Trigger.EXAMPLES)
        return await pipeline.finish(spec.id)

    return asyncio.run(whole())


def make(home: Home, ledger: Ledger, steps: ScriptedSteps, **settings: Any) -> Pipeline:
    return Pipeline(home, Settings(**settings), ledger, steps)


def test_the_way_to_a_version(home: Home, ledger: Ledger) -> None:
    """A run ends promoted: number, file in place, alias, age; the exam saw held-out examples alone."""
    feed(ledger, range(136))
    steps = ScriptedSteps()
    assert run(make(home, ledger, steps)) is RunState.PROMOTED
    champion = ledger.champion("thau-nano")
    assert champion is not None
    assert (champion.name, champion.accuracy.n, champion.accuracy.right) == ("thau-nano-v1", 34, 34)
    assert hashlib.sha256(Path(champion.gguf).read_bytes()).hexdigest() == champion.gguf_sha256
    assert ledger.age == 1
    assert steps.ran == ["bases", "train", "export", "certify", "exam"]
    taught = (home.runs / "run-0001" / "train" / "examples.jsonl").read_text(encoding="utf-8").splitlines()
    held_out = set(ledger.ids_by_age(Side.HELD_OUT, 15)[0])
    assert len(taught) == 102
    assert not held_out & {json.loads(line)["id"] for line in taught}


def test_the_age_stays_without_enough_examples(home: Home, ledger: Ledger) -> None:
    """A perfect exam does not advance an age whose examples are too few."""
    feed(ledger, range(120))
    assert run(make(home, ledger, ScriptedSteps())) is RunState.PROMOTED
    assert ledger.age == 0


def test_a_worse_challenger_gets_no_number(home: Home, ledger: Ledger) -> None:
    """Rejected: a report and reasons, no version, the champion stays, its GGUF is kept and the challenger's is not."""
    feed(ledger, range(136))
    settings = {"stages": {0: {"min_accuracy": 1.0, "min_examples": 1000}}}
    steps = ScriptedSteps()
    run(make(home, ledger, steps, **settings))
    feed(ledger, range(136, 200))
    steps.right = False
    assert run(make(home, ledger, steps, **settings)) is RunState.REJECTED
    assert [version.n for version in ledger.versions()] == [1]
    row = ledger.run("run-0002")
    assert row is not None
    assert "worse at age 0" in row.reasons[0]
    assert row.report is not None
    assert not (home.runs / "run-0002" / "export" / "model.gguf").exists()
    assert ledger.pending("thau-nano", 0) == (48, 0)


def test_the_champion_is_asked_only_what_is_new(home: Home, ledger: Ledger) -> None:
    """Its kept answers serve again: only the sixteen new held-out items are put to it."""
    feed(ledger, range(136))
    settings = {"stages": {0: {"min_examples": 1000}}}
    run(make(home, ledger, ScriptedSteps(), **settings))
    feed(ledger, range(136, 200))
    steps = ScriptedSteps(weights=b"better")
    assert run(make(home, ledger, steps, **settings)) is RunState.PROMOTED
    (_, challenger), (champion_gguf, champion) = steps.asked
    assert (challenger, champion) == (50 + 50, 16)
    assert champion_gguf.endswith("thau-nano-v1/model.gguf")


@pytest.mark.parametrize("step", ["train", "export", "certify", "exam"])
def test_a_failed_step_fails_its_run_with_its_words(home: Home, ledger: Ledger, step: str) -> None:
    """FAILED carries what the step said; nothing was promoted; the next run can succeed."""
    feed(ledger, range(136))
    assert run(make(home, ledger, ScriptedSteps(broken=step))) is RunState.FAILED
    row = ledger.run("run-0001")
    assert row is not None
    assert row.reasons == ("step X: broken on purpose",)
    assert ledger.versions() == []
    assert run(make(home, ledger, ScriptedSteps())) is RunState.PROMOTED


def test_a_lying_step_is_found_out(home: Home, ledger: Ledger) -> None:
    """The artefact's digest is taken again; a file that is not what its step said fails the run."""
    feed(ledger, range(136))
    assert run(make(home, ledger, ScriptedSteps(wrong_digest=True))) is RunState.FAILED
    row = ledger.run("run-0001")
    assert row is not None
    assert "its step said" in row.reasons[0]


def test_a_base_that_is_not_there_freezes_nothing(home: Home, ledger: Ledger) -> None:
    """Without a base there is no run, and the examples stay unseen."""
    feed(ledger, range(136))
    with pytest.raises(StepError, match="broken on purpose"):
        run(make(home, ledger, ScriptedSteps(broken="bases")))
    assert ledger.runs() == []
    assert ledger.pending("thau-nano", 0) == (102, 102)


class Interrupted(BaseException):
    """As good as a SIGKILL to the code under test: nothing handles it."""


@pytest.mark.parametrize("after", ["bases", "train", "export", "certify", "exam"])
def test_a_restart_goes_on_after_the_last_receipt(home: Home, ledger: Ledger, after: str) -> None:
    """Interrupted when a step has left its result but no receipt, the next life repeats nothing and ends the same.

    Before the freeze nothing is promised: the base may be another by then, so it is looked up again.
    """
    feed(ledger, range(136))
    steps = ScriptedSteps()

    async def die_after(name: str, spec: Spec, kind: type[Any], workdir: Path, on_event: Any) -> Any:
        result = await steps(name, spec, kind, workdir, on_event)
        if name == after:
            raise Interrupted
        return result

    with pytest.raises(Interrupted):
        run(Pipeline(home, Settings(), ledger, die_after))
    second = make(home, ledger, steps)
    unfinished = ledger.unfinished_run()
    state = run(second) if unfinished is None else asyncio.run(second.finish(unfinished.id))
    assert state is RunState.PROMOTED
    assert steps.ran == [*(["bases"] if after == "bases" else []), "bases", "train", "export", "certify", "exam"]
    assert [version.n for version in ledger.versions()] == [1]


def test_a_crash_between_acceptance_and_promotion_is_repaired(home: Home, ledger: Ledger) -> None:
    """A version that has its number but not its place gets it on the next start, once."""
    feed(ledger, range(136))
    steps = ScriptedSteps()
    pipeline = make(home, ledger, steps)

    async def until_accepted() -> str:
        spec = await pipeline.freeze(Trigger.EXAMPLES)
        for step in (pipeline.train, pipeline.export, pipeline.examine, pipeline.judge):
            await step(spec)
        await pipeline.put_in_place(spec, ledger.versions()[0])
        return spec.id

    run_id = asyncio.run(until_accepted())
    assert ledger.champion("thau-nano") is None
    assert asyncio.run(make(home, ledger, steps).finish(run_id)) is RunState.PROMOTED
    assert [version.name for version in ledger.versions()] == ["thau-nano-v1"]
    assert ledger.champion("thau-nano") is not None


def test_an_accepted_version_that_cannot_be_placed_waits(home: Home, ledger: Ledger) -> None:
    """A number is never lost to a folder that refuses: the run stays accepted, its file too, and is promoted later."""
    feed(ledger, range(136))
    steps, in_the_way = ScriptedSteps(), home.versions / "thau-nano-v1"
    in_the_way.write_text("no folder", encoding="utf-8")
    with pytest.raises(StorageError, match="thau-nano-v1"):
        run(make(home, ledger, steps))
    unfinished = ledger.unfinished_run()
    assert unfinished is not None
    assert unfinished.state is RunState.ACCEPTED
    assert (home.runs / unfinished.id / "export" / "model.gguf").is_file()
    in_the_way.unlink()
    assert asyncio.run(make(home, ledger, steps).finish(unfinished.id)) is RunState.PROMOTED
    assert [version.name for version in ledger.versions()] == ["thau-nano-v1"]


def test_progress_is_told_for_the_watcher(home: Home, ledger: Ledger) -> None:
    """Each step's own events and the verdict are in the run's progress file, one JSON object a line."""
    feed(ledger, range(136))
    run(make(home, ledger, ScriptedSteps()))
    lines = (home.runs / "run-0001" / "progress.ndjson").read_text(encoding="utf-8").splitlines()
    events = [(row["step"], row["event"]) for row in map(json.loads, lines)]
    started = [(step, "start") for step in ("bases", "train", "export", "certify", "exam")]
    assert events == [*started[:4], ("certify", "certificate"), started[4], ("promote", "verdict")]
    assert json.loads(lines[-1])["version"] == "thau-nano-v1"


FULL = (DiskFullError("no room for model.gguf"), OSError(errno.ENOSPC, "No space left on device", "examples.jsonl"))


@pytest.mark.parametrize("error", FULL, ids=["said", "felt"])
@pytest.mark.parametrize("step", ["train", "export", "certify", "exam"])
def test_a_full_disk_leaves_the_run_where_it_is(home: Home, ledger: Ledger, step: str, error: Exception) -> None:
    """No room is no failure: the run keeps its place, and goes on from there when there is some."""
    feed(ledger, range(136))
    steps = ScriptedSteps(broken=step, error=error)
    with pytest.raises(DiskFullError, match=r"No space|no room"):
        run(make(home, ledger, steps))
    unfinished = ledger.unfinished_run()
    assert unfinished is not None
    steps.broken = None
    assert asyncio.run(make(home, ledger, steps).finish(unfinished.id)) is RunState.PROMOTED
    assert [row.id for row in ledger.runs()] == ["run-0001"]


def test_what_the_trainer_set_aside_was_not_taught(home: Home, ledger: Ledger) -> None:
    """It does not count towards the stage, the version's examples and the list of trained ones."""
    feed(ledger, range(136))
    (too_long, *_) = sorted(ledger.ids_by_age(Side.TAUGHT, 0)[0])
    settings = {"stages": {0: {"min_examples": 102}}}
    steps = ScriptedSteps(set_aside=[{"id": too_long, "reason": "200 tokens, the stage has 128"}])
    assert run(make(home, ledger, steps, **settings)) is RunState.PROMOTED
    assert (ledger.age, ledger.versions()[0].examples) == (0, 101)
    assert too_long not in {row["id"] for row in ledger.trained_examples("thau-nano")}


def test_a_run_folder_of_a_lost_ledger_is_not_believed(home: Home, tmp_path: Path) -> None:
    """After somebody deleted the ledger, the new run-0001 trains on its own examples, not on the old adapter."""
    steps = ScriptedSteps(broken="exam")
    for numbers in (range(136), range(200, 336)):
        with Ledger.open(tmp_path / f"{numbers.start}.sqlite3") as ledger:
            feed(ledger, numbers)
            run(make(home, ledger, steps))
    assert steps.ran == ["bases", "train", "export", "certify", "exam"] * 2


def guarded(daemon: Daemon) -> None:
    """One run as the daemon's loop has it."""
    asyncio.run(daemon.guard(daemon.begin(Trigger.EXAMPLES)))


def make_daemon(home: Home, ledger: Ledger, steps: ScriptedSteps) -> Daemon:
    daemon = Daemon(home, Settings(), ledger, Voice(home, Settings()))
    daemon.pipeline = make(home, ledger, steps)
    return daemon


def test_projections_that_cannot_be_written_do_not_undo_a_promotion(home: Home, ledger: Ledger) -> None:
    """A disk that is full after the promotion: the version stays promoted, and the files follow when there is room."""
    feed(ledger, range(136))
    home.logs.rmdir()
    home.logs.touch()
    daemon = make_daemon(home, ledger, ScriptedSteps())
    guarded(daemon)
    assert [row.state for row in ledger.runs()] == [RunState.PROMOTED]
    assert ledger.champion("thau-nano") is not None
    home.logs.unlink()
    daemon.project_where_due()
    assert json.loads(home.progress.read_bytes())["current_age"] == 1
    assert len(home.trained_examples.read_text(encoding="utf-8").splitlines()) == 102


def test_a_run_that_breaks_the_code_ends(home: Home, ledger: Ledger) -> None:
    """What nobody foresaw would happen again at each try: the run fails with a reason, and a new one may begin."""
    feed(ledger, range(136))
    daemon = make_daemon(home, ledger, ScriptedSteps(broken="export", error=RuntimeError("a bug")))
    guarded(daemon)
    (row,) = ledger.runs()
    assert row.state is RunState.FAILED
    assert "a bug" in row.reasons[0]
    assert ledger.unfinished_run() is None


def test_a_failed_run_leaves_no_half_written_model(home: Home, ledger: Ledger) -> None:
    """What an export that was killed left under its temporary name is given back to the disk."""
    feed(ledger, range(136))
    pipeline = make(home, ledger, ScriptedSteps(broken="export"))

    async def killed_in_export() -> None:
        spec = await pipeline.freeze(Trigger.EXAMPLES)
        await pipeline.train(spec)
        half = pipeline.journal.gguf(spec.id).with_name(".model.gguf.tmp")
        half.parent.mkdir()
        half.write_bytes(b"half")
        await pipeline.finish(spec.id)
        assert not half.exists()

    asyncio.run(killed_in_export())
