"""What the web client is tried against: a real local server that holds a secret, whose doors count who comes; a dialer
that leads every number there; resolvers that answer from a table; and the rule that refuses nothing.
"""

import gzip
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET6, gaierror
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpcore

from tools.web.client import GuardedWeb
from tools.web.rules import Rule, anything
from tools.web.transport import Door

SECRET = "the-secret-of-this-machine"
PUBLIC_V4 = "93.184.215.14"
PUBLIC_V6 = "2606:2800:21f:cb07:6820:80da:af6b:8b2c"
ANYTHING = Rule(anything, anything, anything, itself=True, downgrade=True, credentials=True)


class Handler(BaseHTTPRequestHandler):
    """/secret, /to?place=..., /loop, /slow, /endless, /bomb, /br, /cookie, /echo, /status?code=..."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, LocalServer | LocalServerV6)
        server.seen.append((self.path, dict(self.headers)))
        path = urlsplit(self.path)
        try:
            getattr(self, path.path.strip("/").partition("/")[0] or "secret", self.secret)(parse_qs(path.query))
        except OSError:
            self.close_connection = True  # the client has had enough

    def say(self, body: bytes, kind: str = "text/plain; charset=utf-8", code: int = 200, **headers: str) -> None:
        self.send_response(code)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def secret(self, _: dict[str, list[str]]) -> None:
        self.say(SECRET.encode())

    def to(self, query: dict[str, list[str]]) -> None:
        code = int(query.get("code", ["302"])[0])
        self.say(b"", code=code, Location=query["place"][0], Set_Cookie="known=yes")

    def loop(self, _: dict[str, list[str]]) -> None:
        self.say(b"", code=302, Location="/loop")

    def echo(self, _: dict[str, list[str]]) -> None:
        self.say("\n".join(f"{name}: {value}" for name, value in self.headers.items()).encode())

    def status(self, query: dict[str, list[str]]) -> None:
        self.say(b"no", code=int(query["code"][0]))

    def slow(self, _: dict[str, list[str]]) -> None:
        """A byte at a time, until the client leaves or the test ends."""
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        while not self.server.over.wait(0.02):  # type: ignore[attr-defined]
            self.wfile.write(b".")
            self.wfile.flush()

    def endless(self, _: dict[str, list[str]]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        while not self.server.over.is_set():  # type: ignore[attr-defined]
            self.wfile.write(b"x" * 65536)

    def bomb(self, _: dict[str, list[str]]) -> None:
        self.say(gzip.compress(bytes(64 << 20), 9), Content_Encoding="gzip")

    def zipped(self, _: dict[str, list[str]]) -> None:
        self.say(gzip.compress(SECRET.encode()), Content_Encoding="gzip")

    def halved(self, _: dict[str, list[str]]) -> None:
        self.say(gzip.compress(SECRET.encode())[:-8], Content_Encoding="gzip")

    def doubled(self, _: dict[str, list[str]]) -> None:
        self.say(gzip.compress(SECRET.encode()) * 2, Content_Encoding="gzip")

    def br(self, _: dict[str, list[str]]) -> None:
        self.say(b"\x0b\x02\x80", Content_Encoding="br")

    def page(self, query: dict[str, list[str]]) -> None:
        """Whatever the test hung up there."""
        self.say(*self.server.pages[query["name"][0]])  # type: ignore[attr-defined]


class LocalServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], tls: ssl.SSLContext | None = None) -> None:
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.pages: dict[str, tuple[bytes, str]] = {}
        self.over = threading.Event()
        super().__init__(address, Handler)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that breaks off is no error here."""

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class LocalServerV6(LocalServer):
    address_family = AF_INET6


@contextmanager
def serving(server: LocalServer) -> Iterator[LocalServer]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class LeadingDialer(httpcore.AsyncNetworkBackend):
    """Every number and port leads to one local port; what was dialled is noted. `own`: whether the number is ours."""

    port: int
    own: bool = False
    dialled: list[tuple[str, int]] = field(default_factory=list)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self.dialled.append((host, port))
        inner = await httpcore.AnyIOBackend().connect_tcp("127.0.0.1", self.port, timeout)
        return LedStream(inner, (host, port), (host if self.own else "198.51.99.7", 50000))


class LedStream(httpcore.AsyncNetworkStream):
    """A connection that says it goes where it was dialled to."""

    def __init__(self, inner: httpcore.AsyncNetworkStream, server: tuple[str, int], client: tuple[str, int]) -> None:
        self.inner = inner
        self.ends = {"server_addr": server, "client_addr": client}

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        return await self.inner.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        await self.inner.write(buffer, timeout)

    async def aclose(self) -> None:
        await self.inner.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        return await self.inner.start_tls(ssl_context, server_hostname, timeout)

    def get_extra_info(self, info: str) -> Any:
        return self.ends.get(info) or self.inner.get_extra_info(info)


def table(**names: Sequence[str]) -> Callable[[str, int], Sequence[str]]:
    """A resolver: `site_org=["1.2.3.4"]` answers for site.org; numbers answer for themselves."""
    known = {name.replace("__", "-").replace("_", "."): numbers for name, numbers in names.items()}

    def resolver(host: str, port: int) -> Sequence[str]:
        if host in known:
            return known[host]
        if host.replace(".", "").isdigit() or ":" in host:
            return [host]
        raise gaierror(-2, "Name or service not known")

    return resolver


@dataclass(frozen=True, slots=True)
class Servers:
    """The same secret on 127.0.0.1 and on ::1."""

    v4: LocalServer
    v6: LocalServer

    def hits(self) -> int:
        """How many requests came."""
        return len(self.v4.seen) + len(self.v6.seen)


def led(servers: Servers, rule: Rule, **names: list[str]) -> tuple[GuardedWeb, LeadingDialer]:
    """A client whose names come from a table and whose connections all end at the local server."""
    dialer = LeadingDialer(servers.v4.port)
    return GuardedWeb(rule, Door(table(**names), dialer), deadline_s=10), dialer
