"""What the disk loses between two steps is made again; what it refuses is tried again; nothing is believed unseen."""

import asyncio
import errno
import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.test_pipeline import ScriptedSteps, feed, make, run
from thaud.domain import RunSpec, RunState, Trigger
from thaud.errors import StorageError
from thaud.home import Home
from thaud.ledger import Ledger
from thaud.pipeline import Pipeline
from thaud.steps.contract import LOCK, BaseSpec
from thaud.workdir import bring, make_ready


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


def until(pipeline: Pipeline, state: RunState) -> RunSpec:
    """A run that has come as far as a state."""

    async def go() -> RunSpec:
        spec = await pipeline.freeze(Trigger.EXAMPLES)
        steps = {
            RunState.TRAINED: pipeline.train,
            RunState.EXPORTED: pipeline.export,
            RunState.EXAMINED: pipeline.examine,
            RunState.ACCEPTED: pipeline.judge,
        }
        for reached, step in steps.items():
            await step(spec)
            if reached is state:
                break
        return spec

    return asyncio.run(go())


def go_on(pipeline: Pipeline, spec: RunSpec) -> RunState:
    return asyncio.run(pipeline.finish(spec.id))


def lose(path: Path) -> None:
    path.unlink()


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


HARM = pytest.mark.parametrize("harm", [lose, damage])
ADAPTER, GGUF = "train/adapter/adapter_model.safetensors", "export/model.gguf"


@HARM
@pytest.mark.parametrize(
    ("state", "artefact", "again"),
    [
        (RunState.TRAINED, ADAPTER, ["train"]),
        (RunState.EXPORTED, GGUF, ["export"]),
        (RunState.EXAMINED, GGUF, ["export"]),
        (RunState.ACCEPTED, GGUF, ["export"]),
    ],
)
def test_a_received_artefact_that_is_lost_is_made_again(
    home: Home, ledger: Ledger, state: RunState, artefact: str, again: list[str], harm: Callable[[Path], None]
) -> None:
    """A receipt names a file; where the disk lost it since, its step is done again and the run ends as it would."""
    steps = ScriptedSteps()
    pipeline = make(home, ledger, steps)
    spec = until(pipeline, state)
    harm(home.runs / spec.id / artefact)
    before = list(steps.ran)
    assert go_on(make(home, ledger, steps), spec) is RunState.PROMOTED
    rest = {RunState.TRAINED: ["export", "certify", "exam"], RunState.EXPORTED: ["certify", "exam"]}.get(state, [])
    assert steps.ran[len(before) :] == [*again, *rest]
    (version,) = ledger.versions()
    assert hashlib.sha256(Path(version.gguf).read_bytes()).hexdigest() == version.gguf_sha256


@HARM
@pytest.mark.parametrize(("step", "artefact"), [("train", ADAPTER), ("export", GGUF), ("exam", "exam/answers.jsonl")])
def test_a_result_without_its_artefact_is_not_believed(
    home: Home, ledger: Ledger, step: str, artefact: str, harm: Callable[[Path], None]
) -> None:
    """result.json is there and what it names is not: the next life does the step again instead of failing the run."""
    steps = ScriptedSteps()

    class Died(BaseException):
        """As a SIGKILL."""

    async def die_after(name: str, *rest: object) -> object:
        result = await steps(name, *rest)
        if name == step:
            raise Died
        return result

    with pytest.raises(Died):
        run(Pipeline(home, make(home, ledger, steps).settings, ledger, die_after))
    unfinished = ledger.unfinished_run()
    assert unfinished is not None
    harm(home.runs / unfinished.id / artefact)
    assert asyncio.run(make(home, ledger, steps).finish(unfinished.id)) is RunState.PROMOTED
    assert steps.ran.count(step) == 2


def test_an_accepted_file_that_cannot_be_made_again_ends_the_run(home: Home, ledger: Ledger) -> None:
    """Exported again it is another model, not the one that passed: the run fails with the way out."""
    steps = ScriptedSteps()
    pipeline = make(home, ledger, steps)
    spec = until(pipeline, RunState.ACCEPTED)
    lose(home.runs / spec.id / GGUF)
    steps.weights = b"others"
    assert go_on(make(home, ledger, steps), spec) is RunState.FAILED
    row = ledger.run(spec.id)
    assert row is not None
    assert "train again" in row.reasons[0]
    assert ledger.champion("thau-nano") is None


def test_a_stranger_in_a_versions_place_is_set_aside(home: Home, ledger: Ledger) -> None:
    """The file of a ledger that somebody deleted keeps its bytes under another name; the version gets its place."""
    place = home.versions / "thau-nano-v1" / "model.gguf"
    place.parent.mkdir()
    place.write_bytes(b"of another ledger")
    assert run(make(home, ledger, ScriptedSteps())) is RunState.PROMOTED
    assert place.with_name("model.gguf.other-1").read_bytes() == b"of another ledger"
    assert hashlib.sha256(place.read_bytes()).hexdigest() == ledger.versions()[0].gguf_sha256


@pytest.mark.parametrize("crashed", [False, True])
def test_versions_may_be_on_another_file_system(home: Home, ledger: Ledger, elsewhere: Path, *, crashed: bool) -> None:
    """Where data/versions is a link to a larger disk, the model is copied there, whole, and leaves the run's folder;
    one that a crash left in both places does so too.
    """
    home.versions.rmdir()
    home.versions.symlink_to(elsewhere)
    pipeline = make(home, ledger, ScriptedSteps())
    if crashed:
        spec = until(pipeline, RunState.ACCEPTED)
        place = home.versions / "thau-nano-v1" / "model.gguf"
        place.parent.mkdir()
        shutil.copy(home.runs / spec.id / "export" / "model.gguf", place)
        assert go_on(pipeline, spec) is RunState.PROMOTED
    else:
        assert run(pipeline) is RunState.PROMOTED
    version = ledger.versions()[0]
    assert hashlib.sha256(Path(version.gguf).read_bytes()).hexdigest() == version.gguf_sha256
    assert sorted(each.name for each in elsewhere.glob("*/*")) == ["certificate.json", "model.gguf", "version.json"]
    assert not list(home.runs.glob("*/export/*.gguf*"))


def test_a_damaged_copy_never_costs_the_original(tmp_path: Path, elsewhere: Path) -> None:
    """What did not arrive on the other file system as it left is not given its name, and the source stays."""
    source = tmp_path / "model.gguf"
    source.write_bytes(b"not what was accepted")
    with pytest.raises(StorageError, match="SHA-256"):
        bring(source, elsewhere / "model.gguf", "0" * 64)
    assert source.exists()
    assert not (elsewhere / "model.gguf").exists()


@pytest.mark.parametrize(
    "point", ["file.rows.before", "ledger.receive.before", "ledger.promote.before", "move.gguf.before"]
)
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_what_the_disk_refuses_is_tried_again(
    home: Home, ledger: Ledger, points: Callable[[str], None], point: str, number: int
) -> None:
    """Neither an input/output error nor a full disk ends a run: it waits where it is."""
    points(f"{point}={errno.errorcode[number].lower()}")
    with pytest.raises(StorageError):
        run(make(home, ledger, ScriptedSteps()))
    unfinished = ledger.unfinished_run()
    assert unfinished is not None
    assert asyncio.run(make(home, ledger, ScriptedSteps()).finish(unfinished.id)) is RunState.PROMOTED


@pytest.mark.parametrize("state", [RunState.TRAINED, RunState.EXPORTED, RunState.EXAMINED, RunState.ACCEPTED])
def test_a_home_that_was_copied_stands_on_its_own(tmp_path: Path, state: RunState) -> None:
    """A run under way goes on in the copy, with files of the copy, although the receipts name those of the original."""
    home, copy = Home(tmp_path / "home"), Home(tmp_path / "copy")
    for folder in home.folders():
        folder.mkdir(parents=True)
    with Ledger.open(home.ledger) as ledger:
        feed(ledger, range(136))
        spec = until(make(home, ledger, ScriptedSteps()), state)
    shutil.copytree(home.root, copy.root)
    with Ledger.open(copy.ledger) as ledger:
        steps = ScriptedSteps()
        assert go_on(make(copy, ledger, steps), spec) is RunState.PROMOTED
        (version,) = ledger.versions()
        assert Path(version.gguf).is_relative_to(copy.root)
        assert hashlib.sha256(Path(version.gguf).read_bytes()).hexdigest() == version.gguf_sha256
        assert all(gguf.startswith(str(copy.root)) for gguf, _ in steps.asked)


@pytest.mark.parametrize("steps", [ScriptedSteps(right=False), ScriptedSteps(broken="exam")])
def test_a_model_that_cannot_be_removed_does_not_undo_the_verdict(
    home: Home, ledger: Ledger, points: Callable[[str], None], steps: ScriptedSteps
) -> None:
    """A refused run has ended, whatever the disk says of its model: that is swept up later."""
    points("discard.gguf.before=eio")
    state = run(make(home, ledger, steps))
    assert state is (RunState.FAILED if steps.broken else RunState.REJECTED)
    assert (home.runs / "run-0001" / GGUF).exists()


def test_checkpoints_stay_for_the_same_spec_alone(tmp_path: Path) -> None:
    """A step that is begun again finds what it left; another spec finds an empty folder, half-emptied ones included."""
    one, other = BaseSpec(base="one"), BaseSpec(base="other")
    workdir = tmp_path / "train"
    make_ready(workdir, one)
    checkpoint = workdir / "checkpoints" / "step-10"
    for spec, stays in ((one, True), (other, False)):
        checkpoint.mkdir(parents=True, exist_ok=True)
        (workdir / LOCK).touch()
        (workdir / "spec.json").write_text(one.model_dump_json())
        make_ready(workdir, spec)
        assert checkpoint.exists() is stays
        assert (workdir / LOCK).exists()
    checkpoint.mkdir(parents=True)
    make_ready(workdir, one)
    assert not checkpoint.exists(), "without its spec nobody knows whose it is"


def test_the_request_is_forgotten_by_the_freeze_alone(home: Home, ledger: Ledger) -> None:
    """`thau train` is remembered until a run is frozen, in the same transaction."""
    ledger.set_meta("train_requested", "now")
    asyncio.run(make(home, ledger, ScriptedSteps()).freeze(Trigger.REQUESTED))
    assert ledger.meta("train_requested") is None
