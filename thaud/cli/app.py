"""Every command, with the function that does it."""

from pathlib import Path
from typing import Annotated

import typer

from thaud import __version__
from thaud.cli import feed, handing_out, lifecycle, lineage, look, mend, setup, sync, talk, versions, work
from thaud.cli.door import Door

COMMANDS = (
    setup.init,
    work.start,
    feed.add,
    feed.import_data,
    look.status,
    work.train,
    work.watch,
    lifecycle.rollback,
    lifecycle.prune,
    handing_out.export,
    lineage.lineage,
    sync.sync,
    talk.ask,
    talk.chat,
    look.logs,
    feed.rejected,
    mend.retry,
    mend.doctor,
    work.reset,
    look.version,
)


def make_app() -> typer.Typer:
    """The command line."""
    app = typer.Typer(
        help="THAU turns a folder of JSONL examples into ever better local language models.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(open_door)
    for command in COMMANDS:
        app.command()(command)
    app.add_typer(versions.make_versions(), name="versions")
    return app


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
