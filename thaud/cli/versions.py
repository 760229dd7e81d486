"""`thau versions`: all of them in a table, and `thau versions show N`: everything that is known of one."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from thaud.cli.card_words import CardWords, card_words
from thaud.cli.door import Door, Json, door_of
from thaud.cli.model_card import check_cells
from thaud.cli.strategy_words import strategy_sentence, strategy_words
from thaud.cli.version_words import VersionWords, version_words
from thaud.config import Settings
from thaud.domain import Version, percent
from thaud.errors import NoVersionError, UsageError
from thaud.ledger import LedgerReader
from thaud.lifecycle import numbers
from thaud.status import report_version, report_whole
from thaud.words import Words, reasons_in

Line = tuple[str, str]  # text, style
SHOWN_HEX = 12
INTERVAL = re.compile(r", [^)]*")  # of score_text
BYTES = {"peak_memory_bytes"}
NOT_SAID = {"ok"}
Named = Annotated[str, typer.Argument(metavar="N", help="A version: its number, or its name.")]


def make_versions() -> typer.Typer:
    """The group of commands."""
    group = typer.Typer(context_settings={"help_option_names": ["-h", "--help"]})
    group.callback(invoke_without_command=True)(versions)
    group.command()(show)
    return group


def versions(ctx: typer.Context, *, as_json: Json = False) -> None:
    """List the accepted versions; the one that answers is marked with *. `show N` says everything of one."""
    if ctx.invoked_subcommand is not None:
        return
    door = door_of(ctx)
    with door.ledger() as ledger:
        champion = ledger.champion(door.settings.family)
        found = sorted(ledger.versions(door.settings.family), key=lambda version: version.n)
        reports = [{**report_version(each, ledger), "champion": each == champion} for each in found]
    words = version_words(door.words)
    if as_json:
        door.hand_out(reports)
    elif not reports:
        door.say(words.none.format(family=door.settings.family))
    else:
        width = door.console.width if door.console.is_terminal else math.inf
        lines = version_lines(reports, words, door.settings.serving.ollama_host, width)
        for line, each in zip(lines, (None, *reports), strict=True):
            door.say(line, "bold" if each is None else row_style(each))


def row_style(report: Mapping[str, Any]) -> str:
    """The champion is seen at once, what is pruned stands back."""
    return "green" if report["champion"] else "dim" if report["pruned_at"] else ""


def version_lines(reports: list[dict[str, Any]], words: VersionWords, host: str, width: float = math.inf) -> list[str]:
    """A heading and a line for each version, oldest first, in columns. Where they are wider than `width` characters,
    without times of day and without what stands in brackets in the heading.
    """
    rows = [words.columns, *(version_row(report, words, host) for report in reports)]
    lines = in_columns(rows)
    return lines if max(map(len, lines)) <= width else in_columns([words.columns_short, *map(shortened, rows[1:])])


def in_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Cells under one another."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def shortened(row: Sequence[str]) -> list[str]:
    """A row without the interval of its accuracy, and with the day alone."""
    name, age, accuracy, size, kind, at, served = row
    return [name, age, INTERVAL.sub("", accuracy), size, kind, at[:10], served]


def version_row(report: Mapping[str, Any], words: VersionWords, host: str) -> tuple[str, ...]:
    """The cells of a version."""
    return (
        f"{report['name']}{' *' if report['champion'] else ''}",
        str(report["age"]),
        score_text(report["accuracy"]),
        size_text(report["size_bytes"]),
        report["kind"],
        report["accepted_at"][:16].replace("T", " "),
        served_text(report, words, host),
    )


def score_text(score: Mapping[str, Any]) -> str:
    """An accuracy with what it stands on: `82% (41/50, 69%-90%)`."""
    low, high = score["interval"]
    detail = f"{score['right']}/{score['n']}, {percent(low)}-{percent(high)}"
    return f"{percent(score['accuracy'])} ({detail})" if score["n"] else "-"


def size_text(count: int) -> str:
    """Bytes as people say them: `64.2 MB`, `3.1 GB`."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def served_text(report: Mapping[str, Any], words: VersionWords, host: str) -> str:
    """Where it answers, in short: `here, Ollama`. `host`: the server in use; what another held is history."""
    if report["pruned_at"]:
        return words.pruned
    held = [row["state"] == "served" for row in ollama_rows(report, host) if row["state"] != "uploading"]
    ollama = [words.on_ollama if any(held) else words.not_on_ollama] if held else []
    return ", ".join([words.here if report["served"]["embedded"] else words.lost, *ollama])


def ollama_rows(report: Mapping[str, Any], host: str) -> list[Mapping[str, Any]]:
    """What one server holds of it."""
    return [row for row in report["served"]["ollama"] if row["host"] == host]


# show


def show(ctx: typer.Context, version: Named, *, as_json: Json = False) -> None:
    """Say everything of one version: exam, run, file, certificate, where it answers."""
    door = door_of(ctx)
    with door.ledger() as ledger:
        report = report_whole(find_version(door, ledger, version), ledger)
    if as_json or (ctx.parent is not None and ctx.parent.params.get("as_json")):
        door.hand_out(report)
        return
    for line, style in show_lines(report, door.settings, door.words):
        door.say(line, style)


def find_version(door: Door, ledger: LedgerReader, named: str) -> Version:
    """The version of a number (`3`, `v3`), or of a name, of another size as well.

    Raises NoVersionError, and UsageError with those that there are.
    """
    family = door.settings.family
    found = ledger.versions(family)
    other = next((each for each in ledger.versions() if each.name == named), None)
    if other is not None:
        return other
    if not found:
        raise NoVersionError(f"there is no version of {family} yet: add examples and let `thau start` train one")
    wanted = next((each for each in found if named in {f"v{each.n}", str(each.n)}), None)
    if wanted is None:
        raise UsageError(f"there is no version {named} of {family}: choose one of {numbers(found)}")
    return wanted


def show_lines(report: Mapping[str, Any], settings: Settings, words: Words) -> Iterator[Line]:
    """Lines with their styles. `report` is status.report_whole's."""
    own = version_words(words)
    head = own.answers if report["champion"] else "{name}" if report["promoted"] else own.not_promoted
    yield head.format(name=report["name"], family=settings.family), "bold"
    if report["pruned_at"]:
        at = report["pruned_at"][:16].replace("T", " ")
        yield f"  {own.pruned_since.format(at=at, run=report['run'])}", "yellow"
    facts = dict(fact_lines(report, own, words))
    facts["served"] = served_text(report, own, settings.serving.ollama_host)
    width = max(len(own.titles[name]) for name in facts)
    for name, text in facts.items():
        yield f"  {own.titles[name].ljust(width)}  {text}", ""
    yield from certificate_lines(report["certificate"], own, card_words(words))
    for row in report["served"]["ollama"]:
        yield from live_lines(row, own)


def fact_lines(report: Mapping[str, Any], own: VersionWords, words: Words) -> Iterator[tuple[str, str]]:
    """(name of the title, text) of what is one line each."""
    yield "accepted", f"{report['accepted_at'][:19].replace('T', ' ')} UTC"
    yield "age", str(report["age"])
    yield "accuracy", score_text(report["accuracy"])
    yield from exam_lines(report["exam"] or {}, own)
    if report["reasons"]:
        yield "reasons", reasons_in(words, report["reasons"])
    yield "run", " ".join(filter(None, (report["run"], report["trigger"] and f"({report['trigger']})")))
    if "strategy" in report:
        yield "strategy", strategy_sentence(report, strategy_words(words))
    if figures := figures_text(report["training"], own):
        yield "training", figures
    if figures := figures_text(report["made"], own):
        yield "made", figures
    yield "examples", str(report["examples"])
    yield from file_lines(report)


def exam_lines(exam: Mapping[str, Any], own: VersionWords) -> Iterator[tuple[str, str]]:
    """What the exam found beyond the accuracy."""
    if retention := exam.get("retention"):
        parts = (f"{own.of_age.format(age=age)}: {score_text(score)}" for age, score in sorted(retention.items()))
        yield "retention", "; ".join(parts)
    if recall := exam.get("recall"):
        yield "recall", score_text(recall)


def file_lines(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The base, the file, and what they are known by."""
    base = report["base"]
    if base["name"]:
        yield "base", f"{base['name']} ({(base['digest'] or '')[:SHOWN_HEX]})"
    yield "file", f"{report['file']} ({report['kind']}, {size_text(report['size_bytes'])})"
    yield "sha256", report["gguf_sha256"]
    if base["gguf"]:
        yield "base_file", f"{base['gguf']} ({(base['gguf_sha256'] or '')[:SHOWN_HEX]})"


def certificate_lines(certificate: Mapping[str, Any] | None, own: VersionWords, card: CardWords) -> Iterator[Line]:
    """What was found when the file was compared with what was trained, a sentence a check as in the model card."""
    if certificate is None:
        yield f"  {own.titles['certificate']}: {own.no_certificate}", "dim"
        return
    passed = bool(certificate.get("passed"))
    said = own.certified if passed else own.refused.format(reasons="; ".join(certificate.get("reasons", ())))
    yield f"  {own.titles['certificate']}: {said}", "green" if passed else "red"
    width = max(len(own.ok), len(own.not_ok))
    for name in card.checks:
        if isinstance(check := certificate.get(name), Mapping):
            what, found, _ = check_cells(card, name, check)
            mark, style = (own.ok, "") if check.get("ok") else (own.not_ok, "red")
            yield f"    {mark.ljust(width)}  {what}: {found}", style
    if capabilities := certificate.get("capabilities"):
        yield f"    {own.figures['capabilities']}: {', '.join(capabilities)}", ""
    yield f"    {card.kl}", "dim"


def live_lines(row: Mapping[str, Any], own: VersionWords) -> Iterator[Line]:
    """What one Ollama server holds of it, and what the model showed there."""
    said = " ".join(filter(None, (own.states.get(row["state"], row["state"]), row["detail"])))
    yield f"  Ollama {row['host']}, {row['name']}: {said}", "" if row["state"] == "served" else "red"
    for key, value in (row["report"] or {}).items():
        text = figures_text(value, own) if isinstance(value, Mapping) else figure_text(key, value, own)
        yield f"    {own.figures.get(key, key).replace('_', ' ')}: {text}", ""


def figures_text(figures: Mapping[str, Any], own: VersionWords) -> str:
    """Figures with their names, in one line; what nobody knows is left out."""
    known = {key: value for key, value in figures.items() if value not in (None, [], "") and key not in NOT_SAID}
    return ", ".join(
        f"{own.figures.get(key, key).replace('_', ' ')} {figure_text(key, value, own)}" for key, value in known.items()
    )


def figure_text(key: str, value: Any, own: VersionWords) -> str:
    """One figure as people read it."""
    if isinstance(value, bool):
        return own.yes if value else own.no
    if key in BYTES:
        return size_text(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)
