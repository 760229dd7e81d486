"""A run from FROZEN to its end. Each step: intent, child, probe, receipt; a restart goes on after the last receipt.

Owns the order of the states and the run's folder; refuses to know torch, GGUF and SQL, and when to train (the daemon
asks curriculum.py).
"""

import asyncio
import errno
import json
import shutil
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

import structlog

from thaud import curriculum, gate
from thaud.config import Settings, StageOverride
from thaud.domain import FINAL_STATES, ExamReport, QueuedExample, RunSpec, RunState, Side, Trigger, Version
from thaud.durable import fsync_folder, write_durably
from thaud.errors import DiskFullError, StepError, StorageError, ThauError, in_words
from thaud.executor import OnEvent, run_step
from thaud.failpoints import reach
from thaud.home import Home
from thaud.ledger import Ledger, RunRow
from thaud.sizes import find_size
from thaud.steps.contract import (
    BaseResult,
    BaseSpec,
    ExamResult,
    ExamSpec,
    ExportResult,
    ExportSpec,
    Spec,
    TrainResult,
    TrainSpec,
)
from thaud.workdir import exam_row, finished_result, probe, read_answers, train_row

ResultT = TypeVar("ResultT", bound=Spec)
PROGRESS = "progress.ndjson"
ROWS_AT_ONCE = 500
log = structlog.get_logger()


class StepRunner(Protocol):
    """How a step is run: executor.run_step, or a double in tests."""

    async def __call__(self, name: str, spec: Spec, kind: type[ResultT], workdir: Path, on_event: OnEvent) -> ResultT:
        """Run a step to its end. Raises StepError."""
        ...


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Freezes runs and takes them to their end."""

    home: Home
    settings: Settings
    ledger: Ledger
    step: StepRunner = run_step

    # Freezing

    async def freeze(self, trigger: Trigger) -> RunSpec:
        """Fix everything that decides a run's outcome and commit it. Raises BaseUnavailableError through StepError."""
        run_id = self.ledger.next_run_id()
        base = self.settings.base or find_size(self.settings.size).base
        found = await self.do(run_id, "bases", BaseSpec(base=base), BaseResult)
        for step in ("train", "export", "exam", "exam-champion"):  # of a ledger that somebody deleted
            shutil.rmtree(self.folder(run_id) / step, ignore_errors=True)
        spec = self.compose(run_id, trigger, found)
        self.ledger.freeze_run(spec)
        log.info("run_frozen", run=run_id, age=spec.age, examples=len(spec.example_ids), trigger=str(trigger))
        return spec

    def compose(self, run_id: str, trigger: Trigger, base: BaseResult) -> RunSpec:
        """The spec of a run on everything taken in so far, up to the current stage."""
        settings, size = self.settings, find_size(self.settings.size)
        stage = curriculum.stage_at(curriculum.stages_with(settings.stages), self.ledger.age)
        override = settings.stages.get(stage.age, StageOverride())
        seed = settings.training.seed + self.ledger.run_count()
        taught = self.ledger.ids_by_age(Side.TAUGHT, stage.age)
        champion = self.ledger.champion(settings.family)
        return RunSpec(
            id=run_id,
            family=settings.family,
            size=settings.size,
            base=base.base_dir,
            base_digest=base.digest,
            age=stage.age,
            context_tokens=stage.context_tokens,
            seed=seed,
            trigger=trigger,
            example_ids=curriculum.interleave(taught, seed),
            exam_ids=tuple(self.exam_items(stage.age)),
            recall_ids=tuple(sorted(taught.get(stage.age, ()))[: settings.exam.recall_items]),
            champion=champion.n if champion else None,
            learning_rate=first(override.learning_rate, settings.training.learning_rate, size.learning_rate),
            epochs=first(override.epochs, settings.training.epochs, size.epochs[stage.age]),
            rank=settings.training.rank,
            alpha=settings.training.alpha,
            batch_examples=settings.training.batch_examples,
            export_kind=settings.export.kind,
        )

    def exam_items(self, age: int) -> Iterator[str]:
        """At most `exam.max_items` held-out ids of each age; ids are digests, so the first by id are a fair sample."""
        held_out = self.ledger.ids_by_age(Side.HELD_OUT, age)
        for each in sorted(held_out):
            yield from sorted(held_out[each])[: self.settings.exam.max_items]

    # Running

    async def finish(self, run_id: str) -> RunState:
        """Take a run from its last receipt to its end. A step's failure ends the run, never the daemon.

        Raises DiskFullError, and StorageError where an accepted version cannot be put in its place; the run stays where
        it is and goes on when there is room, or permission.
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
                await next_step[row.state](read_spec(row))
            except DiskFullError:
                raise
            except (ThauError, OSError) as error:
                if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
                    raise DiskFullError(in_words(error)) from error
                if isinstance(error, OSError) and row.state is RunState.ACCEPTED:
                    raise StorageError(in_words(error)) from error
                self.fail(run_id, in_words(error))
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
        self.tell_verdict(run_id, "gate", [reason])
        self.discard(run_id)

    def discard(self, run_id: str) -> None:
        """Give back the disk that a challenger's GGUF took, whole or half written; reports and adapter stay."""
        reach("discard.gguf.before")
        for name in ("model.gguf", ".model.gguf.tmp"):
            (self.folder(run_id) / "export" / name).unlink(missing_ok=True)
        reach("discard.gguf.after")

    async def train(self, spec: RunSpec) -> None:
        """FROZEN -> TRAINED."""
        folder = self.folder(spec.id) / "train"
        folder.mkdir(parents=True, exist_ok=True)
        examples = folder / "examples.jsonl"
        write_durably(examples, await self.rows(spec.example_ids, train_row), "rows")
        result = await self.do(
            spec.id,
            "train",
            TrainSpec(
                base_dir=spec.base,
                examples=str(examples),
                out_dir=str(folder / "adapter"),
                context_tokens=spec.context_tokens,
                seed=spec.seed,
                learning_rate=spec.learning_rate,
                epochs=spec.epochs,
                rank=spec.rank,
                alpha=spec.alpha,
                batch_examples=spec.batch_examples,
                threads=self.settings.training.threads,
            ),
            TrainResult,
        )
        adapter = Path(result.adapter_dir) / "adapter_model.safetensors"
        await asyncio.to_thread(probe, adapter, result.adapter_sha256)
        self.ledger.receive(spec.id, "train", result.model_dump(), RunState.TRAINED)
        if result.set_aside:
            log.warning("set_aside", run=spec.id, examples=len(result.set_aside), first=result.set_aside[0])

    async def export(self, spec: RunSpec) -> None:
        """TRAINED -> EXPORTED."""
        trained = self.receipt(spec.id, "train")
        out = self.folder(spec.id) / "export" / "model.gguf"
        result = await self.do(
            spec.id,
            "export",
            ExportSpec.model_validate(
                {
                    "base_dir": spec.base,
                    "adapter_dir": trained["adapter_dir"],
                    "out": str(out),
                    "kind": spec.export_kind,
                    "name": f"{spec.family}-{spec.id}",
                    "context_tokens": spec.context_tokens,
                }
            ),
            ExportResult,
        )
        await asyncio.to_thread(probe, out, result.gguf_sha256)
        self.ledger.receive(spec.id, "export", result.model_dump(), RunState.EXPORTED)

    async def examine(self, spec: RunSpec) -> None:
        """EXPORTED -> EXAMINED: the challenger answers everything, the champion what it was not asked before."""
        exported = self.receipt(spec.id, "export")
        digest: str = exported["gguf_sha256"]
        await self.ask(spec, "exam", Path(exported["gguf"]), digest, [*spec.exam_ids, *spec.recall_ids])
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
        folder = self.folder(spec.id) / folder_name
        folder.mkdir(parents=True, exist_ok=True)
        items = folder / "items.jsonl"
        write_durably(items, await self.rows(ids, exam_row), "rows")
        exam = ExamSpec(
            gguf=str(gguf),
            items=str(items),
            answers=str(folder / "answers.jsonl"),
            context_tokens=spec.context_tokens,
            max_new_tokens=self.settings.exam.max_new_tokens,
            threads=self.settings.training.threads,
        )
        result = await self.do(spec.id, folder_name, exam, ExamResult)
        if result.gguf_sha256 != digest:
            raise StepError(f"{gguf} changed: SHA-256 {result.gguf_sha256}, the ledger has {digest}")
        self.ledger.keep_answers(digest, list(read_answers(Path(result.answers))))

    async def judge(self, spec: RunSpec) -> None:
        """EXAMINED -> ACCEPTED with a number, or REJECTED with reasons."""
        exported = self.receipt(spec.id, "export")
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
            self.tell_verdict(spec.id, "gate", verdict.reasons)
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
            examples=len(set(spec.example_ids) - self.set_aside(spec)),
            accepted_at=self.ledger.now(),
        )

    async def promote(self, spec: RunSpec) -> None:
        """ACCEPTED -> PROMOTED: file in place, then alias, lessons and age in one commit."""
        version = next(each for each in self.ledger.versions(spec.family) if each.run_id == spec.id)
        self.ledger.intend(spec.id, "promote")
        self.put_in_place(spec, version)
        await asyncio.to_thread(probe, Path(version.gguf), version.gguf_sha256)
        advance_to = self.age_after(spec, version)
        self.ledger.promote(version, advance_to, sorted(self.set_aside(spec)))
        log.info("version_promoted", version=version.name, age=version.age, advanced_to=advance_to)
        self.tell_verdict(spec.id, "promote", self.row(spec.id).reasons, version.name)

    def put_in_place(self, spec: RunSpec, version: Version) -> None:
        """Move the GGUF from the run's folder to the version's, once."""
        target, source = Path(version.gguf), self.folder(spec.id) / "export" / "model.gguf"
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            reach("move.gguf.before")
            source.replace(target)
            fsync_folder(target.parent)
            fsync_folder(source.parent)
            reach("move.gguf.after")
        card = {"name": version.name, "run": spec.id, "age": version.age, "gguf_sha256": version.gguf_sha256}
        write_durably(target.parent / "version.json", json.dumps(card, indent=2).encode(), "card")

    def age_after(self, spec: RunSpec, version: Version) -> int | None:
        """The age to advance to with this version, or None. Forgetting, or a shortage, keeps the age."""
        stages = curriculum.stages_with(self.settings.stages)
        following = curriculum.next_stage(stages, spec.age)
        if following is None or self.ledger.age != spec.age:
            return None
        taught = self.ledger.count_of_age(set(spec.example_ids) - self.set_aside(spec), spec.age)
        ready = curriculum.readiness(
            curriculum.stage_at(stages, spec.age),
            taught,
            version.accuracy,
            min_items=self.settings.exam.min_items,
            last=False,
        )
        return following.age if ready.ready else None

    # What steps share

    def folder(self, run_id: str) -> Path:
        """The run's own folder."""
        return self.home.runs / run_id

    async def rows(self, ids: Sequence[str], row: Callable[[QueuedExample], bytes]) -> bytes:
        """What a step is handed of these examples, giving the loop its turn."""
        written = bytearray()
        for number, each in enumerate(self.ledger.examples(ids), 1):
            written += row(each)
            if number % ROWS_AT_ONCE == 0:
                await asyncio.sleep(0)
        return bytes(written)

    def receipt(self, run_id: str, step: str) -> dict[str, Any]:
        """The receipt of a step that is done."""
        receipt = self.ledger.receipt(run_id, step)
        if receipt is None:
            raise StorageError(
                f"run {run_id} has no receipt of its step {step}: put a backup of {self.home.ledger} in its place"
            )
        return receipt

    def set_aside(self, spec: RunSpec) -> set[str]:
        """The examples that the trainer could not use (as a rule, too long for the stage): they were not taught."""
        return {each["id"] for each in self.receipt(spec.id, "train")["set_aside"]}

    def champion_of(self, spec: RunSpec) -> Version | None:
        """The champion that was frozen into the run."""
        return next((each for each in self.ledger.versions(spec.family) if each.n == spec.champion), None)

    def report(self, spec: RunSpec, digest: str) -> ExamReport:
        """What a GGUF answered, from the ledger."""
        held_out = self.ledger.answers(digest, spec.exam_ids)
        recall = self.ledger.answers(digest, spec.recall_ids)
        return ExamReport(digest, spec.age, tuple(held_out.values()), tuple(recall.values()))

    async def do(self, run_id: str, name: str, spec: Spec, kind: type[ResultT]) -> ResultT:
        """Commit the intent and run a step, unless its result for this very spec is there already."""
        workdir = self.folder(run_id) / name
        if (finished := finished_result(workdir, spec, kind)) is not None:
            return finished
        if self.ledger.run(run_id) is not None:
            self.ledger.intend(run_id, name)
        module = name.partition("-")[0]
        return await self.step(module, spec, kind, workdir, lambda event: self.tell(run_id, module, event))

    def tell_verdict(self, run_id: str, step: str, reasons: Sequence[str], version: str | None = None) -> None:
        """Say how the run ended."""
        verdict = {"event": "verdict", "accepted": version is not None, "version": version, "reasons": list(reasons)}
        self.tell(run_id, step, verdict)

    def tell(self, run_id: str, step: str, event: Mapping[str, Any]) -> None:
        """Add a line to the run's progress, for `thau watch`. A full disk loses progress, not the run."""
        line = {**event, "at": datetime.now(UTC).isoformat(), "step": step}
        try:
            with (self.folder(run_id) / PROGRESS).open("a", encoding="utf-8") as sink:
                sink.write(json.dumps(line, ensure_ascii=False) + "\n")
        except OSError as error:
            log.warning("progress_lost", run=run_id, reason=error.strerror)


ValueT = TypeVar("ValueT")


def first(*values: ValueT | None) -> ValueT:
    """The first value that is not None."""
    return next(value for value in values if value is not None)


def read_spec(row: RunRow) -> RunSpec:
    """The frozen spec of a run."""
    spec = row.spec
    lists = {name: tuple(spec[name]) for name in ("example_ids", "exam_ids", "recall_ids")}
    return RunSpec(**{**spec, **lists, "trigger": Trigger(row.trigger)})
