"""The socket of the HTTP door, bound at once and cheaply; FastAPI and uvicorn come with the first connection."""

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from thaud.config import Api, Settings
from thaud.control import Request
from thaud.errors import ConfigError
from thaud.home import Home

if TYPE_CHECKING:
    import uvicorn

BACKLOG = 128
log = structlog.get_logger()


async def serve_http(
    home: Home, settings: Settings, on_request: Callable[[Request], None], stop: asyncio.Event
) -> None:
    """Answer HTTP until `stop` is set. `on_request` is called for what only the daemon can do.

    Raises ConfigError where the address cannot be bound.
    """
    with bind(settings.api) as listener:
        await serve_on(listener, home, settings, on_request, stop)


async def serve_on(
    listener: socket.socket,
    home: Home,
    settings: Settings,
    on_request: Callable[[Request], None],
    stop: asyncio.Event,
) -> None:
    """Answer HTTP on a socket that listens already."""
    host, port = listener.getsockname()[:2]
    log.info("http_listening", host=host, port=port)
    if await first_connection(listener, stop):
        server = await asyncio.to_thread(load_server, home, settings, on_request, stop)
        await server.serve(sockets=[listener])


def bind(api: Api) -> socket.socket:
    """A listening socket. Raises ConfigError naming the address and what to change."""
    family = socket.AF_INET6 if ":" in api.host else socket.AF_INET
    try:
        listener = socket.create_server((api.host, api.port), family=family, backlog=BACKLOG)
    except OSError as error:
        why = "another program uses it" if error.errno == errno.EADDRINUSE else (error.strerror or str(error))
        raise ConfigError(
            f"cannot listen on {api.host}, port {api.port}: {why}; choose another port with THAU_API__PORT or "
            "[api] port in thau.toml, or turn the HTTP door off with THAU_API__ENABLED=false"
        ) from error
    listener.setblocking(False)
    return listener


async def first_connection(listener: socket.socket, stop: asyncio.Event) -> bool:
    """Wait until somebody connects (True), or until `stop` (False)."""
    loop, knocked = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(listener, knocked.set)
    waits = [asyncio.ensure_future(event.wait()) for event in (knocked, stop)]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        loop.remove_reader(listener)
        for wait in waits:
            wait.cancel()
    return not stop.is_set()


def load_server(
    home: Home, settings: Settings, on_request: Callable[[Request], None], stop: asyncio.Event
) -> "uvicorn.Server":
    """The server, with the libraries that it takes."""
    from thaud.api.app import make_app, make_server  # noqa: PLC0415 - 30 MB that an idle daemon does without

    return make_server(make_app(home, settings, on_request=on_request), stop)
