"""How a step of a run is done once, whatever dies on the way: intent, action, probe; the receipt is the pipeline's.

Owns a run's folder, what its steps share there, and when a step that was done counts; refuses to know the steps' order.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

import structlog
from pydantic import ValidationError

from thaud.domain import QueuedExample
from thaud.errors import StepError, StorageError
from thaud.executor import OnEvent
from thaud.failpoints import reach
from thaud.home import Home
from thaud.ledger import Ledger
from thaud.steps.contract import Spec
from thaud.workdir import finished_result, make_ready

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
class Journal:
    """The folders of runs, and their steps."""

    home: Home
    ledger: Ledger
    step: StepRunner

    def folder(self, run_id: str) -> Path:
        """The run's own folder."""
        return self.home.runs / run_id

    def gguf(self, run_id: str) -> Path:
        """Where the run's model is until it is a version's."""
        return self.folder(run_id) / "export" / "model.gguf"

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
                f"run {run_id} has no receipt of its step {step} in {self.home.ledger}: stop the service, and"
                " `thau doctor --fix` takes the run back to that step"
            )
        return receipt

    async def do(
        self,
        run_id: str,
        name: str,
        spec: Spec,
        kind: type[ResultT],
        check: Callable[[ResultT], None],
        hand_over: Callable[[], Awaitable[None]],
    ) -> ResultT:
        """Intent, action, probe; not where it is done already and its artefact passes the check.

        `hand_over` lays out what the step reads. `check` raises StorageError where an artefact is not what its step
        said: left by an earlier life, the step is done again; fresh from the step, it is a StepError.
        """
        workdir = self.folder(run_id) / name
        for done in (self.received(run_id, name, kind), finished_result(workdir, spec, kind)):
            if done is not None and (lost := await asyncio.to_thread(complaint, check, done)) is None:
                return done
            if done is not None:
                log.warning("step_repeated", run=run_id, step=name, why=lost)
        self.ledger.intend(run_id, name)
        make_ready(workdir, spec)
        await hand_over()
        result = await self.run(run_id, name, spec, kind)
        if (lie := await asyncio.to_thread(complaint, check, result)) is not None:
            raise StepError(lie)
        return result

    async def run(self, run_id: str, name: str, spec: Spec, kind: type[ResultT]) -> ResultT:
        """Run a step in its workdir to its end."""
        module = name.partition("-")[0]
        return await self.step(
            module, spec, kind, self.folder(run_id) / name, lambda event: self.tell(run_id, module, event)
        )

    def received(self, run_id: str, step: str, kind: type[ResultT]) -> ResultT | None:
        """The receipt of a step as its result; None where there is none, or one of another release or shape."""
        try:
            return kind.model_validate(self.ledger.receipt(run_id, step))
        except ValidationError:
            return None

    def tell_verdict(self, run_id: str, step: str, reasons: Sequence[str], version: str | None = None) -> None:
        """Say how the run ended."""
        verdict = {"event": "verdict", "accepted": version is not None, "version": version, "reasons": list(reasons)}
        self.tell(run_id, step, verdict)

    def tell(self, run_id: str, step: str, event: Mapping[str, Any]) -> None:
        """Add a line to the run's progress, for `thau watch`. A full disk loses progress, not the run."""
        line = {**event, "at": datetime.now(UTC).isoformat(), "step": step}
        try:
            reach("append.progress.before")
            with (self.folder(run_id) / PROGRESS).open("a", encoding="utf-8") as sink:
                sink.write(json.dumps(line, ensure_ascii=False) + "\n")
            reach("append.progress.after")
        except OSError as error:
            log.warning("progress_lost", run=run_id, reason=error.strerror)


def complaint(check: Callable[[ResultT], None], result: ResultT) -> str | None:
    """What a check says against a result, or None."""
    try:
        check(result)
    except StorageError as error:
        return str(error)
    return None
