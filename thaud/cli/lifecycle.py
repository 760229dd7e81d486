"""Commands that change which version answers and which keep their files: rollback, prune.

The daemon does it where one runs; else it is done here, under the daemon's lock, and Ollama is brought in step at once
where it answers.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from thaud import lifecycle
from thaud.cli.door import Door, Json, door_of
from thaud.cli.version_words import VersionWords, version_words
from thaud.cli.versions import score_text, size_text
from thaud.cli.work import agreed
from thaud.control import Request, daemon_runs, only_daemon, send, withdraw
from thaud.domain import Version
from thaud.errors import StorageError, ThauError
from thaud.ledger import Ledger
from thaud.lifecycle import Choice
from thaud.projections import project
from thaud.registrar import sync_once
from thaud.serving.address import reachable
from thaud.serving.provenance import served_name

DONE_S, REMOVED_S, OLLAMA_S, POLL_S = 30.0, 5.0, 20.0, 0.05
Number = Annotated[int | None, typer.Argument(metavar="N", min=1, help="The version; else the one promoted before.")]


@dataclass(frozen=True, slots=True)
class Change:
    """A change of versions: how it is asked of the daemon, and whether the ledger has it.

    `asked_at` is ISO 8601, UTC.
    """

    door: Door
    request: Request
    values: dict[str, Any]
    is_done: Callable[[], bool]
    asked_at: str

    def carry_out(self) -> None:
        """By the daemon where one runs, else here, also where it dies before it comes to it: what it was asked is then
        withdrawn, or it would undo at its next start what was done meanwhile.

        Raises StorageError where it may not be.
        """
        if not daemon_runs(self.door.home):
            self.do_here()
            return
        request = send(self.door.home, self.request, **self.values)
        await_or(lambda: self.seen() or not daemon_runs(self.door.home), DONE_S, self.not_yet)
        if not self.seen():
            self.do_here()
            withdraw(request)

    def do_here(self) -> None:
        """Under the daemon's lock: commit, projections, and Ollama where it answers."""
        door = self.door
        with only_daemon(door.home), Ledger.open(door.home.ledger) as writer:
            lifecycle.carry_out(writer, door.settings, self.values, unheard)
            self.refuse()
            project(door.home, writer, door.settings)
            if answers(door):
                sync_once(door.settings, writer, unheard, take_over=False)

    def seen(self) -> bool:
        """Whether the daemon has done it. Raises StorageError where it said why not."""
        self.refuse()
        return self.is_done()

    def refuse(self) -> None:
        """Raise StorageError with the reason that the ledger has."""
        with self.door.ledger() as ledger:
            for event in ledger.events(20, [lifecycle.REFUSED]):
                if event["at"] >= self.asked_at and event["n"] == self.values.get("n"):
                    raise StorageError(event["reason"])

    def not_yet(self) -> None:
        """The daemon is held up. Raises ThauError."""
        raise ThauError(
            f"the service has not come to it within {DONE_S:.0f} s: it will as soon as it can; `thau status` says what"
            " holds it up"
        )


def await_or(condition: Callable[[], bool], timeout_s: float, otherwise: Callable[[], None] = lambda: None) -> bool:
    """Wait for a condition; where it does not come, do something else. Whether it came."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            otherwise()
            return False
        time.sleep(POLL_S)
    return True


def unheard(*_: object, **__: object) -> None:
    """What the daemon would log: the command says it in its own words."""


def now() -> str:
    """ISO 8601, UTC, as the ledger writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def answers(door: Door) -> bool:
    """Whether versions are registered with an Ollama server, and it is there."""
    return door.settings.serving.ollama_enabled and reachable(door.settings.serving.ollama_host)


# Rollback


def rollback(ctx: typer.Context, n: Number = None, *, as_json: Json = False) -> None:
    """Let an earlier version answer, at once and until the next promotion. Without N the one promoted before."""
    door = door_of(ctx)
    words, family = version_words(door.words), door.settings.family
    with door.ledger() as ledger:
        before, target = ledger.champion(family), lifecycle.choose(ledger, family, n)
    moved = before != target
    if moved:
        if door.console.is_terminal and not as_json:
            door.say(words.checking.format(name=target.name), "dim")
        lifecycle.expect_file(target)
        since = now()
        Change(door, Request.ROLLBACK, {"n": target.n}, lambda: moved_to(door, target, since), since).carry_out()
    after = answering(door)
    ollama = ollama_alias(door, target) if moved and after == target.name else None
    if as_json:
        names = {"before": before.name if before else None, "after": after}
        door.hand_out({**names, "moved": moved, "ollama": ollama})
    elif after != target.name:
        door.say(words.overtaken.format(family=family, name=target.name, after=after), "yellow")
    elif moved:
        door.say(words.moved.format(family=family, after=target.name, before=before.name if before else "-"), "green")
        say_ollama(door, words, target, ollama)
    else:
        door.say(words.already.format(name=target.name))


def answering(door: Door) -> str | None:
    """The name of the champion."""
    with door.ledger() as ledger:
        champion = ledger.champion(door.settings.family)
    return champion.name if champion else None


def moved_to(door: Door, target: Version, since: str) -> bool:
    """Whether the alias has been on a version since then, be it that another has come after it."""
    with door.ledger() as ledger:
        moves = ledger.events(20, [lifecycle.ROLLED_BACK])
        champion = ledger.champion(target.family)
    return champion == target or any(each["at"] >= since and each["after"] == target.name for each in moves)


def ollama_alias(door: Door, target: Version) -> dict[str, Any] | None:
    """What is known of the alias on the server, once it follows or has had its time; None where there is no server."""
    serving = door.settings.serving
    if not serving.ollama_enabled:
        return None
    alias = served_name(serving.namespace, target.family)
    state = {"host": serving.ollama_host, "name": alias, "state": "away", "detail": "", "moved": False}

    if not answers(door):
        return state

    def followed() -> bool:
        with door.ledger() as ledger:
            held = {row["name"]: row for row in ledger.registrations() if row["host"] == serving.ollama_host}
        row = held.get(target.family, {"state": "later", "detail": ""})
        state.update(state=row["state"], detail=row["detail"])
        return (row["state"], row["detail"]) == ("served", target.name)

    return {**state, "moved": await_or(followed, OLLAMA_S), "state": state["state"], "detail": state["detail"]}


def say_ollama(door: Door, words: VersionWords, target: Version, ollama: dict[str, Any] | None) -> None:
    """A line about the server, where there is one to talk of."""
    if ollama is None:
        return
    if ollama["moved"]:
        door.say(words.ollama_moved.format(host=ollama["host"], name=ollama["name"], after=target.name))
    elif ollama["state"] == "away":
        door.say(words.ollama_away.format(host=ollama["host"]), "dim")
    elif ollama["state"] == "failed":
        door.say(f"Ollama {ollama['host']}: {ollama['detail']}", "red")
    else:
        door.say(words.ollama_later.format(host=ollama["host"]), "yellow")


# Prune


def prune(
    ctx: typer.Context,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Give up the files of old versions: the last ones, the one that answers and the best of each age stay."""
    door = door_of(ctx)
    words = version_words(door.words)
    with door.ledger() as ledger:
        found = lifecycle.choice(ledger, door.settings.family, door.settings.export.keep_versions)
        left = lifecycle.disk_bytes(ledger)
        would_be = left - sum(path.stat().st_size for path in lifecycle.given_up(ledger, found.given_up))
    if not as_json:
        say_choice(door, words, found)
    if not found.given_up or dry_run:
        report = {**plan(found), "dry_run": dry_run, "pruned": [], "disk": {"before": left, "after": left}}
        report |= {"would_be": would_be, "ollama": None}
        say_or_hand_out(door, words, report, as_json=as_json)
        return
    if not yes and not agreed(door, words.prune_question.format(n=len(found.given_up))):
        door.say(door.words.reset_nothing)
        raise typer.Exit(1)
    say_or_hand_out(door, words, {**plan(found), "dry_run": False, **pruned(door, found)}, as_json=as_json)


def plan(found: Choice) -> dict[str, Any]:
    """What goes and what stays, for programs."""
    return {
        "goes": [version.name for version in found.given_up],
        "kept": [{"name": version.name, "why": list(map(str, reasons))} for version, reasons in found.kept],
    }


def say_choice(door: Door, words: VersionWords, found: Choice) -> None:
    """What goes and what stays, for people."""
    keep = door.settings.export.keep_versions
    for version, reasons in found.kept:
        why = ", ".join(words.reasons[reason].format(keep=keep, age=version.age) for reason in reasons)
        door.say(words.kept.format(name=version.name, size=size_text(version.size_bytes), reasons=why), "dim")
    for version in found.given_up:
        accuracy, size = score_text(version.accuracy.to_json()), size_text(version.size_bytes)
        door.say(words.goes.format(name=version.name, size=size, age=version.age, accuracy=accuracy))


def pruned(door: Door, found: Choice) -> dict[str, Any]:
    """Do it; which went, and what disk and server had before and have now."""
    names = [version.name for version in found.given_up]
    disk, server = on_disk(door), on_server(door)
    Change(door, Request.PRUNE, {"names": names}, lambda: not to_be_given_up(door, names), now()).carry_out()
    await_or(lambda: not left_of(door, names), REMOVED_S)
    host = door.settings.serving.ollama_host
    if server is not None and daemon_runs(door.home):
        await_or(lambda: not still_registered(door, names), OLLAMA_S)
    after = on_server(door)
    with door.ledger() as ledger:
        gone = {version.name for version in ledger.versions() if version.pruned_at is not None}
    return {
        "pruned": [name for name in names if name in gone],
        "disk": {"before": disk, "after": on_disk(door)},
        "ollama": None if server is None or after is None else {"host": host, "before": server, "after": after},
    }


def on_disk(door: Door) -> int:
    """What versions and bases take, in bytes."""
    with door.ledger() as ledger:
        return lifecycle.disk_bytes(ledger)


def on_server(door: Door) -> int | None:
    """What our models take on the Ollama server, in bytes; None where none answers."""
    if not answers(door):
        return None
    from thaud.serving.ollama import OllamaServer  # noqa: PLC0415 - httpx only where there is a server

    with door.ledger() as ledger:
        bare = [version.name for version in ledger.versions()]
    family, namespace = door.settings.family, door.settings.serving.namespace
    try:
        return OllamaServer(door.settings.serving.ollama_host).size_of(
            [served_name(namespace, name) for name in (*bare, family)]
        )
    except ThauError:
        return None


def to_be_given_up(door: Door, names: Sequence[str]) -> bool:
    """Whether one of the names is still to go; one that answers by now, or is needed, is not."""
    with door.ledger() as ledger:
        found = lifecycle.choice(ledger, door.settings.family, door.settings.export.keep_versions)
    return any(version.name in names for version in found.given_up)


def left_of(door: Door, names: Sequence[str]) -> bool:
    """Whether a file of a version that was given up is still there."""
    with door.ledger() as ledger:
        models = {Path(version.gguf) for version in ledger.versions() if version.name in names}
        return any(path in models for path in lifecycle.given_up(ledger))


def still_registered(door: Door, names: Sequence[str]) -> bool:
    """Whether the ledger still says that the server holds one of them."""
    with door.ledger() as ledger:
        held = {row["name"] for row in ledger.registrations() if row["host"] == door.settings.serving.ollama_host}
    return any(name in held for name in names)


def say_or_hand_out(door: Door, words: VersionWords, report: dict[str, Any], *, as_json: bool) -> None:
    """What came of it."""
    if as_json:
        door.hand_out(report)
        return
    disk = {key: size_text(value) for key, value in report["disk"].items()}
    if not report["goes"]:
        door.say(words.nothing_to_prune)
    elif report["dry_run"]:
        door.say(words.disk_to_come.format(before=disk["before"], after=size_text(report["would_be"])))
    else:
        door.say(words.gone.format(names=", ".join(report["pruned"])), "green")
        door.say(words.disk.format(**disk))
    if ollama := report["ollama"]:
        sizes = {key: size_text(ollama[key]) for key in ("before", "after")}
        door.say(words.ollama_size.format(host=ollama["host"], **sizes))
