"""Names -> numbers, under a limit of time. Owns the question to the system's resolver; refuses to judge the answers.

getaddrinfo cannot be stopped, so it is asked in a thread that is left behind where it takes too long.
"""

import asyncio
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

Resolver = Callable[[str, int], Sequence[str]]
"""(host, port) -> numbers in the order to try them. Raises OSError where there are none."""


def ask_system(host: str, port: int) -> list[str]:
    """What getaddrinfo says, each number once. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def resolve(resolver: Resolver, host: str, port: int) -> list[str]:
    """A resolver's answer. Raises OSError. Cancelled, it leaves the question behind."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()

    def settle(found: list[str], error: OSError | None) -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(found)
        else:
            answer.set_exception(error)

    def ask() -> None:
        found: list[str] = []
        failure: OSError | None = None
        try:
            found = list(resolver(host, port))
        except (OSError, UnicodeError) as error:
            failure = error if isinstance(error, OSError) else OSError(str(error))
        with suppress(RuntimeError):  # nobody waits any longer: the loop is gone
            loop.call_soon_threadsafe(settle, found, failure)

    threading.Thread(target=ask, name="thau-resolver", daemon=True).start()
    return await answer
