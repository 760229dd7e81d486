"""`thau lineage`: what a version comes from, example by example, and where one example went.

As JSON everything is one document, written as it is read, because a version may have been taught a million examples.
Refuses to change anything.
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Annotated, Any

import typer

from thaud.cli.door import Door, Json, door_of
from thaud.cli.handing_out import chosen_version
from thaud.cli.lineage_words import LineageWords, lineage_words
from thaud.cli.strategy_words import strategy_sentence, strategy_words
from thaud.curriculum import STAGES, stage_at
from thaud.domain import percent
from thaud.errors import UsageError
from thaud.ledger import LedgerReader
from thaud.ledger.whereabouts import (
    MOST_FOUND,
    Found,
    Lesson,
    Lessons,
    Omitted,
    by_place,
    by_prefix,
    teaching,
    texts_of,
)
from thaud.origins import report_example, report_lesson, report_omitted, report_provenance
from thaud.words import reasons_in

HEX = re.compile(r"[0-9a-f]+")
PLACE = re.compile(r"(?P<file>.+):(?P<line>\d{1,18})", re.DOTALL)  # a number that SQLite holds
SHORTEST, SHOWN_DIGITS = 8, 12
Limit = Annotated[int, typer.Option("--limit", min=0, help="How many examples are listed.")]


def lineage(
    ctx: typer.Context,
    version: Annotated[str | None, typer.Argument(metavar="[N]", help="Number or name; the champion without.")] = None,
    *,
    example: Annotated[str | None, typer.Option("--example", help="An id (8 digits or more), or FILE:LINE.")] = None,
    limit: Limit = 20,
    as_json: Json = False,
) -> None:
    """Show what a version was made of, example by example; or where an example went."""
    door = door_of(ctx)
    if example is not None and version is not None:
        raise UsageError(f"name a version ({version}) or an example ({example}), not both")
    with door.ledger() as ledger:
        if example is not None:
            show_example(door, ledger, named_example(ledger, example), as_json=as_json)
            return
        chosen = chosen_version(door, ledger, version)
        report = report_provenance(chosen, ledger)
        with teaching(ledger, chosen.run_id) as lessons:
            if as_json:
                stream(report, lessons)
            else:
                show_version(door, report, lessons, limit)


# A version


def stream(report: Mapping[str, Any], lessons: Lessons) -> None:
    """One JSON document, an example a line. `examples` counts them, `taught` is all of them."""
    head = json.dumps({**report, "examples": lessons.count}, ensure_ascii=False, indent=2)
    sys.stdout.write(head.removesuffix("\n}"))
    write_list("set_aside", (report_omitted(each) for each in lessons.omitted()))
    write_list("taught", (report_lesson(each, lessons.family) for each in lessons.taught()))
    sys.stdout.write("\n}\n")


def write_list(name: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """A member of the document whose value is a list, written row by row."""
    sys.stdout.write(f",\n  {json.dumps(name)}: [")
    between = "\n    "
    for row in rows:
        sys.stdout.write(between + json.dumps(row, ensure_ascii=False))
        between = ",\n    "
    sys.stdout.write("]" if between == "\n    " else "\n  ]")


def show_version(door: Door, report: Mapping[str, Any], lessons: Lessons, limit: int) -> None:
    """A summary, and the first examples."""
    own = lineage_words(door.words)
    stage = door.words.stages[stage_at(STAGES, report["age"]).name].name
    at = report["accepted_at"][:16].replace("T", " ")
    door.say(own.accepted.format(name=report["name"], age=report["age"], stage=stage, at=at), "bold")
    say_rows(door, own.rows, summary(door, report, own))
    heading = own.taught_first if lessons.count > limit > 0 else own.taught
    door.say("")
    door.say(heading.format(n=lessons.count, limit=limit), "bold")
    say_lessons(door, own, lessons, limit)
    say_more(door, own, lessons.count - limit)
    say_omitted(door, own, list(lessons.omitted()), limit)


def say_rows(door: Door, names: Mapping[str, str], values: Mapping[str, list[str]]) -> None:
    """Names and values in two columns; a value may have several lines, and what has none is left out."""
    width = max(len(name) for name in names.values())
    for key, name in names.items():
        for number, line in enumerate(values.get(key, ())):
            door.say(f"  {name if number == 0 else '':<{width}}  {line}")


def summary(door: Door, report: Mapping[str, Any], own: LineageWords) -> dict[str, list[str]]:
    """Everything but the examples, as lines."""
    trained, file = report["training"], report["file"]
    settings = ", ".join(f"{name} {value}" for name, value in report["hyperparameters"].items())
    values = {
        "line": [" -> ".join(each["version"] or each["run"] for each in report["line"])],
        "run": [f"{report['run']} ({report['trigger']})"],
        "base": [report["base"] or "?"],
        "base_digest": [report["base_digest"] or "?"],
        "seed": [str(report["seed"])],
        "hyperparameters": [settings],
        "reasons": [reasons_in(door.words, report["reasons"])],
        "certificate": [certificate_line(report["certificate"], own)],
        "file": [f"{file['gguf']} ({file['kind']}, {file['size_bytes']:,} bytes)"],
        "sha256": [file["sha256"]],
        "exam": exam_lines(report["exam"], own),
    }
    if "strategy" in report:
        values["strategy"] = [strategy_sentence(report, strategy_words(door.words))]
    if trained is not None:
        values["training"] = [training_line(trained, own)]
    if file["base_gguf"]:
        values["file"].append(file["base_gguf"])
    if file["pruned_at"]:
        values["file"].append(own.given_up.format(at=file["pruned_at"][:10]))
    return values


def training_line(trained: Mapping[str, Any], own: LineageWords) -> str:
    """What the trainer measured."""
    return own.training.format(
        steps=f"{trained['steps']:,}",
        tokens=f"{trained['tokens']:,}",
        first=trained["first_loss"],
        last=trained["last_loss"],
        seconds=trained["seconds"],
    )


def exam_lines(report: Mapping[str, Any] | None, own: LineageWords) -> list[str]:
    """A line for each age that was asked, its own first."""
    if report is None or "age" not in report:
        return []
    asked = [(report["age"], report["accuracy"]), *sorted(report["retention"].items(), key=lambda each: -int(each[0]))]
    return [
        own.exam.format(
            age=age,
            accuracy=percent(score["accuracy"]),
            right=score["right"],
            n=score["n"],
            low=percent(score["interval"][0]),
            high=percent(score["interval"][1]),
        )
        for age, score in asked
        if score["n"]
    ]


def certificate_line(certificate: Mapping[str, Any] | None, own: LineageWords) -> str:
    """Whether there is one, and what it found."""
    if certificate is None:
        return own.certificate["none"]
    if certificate.get("passed"):
        return own.certificate["passed"]
    return own.certificate["failed"].format(reasons="; ".join(certificate.get("reasons", ())))


def say_lessons(door: Door, own: LineageWords, lessons: Lessons, limit: int) -> None:
    """The first examples, in columns; under one of which only a beginning was learned, why."""
    shown = list(islice(lessons.taught(), limit))
    if not shown:
        return
    rows = [own.lesson, *(lesson_cells(own, lesson, first_words(lessons.ledger, lesson.id)) for lesson in shown)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row, lesson in zip(rows, (None, *shown), strict=True):
        cells = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        door.say(f"  {cells.rstrip()}")
        if lesson is not None and lesson.cut:
            door.say(own.cut.format(reason=lesson.cut), "yellow")


def lesson_cells(own: LineageWords, lesson: Lesson, question: str) -> tuple[str, ...]:
    """An example in a line."""
    place = own.place.format(file=lesson.file, line=lesson.line)
    more = own.more_places.format(n=lesson.places - 1) if lesson.places > 1 else ""
    since = lesson.run_id if lesson.first is None else f"v{lesson.first}"
    return place + more, str(lesson.age), since, lesson.id[:SHOWN_DIGITS], question


def first_words(ledger: LedgerReader, example_id: str) -> str:
    """The beginning of the last question."""
    for turns in texts_of(ledger, [example_id]):
        asked = [str(turn["content"]) for turn in turns[:-1] if turn["role"] == "user"]
        return shortened(asked[-1] if asked else str(turns[0]["content"]), 60)
    return ""


def shortened(text: str, most: int) -> str:
    """One line of at most so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def say_more(door: Door, own: LineageWords, n: int) -> None:
    """How many are not listed."""
    if n > 0:
        door.say(own.more.format(n=n))


def say_omitted(door: Door, own: LineageWords, omitted: list[Omitted], limit: int) -> None:
    """What the trainer set aside, with the reasons."""
    if not omitted:
        return
    door.say(own.set_aside.format(n=len(omitted)), "bold")
    for each in omitted[:limit]:
        place = own.nowhere if each.file is None else own.place.format(file=each.file, line=each.line)
        door.say(own.omitted.format(place=place, run=each.run_id, id=each.id[:SHOWN_DIGITS], reason=each.reason))
    say_more(door, own, len(omitted) - limit)


# An example


def named_example(ledger: LedgerReader, said: str) -> Found:
    """The one example that an id, the beginning of one, or FILE:LINE names. Raises UsageError."""
    place, digits = PLACE.fullmatch(said), said.lower()
    if place is not None:
        name = place["file"].rpartition("/")[2]
        found = by_place(ledger, name, int(place["line"]))
        missing = f"no example was seen on line {place['line']} of {name}: see `thau rejected --file {name}`"
    elif HEX.fullmatch(digits) is None or not SHORTEST <= len(digits) <= 64:
        raise UsageError(
            f"{said!r} names no example: give at least {SHORTEST} digits of its id (`thau lineage N` shows them), or"
            " FILE:LINE"
        )
    else:
        found = by_prefix(ledger, digits)
        missing = f"no example has an id that begins with {said}: `thau lineage N` and the drop-box's files show them"
    if not found:
        raise UsageError(missing)
    if len(found) > 1:
        listed = ", ".join(f"{each.row.id} ({each.row.file}:{each.row.line})" for each in found[:MOST_FOUND])
        more = ", ..." if len(found) > MOST_FOUND else ""
        raise UsageError(f"{said} is ambiguous; give more digits of one of these: {listed}{more}")
    return found[0]


def show_example(door: Door, ledger: LedgerReader, found: Found, *, as_json: bool) -> None:
    """Where an example went."""
    report, own = report_example(found, ledger, door.settings.family), lineage_words(door.words)
    if as_json:
        door.hand_out(report)
        return
    door.say(report["id"], "bold")
    *asked, answer = report["messages"]
    for turn in asked[-1:]:
        door.say(f"  {own.question}: {shortened(turn['content'], 300)}")
    said = answer["content"] or json.dumps(answer.get("tool_calls"), ensure_ascii=False)
    door.say(f"  {own.answer}: {shortened(said, 300)}")
    say_rows(door, own.example_rows, example_lines(door, report, own))


def example_lines(door: Door, report: Mapping[str, Any], own: LineageWords) -> dict[str, list[str]]:
    """What is known of an example, as lines."""
    first = [each["version"] or each["run"] for each in report["first_taught_by"]]
    nothing = [own.none]
    return {
        "state": [own.states[report["state"]].format(age=report["age"])],
        "age": [str(report["age"])],
        "side": [own.sides[report["side"]]],
        "received_at": [report["received_at"][:19].replace("T", " ")],
        "places": [(own.moved if each["retired_to"] else own.place).format(**each) for each in report["places"]]
        or [own.place.format(file=report["file"], line=report["line"])],
        "first_taught_by": first or nothing,
        "known_by": [", ".join(report["known_by"])] if report["known_by"] else nothing,
        "runs": list(run_lines(door, report, own)) or nothing,
        "answers": [
            own.answered.format(
                version=each["version"], answer=shortened(each["answer"], 80), right=own.right[each["correct"]]
            )
            for each in report["answers"]
        ]
        or nothing,
    }


def run_lines(door: Door, report: Mapping[str, Any], own: LineageWords) -> Iterator[str]:
    """A line for each run that named the example."""
    for each in report["runs"]:
        version = f" ({each['version']})" if each["version"] else ""
        state = door.words.states.get(each["state"], "?")
        line = own.run.format(run=each["run"], part=own.parts[each["part"]], state=state, version=version)
        aside = own.run_set_aside.format(reason=each["set_aside"]) if each["set_aside"] else ""
        yield line + aside + (own.run_cut.format(reason=each["cut"]) if each["cut"] else "")
