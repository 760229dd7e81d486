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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from thaud import curriculum, gate
from thaud.config import Settings
from thaud.domain import FINAL_STATES, ExamReport, QueuedExample, RunSpec, RunState, Trigger, Version
from thaud.durable import remove, write_durably
from thaud.errors import DiskFullError, StepError, StorageError, ThauError, in_words
from thaud.executor import run_step
from thaud.failpoints import reach
from thaud.freezing import compose, read_spec
from thaud.home import Home
from thaud.journal import Journal, StepRunner
from thaud.ledger import Ledger, LedgerReader, RunRow
from thaud.ledger.lineages import is_new, lineage_of
from thaud.ledger.quarantined import snapshot
from thaud.sizes import find_size
from thaud.steps.contract import (
    CHECKPOINTS,
    BaseResult,
    BaseSpec,
    ExamResult,
    ExamSpec,
    ExportResult,
    ExportSpec,
    TrainResult,
)
from thaud.workdir import (
    WEIGHTS,
    adapter_of,
    exam_row,
    expect_at,
    expect_parent,
    make_ready,
    place,
    probe,
    probe_answers,
    read_answers,
    train_row,
    training_spec,
)

STEPS = ("train", "export", "exam", "exam-champion")
UNTOLD = {"adapter_dir", "adapter_sha256", "set_aside", "cut"}  # of a training, in the log
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Freezes runs and takes them to their end."""

    home: Home
    settings: Settings
    ledger: Ledger
    step: StepRunner = run_step

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
        while (row := self.row(run_id)).state not in FINAL_STATES:
            try:
                with disk():
                    await next_step[row.state](read_spec(self.ledger, row))
            except StorageError:
                raise
            except ThauError as error:
                self.fail(run_id, str(error))
        return row.state

    def row(self, run_id: str) -> RunRow:
        """The run, as the ledger has it."""
        row = self.ledger.run(run_id)
        assert row is not None
        return row

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
        result = await self.trained(spec)
        self.ledger.receive(spec.id, "train", result.model_dump(), RunState.TRAINED)
        log.info("run_trained", run=spec.id, **result.model_dump(exclude=UNTOLD))
        if result.set_aside:
            log.warning("set_aside", run=spec.id, examples=len(result.set_aside), first=result.set_aside[0])

    async def trained(self, spec: RunSpec) -> TrainResult:
        """The run's training, done unless it is and its adapter is there."""
        parent = self.version(spec.family, spec.parent)
        start = adapter_of(self.home.runs, parent.run_id) if parent else None
        asked = training_spec(self.home, self.settings.training, spec, start)

        def check(result: TrainResult) -> None:
            expect_at(result.adapter_dir, asked.out_dir)
            probe(Path(result.adapter_dir) / WEIGHTS, result.adapter_sha256)

        def row(each: QueuedExample) -> bytes:
            return train_row(each, new=is_new(self.ledger, (spec.family, spec.id), each.id))

        async def hand_over() -> None:
            await asyncio.to_thread(expect_parent, asked)
            write_durably(Path(asked.examples), await self.journal.rows(spec.example_ids, row), "rows")

        return await self.journal.do(spec.id, "train", asked, TrainResult, check, hand_over)

    async def export(self, spec: RunSpec) -> None:
        """TRAINED -> EXPORTED."""
        result = await self.exported(spec)
        self.ledger.receive(spec.id, "export", result.model_dump(), RunState.EXPORTED)

    async def exported(self, spec: RunSpec) -> ExportResult:
        """The run's model, exported unless it is and its GGUF is there."""
        asked = ExportSpec.model_validate(
            {
                "base_dir": spec.base,
                "adapter_dir": str(adapter_of(self.home.runs, spec.id)),
                "out": str(self.journal.gguf(spec.id)),
                "kind": spec.export_kind,
                "name": f"{spec.family}-{spec.id}",
                "context_tokens": spec.context_tokens,
            }
        )

        def check(result: ExportResult) -> None:
            expect_at(result.gguf, asked.out)
            probe(Path(result.gguf), result.gguf_sha256)

        async def hand_over() -> None:
            found = await self.trained(spec)
            if found.adapter_sha256 != self.journal.receipt(spec.id, "train")["adapter_sha256"]:
                self.ledger.receive(spec.id, "train", found.model_dump(), self.row(spec.id).state)

        return await self.journal.do(spec.id, "export", asked, ExportResult, check, hand_over)

    async def examine(self, spec: RunSpec) -> None:
        """EXPORTED -> EXAMINED: the challenger answers everything, the champion what it was not asked before."""
        exported = await self.exported(spec)
        if exported.model_dump() != self.journal.receipt(spec.id, "export"):
            self.ledger.receive(spec.id, "export", exported.model_dump(), RunState.EXPORTED)
        digest = exported.gguf_sha256
        await self.ask(spec, "exam", Path(exported.gguf), digest, [*spec.exam_ids, *spec.recall_ids])
        champion = self.champion_of(spec)
        if champion is not None and Path(champion.gguf).is_file():
            known = self.ledger.answers(champion.gguf_sha256, spec.exam_ids)
            missing = [each for each in spec.exam_ids if each not in known]
            await self.ask(spec, "exam-champion", Path(champion.gguf), champion.gguf_sha256, missing)
        self.ledger.receive(spec.id, "exam", {"gguf_sha256": digest}, RunState.EXAMINED)

    async def ask(self, spec: RunSpec, folder_name: str, gguf: Path, digest: str, ids: Sequence[str]) -> None:
        """Examine one GGUF and keep its answers."""
        if not ids:
            return
        folder = self.journal.folder(spec.id) / folder_name
        items = folder / "items.jsonl"
        exam = ExamSpec(
            gguf=str(gguf),
            items=str(items),
            answers=str(folder / "answers.jsonl"),
            context_tokens=spec.context_tokens,
            max_new_tokens=self.settings.exam.max_new_tokens,
            threads=self.settings.training.threads,
        )

        async def hand_over() -> None:
            write_durably(items, await self.journal.rows(ids, exam_row), "rows")

        def check(result: ExamResult) -> None:
            expect_at(result.answers, exam.answers)
            probe_answers(result, digest, ids)

        result = await self.journal.do(spec.id, folder_name, exam, ExamResult, check, hand_over)
        self.ledger.keep_answers(digest, list(read_answers(Path(result.answers))))

    async def judge(self, spec: RunSpec) -> None:
        """EXAMINED -> ACCEPTED with a number, or REJECTED with reasons."""
        exported = self.journal.receipt(spec.id, "export")
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
            self.ledger.end_run(spec.id, RunState.REJECTED, verdict.reasons, challenger.to_json())
            log.warning("run_rejected", run=spec.id, reasons=verdict.reasons)
            self.journal.tell_verdict(spec.id, "gate", verdict.reasons)
            self.discard(spec.id)

    def number(self, spec: RunSpec, exported: Mapping[str, Any], report: ExamReport) -> Version:
        """The next version of the family."""
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
        )

    async def promote(self, spec: RunSpec) -> None:
        """ACCEPTED -> PROMOTED: file in place, then alias, lessons and age in one commit."""
        version = next(each for each in self.ledger.versions(spec.family) if each.run_id == spec.id)
        self.ledger.intend(spec.id, "promote")
        await self.put_in_place(spec, version)
        await asyncio.to_thread(probe, Path(version.gguf), version.gguf_sha256)
        advance_to = self.age_after(spec, version)
        self.ledger.promote(version, advance_to, sorted(self.set_aside(spec)))
        log.info("version_promoted", version=version.name, age=version.age, advanced_to=advance_to)
        self.journal.tell_verdict(spec.id, "promote", self.row(spec.id).reasons, version.name)

    async def put_in_place(self, spec: RunSpec, version: Version) -> None:
        """Move the GGUF from the run's folder to the version's, once; one that is lost is exported again.

        Raises StepError where that makes another model than the one that was accepted.
        """
        target, source = Path(version.gguf), self.journal.gguf(spec.id)
        if not await asyncio.to_thread(place, source, target, version.gguf_sha256):
            log.warning("exported_again", version=version.name, why=f"neither {source} nor {target} holds it")
            again = await self.exported(spec)
            if not await asyncio.to_thread(place, source, target, version.gguf_sha256):
                raise StepError(
                    f"the file of {version.name} is lost (SHA-256 {version.gguf_sha256}), and exporting it again made "
                    f"another ({again.gguf_sha256}): train again"
                )
        card = {"name": version.name, "run": spec.id, "age": version.age, "gguf_sha256": version.gguf_sha256}
        write_durably(target.parent / "version.json", json.dumps(card, indent=2).encode(), "card")

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

    def set_aside(self, spec: RunSpec) -> set[str]:
        """The examples that the trainer could not use (as a rule, too long for the stage): they were not taught."""
        return {each["id"] for each in self.journal.receipt(spec.id, "train")["set_aside"]}

    def champion_of(self, spec: RunSpec) -> Version | None:
        """The champion that was frozen into the run."""
        return self.version(spec.family, spec.champion)

    def version(self, family: str, n: int | None) -> Version | None:
        """A version by its number."""
        return next((each for each in self.ledger.versions(family) if each.n == n), None)

    def report(self, spec: RunSpec, digest: str) -> ExamReport:
        """What a GGUF answered, from the ledger."""
        held_out = self.ledger.answers(digest, spec.exam_ids)
        recall = self.ledger.answers(digest, set(spec.recall_ids) - self.set_aside(spec))
        return ExamReport(digest, spec.age, tuple(held_out.values()), tuple(recall.values()))


@contextmanager
def disk() -> Iterator[None]:
    """What the disk refuses, as ours: DiskFullError where there is no room, else StorageError."""
    try:
        yield
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        raise (DiskFullError if full else StorageError)(in_words(error)) from error
