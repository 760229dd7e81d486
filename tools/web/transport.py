"""Connections to numbers that were checked. Owns the way from a request to a socket; refuses proxies, cookies,
redirects and decompression.

The check is where the connection is made, so that nothing can come between: the name is resolved, every answer is
judged, and one of those very numbers is connected to. TLS still verifies the name, and the Host header holds it.
"""

import ssl
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address

import httpcore
import httpx

from tools.web.locations import RefusedError, checked, port_of
from tools.web.resolving import Resolver, ask_system, resolve
from tools.web.rules import Rule

MOST_NUMBERS = 4  # of a name are tried
MOST_BYTES = 16 << 20  # of one response


class RefusedByRule(httpx.TransportError):
    """The rule is against the address; the message says which and why."""


class TooLong(httpx.TransportError):
    """A response of more bytes than are read."""


@cache
def trusted() -> ssl.SSLContext:
    """The context of all connections: certifi's authorities, and nothing of the environment."""
    return httpx.create_ssl_context(trust_env=False)


@dataclass(frozen=True, slots=True)
class Door:
    """How the outside is reached: whom names are asked of, who dials, whom TLS trusts. Tests have their own.

    connect_s: how long one number has to answer, so that one that never does leaves time for the next.
    """

    resolver: Resolver = ask_system
    dialer: httpcore.AsyncNetworkBackend | None = None
    tls: ssl.SSLContext | None = None
    connect_s: float = 5.0


class PinnedBackend(httpcore.AsyncNetworkBackend):
    """Dials numbers that the rule has nothing against, and no others."""

    def __init__(self, rule: Rule, door: Door) -> None:
        self.rule = rule
        self.resolver = door.resolver
        self.connect_s = door.connect_s
        self.dialer = door.dialer or httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve, judge every answer, connect to the first that answers. Raises RefusedByRule, httpcore's errors."""
        limit_s = self.connect_s if timeout is None else min(timeout, self.connect_s)
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for number in (await self.judged(host, port))[:MOST_NUMBERS]:
            try:
                stream = await self.dialer.connect_tcp(number, port, limit_s, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
                continue
            await self.refuse_itself(stream, host)
            return stream
        raise failure

    async def judged(self, host: str, port: int) -> list[str]:
        """The numbers of a host. Raises RefusedByRule where the rule is against any of them."""
        try:
            numbers = await resolve(self.resolver, host, port)
        except OSError as error:
            raise httpcore.ConnectError(f"{host} is not known: {error.strerror or error}") from error
        for number in numbers:
            try:
                why = self.rule.address(ip_address(number))
            except ValueError:
                why = "no address"
            if why:
                shown = host if number == host else f"{host} is {number}"
                raise RefusedByRule(f"{shown}: {why}")
        return numbers

    async def refuse_itself(self, stream: httpcore.AsyncNetworkStream, host: str) -> None:
        """A public address can be this machine's own; then both ends of the connection have it."""
        ends = [stream.get_extra_info(name) for name in ("client_addr", "server_addr")]
        if not self.rule.itself and all(ends) and ends[0][0] == ends[1][0]:
            await stream.aclose()
            raise RefusedByRule(f"{host} is {ends[0][0]}: this machine")

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109 - httpcore's signature
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002 - see above
    ) -> httpcore.AsyncNetworkStream:
        """Refuse: the web has no such addresses."""
        raise RefusedByRule(f"{path}: only the web is asked")


class GuardedTransport(httpx.AsyncBaseTransport):
    """httpx's way out, over pinned connections. HTTP/1.1; a response longer than `most_bytes` breaks off."""

    def __init__(self, rule: Rule, door: Door | None = None, most_bytes: int = MOST_BYTES) -> None:
        door = door or Door()
        self.rule = rule
        self.most_bytes = most_bytes
        self.door = door
        self.pool = httpcore.AsyncConnectionPool(
            ssl_context=door.tls or trusted(), network_backend=PinnedBackend(rule, door), max_connections=16
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Ask. Raises httpx's errors, RefusedByRule among them."""
        try:
            url = checked(request.url, self.rule)
        except RefusedError as error:
            raise RefusedByRule(str(error)) from error
        raw = httpcore.Request(
            request.method,
            httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=port_of(url), target=url.raw_path),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        with in_httpx_words():
            answer = await self.pool.handle_async_request(raw)
        stream = CappedStream(answer, self.most_bytes)
        return httpx.Response(answer.status, headers=answer.headers, stream=stream, extensions=answer.extensions)

    async def aclose(self) -> None:
        """Close every connection."""
        await self.pool.aclose()


class CappedStream(httpx.AsyncByteStream):
    """The bytes of a response, as many as are read."""

    def __init__(self, answer: httpcore.Response, most_bytes: int) -> None:
        self.answer = answer
        self.left = most_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with in_httpx_words():
            async for piece in self.answer.aiter_stream():
                self.left -= len(piece)
                if self.left < 0:
                    raise TooLong("the response is longer than is read")
                yield piece

    async def aclose(self) -> None:
        """Give the connection back."""
        with in_httpx_words():
            await self.answer.aclose()


@contextmanager
def in_httpx_words() -> Iterator[None]:
    """httpcore's errors as httpx's."""
    try:
        yield
    except httpcore.TimeoutException as error:
        raise httpx.TimeoutException(str(error) or "no answer in time") from error
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol) as error:
        raise httpx.TransportError(str(error) or type(error).__name__) from error
    except ssl.SSLError as error:
        raise httpx.TransportError(str(error)) from error
