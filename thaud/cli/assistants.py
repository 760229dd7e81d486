"""`thau mcp`: the door for coding assistants."""

import logging
import sys

import structlog
import typer

from thaud.cli.door import door_of


def mcp(ctx: typer.Context) -> None:
    """Serve teach, ask and status over MCP on the standard streams, for an assistant that starts this command."""
    door = door_of(ctx)
    _ = door.settings  # a home that is none, and a setting that cannot be used, are said before anything is promised
    from thaud.cli.desk import Desk  # noqa: PLC0415 - what only this command needs
    from thaud.cli.mcp_server import serve  # noqa: PLC0415

    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    desk = Desk(door)
    try:
        serve(desk)
    finally:
        desk.close()
