"""`thau export`: a version's files with what other people and programs need of it, in a folder of theirs.

The model comes first, each file whole or not there, and nothing of the home is changed, so that it works beside the
daemon. Refuses a folder that holds something else, and a version whose file is given up, lost or damaged.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from thaud.cli.copying import Advance, Outgoing, copy_out, forget, take_back, temporary_of
from thaud.cli.door import Door, Json, door_of
from thaud.cli.handing_out_words import ExportWords, export_words
from thaud.cli.model_card import Exported, Subject, languages_in, model_card, size_words
from thaud.cli.versions import find_version
from thaud.domain import Version
from thaud.durable import make_folder, write_durably
from thaud.errors import ModelError, ServerError, StorageError, UsageError
from thaud.ledger import LedgerReader
from thaud.ledger.whereabouts import teaching, texts_of
from thaud.lifecycle import pruned_words
from thaud.origins import report_provenance
from thaud.registrar import as_served
from thaud.serving.modelfile import modelfile
from thaud.serving.reconcile import Wanted, recipe_for

MODELFILE, OLD_MODELFILE, CERTIFICATE, CARD = "Modelfile", "Modelfile.ollama-0.24", "certificate.json", "README.md"
BASE, ADAPTER = "base.gguf", "adapter.gguf"
SIGN_BYTES = 4096
SIGNS = {  # what the beginning of each text has where an export wrote it
    MODELFILE: b"# ollama create thau-",
    OLD_MODELFILE: b"# ollama create thau-",
    CERTIFICATE: b'"format": 1,',
    CARD: b"\n- thau\n",
}
LARGE_BYTES = 64 << 20  # from here on copying is shown
SAMPLE = 200  # examples that are looked at for their language


@dataclass(frozen=True, slots=True)
class Extra:
    """A file beside the model: its text, or why it is left out."""

    name: str
    text: str | None
    why_not: str = ""


def export(
    ctx: typer.Context,
    version: Annotated[str | None, typer.Argument(metavar="[N]", help="Number or name; the champion without.")] = None,
    *,
    to: Annotated[Path, typer.Option("--to", help="The folder to write into; made if missing.")],
    force: Annotated[bool, typer.Option("--force", help="Replace what an export left there; nothing else.")] = False,
    as_json: Json = False,
) -> None:
    """Write a version into a folder: GGUF, Modelfile for Ollama, certificate and model card."""
    door = door_of(ctx)
    own, folder = export_words(door.words), to.expanduser().absolute()
    with door.ledger() as ledger:
        chosen = chosen_version(door, ledger, version)
        models = outgoing(chosen)
        names = (*(each.name for each in models), MODELFILE, OLD_MODELFILE, CERTIFICATE, CARD)
        with prepared(door, folder, names, force=force):
            hand_over(models, folder, quiet=as_json)
            files = [Exported(each.name, each.size_bytes, each.sha256) for each in models]
            extras = list(written(door, ledger, chosen, files, own))
            settle(folder, extras)
    report = report_export(chosen, folder, models, extras)
    if as_json:
        door.hand_out(report)
    else:
        say_export(door, own, report)


def chosen_version(door: Door, ledger: LedgerReader, named: str | None) -> Version:
    """The version that is named, else the one that answers. Raises NoVersionError, UsageError."""
    if named is None and (champion := ledger.champion(door.settings.family)) is not None:
        return champion
    return find_version(door, ledger, named or "")


# The folder


@contextmanager
def prepared(door: Door, folder: Path, names: Sequence[str], *, force: bool) -> Iterator[None]:
    """The folder, made if missing, and gone again where nothing came of it.

    Raises UsageError where it lies in the home's own data or holds something, with --force something that no export
    wrote and that has the name of what this one writes; StorageError where it is none.
    """
    if folder.resolve().is_relative_to(door.home.data.resolve()):
        raise UsageError(f"{folder} is inside the home's own data: choose a folder elsewhere with --to")
    if folder.exists() and not folder.is_dir():
        raise StorageError(f"{folder} is a file: name a folder with --to")
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    temporaries = {temporary_of(folder / name).name for name in names}
    held = [] if missing else sorted(each.name for each in folder.iterdir() if each.name not in temporaries)
    if held and not force:
        raise UsageError(
            f"{folder} is not empty ({held[0]}{', ...' if len(held) > 1 else ''}): choose another with --to, or let"
            " --force replace what an export left there (it touches nothing else)"
        )
    for name in names if held else ():
        refuse_strange(folder / name)
    make_folder(folder)
    try:
        yield
    except BaseException:
        take_back(missing)
        raise


def refuse_strange(path: Path) -> None:
    """Raise UsageError where a name is taken by what no export wrote: somebody else's README.md is not replaced."""
    if not os.path.lexists(path):
        return
    sign = SIGNS.get(path.name, b"GGUF")
    if path.is_file():
        with path.open("rb") as file:
            if sign in file.read(SIGN_BYTES):
                return
    raise UsageError(
        f"{path} was not written by an export, which --force alone replaces: move it away, or choose another folder"
        " with --to"
    )


# What goes into it


def outgoing(version: Version) -> list[Outgoing]:
    """The version's files. Raises StorageError where one is given up or lost."""
    if version.pruned_at is not None:
        raise StorageError(f"{pruned_words(version)}: export another (`thau versions` lists them)")
    merged = version.kind != "adapter"
    files = [(Path(version.gguf), f"{version.name}.gguf" if merged else ADAPTER, version.gguf_sha256)]
    if not merged:
        if version.base_gguf is None or version.base_sha256 is None:
            raise StorageError(f"the ledger does not say which base {version.name} is an adapter of: see `thau doctor`")
        files.append((Path(version.base_gguf), BASE, version.base_sha256))
    try:
        return [Outgoing(source, name, sha256, source.stat().st_size) for source, name, sha256 in files]
    except OSError as error:
        raise StorageError(
            f"the file of {version.name} cannot be read: {error.filename}: {error.strerror}; restore it from a backup,"
            " or export another version (`thau versions` lists them)"
        ) from error


def hand_over(models: Sequence[Outgoing], folder: Path, *, quiet: bool) -> None:
    """Copy the models. Raises StorageError."""
    left = sum(each.size_bytes for each in models)
    with shown(left, quiet=quiet) as advance:
        for each in models:
            copy_out(each, folder, left, advance)
            left -= each.size_bytes


@contextmanager
def shown(total: int, *, quiet: bool) -> Iterator[Advance]:
    """A bar for what takes long, on a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    console = Console(stderr=True)
    silent = quiet or total < LARGE_BYTES or not console.is_terminal
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=silent) as progress:
        task = progress.add_task("GGUF", total=total)
        yield lambda done: progress.advance(task, done)


def written(
    door: Door, ledger: LedgerReader, version: Version, files: Sequence[Exported], own: ExportWords
) -> Iterator[Extra]:
    """What stands beside the models, the card last: who finds it finds all of it."""
    wanted, report = as_served(door.settings, version), report_provenance(version, ledger)
    yield Extra(MODELFILE, modelfile_of(wanted, own.for_new.format(name=version.name), native=True))
    old = old_modelfile(wanted, own)
    yield old
    certificate = report["certificate"]
    text = None if certificate is None else json_text(certificate)
    yield Extra(CERTIFICATE, text, own.no_certificate)
    with teaching(ledger, version.run_id) as lessons:
        ages = lessons.ages()
        sample = texts_of(ledger, (each.id for each in islice(lessons.taught(), SAMPLE)))
        languages = languages_in([" ".join(str(turn["content"]) for turn in turns) for turns in sample])
    subject = Subject(
        version, report, ages, languages, wanted.context_tokens, files, has_old_modelfile=old.text is not None
    )
    yield Extra(CARD, model_card(subject, door.words))


def json_text(value: Any) -> str:
    """A value as a file for people and programs."""
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"


def modelfile_of(wanted: Wanted, heading: str, *, native: bool) -> str:
    """The Modelfile of what the reconciler would make of a version. Raises ServerError, ModelError."""
    recipe, version = recipe_for(wanted, native=native), wanted.version
    adapted = version.kind == "adapter"
    source, adapter = (f"./{BASE}", f"./{ADAPTER}") if adapted else (f"./{version.name}.gguf", None)
    return modelfile(heading, source, recipe.parameters, recipe.template, adapter)


def old_modelfile(wanted: Wanted, own: ExportWords) -> Extra:
    """The one for servers that run no Jinja, where the chat template can be put into Go's."""
    heading = own.for_old.format(name=wanted.version.name, file=OLD_MODELFILE)
    try:
        return Extra(OLD_MODELFILE, modelfile_of(wanted, heading, native=False))
    except (ServerError, ModelError):
        return Extra(OLD_MODELFILE, None, own.no_old_template)


def settle(folder: Path, extras: Sequence[Extra]) -> None:
    """Write what there is; what an earlier export left of the others would be of another version, and goes."""
    for each in extras:
        if each.text is None:
            forget(folder / each.name)
        else:
            write_durably(folder / each.name, each.text.encode(), "export")


# What is said of it


def report_export(
    version: Version, folder: Path, models: Sequence[Outgoing], extras: Sequence[Extra]
) -> dict[str, Any]:
    """What was written and what was not."""
    copied = [{"name": each.name, "size_bytes": each.size_bytes, "sha256": each.sha256} for each in models]
    texts = [{"name": each.name, "size_bytes": len(each.text.encode())} for each in extras if each.text is not None]
    return {
        "version": version.name,
        "folder": str(folder),
        "files": [*copied, *texts],
        "left_out": [{"name": each.name, "reason": each.why_not} for each in extras if each.text is None],
    }


def say_export(door: Door, own: ExportWords, report: dict[str, Any]) -> None:
    """The same for people, with what to do next."""
    door.say(own.done.format(name=report["version"], folder=report["folder"]))
    for each in report["files"]:
        door.say(f"  {each['name']:<{len(OLD_MODELFILE)}}  {size_words(each['size_bytes'])}")
    for each in report["left_out"]:
        door.say(own.left_out.format(name=each["name"], reason=each["reason"]), "yellow")
    door.say(own.then.format(folder=quote(report["folder"]), name=report["version"]))
