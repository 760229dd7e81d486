"""Every command and where its function is, which is loaded when it is asked for: `thau chat` pays for chat alone."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import typer

from thaud import __version__
from thaud.cli.door import Door

COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "init": "setup.init",
        "start": "work.start",
        "add": "feed.add",
        "import-data": "feed.import_data",
        "status": "look.status",
        "train": "work.train",
        "watch": "work.watch",
        "rollback": "lifecycle.rollback",
        "prune": "lifecycle.prune",
        "export": "handing_out.export",
        "lineage": "lineage.lineage",
        "sync": "sync.sync",
        "ask": "talk.ask",
        "chat": "talk.chat",
        "review": "review.review",
        "mcp": "assistants.mcp",
        "logs": "look.logs",
        "rejected": "feed.rejected",
        "retry": "mend.retry",
        "doctor": "mend.doctor",
        "reset": "work.reset",
        "completion": "completing.completion",
        "version": "look.version",
    }
)
"""`module.function` below thaud.cli, by name."""

GROUPS: Mapping[str, str] = MappingProxyType({"versions": "versions.make_versions"})
"""What makes a group of commands, by its name."""


def make_app(words: Sequence[str] = ()) -> typer.Typer:
    """The command line; where `words`, what was typed, name a command, with that one alone."""
    app = typer.Typer(
        help="THAU turns a folder of JSONL examples into ever better local language models.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(open_door)
    named = first_word(words)
    alone = named if named in COMMANDS or named in GROUPS else None
    for name, where in COMMANDS.items():
        if alone in {None, name}:
            app.command(name)(load(where))
    for name, where in GROUPS.items():
        if alone in {None, name}:
            app.add_typer(load(where)(), name=name)
    return app


def load(where: str) -> Any:
    """The function that `module.function` names."""
    module, _, name = where.partition(".")
    return getattr(import_module(f"thaud.cli.{module}"), name)


def first_word(words: Sequence[str]) -> str | None:
    """The first word that is neither an option nor the value of --home."""
    rest = iter(words)
    for word in rest:
        if word == "--home":
            next(rest, None)
        elif not word.startswith("-"):
            return word
    return None


def show_version(*, asked: bool) -> None:
    """--version: print it and end."""
    if asked:
        typer.echo(f"thau {__version__}")
        raise typer.Exit


def open_door(
    ctx: typer.Context,
    home: Annotated[
        Path | None,
        typer.Option(
            readable=False, help="The THAU home; else THAU_HOME, else the nearest folder upwards with a thau.toml."
        ),
    ] = None,
    *,
    version: Annotated[  # noqa: ARG001 - its callback does the work
        bool,
        typer.Option(
            "--version",
            callback=lambda value: show_version(asked=value),
            is_eager=True,
            help="Print THAU's version and end.",
        ),
    ] = False,
) -> None:
    """THAU turns a folder of JSONL examples into ever better local language models."""
    ctx.obj = Door(home)
