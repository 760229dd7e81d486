"""What an assistant may ask of THAU while people work: teach it something, ask it something, how it is.

Owns the three answers, as plain values; refuses to know how they travel (mcp_server.py). What is taught goes into the
drop-box, as whatever is copied there; what looks like a secret waits for a person's word instead. A version is loaded
with the first question and kept.
"""

import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from thaud.cli.door import Door
from thaud.control import daemon_runs
from thaud.domain import Example, Message, Version
from thaud.dropbox import write_examples
from thaud.errors import ModelError, RejectedInputError
from thaud.formats import example_to_line, parse_object
from thaud.proposals import (
    Kind,
    Origin,
    Proposal,
    as_the_drop_box_reads,
    keep,
    look_for_suspects,
    name_for,
    outside_of,
    waiting_like,
)
from thaud.proposals.proposal import checked
from thaud.serving.runtime import Runtime
from thaud.status import report_status, with_daemon

STEM = "assistant"
ASK_S = 120.0  # of loading and generating; a client that waits longer has given up
WAIT_S = 5.0  # for another question to be done


@dataclass
class Desk:
    """The desk of one home. Its methods may be called from several threads; one question is answered at a time."""

    door: Door
    ask_s: float = ASK_S
    wait_s: float = WAIT_S
    _answering: threading.Lock = field(default_factory=threading.Lock)
    _stack: ExitStack = field(default_factory=ExitStack)
    _loaded: tuple[Version, Runtime] | None = None

    def teach(self, row: Mapping[str, Any], client: str) -> dict[str, Any]:
        """Take an example in, in any dialect of the drop-box. Raises RejectedInputError, StorageError.

        status: queued; known, where the ledger has it already; waiting, where it must be reviewed first.
        """
        example = checked(parse_object(dict(row), max_depth=self.door.settings.queue.max_depth))
        example = replace(example, metadata={**example.metadata, "source": "mcp", "client": client})
        line = example_to_line(as_the_drop_box_reads(example))
        limit = self.door.settings.queue.max_line_bytes
        if len(line.encode()) > limit:
            raise RejectedInputError(f"the example is over the limit of {limit} bytes a line: shorten it")
        said = {"id": example.id, "service": "running" if daemon_runs(self.door.home) else "stopped"}
        if self._knows(example):
            return {**said, "status": "known", "note": "the ledger has this very example already"}
        proposal = proposal_of(example, client)
        if suspects := look_for_suspects(proposal):
            places = [f"{each.kind} in {each.place}, line {each.line}" for each in suspects]
            return {
                **said,
                "status": "waiting",
                "proposal": self._propose(proposal),
                "suspects": places,
                "note": REVIEW,
            }
        path = write_examples(self.door.home.queue, [line], STEM)
        return {**said, "status": "queued", "file": path.name, "note": TAKEN[said["service"]]}

    def ask(self, question: str, max_tokens: int | None = None, stop: threading.Event | None = None) -> dict[str, Any]:
        """The champion's answer, without tools. `stop` ends it early.

        Raises NoVersionError, ModelError, ServerError; ModelError where it takes too long or the model is busy.
        """
        began, stop = time.monotonic(), stop or threading.Event()
        if not self._answering.acquire(timeout=self.wait_s):
            raise ModelError("the model is answering another question: ask again in a moment")
        try:
            if stop.is_set():
                raise ModelError("nobody waits for the answer any more")
            version, runtime = self._opened()
            text, done = self._heard(runtime, question, max_tokens, stop, began)
        finally:
            self._answering.release()
        return {
            "version": version.name,
            "answer": text,
            "complete": done,
            "seconds": round(time.monotonic() - began, 2),
        }

    def status(self) -> dict[str, Any]:
        """What `thau status --json` says."""
        with self.door.ledger() as ledger:
            report = report_status(ledger, self.door.settings)
        return with_daemon(report, self.door.home, datetime.now(UTC))

    def close(self) -> None:
        """Let go of the model, once nobody uses it: one that is freed while it speaks takes the process with it."""
        with self._answering:
            self._stack.close()

    def _knows(self, example: Example) -> bool:
        """Whether the ledger has it; where there is no ledger yet it has not."""
        if not self.door.home.ledger.exists():
            return False
        with self.door.ledger() as ledger:
            return bool(ledger.known_ids([example.id]))

    def _propose(self, proposal: Proposal) -> str:
        """The identity under which it waits."""
        folder = self.door.home.proposed
        waiting = waiting_like(folder, proposal)
        if waiting is None:
            waiting = replace(proposal, id=name_for(proposal.at, proposal), suspects=look_for_suspects(proposal))
            keep(folder, waiting)
        return waiting.id

    def _opened(self) -> tuple[Version, Runtime]:
        """The version that answers now, loaded."""
        from thaud.cli.shelf import choose_version, served  # noqa: PLC0415 - only where a question is asked

        champion = choose_version(self.door, None)
        if self._loaded is None or self._loaded[0] != champion:
            self._loaded = None
            self._stack.close()
            self._loaded = champion, self._stack.enter_context(served(self.door, champion))
        return self._loaded

    def _heard(
        self, runtime: Runtime, question: str, max_tokens: int | None, stop: threading.Event, began: float
    ) -> tuple[str, bool]:
        """(answer, whether it is whole)."""
        room = max(1, runtime.context_tokens // 2)
        limit = min(max_tokens or room, self.door.settings.agent.max_new_tokens, room)
        pieces: list[str] = []
        done: str | None = None
        for delta in runtime.chat([Message("user", question)], max_new_tokens=limit):
            pieces.append(delta.text)
            done = delta.done or done
            if stop.is_set() or time.monotonic() - began > self.ask_s:
                raise ModelError(f"{runtime.name} took more than {self.ask_s:.0f} s, or was told to stop: ask for less")
        if done == "aborted" or done is None:
            raise ModelError(f"{runtime.name} broke off in the middle of its answer: ask again")
        return "".join(pieces).strip(), done == "stop"


REVIEW = "it looks as if it held a secret: it was not queued, and waits until a person accepts it with `thau review`"
TAKEN = {
    "running": "the service reads it in a few seconds",
    "stopped": "the service is stopped and reads it when it starts (`thau start`)",
}


def proposal_of(example: Example, client: str) -> Proposal:
    """The example as something to be reviewed."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return Proposal("", at, Kind.TEACH, example, Origin(f"mcp:{client}", "", 0), None, outside_of(example))
