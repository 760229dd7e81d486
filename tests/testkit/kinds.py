"""One trained adapter as every kind of file: exported, certified and examined by the real steps."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from tests.testkit.daemon import look
from thaud.domain import ExportKind, ModelKind, RunSpec, Score, Side, score_answers
from thaud.executor import run_step
from thaud.freezing import read_spec
from thaud.home import Home
from thaud.ledger import LedgerReader
from thaud.steps.contract import CertifyResult, CertifySpec, ExamResult, ExamSpec, ExportResult, ExportSpec
from thaud.workdir import adapter_of, exam_row, read_answers

KINDS: tuple[ExportKind, ...] = (*get_args(ModelKind), "adapter")
CERTIFIED = 32


@dataclass(frozen=True, slots=True)
class Measured:
    """What one kind of file is worth. `certificate` is empty where it was not asked for."""

    kind: ExportKind
    size_bytes: int
    score: Score
    certificate: dict[str, Any]
    seconds: float


def spec_of(home: Home, run_id: str) -> RunSpec:
    """What a run was frozen to."""

    def read(ledger: LedgerReader) -> RunSpec:
        row = ledger.run(run_id)
        assert row is not None
        return read_spec(ledger, row)

    return look(home, read)


def all_held_out(home: Home, spec: RunSpec, path: Path) -> Path:
    """Every held-out item up to the run's age, the current one's first, as an exam reads them."""

    def rows(ledger: LedgerReader) -> bytes:
        by_age = ledger.ids_by_age(Side.HELD_OUT, spec.age)
        ids = [each for age in sorted(by_age, reverse=True) for each in by_age[age]]
        return b"".join(exam_row(each) for each in ledger.examples(ids))

    path.write_bytes(look(home, rows))
    return path


def measure(home: Home, spec: RunSpec, kind: ExportKind, items: Path, folder: Path, *, certify: bool) -> Measured:
    """Export the run's adapter as this kind into `folder`, certify it where asked, and examine it on the items."""
    return asyncio.run(measured(home, spec, kind, items, folder / kind, certify=certify))


async def measured(
    home: Home, spec: RunSpec, kind: ExportKind, items: Path, folder: Path, *, certify: bool
) -> Measured:
    folder.mkdir(parents=True)
    adapter, base = adapter_of(home.runs, spec.id), folder / "base" / "model.gguf"
    export = ExportSpec(
        base_dir=spec.base,
        adapter_dir=str(adapter),
        out=str(folder / "model.gguf"),
        kind=kind,
        name=f"{spec.family}-{kind}",
        context_tokens=spec.context_tokens,
        base_out=str(base) if kind == "adapter" else None,
    )
    made = await run_step("export", export, ExportResult, folder / "export", lambda _: None)
    found = await certified(spec, made, export, items, folder) if certify else {}
    exam = ExamSpec(
        gguf=made.gguf,
        base_gguf=made.base_gguf,
        items=str(items),
        answers=str(folder / "answers.jsonl"),
        context_tokens=spec.context_tokens,
    )
    done = await run_step("exam", exam, ExamResult, folder / "exam", lambda _: None)
    return Measured(kind, made.size_bytes, score_answers(list(read_answers(Path(done.answers)))), found, done.seconds)


async def certified(spec: RunSpec, made: ExportResult, export: ExportSpec, items: Path, folder: Path) -> dict[str, Any]:
    """The certificate of what was exported, measured on the first items."""
    sample = folder / "items.jsonl"
    sample.write_bytes(b"".join(items.read_bytes().splitlines(keepends=True)[:CERTIFIED]))
    asked = CertifySpec(
        base_dir=spec.base,
        base_digest=spec.base_digest,
        adapter_dir=str(export.adapter_dir),
        gguf=made.gguf,
        base_gguf=made.base_gguf,
        kind=export.kind,
        items=str(sample),
        context_tokens=spec.context_tokens,
    )
    return (await run_step("certify", asked, CertifyResult, folder / "certify", lambda _: None)).certificate


def table(found: Sequence[Measured]) -> str:
    """A line for each kind: size, accuracy with its 95% Wilson interval, distance from the first, certificate."""
    first = found[0].score.accuracy
    lines = [
        f"{'kind':8} {'MB':>8} {'accuracy':>9} {'95% interval':>15} {'points':>7} {'top-1':>8} {'KL':>9}  certificate"
    ]
    for each in found:
        low, high = each.score.interval
        fidelity = each.certificate.get("fidelity", {})
        verdict = {True: "passed", False: "; ".join(each.certificate.get("reasons", ()))}
        lines.append(
            f"{each.kind:8} {each.size_bytes / 1e6:8.2f} {each.score.right:4}/{each.score.n:<4} "
            f"{low:7.1%}-{high:6.1%} {100 * (each.score.accuracy - first):+7.1f} "
            f"{fidelity.get('top1', float('nan')):8.2%} {fidelity.get('kl', float('nan')):9.2g}  "
            f"{verdict[each.certificate['passed']] if each.certificate else '-'}"
        )
    return "\n".join(lines)


def to_json(found: Sequence[Measured]) -> str:
    """The same for scripts."""
    rows = [
        {"kind": each.kind, "size_bytes": each.size_bytes, **each.score.to_json(), "certificate": each.certificate}
        for each in found
    ]
    return json.dumps(rows, indent=2)
