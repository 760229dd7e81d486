"""Commands that put things right: retry (lines that were refused), doctor (the home)."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn

from thaud.cli.correcting import Corrections, Reader, find_file, stem_of
from thaud.cli.door import Door, Json, door_of
from thaud.cli.feed import SHOWN_LINES
from thaud.cli.mend_words import MEND, MendWords
from thaud.config import Settings, preferred_language
from thaud.control import Request, daemon_runs, only_daemon, send
from thaud.doctor import Done, Examined, Finding, Level, OnDigest, can_mend, examine, mend, say, title_of
from thaud.dropbox import write_examples
from thaud.errors import ConfigError, RejectedInputError, UnsoundError
from thaud.home import Home
from thaud.ledger.quarantined import snapshot
from thaud.quarantine import Resolution
from thaud.words import Language

MARK_WIDTH = 8
Setting = Literal["auto", "es", "en"]


def retry(
    ctx: typer.Context,
    file: Annotated[
        Path, typer.Argument(readable=False, help="The corrected file: of data/rejected/ by name, or any path.")
    ],
    *,
    as_json: Json = False,
) -> None:
    """Queue rejected lines that were corrected. If one of them is still no example, nothing is queued."""
    door = door_of(ctx)
    path = find_file(door.home, file)
    with door.ledger() as ledger, snapshot(ledger):
        found = Reader(door.home, door.settings.queue, ledger, path).read()
        known = ledger.known_ids(each.id for each in found.good)
    queued = [] if found.bad else queue_good(door, found, known)
    if found.resolved and not found.bad:
        resolution = Resolution(tuple(row.key for row in found.resolved), frozenset(found.taken))
        send(door.home, Request.RESOLVE, **resolution.to_json())
    if as_json:
        door.hand_out(report(found, queued, len(known)))
    else:
        say_retried(door, path, found, queued, len(known))
    refuse_still_bad(path, found)


def queue_good(door: Door, found: Corrections, known: set[str]) -> list[tuple[Path, int]]:
    """Put the good lines into the drop-box, durably, a file for each that they came from; (path, lines)."""
    fresh = {each.id: each for each in found.good if each.id not in known}
    by_origin = groupby(sorted(fresh.values(), key=lambda each: each.file), key=lambda each: each.file)
    batches = [(stem_of(file), [each.text for each in lines]) for file, lines in by_origin]
    return [(write_examples(door.home.queue, lines, stem), len(lines)) for stem, lines in batches]


def report(found: Corrections, queued: list[tuple[Path, int]], known: int) -> dict[str, Any]:
    """What happened, for programs."""
    return {
        "queued": [{"file": path.name, "lines": lines} for path, lines in queued],
        "resolved": 0 if found.bad else len(found.resolved),
        "unchanged": len(found.unchanged),
        "cut": [{"file": row.file, "line": row.line} for row in found.cut],
        "done": found.done,
        "known": known,
        "unpaired": found.unpaired,
        "rejections": [{"line": each.line, "reason": each.reason} for each in found.bad],
    }


def say_retried(door: Door, path: Path, found: Corrections, queued: list[tuple[Path, int]], known: int) -> None:
    """What happened, for people."""
    words = mend_words(door)
    for each in found.bad[:SHOWN_LINES]:
        door.say(door.words.bad_lines.format(line=each.line, reason=each.reason))
    if len(found.bad) > SHOWN_LINES:
        door.say(door.words.more_lines.format(n=len(found.bad) - SHOWN_LINES))
    for file, lines in queued:
        door.say(words.queued.format(file=file.name, n=lines))
    if found.resolved and not found.bad:
        sentence = words.resolved if daemon_runs(door.home) else words.resolved_later
        door.say(sentence.format(n=len(found.resolved)))
    elif not found.bad and not found.good:
        door.say(words.nothing_mended.format(file=path))
    counted = ((words.unchanged, len(found.unchanged)), (words.done, found.done), (words.known, known))
    for sentence, n in (*counted, (words.unpaired, 0 if found.bad else found.unpaired)):
        if n:
            door.say(sentence.format(n=n))
    for row in found.cut[:SHOWN_LINES]:
        door.say(words.cut.format(place=f"{row.file}:{row.line}" if row.line else row.file))


def mend_words(door: Door) -> MendWords:
    """The words of the user's language."""
    return MEND[preferred_language(door.settings.language)]


def refuse_still_bad(path: Path, found: Corrections) -> None:
    """Raise RejectedInputError where a mended line is no example: then nothing was queued."""
    if bad := len(found.bad):
        count = "1 line is still no example" if bad == 1 else f"{bad} lines are still no examples"
        raise RejectedInputError(f"{count}: nothing was queued; correct {path} (as listed) and retry it")


def doctor(
    ctx: typer.Context,
    *,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what can be mended; the service must be stopped.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Compare models by size alone, not by SHA-256.")] = False,
    as_json: Json = False,
) -> None:
    """Say what is wrong with this home and what to do about it. Changes nothing without --fix."""
    door = door_of(ctx)
    home = door.home
    try:
        settings = door.settings
    except ConfigError as error:
        found = [Examined("config", (Finding(Level.PROBLEM, "config_unusable", detail=str(error)),))]
        hand_over(door, found, [], "auto", as_json=as_json)
    else:
        with digests_shown(MEND[preferred_language(settings.language)]) as on_digest:
            found, done = examined(home, settings, fix=fix, quick=quick, on_digest=on_digest)
        hand_over(door, found, done, settings.language, as_json=as_json)
    if problems := count(found, Level.PROBLEM):
        raise UnsoundError(f"{problems} problem{'s' * (problems > 1)} in {home.root}: what to do is said with each")


def examined(
    home: Home, settings: Settings, *, fix: bool, quick: bool, on_digest: OnDigest
) -> tuple[list[Examined], list[Done]]:
    """What is found, after the repairs where there are any. Raises HomeBusyError where a daemon works."""
    if not fix:
        return examine(home, settings, served=daemon_runs(home), quick=quick, on_digest=on_digest), []
    with only_daemon(home):
        before = examine(home, settings, served=False, quick=quick, on_digest=on_digest)
        done = mend(home, settings, before)
        return (again(before, examine(home, settings, served=False, quick=True)) if done else before), done


def again(before: list[Examined], after: list[Examined]) -> list[Examined]:
    """What is left after the repairs. None of them changes a version's file, so no digest is taken twice."""
    versions = [one for one in before if one.check == "versions"]
    return [versions[0] if versions and one.check == "versions" else one for one in after]


@contextmanager
def digests_shown(words: MendWords) -> Iterator[OnDigest]:
    """A bar on standard error while digests of models are taken; none where that is no terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}

        def on_digest(name: str, done: int, size: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(words.taking_digest.format(name=name), total=size)
            bar.update(tasks[name], completed=done)

        yield on_digest


def hand_over(door: Door, found: list[Examined], done: list[Done], setting: Setting, *, as_json: bool) -> None:
    """What was found and done, for programs or for people."""
    language = preferred_language(setting)
    if as_json:
        door.hand_out([check_json(each, done, language) for each in found])
        return
    words = MEND[language]
    for each in done:
        sentence, _ = say(each.finding, language)
        failure = f" ({each.failure})" if each.failure else ""
        door.say((words.not_mended if each.failure else words.mended).format(what=f"{sentence}{failure}"))
    for one in found:
        say_check(door, one, language)
    problems, warnings = count(found, Level.PROBLEM), count(found, Level.WARNING)
    door.say(words.counted.format(problems=problems, warnings=warnings) if problems + warnings else words.all_well)
    if not done and any(can_mend(finding) for one in found for finding in one.findings):
        door.say(words.fix_hint)


def say_check(door: Door, one: Examined, language: Language) -> None:
    """One check: its title where all is well, else each finding with what to do."""
    marks = {Level.NOTE: "note", Level.WARNING: "warning", Level.PROBLEM: "problem"}
    styles = {Level.NOTE: "", Level.WARNING: "yellow", Level.PROBLEM: "red"}
    title, words = title_of(one.check, language), MEND[language]
    if not one.findings:
        door.say(f"{words.ok:<{MARK_WIDTH}} {title}", style="green")
    for finding in one.findings:
        sentence, remedy = say(finding, language)
        door.say(f"{getattr(words, marks[finding.level]):<{MARK_WIDTH}} {title}: {sentence}", styles[finding.level])
        if remedy:
            door.say(f"{'':<{MARK_WIDTH}}   -> {remedy}")


def check_json(one: Examined, done: list[Done], language: Language) -> dict[str, Any]:
    """One check for programs; `mended` are the repairs of what it had found."""
    return {
        "check": one.check,
        "level": one.level.value if one.findings else "ok",
        "findings": [finding_json(each, language) for each in one.findings],
        "mended": [
            {**finding_json(each.finding, language), "failure": each.failure}
            for each in done
            if each.check == one.check
        ],
    }


def finding_json(finding: Finding, language: Language) -> dict[str, Any]:
    """A finding with its words."""
    sentence, remedy = say(finding, language)
    return {
        "level": finding.level.value,
        "name": finding.name,
        "subject": finding.subject,
        "found": sentence,
        "remedy": remedy,
    }


def count(found: list[Examined], level: Level) -> int:
    """How many findings are of a level."""
    return sum(finding.level is level for one in found for finding in one.findings)
