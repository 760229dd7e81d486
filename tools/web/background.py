"""A thread with an event loop, for synchronous callers. Owns its beginning and end; refuses to know what runs there.

The caller waits where Ctrl-C reaches it: what it waits for is then cancelled, and the loop goes on.
"""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import wait
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")


class Background:
    """Entered, it runs coroutines; left, it cancels what still runs and waits for its end."""

    def __init__(self) -> None:
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._live, name="thau-web", daemon=True)
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event

    def __enter__(self) -> Self:
        self._thread.start()
        self._begun.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result. Raises what it raises; KeyboardInterrupt cancels it."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def finish(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run to the end, whatever Ctrl-C says meanwhile: for what clears up, and has a deadline of its own."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        while not future.done():
            with suppress(KeyboardInterrupt):
                wait([future])
        future.result()

    def _live(self) -> None:
        asyncio.run(self._wait())

    async def _wait(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._begun.set()
        await self._stop.wait()
