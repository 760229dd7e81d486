"""A run from FROZEN to its end. Each step: intent, child, probe, receipt; a restart goes on after the last receipt.

What a receipt names is probed again before it is used: what the disk has lost since is made again, from the same frozen
spec. What a step says ends the run; what the disk or the ledger refuses does not, it is tried again.

Owns the order of the states and the run's folder; refuses to know torch, GGUF and SQL, and when to train (the daemon
asks curriculum.py).
"""

import asyncio
import errno
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from thaud import curriculum, gate
from thaud.artefacts import Artefacts, Whole, figures_of, passed_certificate, run_row, version_of
from thaud.config import Settings
from thaud.domain import FINAL_STATES, ExamReport, RunSpec, RunState, Trigger, Version
from thaud.durable import remove, write_durably
from thaud.errors import DiskFullError, StepError, StorageError, ThauError, in_words
from thaud.executor import run_step
from thaud.failpoints import reach
from thaud.freezing import compose, read_spec
from thaud.home import Home
from thaud.journal import Journal, StepRunner
from thaud.ledger import Ledger, LedgerReader
from thaud.ledger.lineages import lineage_of
from thaud.ledger.quarantined import snapshot
from thaud.sizes import find_size
from thaud.steps.contract import CHECKPOINTS, BaseResult, BaseSpec, ExportResult
from thaud.workdir import make_ready, place, probe, read_answers

STEPS = ("train", "export", "certify", "exam", "exam-champion")
CERTIFICATE = "certificate.json"  # beside a version's GGUF
UNTOLD = {"adapter_dir", "adapter_sha256", "set_aside", "cut"}  # of a training, in the log
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Freezes runs and takes them to their end."""

    home: Home
    settings: Settings
    ledger: Ledger
    step: StepRunner = run_step
    whole: Whole = field(default_factory=set)

    # Freezing

    async def freeze(self, trigger: Trigger) -> RunSpec:
        """Fix everything that decides a run's outcome and commit it.

        The base is looked up each time: it may be another since a life that got no further than this. Raises StepError,
        and StorageError where disk or ledger refuse.
        """
        run_id = self.ledger.next_run_id()
        folder = self.journal.folder(run_id)
        base = BaseSpec(base=self.settings.base or find_size(self.settings.size).base)
        with disk():
            make_ready(folder / "bases", base)
            found = await self.journal.run(run_id, "bases", base, BaseResult)
            self.forget(folder)
            self.ledger.refuse_another()
            spec, seqs = await asyncio.to_thread(self.composed, run_id, trigger, found)
        self.ledger.freeze_run(spec, seqs)
        self.tell_frozen(spec)
        return spec

    def composed(self, run_id: str, trigger: Trigger, base: BaseResult) -> tuple[RunSpec, list[int]]:
        """The spec, and the row numbers of its examples, of one moment of the ledger.

        By a reader of its own, beside the loop: naming a million examples takes its time.
        """
        with LedgerReader.open(self.ledger.path) as ledger, snapshot(ledger):
            spec = compose(self.settings, ledger, self.home.runs, run_id, trigger, base)
            return spec, ledger.scan_numbers(spec.example_ids, spec.age)

    def tell_frozen(self, spec: RunSpec) -> None:
        """Say what was frozen, and why so."""
        log.info(
            "run_frozen",
            run=spec.id,
            age=spec.age,
            examples=len(spec.example_ids),
            replayed=spec.replayed,
            trigger=str(spec.trigger),
            strategy=spec.strategy,
            parent=spec.parent,
            reason=spec.strategy_reason,
        )

    def forget(self, folder: Path) -> None:
        """Empty a run's folder of what a ledger that somebody deleted left there, before the run is frozen."""
        left = [folder / name for name in STEPS if (folder / name).exists()]
        if left:
            reach("clear.workdir.before")
            for each in left:
                remove(each)
            reach("clear.workdir.after")

    # Running

    async def finish(self, run_id: str) -> RunState:
        """Take a run from its last receipt to its end. A step's failure ends the run, never the daemon.

        Raises DiskFullError, and StorageError for whatever else the disk or the ledger refuses; the run stays where it
        is and goes on when there is room, or permission.
        """
        next_step: Mapping[RunState, Callable[[RunSpec], Awaitable[None]]] = {
            RunState.FROZEN: self.train,
            RunState.TRAINED: self.export,
            RunState.EXPORTED: self.examine,
            RunState.EXAMINED: self.judge,
            RunState.ACCEPTED: self.promote,
        }
        while (row := run_row(self.ledger, run_id)).state not in FINAL_STATES:
            try:
                with disk():
                    await next_step[row.state](read_spec(self.ledger, row))
            except StorageError:
                raise
            except ThauError as error:
                self.fail(run_id, str(error))
        return row.state

    def fail(self, run_id: str, reason: str) -> None:
        """End a run that could not go on."""
        self.ledger.end_run(run_id, RunState.FAILED, [reason])
        log.error("run_failed", run=run_id, reason=reason)
        self.journal.tell_verdict(run_id, "gate", [reason])
        self.discard(run_id)

    def discard(self, run_id: str) -> None:
        """Give back the disk that a challenger's GGUF took, whole or half written, and its checkpoints; reports and
        adapter stay.

        What the disk refuses to remove is swept up at the next start.
        """
        try:
            reach("discard.gguf.before")
            for name in ("model.gguf", ".model.gguf.tmp"):
                self.journal.gguf(run_id).with_name(name).unlink(missing_ok=True)
            remove(self.journal.folder(run_id) / "train" / CHECKPOINTS)
            reach("discard.gguf.after")
        except OSError as error:
            log.warning("not_discarded", run=run_id, reason=in_words(error))

    async def train(self, spec: RunSpec) -> None:
        """FROZEN -> TRAINED."""
        result = await self.artefacts.trained(spec)
        self.ledger.receive(spec.id, "train", result.model_dump(), RunState.TRAINED)
        log.info("run_trained", run=spec.id, **result.model_dump(exclude=UNTOLD))
        if result.set_aside:
            log.warning("set_aside", run=spec.id, examples=len(result.set_aside), first=result.set_aside[0])

    async def export(self, spec: RunSpec) -> None:
        """TRAINED -> EXPORTED."""
        result = await self.artefacts.exported(spec)
        self.ledger.receive(spec.id, "export", result.model_dump(), RunState.EXPORTED)

    async def examine(self, spec: RunSpec) -> None:
        """EXPORTED -> EXAMINED: the challenger answers everything, the champion what it was not asked before.

        A model whose certificate does not pass is not examined: -> REJECTED.
        """
        exported = await self.artefacts.exported(spec)
        if exported.model_dump() != self.journal.receipt(spec.id, "export"):
            self.ledger.receive(spec.id, "export", exported.model_dump(), RunState.EXPORTED)
        if not await self.certify(spec, exported):
            return
        await self.ask(spec, "exam", exported, [*spec.exam_ids, *spec.recall_ids])
        champion = self.champion_of(spec)
        if champion is not None and is_there(champion):
            known = self.ledger.answers(champion.gguf_sha256, spec.exam_ids)
            missing = [each for each in spec.exam_ids if each not in known]
            await self.ask(spec, "exam-champion", champion, missing)
        self.ledger.receive(spec.id, "exam", {"gguf_sha256": exported.gguf_sha256}, RunState.EXAMINED)

    async def certify(self, spec: RunSpec, exported: ExportResult) -> bool:
        """Whether the run's model has a certificate that passed. One that did not refuses the run."""
        found = await self.artefacts.certified(spec, exported)
        if found.model_dump() != self.ledger.receipt(spec.id, "certify"):
            self.ledger.receive(spec.id, "certify", found.model_dump(), RunState.EXPORTED)
            log.info("run_certified", run=spec.id, passed=found.passed, seconds=found.seconds)
            self.journal.tell(spec.id, "certify", {"event": "certificate", **figures_of(found.certificate)})
        if not found.passed:
            self.refuse(spec, "certify", [f"certificate: {reason}" for reason in found.reasons])
        return found.passed

    def refuse(self, spec: RunSpec, step: str, reasons: Sequence[str], report: ExamReport | None = None) -> None:
        """-> REJECTED, with what the step says against the run."""
        self.ledger.end_run(spec.id, RunState.REJECTED, reasons, report.to_json() if report else None)
        log.warning("run_rejected", run=spec.id, reasons=list(reasons))
        self.journal.tell_verdict(spec.id, step, reasons)
        self.discard(spec.id)

    async def ask(self, spec: RunSpec, folder_name: str, model: ExportResult | Version, ids: Sequence[str]) -> None:
        """Examine one GGUF and keep its answers."""
        if not ids:
            return
        result = await self.artefacts.answered(spec, folder_name, model, ids)
        self.ledger.keep_answers(model.gguf_sha256, list(read_answers(Path(result.answers))))

    async def judge(self, spec: RunSpec) -> None:
        """EXAMINED -> ACCEPTED with a number, or REJECTED with reasons. A model that has no certificate (of an earlier
        release of THAU, or of another file) gets one first.
        """
        exported = self.journal.receipt(spec.id, "export")
        if self.certificate(spec, exported["gguf_sha256"]) is None:
            await self.examine(spec)
            return
        challenger = self.report(spec, exported["gguf_sha256"])
        champion = self.champion_of(spec)
        bars = {stage.age: stage.min_accuracy for stage in curriculum.stages_with(self.settings.stages)}
        verdict = gate.judge(
            challenger,
            self.report(spec, champion.gguf_sha256) if champion else None,
            bars,
            alpha=self.settings.gate.alpha,
            min_items=self.settings.exam.min_items,
        )
        if verdict.accepted:
            version = self.number(spec, exported, challenger)
            self.ledger.accept(version, verdict.reasons, challenger.to_json())
            log.info("version_accepted", version=version.name, reasons=verdict.reasons)
        else:
            self.refuse(spec, "gate", verdict.reasons, challenger)

    def number(self, spec: RunSpec, exported: Mapping[str, Any], report: ExamReport) -> Version:
        """The next version of the family. Raises StorageError where its file has no certificate that passed."""
        if self.certificate(spec, exported["gguf_sha256"]) is None:
            raise StorageError(f"run {spec.id} has no certificate of its model {exported['gguf_sha256']}")
        n = max((version.n for version in self.ledger.versions(spec.family)), default=0) + 1
        return Version(
            family=spec.family,
            n=n,
            run_id=spec.id,
            age=spec.age,
            gguf=str(self.home.versions / f"{spec.family}-v{n}" / "model.gguf"),
            gguf_sha256=exported["gguf_sha256"],
            size_bytes=exported["size_bytes"],
            accuracy=report.accuracy,
            examples=len(lineage_of(self.ledger, spec.id).taught),
            accepted_at=self.ledger.now(),
            kind=spec.export_kind,
            base_gguf=exported["base_gguf"] if spec.export_kind == "adapter" else None,
            base_sha256=exported["base_sha256"] if spec.export_kind == "adapter" else None,
        )

    def certificate(self, spec: RunSpec, gguf_sha256: str) -> dict[str, Any] | None:
        """The certificate of the run's model where it passed and is of that very file."""
        return passed_certificate(self.ledger.receipt(spec.id, "certify"), gguf_sha256)

    async def promote(self, spec: RunSpec) -> None:
        """ACCEPTED -> PROMOTED: file in place, then alias, lessons and age in one commit."""
        version = next(each for each in self.ledger.versions(spec.family) if each.run_id == spec.id)
        self.ledger.intend(spec.id, "promote")
        await self.put_in_place(spec, version)
        await asyncio.to_thread(probe, Path(version.gguf), version.gguf_sha256)
        advance_to = self.age_after(spec, version)
        self.ledger.promote(version, advance_to, sorted(self.set_aside(spec)))
        log.info("version_promoted", version=version.name, age=version.age, advanced_to=advance_to)
        self.journal.tell_verdict(spec.id, "promote", run_row(self.ledger, spec.id).reasons, version.name)

    async def put_in_place(self, spec: RunSpec, version: Version) -> None:
        """Move the GGUF from the run's folder to the version's, once; one that is lost is exported again, as is the
        base under an adapter.

        Raises StepError where that makes another model than the one that was accepted.
        """
        target, source = Path(version.gguf), self.journal.gguf(spec.id)
        if not await asyncio.to_thread(self.placed, source, version):
            log.warning("exported_again", version=version.name, why=f"neither {source} nor {target} holds it")
            again = await self.artefacts.exported(spec)
            if not await asyncio.to_thread(self.placed, source, version):
                raise StepError(
                    f"the file of {version.name} is lost (SHA-256 {version.gguf_sha256}), and exporting it again made "
                    f"another ({again.gguf_sha256}): train again"
                )
        if (certificate := self.certificate(spec, version.gguf_sha256)) is not None:  # else of an earlier release
            write_durably(target.parent / CERTIFICATE, json.dumps(certificate, indent=2).encode(), "certificate")
        card = {"name": version.name, "run": spec.id, "age": version.age, "gguf_sha256": version.gguf_sha256}
        write_durably(target.parent / "version.json", json.dumps(card, indent=2).encode(), "card")

    def placed(self, source: Path, version: Version) -> bool:
        """Whether the version's file is in its place, moved there where it was not, and its base is what it was."""
        try:
            if version.base_gguf is not None:
                self.artefacts.probe_base(version.run_id, version.base_gguf, version.base_sha256)
        except StorageError:
            return False
        return place(source, Path(version.gguf), version.gguf_sha256)

    def age_after(self, spec: RunSpec, version: Version) -> int | None:
        """The age to advance to with this version, or None. Forgetting, or a shortage, keeps the age."""
        stages = curriculum.stages_with(self.settings.stages)
        following = curriculum.next_stage(stages, spec.age)
        if following is None or self.ledger.age != spec.age:
            return None
        taught = self.ledger.count_of_age(lineage_of(self.ledger, spec.id).taught, spec.age)
        ready = curriculum.readiness(
            curriculum.stage_at(stages, spec.age),
            taught,
            version.accuracy,
            min_items=self.settings.exam.min_items,
            last=False,
        )
        return following.age if ready.ready else None

    # What steps share

    @property
    def journal(self) -> Journal:
        """How a step is done once, whatever dies on the way."""
        return Journal(self.home, self.ledger, self.step)

    @property
    def artefacts(self) -> Artefacts:
        """What runs make."""
        return Artefacts(self.home, self.settings, self.ledger, self.journal, self.whole)

    def set_aside(self, spec: RunSpec) -> set[str]:
        """The examples that the trainer could not use (as a rule, too long for the stage): they were not taught."""
        return {each["id"] for each in self.journal.receipt(spec.id, "train")["set_aside"]}

    def champion_of(self, spec: RunSpec) -> Version | None:
        """The champion that was frozen into the run."""
        return version_of(self.ledger, spec.family, spec.champion)

    def report(self, spec: RunSpec, digest: str) -> ExamReport:
        """What a GGUF answered, from the ledger."""
        held_out = self.ledger.answers(digest, spec.exam_ids)
        recall = self.ledger.answers(digest, set(spec.recall_ids) - self.set_aside(spec))
        return ExamReport(digest, spec.age, tuple(held_out.values()), tuple(recall.values()))


def is_there(version: Version) -> bool:
    """Whether a version's file can be opened, and the base under it."""
    return all(Path(each).is_file() for each in (version.gguf, version.base_gguf) if each is not None)


@contextmanager
def disk() -> Iterator[None]:
    """What the disk refuses, as ours: DiskFullError where there is no room, else StorageError."""
    try:
        yield
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        raise (DiskFullError if full else StorageError)(in_words(error)) from error
