"""Waiting in the loop: for an event or a time, and for work in a thread that a shutdown leaves behind."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")


async def wait(event: asyncio.Event, timeout_s: float) -> None:
    """Until the event or the time, whichever is first."""
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return


async def left_behind_at(stop: asyncio.Event, work: Callable[[], ResultT]) -> ResultT | None:
    """The outcome of work in a thread, or None as soon as `stop` is set: an upload may take longer than anybody waits
    for a shutdown. What it leaves half done is begun again by the next life.
    """
    outcome: Future[ResultT] = Future()
    outcome.set_running_or_notify_cancel()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001 - carried over to the loop
            outcome.set_exception(error)

    threading.Thread(target=run, name="left-behind", daemon=True).start()
    ended, stopped = asyncio.wrap_future(outcome), asyncio.ensure_future(stop.wait())
    both: list[asyncio.Future[Any]] = [ended, stopped]
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    return ended.result() if ended.done() or not ended.cancel() else None
