"""`thau sync`: bring the Ollama server up to date now, by the service where one runs, else from here.

Owns the command, its waiting and what it prints; what is done is registrar.py's.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from thaud.cli.door import Door, Json, door_of
from thaud.cli.sync_words import SyncWords, state_sentence, sync_words
from thaud.control import Request, daemon_runs, only_daemon, send
from thaud.errors import ConfigError, DaemonNotRunningError, NoVersionError, ServerError
from thaud.home import CONFIG_NAME
from thaud.ledger import Ledger, LedgerReader
from thaud.registrar import sync_once
from thaud.synced import Synced, read_synced

POLL_S = 0.2
STILL_S = 1800.0  # without a word from the service: longer than it waits for any one answer of the server

Show = Callable[[str, int, int], None]


def sync(
    ctx: typer.Context,
    *,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Also replace models of these names that another THAU home made.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Bring the Ollama server up to date now: versions and alias."""
    door = door_of(ctx)
    words = sync_words(door.words)
    refuse_vain(door)
    with open_bar(door.console if not as_json else Console(stderr=True, quiet=True), words) as show:
        carry_out = by_service if daemon_runs(door.home) else from_here
        synced = carry_out(door, show, take_over=take_over)
    if as_json:
        door.hand_out(report_of(synced))
    else:
        for line, style in lines_of(synced, words):
            door.say(line, style)
    if not synced.in_step:
        raise ServerError(reason_of(synced))


def refuse_vain(door: Door) -> None:
    """Raise where there is nothing to be done: ConfigError, NoVersionError."""
    if not door.settings.serving.ollama_enabled:
        raise ConfigError(f"serving.ollama_enabled is false in {CONFIG_NAME} or the environment: set it to true")
    with door.ledger() as ledger:
        if not ledger.versions(door.settings.family):
            raise NoVersionError(
                f"there is no version of {door.settings.family} yet: add examples and let `thau start` train one"
            )


def by_service(door: Door, show: Show, *, take_over: bool) -> Synced:
    """Ask the service, and follow it to the end.

    Raises DaemonNotRunningError where it goes, ServerError where it says nothing for long. Ctrl-C leaves it at work.
    """
    asked = uuid.uuid4().hex
    send(door.home, Request.SYNC, id=asked, take_over=take_over)
    waiting = Waiting()
    try:
        while daemon_runs(door.home):
            with door.ledger() as ledger:
                if (synced := answer_to(asked, ledger)) is not None:
                    return synced
                waiting.look(ledger, show, door.settings.serving.ollama_host)
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        door.say(sync_words(door.words).still_working)
        raise typer.Exit(130) from None
    with door.ledger() as ledger:
        if (synced := answer_to(asked, ledger)) is not None:
            return synced
    raise DaemonNotRunningError("the service stopped meanwhile: start it with `thau start`, or run `thau sync` again")


def answer_to(asked: str, ledger: LedgerReader) -> Synced | None:
    """The look at the server that answered a request."""
    synced = read_synced(ledger)
    return synced if synced is not None and asked in synced.asked else None


@dataclass
class Waiting:
    """For a service that works: as long as something moves, or STILL_S pass."""

    last: Any = None
    moved_at: float = 0.0

    def look(self, ledger: LedgerReader, show: Show, host: str) -> None:
        """Show an upload's progress. Raises ServerError where nothing has moved for long."""
        rows = [row for row in ledger.registrations() if row["host"] == host]
        for row in rows:
            if row["state"] == "uploading":
                sent, _, size = row["detail"].partition("/")
                show(row["name"], int(sent), int(size))
        seen = [(row["name"], row["state"], row["detail"], row["at"]) for row in rows]
        now = time.monotonic()
        if seen != self.last:
            self.last, self.moved_at = seen, now
        if now - self.moved_at > STILL_S:
            raise ServerError(f"nothing has moved for {STILL_S / 60:.0f} minutes: see `thau logs` and the server's log")


def from_here(door: Door, show: Show, *, take_over: bool) -> Synced:
    """Do it in this process, which is the home's daemon meanwhile. What is interrupted is begun again the next time."""

    def say(event: str, **fields: Any) -> None:
        if event == "ollama_uploading":
            show(fields["name"], fields["sent"], fields["size"])

    try:
        with only_daemon(door.home), Ledger.open(door.home.ledger) as ledger:
            return sync_once(door.settings, ledger, say, take_over=take_over)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


@contextmanager
def open_bar(console: Console, words: SyncWords) -> Iterator[Show]:
    """A bar for each upload, on a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    bars: dict[str, TaskID] = {}
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:

        def show(name: str, sent: int, size: int) -> None:
            if name not in bars:
                bars[name] = progress.add_task(words.uploading.format(name=name), total=size)
            progress.update(bars[name], completed=sent, total=size)

        yield show


def report_of(synced: Synced) -> dict[str, Any]:
    """For programs."""
    report = asdict(synced)
    names = [{"name": name, "state": state, "detail": why} for name, (state, why) in synced.names.items()]
    alias = {"name": synced.alias, "version": synced.version, "failure": synced.alias_failure}
    kept = ("host", "state", "detail", "at")
    return {**{key: report[key] for key in kept}, "names": names, "alias": alias if synced.alias else None}


def lines_of(synced: Synced, words: SyncWords) -> Iterator[tuple[str, str]]:
    """What is there now, by name, with styles; last of all where the alias points."""
    for name, (state, why) in synced.names.items():
        said = words.states[state]
        yield f"{name}: {said}{f': {why}' if why else ''}", "red" if state == "failed" else ""
    if synced.alias and synced.alias_failure:
        what = words.alias_failed.format(alias=synced.alias, version=synced.version, why=synced.alias_failure)
        yield what, "red"
    elif synced.alias:
        yield words.alias.format(alias=synced.alias, version=synced.version), ""
    whole = {**asdict(synced), "waiting": synced.waiting}
    yield state_sentence(whole, words), "green" if synced.in_step else "red"


def reason_of(synced: Synced) -> str:
    """The one line of an error: of the server, or of the first name that failed."""
    failures = [f"{name}: {why}" for name, (state, why) in synced.names.items() if state == "failed"]
    alias = f"{synced.alias}: {synced.alias_failure}" if synced.alias_failure else ""
    return next(filter(None, [synced.detail, *failures, alias]), f"Ollama at {synced.host} is not up to date")
