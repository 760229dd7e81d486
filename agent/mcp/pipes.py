"""A server on standard streams: started without a shell, spoken to in lines of JSON, ended with us.

Owns the child, the bounds on what it says, and its log. The library's own transport neither bounds a line nor lets
the server die with a killed parent.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import anyio
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCMessage
from pydantic import ValidationError

from agent.mcp import leash

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

    Incoming = MemoryObjectReceiveStream[SessionMessage | Exception]
    Outgoing = MemoryObjectSendStream[SessionMessage]

LONGEST_MESSAGE = 16 << 20
LONGEST_LOG = 1 << 20
GRACE_S = 1.0
POLL_S = 0.02


@asynccontextmanager
async def piped(
    command: Sequence[str], environment: Mapping[str, str], log: Path
) -> AsyncIterator[tuple["Incoming", "Outgoing"]]:
    """Start a server, and end it afterwards. Raises OSError where it cannot be started.

    The streams end where the server does, or where it says what is too long. `log` gets its standard error.
    """
    child = await start(command, environment)
    incoming_end, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    outgoing, outgoing_end = anyio.create_memory_object_stream[SessionMessage](0)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(drain, child)
        for stream in (incoming_end, incoming, outgoing, outgoing_end):
            stack.push_async_callback(stream.aclose)
        async with anyio.create_task_group() as group:
            assert child.stdout is not None
            assert child.stderr is not None
            group.start_soon(receive, child.stdout, incoming_end)
            group.start_soon(send, outgoing_end, child)
            group.start_soon(keep, child.stderr, log)
            try:
                yield incoming, outgoing
            finally:
                with anyio.CancelScope(shield=True):
                    await end(child)
                group.cancel_scope.cancel()


async def start(command: Sequence[str], environment: Mapping[str, str]) -> asyncio.subprocess.Process:
    """The server on its leash, in a session of its own, so that the terminal's Ctrl-C does not reach it."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-ISB",
        leash.__file__,
        str(os.getpid()),
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(environment),
        limit=LONGEST_MESSAGE,
        start_new_session=True,
    )


async def receive(stdout: asyncio.StreamReader, incoming: "MemoryObjectSendStream[SessionMessage | Exception]") -> None:
    """Each line is a message; others are dropped, as a server's own chatter. A line without end ends the stream."""
    async with incoming:
        while line := await next_line(stdout):
            try:
                message = SessionMessage(JSONRPCMessage.model_validate_json(line))
            except (ValidationError, RecursionError):
                continue
            try:
                await incoming.send(message)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                return


async def next_line(stdout: asyncio.StreamReader) -> bytes:
    """A line, nothing at the end or where a line is too long."""
    try:
        return await stdout.readline()
    except ValueError:
        return b""


async def send(outgoing: "MemoryObjectReceiveStream[SessionMessage]", child: asyncio.subprocess.Process) -> None:
    """Write messages as lines until one side is closed."""
    assert child.stdin is not None
    async with outgoing:
        async for message in outgoing:
            line = message.message.model_dump_json(by_alias=True, exclude_none=True)
            try:
                child.stdin.write(line.encode() + b"\n")
                await child.stdin.drain()
            except (ConnectionError, RuntimeError):
                return


async def keep(stderr: asyncio.StreamReader, log: Path) -> None:
    """The first LONGEST_LOG bytes of what the server says of itself go to a file; the rest is read and dropped."""
    left = LONGEST_LOG
    with suppress(OSError), open_log(log) as sink:
        while piece := await stderr.read(4096):
            with suppress(OSError):  # a full disk is no reason to stop reading
                sink.write(piece[:left])
                sink.flush()
            left = max(0, left - len(piece))


def open_log(log: Path) -> BinaryIO:
    """The log, begun anew, for the user's eyes alone."""
    return os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600), "wb")


async def end(child: asyncio.subprocess.Process) -> None:
    """Close its input, then SIGTERM, then SIGKILL, each with a moment for it; nothing of its group is left."""
    if child.stdin is not None:
        child.stdin.close()
    if not await ended(child, GRACE_S):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        await ended(child, GRACE_S)
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    await ended(child, GRACE_S)


async def drain(child: asyncio.subprocess.Process) -> None:
    """Read what is left, or asyncio would not see that the pipes are closed, and complain of them at its end."""
    with suppress(TimeoutError), anyio.CancelScope(shield=True):
        async with asyncio.timeout(GRACE_S):
            for stream in (child.stdout, child.stderr):
                while stream is not None and await stream.read(1 << 16):
                    pass
            if child.stdin is not None:
                with suppress(OSError):
                    await child.stdin.wait_closed()
    child._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001 - who left the group may hold the pipes open


async def ended(child: asyncio.subprocess.Process, limit_s: float) -> bool:
    """Whether it ends in time. Not by `wait`, which would wait for all who inherited its output."""
    with suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            while child.returncode is None:  # noqa: ASYNC110 - asyncio tells nobody else of it
                await asyncio.sleep(POLL_S)
    return child.returncode is not None
