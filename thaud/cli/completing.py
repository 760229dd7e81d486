"""`thau completion`: what shells read to complete `thau`, and the words that they ask for. Owns the reading of our own
command line; refuses to know shells (shells.py).
"""

import inspect
import sys
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args, get_origin

import typer

from thaud.cli.door import Door, door_of
from thaud.cli.shells import SHELLS, Option, Verb, Wants
from thaud.errors import HomeError
from thaud.sizes import SIZES

VERSION_NAMES = {"n", "version"}
CHAT_NAMES = {"conversation"}
FOLDER_NAMES = {"workspace", "home", "to"}

Types = Mapping[str, tuple[Any, ...]]


def completion(
    ctx: typer.Context,
    of: Annotated[
        Literal["bash", "zsh", "fish", "versions", "chats"],
        typer.Argument(help="A shell, for its script; or the words that such a script asks for."),
    ],
) -> None:
    """Print what a shell needs to complete `thau`.

    bash, zsh: source <(thau completion bash). fish: thau completion fish | source.
    """
    if of in SHELLS:
        sys.stdout.write(SHELLS[of](list(read_verbs())))
        return
    for word in words_of(door_of(ctx), of):
        sys.stdout.write(f"{word}\n")


def words_of(door: Door, kind: str) -> list[str]:
    """Numbers of the versions that have files, or ids of conversations; nothing where there is no home."""
    try:
        if kind == "chats":
            return sorted((path.stem for path in door.home.transcripts.glob("*.jsonl")), reverse=True)
        with door.ledger() as ledger:
            found = ledger.versions(door.settings.family)
    except HomeError:
        return []
    return [str(version.n) for version in reversed(found) if version.pruned_at is None]


def read_verbs() -> Iterator[Verb]:
    """Every command of the command line."""
    from thaud.cli.app import make_app  # noqa: PLC0415 - it names this module

    yield from walk(typer.main.get_command(make_app()), ())


def walk(command: Any, path: tuple[str, ...]) -> Iterator[Verb]:
    """A command and those below it."""
    below = {name: each for name, each in getattr(command, "commands", {}).items() if not each.hidden}
    types = types_of(command)
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option" and not each.hidden]
    first = arguments[0].name if arguments else ""
    yield Verb(
        path,
        (*(read_option(each, types) for each in options), Option(("--help",), "nothing", (), "Show help")),
        wanted(first, types) if arguments else "nothing",
        choices_of(first, types),
        tuple(below),
        first_line(command.help),
    )
    for name, each in below.items():
        yield from walk(each, (*path, name))


def types_of(command: Any) -> dict[str, tuple[Any, ...]]:
    """Of each argument and option the types that its function takes, those within unions and lists too."""
    if command.callback is None:
        return {}
    parameters = inspect.signature(command.callback, eval_str=True).parameters.values()
    return {each.name: tuple(atoms(each.annotation)) for each in parameters}


def atoms(hint: Any) -> Iterator[Any]:
    """What a hint is made of."""
    origin: Any = get_origin(hint)
    if origin is Annotated:
        yield from atoms(get_args(hint)[0])
    elif origin is Literal or not get_args(hint):
        yield hint
    else:
        for each in get_args(hint):
            yield from atoms(each)


def read_option(parameter: Any, types: Types) -> Option:
    """One option."""
    names = tuple(name for name in (*parameter.opts, *parameter.secondary_opts) if name.startswith("-"))
    purpose = first_line(parameter.help)
    if parameter.is_flag:
        return Option(names, "nothing", (), purpose)
    return Option(names, wanted(parameter.name, types), choices_of(parameter.name, types), purpose)


def choices_of(name: str, types: Types) -> tuple[str, ...]:
    """The words that it takes, where they are known."""
    if name == "size":
        return tuple(SIZES)
    hints = [(each, cast("Any", get_origin(each))) for each in types.get(name, ())]
    literals = [get_args(each) for each, origin in hints if origin is Literal]
    enums = [tuple(each) for each in types.get(name, ()) if isinstance(each, type) and issubclass(each, Enum)]
    return tuple(str(choice) for choices in (*literals, *enums) for choice in choices)


def wanted(name: str, types: Types) -> Wants:
    """What comes behind it."""
    if name in VERSION_NAMES:
        return "version"
    if name in CHAT_NAMES:
        return "chat"
    if Path in types.get(name, ()):
        return "folder" if name in FOLDER_NAMES else "file"
    return "word"


def first_line(text: str | None) -> str:
    """The first sentence of a help text."""
    return " ".join((text or "").split("\n\n")[0].split()).split(". ")[0]
