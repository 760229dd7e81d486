"""The thread with an event loop that synchronous callers wait for."""

import asyncio
import os
import signal
import threading

import pytest

from tools.web.background import Background


def test_ctrl_c_cancels_what_is_waited_for() -> None:
    """It ends what runs and not the loop; nothing is left when it is over."""
    before = threading.active_count()

    async def endless() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(600)

    async def one() -> int:
        return 1

    with Background() as background:
        with pytest.raises(KeyboardInterrupt):
            background.run(endless())
        assert background.run(one()) == 1
    assert threading.active_count() == before


def test_clearing_up_is_not_broken_off() -> None:
    """Whoever presses Ctrl-C again while servers are ended does not leave them half ended."""
    ended: list[bool] = []

    async def clear_up() -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(0.05)
        ended.append(True)

    with Background() as background:
        background.finish(clear_up())
        assert ended == [True]
