"""The guarded client that tools ask pages of. Owns redirects, deadlines, size and decoding; refuses to keep anything
between two questions: no cookies, no credentials, no referrer, no cache.
"""

import asyncio
import re
import zlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

import httpx

from thaud.errors import ToolError
from tools.outside import Page
from tools.web.background import Background
from tools.web.locations import RefusedError, read
from tools.web.rules import PUBLIC, Rule
from tools.web.transport import Door, GuardedTransport, RefusedByRule, TooLong

MOST_BYTES = 2 << 20
DEADLINE_S = 20.0
REDIRECTS = frozenset({301, 302, 303, 307, 308})
ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
HEADERS = {
    "User-Agent": "thau/0.1 (a local assistant; fetches single pages for the person who runs it)",
    "Accept": "text/html,application/xhtml+xml,text/*;q=0.9,application/json;q=0.9,*/*;q=0.1",
    "Accept-Encoding": "gzip",
    "Accept-Language": "es,en;q=0.8,*;q=0.5",
    "Connection": "close",
}


@dataclass(frozen=True, slots=True)
class GuardedWeb:
    """tools.outside.Web. `deadline_s` is for a whole question: names, connections, redirects and every byte."""

    rule: Rule = PUBLIC
    door: Door = field(default_factory=Door)
    most_bytes: int = MOST_BYTES
    deadline_s: float = DEADLINE_S

    def get(self, url: str, *, timeout_s: float | None = None) -> Page:
        """Fetch a page. Raises ToolError, naming the address and why it is refused or failed."""
        limit_s = timeout_s or self.deadline_s
        try:
            with Background() as background:
                return background.run(self.follow(url, limit_s))
        except (RefusedError, RefusedByRule) as error:
            raise ToolError(f"refused: {error}") from error
        except TimeoutError as error:
            raise ToolError(f"{url}: no whole answer in {limit_s:g} s") from error
        except httpx.HTTPError as error:
            raise ToolError(f"{url}: {error}") from error

    async def follow(self, text: str, limit_s: float) -> Page:
        """Ask, and ask again where the answer says so."""
        async with asyncio.timeout(limit_s), GuardedTransport(self.rule, self.door) as transport:
            url = read(text, self.rule)
            for _ in range(self.rule.redirects + 1):
                page = await self.ask(transport, url)
                if isinstance(page, Page):
                    return page
                if (url.scheme, page.scheme) == ("https", "http") and not self.rule.downgrade:
                    raise RefusedError(f"{url.host} redirects from https to http")
                url = page
        raise RefusedError(f"{text}: more than {self.rule.redirects} redirects; the last is to {url}")

    async def ask(self, transport: GuardedTransport, url: httpx.URL) -> Page | httpx.URL:
        """One request: the page, or where it redirects to."""
        response = await transport.handle_async_request(httpx.Request("GET", url, headers=HEADERS))
        try:
            if response.status_code in REDIRECTS and (place := response.headers.get("location")):
                return read(absolute(url, place), self.rule)
            body, cut = await self.body(response)
        finally:
            await response.aclose()
        kind = response.headers.get("content-type", "")
        return Page(str(url), response.status_code, kind, body, cut)

    async def body(self, response: httpx.Response) -> tuple[bytes, bool]:
        """The decoded bytes, at most `most_bytes`, and whether there were more, as where packing breaks off."""
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in {"identity", "gzip", "x-gzip", "deflate", ""}:
            raise httpx.DecodingError(f"the answer is encoded as {encoding[:40]!r}, which was not asked for")
        whole = bytearray()
        inflating = zlib.decompressobj(wbits=47) if encoding not in {"identity", ""} else None
        async with aclosing(pieces(response)) as stream:
            async for piece in stream:
                try:
                    room = self.most_bytes + 1 - len(whole)
                    whole += inflating.decompress(piece, room) if inflating else piece
                except zlib.error as error:
                    raise httpx.DecodingError(f"the answer is not {encoding}: {error}") from error
                if len(whole) > self.most_bytes:
                    return bytes(whole[: self.most_bytes]), True
                if inflating and inflating.eof:
                    return bytes(whole), bool(inflating.unused_data)
        return bytes(whole), bool(inflating and whole)


async def pieces(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    """The bytes as they come; the transport's own limit ends them."""
    assert isinstance(response.stream, httpx.AsyncByteStream)
    try:
        async for piece in response.stream:
            yield piece
    except TooLong:
        return


def absolute(url: httpx.URL, place: str) -> str:
    """Where a Location header leads. Raises RefusedError."""
    try:
        if any(not character.isprintable() or character.isspace() for character in place) or "\\" in place:
            raise RefusedError(f"{url.host} redirects to {place!r}, which is no URL")
        # The raw text where it is absolute: joining would normalise away what read() is strict about.
        return place if ABSOLUTE.match(place) else str(url.join(place))
    except (httpx.InvalidURL, UnicodeError) as error:
        raise RefusedError(f"{url.host} redirects to {place!r}, which is no URL") from error
