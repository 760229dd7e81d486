"""Commands that only look: status, logs, version."""

import json
import platform
import sys
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from thaud import __version__
from thaud.cli.door import Door, Json, door_of
from thaud.cli.logfile import LogFile
from thaud.cli.status_view import WIDTH, status_lines
from thaud.dropbox import Position, counts_as_whole, scan
from thaud.errors import StorageError
from thaud.ledger import LedgerReader
from thaud.status import report_status, with_daemon

LEVEL_STYLES = {"warning": "yellow", "error": "red", "critical": "bold red"}


def status(ctx: typer.Context, *, as_json: Json = False) -> None:
    """Show the model, the age, its progress, and what is missing for the next one."""
    door = door_of(ctx)
    with door.ledger() as ledger:
        report = with_daemon(report_status(ledger, door.settings), door.home, datetime.now(UTC))
        report["not_read"] = [{"file": name, "reason": reason} for name, reason in not_read(door, ledger)]
    if as_json:
        door.hand_out(report)
        return
    width = door.console.width if door.console.is_terminal else WIDTH
    for line, style in status_lines(report, door.words, width):
        door.say(line, style)


def not_read(door: Door, ledger: LedgerReader) -> Iterator[tuple[str, str]]:
    """(name, reason) of what lies in the drop-box and will not be read as it is."""
    try:
        found = scan(door.home.queue)
    except StorageError as error:
        yield door.home.queue.name, str(error)
        return
    yield from ((each.name, each.reason) for each in found.ignored)
    for file in found.files:
        row = ledger.file(file.name)
        position = Position.from_json(row.position) if row else None
        if position is None or counts_as_whole(file.name):
            continue
        if position.saw(file) and position.offset < position.size:
            yield file.name, door.words.half_line.format(line=position.line + 1)


def logs(
    ctx: typer.Context,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="How many of the last lines.")] = 40,
    *,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as the log grows.")] = False,
    as_json: Json = False,
) -> None:
    """Show the service log."""
    door = door_of(ctx)
    path = door.home.service_log
    if not path.exists() and not follow:
        raise StorageError(f"there is no log at {path} yet: the service writes it (`thau start`)")
    with LogFile(path) as log:
        for line in deque(log.lines(), maxlen=lines):
            say_line(door, line, as_json=as_json)
        sys.stdout.flush()
        for line in log.grow() if follow else ():
            say_line(door, line, as_json=as_json)
            sys.stdout.flush()


def say_line(door: Door, raw: bytes, *, as_json: bool) -> None:
    """A line of the log: as it is, or in words."""
    line = raw.decode("utf-8", "replace").rstrip("\n")
    if as_json:
        sys.stdout.write(f"{line}\n")
        return
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if isinstance(row, dict):
        door.say(log_text(row), LEVEL_STYLES.get(str(row.get("level")), ""))
    else:
        door.say(line)


def log_text(row: dict[str, Any]) -> str:
    """A structured line as people read it: time, level, event, the rest."""
    at = str(row.pop("timestamp", ""))[:19].replace("T", " ") + "Z"
    level, event = str(row.pop("level", "")), row.pop("event", "")
    rest = " ".join(f"{key}={value}" for key, value in row.items())
    return f"{at} {level:<7} {event} {rest}".rstrip()


def version(ctx: typer.Context, *, as_json: Json = False) -> None:
    """Print THAU's version."""
    if as_json:
        door_of(ctx).hand_out({"thau": __version__, "python": platform.python_version()})
    else:
        door_of(ctx).say(f"thau {__version__} (Python {platform.python_version()})")
