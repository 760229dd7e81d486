"""What a run makes: its adapter, its model, the model's certificate, answers. Each is made unless it is there and still
is what its step said.

Owns what these steps are asked and how their artefacts are probed; refuses to know the states that they lead to
(pipeline.py).
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from pydantic import ValidationError

from thaud.config import Settings
from thaud.domain import QueuedExample, RunSpec, Version
from thaud.durable import write_durably
from thaud.errors import StorageError
from thaud.home import Home
from thaud.journal import Journal
from thaud.ledger import Ledger, LedgerReader, RunRow
from thaud.ledger.lineages import is_new
from thaud.steps.contract import CertifyResult, CertifySpec, ExamResult, ExamSpec, ExportResult, ExportSpec, TrainResult
from thaud.workdir import (
    WEIGHTS,
    adapter_of,
    exam_row,
    expect_at,
    expect_parent,
    probe,
    probe_answers,
    train_row,
    training_spec,
)

CERTIFIED_ITEMS = 32
BASE_HEX = 16  # of its digest, in the name of a shared base's folder
Whole = set[tuple[str, str, str, int, int]]  # run, path, digest, size and time of change of files that were probed
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Artefacts:
    """What runs make. `whole` remembers which shared bases were probed for which run, for they are large."""

    home: Home
    settings: Settings
    ledger: Ledger
    journal: Journal
    whole: Whole

    async def trained(self, spec: RunSpec) -> TrainResult:
        """The run's training, done unless it is and its adapter is there."""
        parent = version_of(self.ledger, spec.family, spec.parent)
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

    async def exported(self, spec: RunSpec) -> ExportResult:
        """The run's model, exported unless it is and its GGUF is there, and the base under it where it is an adapter.

        The receipt of a training that had to be done again for it is the new one's.
        """
        asked = self.export_spec(spec)

        def check(result: ExportResult) -> None:
            expect_at(result.gguf, asked.out)
            probe(Path(result.gguf), result.gguf_sha256)
            if asked.base_out is not None:
                expect_at(result.base_gguf or "no place", asked.base_out)
                self.probe_base(spec.id, asked.base_out, result.base_sha256)

        async def hand_over() -> None:
            found = await self.trained(spec)
            if found.adapter_sha256 != self.journal.receipt(spec.id, "train")["adapter_sha256"]:
                self.ledger.receive(spec.id, "train", found.model_dump(), run_row(self.ledger, spec.id).state)

        return await self.journal.do(spec.id, "export", asked, ExportResult, check, hand_over)

    def export_spec(self, spec: RunSpec) -> ExportSpec:
        """What the export is asked: the frozen spec, and those settings that decide no outcome."""
        base = self.home.bases / f"{spec.base_digest[:BASE_HEX]}-{spec.base_kind}" / "model.gguf"
        return ExportSpec(
            base_dir=spec.base,
            adapter_dir=str(adapter_of(self.home.runs, spec.id)),
            out=str(self.journal.gguf(spec.id)),
            kind=spec.export_kind,
            name=f"{spec.family}-{spec.id}",
            context_tokens=spec.context_tokens,
            base_out=str(base) if spec.export_kind == "adapter" else None,
            base_kind=spec.base_kind,
            threads=self.settings.training.threads,
        )

    def probe_base(self, run_id: str, path: str, sha256: str | None) -> None:
        """Raises StorageError where the base under an adapter is not what the export said. Its digest is taken once a
        run, and again where the file was touched.
        """
        try:
            stat = Path(path).stat()
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror}") from error
        seen = (run_id, path, str(sha256), stat.st_size, stat.st_ctime_ns)
        if seen not in self.whole:
            probe(Path(path), str(sha256))
            self.whole.add(seen)

    async def certified(self, spec: RunSpec, exported: ExportResult) -> CertifyResult:
        """The certificate of that very file, passed or not; written unless it is."""
        folder = self.journal.folder(spec.id) / "certify"
        asked = CertifySpec(
            base_dir=spec.base,
            base_digest=spec.base_digest,
            adapter_dir=str(adapter_of(self.home.runs, spec.id)),
            gguf=exported.gguf,
            base_gguf=exported.base_gguf,
            kind=spec.export_kind,
            items=str(folder / "items.jsonl"),
            context_tokens=spec.context_tokens,
            max_new_tokens=self.settings.exam.max_new_tokens,
            threads=self.settings.training.threads,
        )

        async def hand_over() -> None:
            sample = prompts_of(self.ledger, spec)
            write_durably(Path(asked.items), await self.journal.rows(sample, exam_row), "rows")

        def check(result: CertifyResult) -> None:
            expect_certificate(result, exported.gguf_sha256)

        return await self.journal.do(spec.id, "certify", asked, CertifyResult, check, hand_over)

    async def answered(
        self, spec: RunSpec, folder_name: str, model: ExportResult | Version, ids: Sequence[str]
    ) -> ExamResult:
        """What a model answers to these items, asked unless it was for this run."""
        folder = self.journal.folder(spec.id) / folder_name
        asked = ExamSpec(
            gguf=model.gguf,
            base_gguf=model.base_gguf,
            items=str(folder / "items.jsonl"),
            answers=str(folder / "answers.jsonl"),
            context_tokens=spec.context_tokens,
            max_new_tokens=self.settings.exam.max_new_tokens,
            threads=self.settings.training.threads,
        )

        async def hand_over() -> None:
            write_durably(Path(asked.items), await self.journal.rows(ids, exam_row), "rows")

        def check(result: ExamResult) -> None:
            expect_at(result.answers, asked.answers)
            probe_answers(result, model.gguf_sha256, ids)

        return await self.journal.do(spec.id, folder_name, asked, ExamResult, check, hand_over)


def prompts_of(ledger: LedgerReader, spec: RunSpec, most: int = CERTIFIED_ITEMS) -> Sequence[str]:
    """Ids of what a certificate is measured on: held-out prompts, those of the current age first; where a run has none,
    what it was taught.
    """
    ages = {each.id: each.age for each in ledger.examples(spec.exam_ids)}
    newest = sorted(spec.exam_ids, key=lambda each: -ages.get(each, 0))
    return (newest or spec.recall_ids or spec.example_ids)[:most]


def expect_certificate(result: CertifyResult, gguf_sha256: str) -> None:
    """Raises StorageError where a certificate is another file's, or contradicts itself."""
    for said in (result.gguf_sha256, result.certificate.get("gguf_sha256")):
        if said != gguf_sha256:
            raise StorageError(f"the certificate is of a file with SHA-256 {said}, the model's is {gguf_sha256}")
    if result.passed != (not result.reasons) or result.passed != result.certificate.get("passed"):
        raise StorageError(f"the certificate says passed={result.passed} with these reasons: {result.reasons}")


def certificate_of(ledger: LedgerReader, version: Version) -> dict[str, Any] | None:
    """What the step certify found of a version; None for one from before there were certificates."""
    certificate: dict[str, Any] | None = (ledger.receipt(version.run_id, "certify") or {}).get("certificate")
    return certificate


def passed_certificate(receipt: Mapping[str, Any] | None, gguf_sha256: str) -> dict[str, Any] | None:
    """The certificate in a receipt of the step certify where it passed and is of that very file, else None."""
    try:
        result = CertifyResult.model_validate(receipt)
        expect_certificate(result, gguf_sha256)
    except (ValidationError, StorageError):
        return None
    return result.certificate if result.passed else None


def figures_of(certificate: Mapping[str, Any]) -> dict[str, Any]:
    """What a run's progress tells of a certificate: whether it passed, top1, positions, kl (nats); none are made up."""
    fidelity = certificate.get("fidelity")
    found = fidelity if isinstance(fidelity, Mapping) else {}
    figures = {name: found[name] for name in ("top1", "positions", "kl") if found.get(name) is not None}
    return {"passed": certificate.get("passed") is True, **figures}


def version_of(ledger: LedgerReader, family: str, n: int | None) -> Version | None:
    """A version by its number."""
    return next((each for each in ledger.versions(family) if each.n == n), None)


def run_row(ledger: LedgerReader, run_id: str) -> RunRow:
    """A run that there is, as the ledger has it."""
    row = ledger.run(run_id)
    assert row is not None
    return row
