"""What goes into the drop-box from the command line, and what was refused there: add, import-data, rejected."""

from pathlib import Path
from typing import Annotated, Any

import typer

from thaud.cli.door import Door, Json, door_of, printable
from thaud.cli.importing import Checked, check_file, copy_in
from thaud.control import daemon_runs
from thaud.domain import Rejection
from thaud.dropbox import quarantine_path, write_examples
from thaud.errors import RejectedInputError
from thaud.formats import example_to_line, parse_object

SHOWN_LINES = 10
RAW_CHARS = 100


def add(
    ctx: typer.Context,
    instruction: Annotated[str, typer.Argument(help="What is asked.")],
    output: Annotated[str, typer.Argument(help="The right answer.")],
    age: Annotated[int | None, typer.Option(help="Cognitive age it belongs to; else the current one.")] = None,
    group: Annotated[str | None, typer.Option(help="Name of the fact, shared by its paraphrases.")] = None,
    system: Annotated[str | None, typer.Option(help="System prompt.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """Add one example: it goes into the drop-box, whether or not the service runs."""
    door = door_of(ctx)
    row = {"instruction": instruction, "output": output, "age": age, "group": group, "system": system}
    example = parse_object({field: value for field, value in row.items() if value is not None})
    if isinstance(example, Rejection):
        raise RejectedInputError(f"this is no example: {example.reason}; nothing was queued")
    path = write_examples(door.home.queue, [example_to_line(example)], "added")
    if as_json:
        door.hand_out({"id": example.id, "status": "queued", "file": path.name})
        return
    door.say(door.words.added.format(file=path.name))
    say_when(door)


def say_when(door: Door) -> None:
    """When the drop-box will be read."""
    door.say(door.words.taken_soon if daemon_runs(door.home) else door.words.taken_later)


def import_data(
    ctx: typer.Context,
    files: Annotated[
        list[Path], typer.Argument(readable=False, help="JSONL files (or .json lists), in any accepted dialect.")
    ],
    age: Annotated[int | None, typer.Option(min=0, help="Age of the examples that name none.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """Check whole files and copy them into the drop-box. Lines that are no examples go into quarantine there."""
    door = door_of(ctx)
    checked = [check_file(path, door.settings.queue) for path in files]
    queued = [copy_in(door.home.queue, each.path, age) if each.good else None for each in checked]
    if as_json:
        door.hand_out([report(each, path) for each, path in zip(checked, queued, strict=True)])
    else:
        for each, path in zip(checked, queued, strict=True):
            say_checked(door, each, path)
        if any(queued):
            say_when(door)
    refuse_bad(checked)


def report(each: Checked, queued: Path | None) -> dict[str, Any]:
    """One file for programs."""
    return {
        "file": str(each.path),
        "good": each.good,
        "bad": each.bad,
        "queued": queued.name if queued else None,
        "rejections": [{"line": line, "reason": reason} for line, reason in each.rejections],
    }


def say_checked(door: Door, each: Checked, queued: Path | None) -> None:
    """One file for people: what is good, and the first lines that are not."""
    words = door.words
    sentence = words.imported if queued else words.nothing_good
    name = queued.name if queued else ""
    door.say(sentence.format(file=each.path, good=each.good, bad=each.bad, queued=name))
    for line, reason in each.rejections[:SHOWN_LINES]:
        door.say(words.bad_lines.format(line=line, reason=reason))
    if each.bad > SHOWN_LINES:
        door.say(words.more_lines.format(n=each.bad - SHOWN_LINES))


def refuse_bad(checked: list[Checked]) -> None:
    """Raise RejectedInputError where a file is empty or has bad lines; the good lines are queued all the same."""
    if bad := sum(each.bad for each in checked):
        count = "1 line is no example" if bad == 1 else f"{bad} lines are no examples"
        rest = "the good ones are queued" if any(each.good for each in checked) else "nothing was queued"
        raise RejectedInputError(f"{count}: correct what is listed and import it again; {rest}")
    for each in checked:
        if not each.good:
            raise RejectedInputError(f"{each.path} is empty: nothing was queued")


def rejected(
    ctx: typer.Context,
    file: Annotated[str | None, typer.Option("--file", help="Only lines of this file of the drop-box.")] = None,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="How many, newest first.")] = 20,
    *,
    as_json: Json = False,
) -> None:
    """Show quarantined lines that nobody corrected: file, line, reason and the text."""
    door = door_of(ctx)
    with door.ledger() as ledger:
        rows, total = ledger.rejections(limit, file), ledger.rejection_count(file)
    if as_json:
        door.hand_out({"total": total, "rejections": rows})
        return
    if not rows:
        door.say(door.words.nothing_rejected)
    for row in rows:
        door.say(f"{row['file']}:{row['line']}: {row['reason']}", style="bold")
        door.say(f"    {shorten(row['raw'])}")
    if total > len(rows):
        door.say(door.words.more_lines.format(n=total - len(rows)))
    if rows:
        path = quarantine_path(door.home.rejected, rows[0]["file"])
        door.say(door.words.how_to_correct.format(total=total, path=path))


def shorten(raw: str) -> str:
    """The beginning of a line that may be anything, on one line and without control characters."""
    text = printable(raw[: RAW_CHARS + 1])
    return text if len(raw) <= RAW_CHARS else f"{text[:RAW_CHARS]}..."
