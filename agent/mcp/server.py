"""One MCP server while we talk to it. Owns its connection, its deadlines and its end; refuses to decide about tools.

Everything here runs in the background loop. A connection lives in a task of its own, since the library's contexts have
to be left by the task that entered them; where it breaks, the next call makes another, a few times.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import httpx
from mcp import ClientSession, McpError, types
from mcp.client.streamable_http import streamable_http_client
from mcp.types import Implementation
from pydantic import BaseModel, ValidationError

from agent.mcp.definitions import Definition
from agent.mcp.pipes import piped
from agent.mcp.results import text_of
from thaud.config import McpServer
from thaud.errors import ToolError
from tools.web.locations import RefusedError, read
from tools.web.rules import CONFIGURED, PUBLIC
from tools.web.transport import Door, GuardedTransport, RefusedByRule

if TYPE_CHECKING:
    from agent.mcp.pipes import Incoming, Outgoing

MOST_STARTS = 6
MOST_PAGES = 20
MOST_TOOLS = 256
CLOSE_S = 4.0
TELL_S = 1.0
REFUSED = "refused: "
GONE = frozenset({types.CONNECTION_CLOSED, 32600})  # the second is the library's word for a session that ended
CLOSED = (anyio.ClosedResourceError, anyio.BrokenResourceError, anyio.EndOfStream)
SHOWN_FIELDS = ("name", "title", "description", "inputSchema", "outputSchema", "annotations")
ModelT = TypeVar("ModelT", bound=BaseModel)


class GoneError(Exception):
    """The connection is no more; the message says what is known of it."""


@dataclass(frozen=True, slots=True)
class Outside:
    """What servers get of the outside: an environment, a folder for their logs, the way to the web."""

    environment: Mapping[str, str]
    logs: Path
    door: Door = field(default_factory=Door)


@dataclass(slots=True)
class Connection:
    """A session, and the task that holds it open until `stop`. `asked` counts requests, as the session does."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    session: ClientSession | None = None
    task: "asyncio.Task[None] | None" = None
    asked: int = 1  # initialize is request 0


class Server:
    """A server by its configuration. Its methods are coroutines of one loop; calls may overlap."""

    def __init__(self, name: str, config: McpServer, outside: Outside) -> None:
        self.name = name
        self.config = config
        self.outside = outside
        self.starts = 0
        self.connection: Connection | None = None
        self.opening = asyncio.Lock()

    @property
    def log(self) -> Path:
        """What a command said on its standard error."""
        return self.outside.logs / f"mcp-{self.name}.log"

    @property
    def where(self) -> str:
        """The command or the address, for people."""
        return self.config.url or " ".join(self.config.command)

    async def open(self) -> tuple[Definition, ...]:
        """Connect and ask for the tools. Raises ToolError, after `start_s` too."""
        try:
            async with asyncio.timeout(self.config.start_s):
                return await self.definitions(await self.connect())
        except TimeoutError as error:
            await self.close()
            raise ToolError(f"it did not start in {self.config.start_s:g} s") from error
        except (GoneError, McpError) as error:
            await self.close()
            raise ToolError(str(error)) from error

    async def call(self, tool: str, digest: str, arguments: Mapping[str, Any]) -> str:
        """Call a tool whose definition still is the approved one. Raises ToolError, after `call_s` too."""
        try:
            async with asyncio.timeout(self.config.call_s):
                connection = await self.connect()
                await self.refuse_changed(connection, tool, digest)
                params = types.CallToolRequestParams(name=tool, arguments=dict(arguments))
                request = types.ClientRequest(types.CallToolRequest(params=params))
                return text_of(await self.ask(connection, request, types.CallToolResult))
        except TimeoutError as error:
            raise ToolError(f"the MCP server {self.name} did not answer in {self.config.call_s:g} s") from error
        except GoneError as error:
            await self.close()
            raise ToolError(f"the MCP server {self.name} is gone: {error}") from error
        except McpError as error:
            raise ToolError(f"the MCP server {self.name} says: {error.error.message[:500]}") from error

    async def refuse_changed(self, connection: Connection, tool: str, digest: str) -> None:
        """See that a tool is what was approved. Raises ToolError; GoneError where the server answers no more."""
        now = {each.name: each.digest for each in await self.definitions(connection)}
        if tool not in now:
            raise ToolError(f"the MCP server {self.name} has no tool {tool!r} any more")
        if now[tool] != digest:
            raise ToolError(
                f"the MCP server {self.name} has changed the tool {tool!r} since it was approved: it is not called"
            )

    async def definitions(self, connection: Connection) -> tuple[Definition, ...]:
        """All tools that the server names now; of two with one name the first. Raises GoneError, McpError."""
        found: dict[str, Definition] = {}
        cursor: str | None = None
        for _ in range(MOST_PAGES):
            params = types.PaginatedRequestParams(cursor=cursor) if cursor else None
            request = types.ClientRequest(types.ListToolsRequest(params=params))
            page = await self.ask(connection, request, types.ListToolsResult)
            for each in page.tools:
                said = each.model_dump(mode="json", by_alias=True, exclude_none=True)
                raw = {name: said[name] for name in SHOWN_FIELDS if name in said}
                found.setdefault(each.name, Definition(self.name, each.name, raw))
            cursor = page.nextCursor
            if not cursor or len(found) >= MOST_TOOLS:
                break
        return tuple(found.values())[:MOST_TOOLS]

    async def ask(self, connection: Connection, request: types.ClientRequest, kind: type[ModelT]) -> ModelT:
        """One request, answered or cancelled. Raises McpError for the server's refusal, GoneError for its end.

        The library's own `call_tool` is not used: it checks results against schemas that the server wrote.
        """
        session, life = connection.session, connection.task
        assert session is not None
        assert life is not None
        number = connection.asked
        connection.asked += 1
        asking = asyncio.ensure_future(session.send_request(request, kind))
        try:
            await asyncio.wait({asking, life}, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                raise GoneError(self.why(life))
            return asking.result()
        except (*CLOSED, McpError) as error:
            if isinstance(error, McpError) and error.error.code not in GONE:
                raise
            raise GoneError(await self.last_words(connection)) from error
        except (ValidationError, RecursionError) as error:
            raise McpError(types.ErrorData(code=types.INVALID_REQUEST, message="an answer that is none")) from error
        finally:
            if not asking.done():
                asking.cancel()
                await self.tell_cancelled(connection, number)

    async def tell_cancelled(self, connection: Connection, number: int) -> None:
        """Let the server know that nobody waits for a request any longer, where it still listens."""
        session = connection.session
        if session is None or connection.task is None or connection.task.done():
            return
        params = types.CancelledNotificationParams(requestId=number, reason="cancelled by the user")
        notice = types.ClientNotification(types.CancelledNotification(params=params))
        with suppress(TimeoutError, *CLOSED):
            async with asyncio.timeout(TELL_S):
                await session.send_notification(notice)

    async def connect(self) -> Connection:
        """The connection there is, else a new one. Raises GoneError."""
        async with self.opening:
            current = self.connection
            if current is not None and current.task is not None and not current.task.done():
                return current
            if self.starts >= MOST_STARTS:
                raise GoneError(f"it ended {self.starts} times, and is not started again")
            self.starts += 1
            self.connection = connection = Connection()
            connection.task = life = asyncio.create_task(self.live(connection))
            ready = asyncio.create_task(connection.ready.wait())
            try:
                await asyncio.wait({life, ready}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                ready.cancel()
            if life.done():
                raise GoneError(self.why(life))
            return connection

    async def live(self, connection: Connection) -> None:
        """Hold a session open until it is to stop, or breaks."""
        client = Implementation(name="thau", version="0.1.0")
        async with (
            self.streams() as (incoming, outgoing),
            ClientSession(incoming, outgoing, client_info=client) as session,
        ):
            await session.initialize()
            connection.session = session
            connection.ready.set()
            await connection.stop.wait()

    def streams(self) -> "AbstractAsyncContextManager[tuple[Incoming, Outgoing]]":
        """The way to the server."""
        if self.config.url:
            return self.site()
        return piped(self.config.command, {**self.outside.environment, **self.config.env}, self.log)

    @asynccontextmanager
    async def site(self) -> AsyncIterator[tuple["Incoming", "Outgoing"]]:
        """A server on HTTP, over the guarded transport. Private addresses only where the user says so."""
        rule = CONFIGURED if self.config.allow_private else PUBLIC
        url = str(read(self.config.url, rule))
        async with (
            httpx.AsyncClient(
                transport=GuardedTransport(rule, self.outside.door),
                headers={"Accept-Encoding": "identity", **self.config.headers},
                timeout=httpx.Timeout(30.0, read=300.0),
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
                event_hooks={"response": [refuse_encoded]},
                trust_env=False,
            ) as client,
            streamable_http_client(url, http_client=client) as (incoming, outgoing, _),
        ):
            yield incoming, outgoing

    async def last_words(self, connection: Connection) -> str:
        """What is known of a connection that closed."""
        connection.stop.set()
        assert connection.task is not None
        await asyncio.wait({connection.task}, timeout=CLOSE_S)
        return self.why(connection.task)

    def why(self, life: "asyncio.Task[None]") -> str:
        """Why a connection is no more; a command's own words are in its log."""
        reason = why_ended(life)
        if self.config.command:
            return f"{reason}; what it said is in {self.log}"
        if reason.startswith(REFUSED) and not self.config.allow_private and is_url(self.config.url):
            return f"{reason}; `allow_private = true` permits addresses of this machine and network"
        return reason

    async def close(self) -> None:
        """End the connection; nothing of it is left, however the server behaves."""
        connection, self.connection = self.connection, None
        if connection is None or connection.task is None:
            return
        connection.stop.set()
        if connection.session is not None:
            await asyncio.wait({connection.task}, timeout=CLOSE_S)
        connection.task.cancel()
        await asyncio.wait({connection.task}, timeout=CLOSE_S)
        if connection.task.done() and not connection.task.cancelled():
            connection.task.exception()  # seen, or asyncio complains of it at the end


def is_url(text: str) -> bool:
    """Whether a text is the address of a site, which may be private."""
    try:
        read(text, CONFIGURED)
    except RefusedError:
        return False
    return True


async def refuse_encoded(response: httpx.Response) -> None:
    """A packed answer was not asked for, and could unpack to anything."""
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise httpx.DecodingError("a packed answer, which was not asked for")


def why_ended(task: "asyncio.Task[None]") -> str:
    """Why a connection is no more, in the words of the first error in it."""
    if not task.done() or task.cancelled():
        return "the connection closed"
    error = task.exception()
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if error is None:
        return "the connection closed"
    if isinstance(error, RefusedError | RefusedByRule):
        return f"{REFUSED}{error}"
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
