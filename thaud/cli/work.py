"""Commands that set things going: start, train, watch, reset."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console

from thaud.cli.door import Door, Json, door_of
from thaud.control import Request, daemon_runs, only_daemon, send
from thaud.domain import FINAL_STATES, RunState
from thaud.errors import BaseUnavailableError, DaemonNotRunningError, StepError
from thaud.ledger import Ledger, LedgerReader, RunRow
from thaud.projections import project
from thaud.status import report_run
from thaud.watch import follow, last_run, open_view

NO_BASE = "step bases: "  # how executor.py begins what that step says


def start(ctx: typer.Context) -> None:
    """Run the service in the foreground, until Ctrl-C or SIGTERM."""
    door = door_of(ctx)
    home, settings = door.home, door.settings
    from thaud.daemon import serve  # noqa: PLC0415 - the one command that needs it

    asyncio.run(serve(home, settings))


def require_daemon(door: Door) -> None:
    """Raise DaemonNotRunningError with the way out."""
    if not daemon_runs(door.home):
        raise DaemonNotRunningError(
            f"the service is not running on {door.home.root}: start it with `thau start`, then ask again"
        )


def train(
    ctx: typer.Context,
    *,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the training to its end.")] = False,
    as_json: Json = False,
) -> None:
    """Ask the running service to train now."""
    door = door_of(ctx)
    require_daemon(door)
    with door.ledger() as ledger:
        newest = last_run(ledger)
    asked_at = datetime.now(UTC).isoformat(timespec="milliseconds")
    send(door.home, Request.TRAIN)
    run = see_through(door, Awaited(newest, asked_at), quiet=as_json) if wait else None
    if as_json:
        door.hand_out({"status": "requested", "run": report_run(run) if run else None})
    elif not wait:
        door.say(door.words.train_asked)
    if run and run.state is RunState.FAILED:
        raise StepError(f"{run.id} failed: {'; '.join(run.reasons)}")


@dataclass(frozen=True, slots=True)
class Awaited:
    """The run after number `newest`, asked for at `asked_at` (ISO 8601, UTC)."""

    newest: int
    asked_at: str

    def is_over(self, ledger: LedgerReader) -> bool:
        """Whether the run has ended, or the daemon said why there is none."""
        return self.run(ledger) is not None or self.refusal(ledger) is not None

    def run(self, ledger: LedgerReader) -> RunRow | None:
        """The run, once it has ended."""
        later = [run for run in ledger.runs() if run.seq > self.newest]
        return later[-1] if later and later[-1].state in FINAL_STATES else None

    def refusal(self, ledger: LedgerReader) -> str | None:
        """Why no run began."""
        for event in ledger.events():
            if event["at"] >= self.asked_at and event["kind"] == "run_not_started":
                return str(event["reason"])
            if event["at"] >= self.asked_at and event["kind"] == "nothing_to_train":
                return f"there are no examples to train at age {event['age']}: add some, or see `thau status`"
        return None


def see_through(door: Door, awaited: Awaited, *, quiet: bool) -> RunRow:
    """Follow the run to its end. Raises BaseUnavailableError or StepError where none began."""
    console = Console(stderr=True, quiet=True) if quiet else door.console
    with open_view(console, door.words) as view:
        follow(door.home, view, awaited.is_over, after=awaited.newest)
    with door.ledger() as ledger:
        if (run := awaited.run(ledger)) is None:
            reason = awaited.refusal(ledger) or ""
            no_base = reason.startswith(NO_BASE)
            raise (BaseUnavailableError if no_base else StepError)(f"no training began: {reason.removeprefix(NO_BASE)}")
        return run


def watch(ctx: typer.Context) -> None:
    """Follow the trainings of the service live, until Ctrl-C."""
    door = door_of(ctx)
    require_daemon(door)
    with door.ledger() as ledger:
        unfinished = ledger.unfinished_run()
        after = unfinished.seq - 1 if unfinished else last_run(ledger)
    if unfinished is None:
        door.say(door.words.waiting_for_run)
    with open_view(door.console, door.words) as view:
        follow(door.home, view, lambda _: False, after=after)


def reset(
    ctx: typer.Context,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Go back to age 0. Examples and versions stay."""
    door = door_of(ctx)
    with door.ledger() as ledger:
        age = ledger.age
    if not yes and not agreed(door, door.words.reset_question.format(age=age)):
        door.say(door.words.reset_nothing)
        raise typer.Exit(1)
    if daemon_runs(door.home):
        send(door.home, Request.RESET)
        door.say(door.words.reset_asked)
        return
    with only_daemon(door.home), Ledger.open(door.home.ledger) as writer:
        writer.reset_age("thau reset")
        project(door.home, writer, door.settings)
    door.say(door.words.reset_done)


def agreed(door: Door, question: str) -> bool:
    """Ask, and read a yes in the user's language; Ctrl-C and an end of input are a no."""
    try:
        reply: str = typer.prompt(question, default="", show_default=False, prompt_suffix=" ")
    except typer.Abort:
        typer.echo()
        return False
    return reply.strip().lower() in door.words.yes_replies
