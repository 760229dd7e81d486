"""URLs, read once and strictly. Owns which texts are URLs here; refuses to resolve.

Programs disagree about backslashes, tabs, credentials, wide digits and dots that are none; whoever checks with one
reader and connects with another is led astray. So what is read here (httpx's parser, then the host's letters one by
one) is what is connected to, and what readers disagree about is refused.
"""

import re
from ipaddress import IPv6Address

import httpx

from tools.web.rules import Rule

LONGEST = 2000
DEFAULT_PORTS = {"http": 80, "https": 443}
LAST_PORT = 65535
# Letters, digits, hyphens and the underscore that some names have; labels of 63, no label empty.
NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_](?:[a-z0-9_-]{0,62}))*")
AUTHORITY = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")


class RefusedError(Exception):
    """A URL or an address that the rule is against, or that is none; the message says which and why."""


def read(text: str, rule: Rule) -> httpx.URL:
    """The one URL that a text is, normalised: lower-case ASCII host, no fragment. Raises RefusedError."""
    text = text.strip(" ")
    if len(text) > LONGEST:
        raise RefusedError(f"a URL of {len(text)} characters; at most {LONGEST} are read")
    if any(character.isspace() or not character.isprintable() for character in text) or "\\" in text:
        raise RefusedError(f"{text!r} has characters that no URL has")
    try:
        url = without_dot(httpx.URL(text))
    except (httpx.InvalidURL, UnicodeError) as error:
        raise RefusedError(f"{text!r} is no URL: {error}") from error
    authority = AUTHORITY.match(text)
    if url.scheme not in DEFAULT_PORTS or authority is None:
        raise RefusedError(f"{text!r} is no address of the web: it has to begin with http:// or https://")
    if "@" in authority[1] and not rule.credentials:
        raise RefusedError(f"{url.host}: a URL with a user or password in it")
    return checked(url.copy_with(fragment=None), rule)


def without_dot(url: httpx.URL) -> httpx.URL:
    """`example.org.` is `example.org`. Raises UnicodeError for a name in Punycode that is none."""
    return url.copy_with(host=url.host[:-1]) if url.host.endswith(".") else url


def checked(url: httpx.URL, rule: Rule) -> httpx.URL:
    """A URL whose scheme, host and port the rule has nothing against. Raises RefusedError."""
    host = url.raw_host.decode("ascii")
    if url.scheme not in DEFAULT_PORTS:
        raise RefusedError(f"{url.scheme}: only http and https are asked")
    if not (is_v6(host) if ":" in host else NAME.fullmatch(host)):
        raise RefusedError(f"{host!r} is not the name of a host")
    if why := rule.name(host):
        raise RefusedError(f"{host}: {why}")
    port = port_of(url)
    if why := rule.port(port) if 0 < port <= LAST_PORT else "no port":
        raise RefusedError(f"{host}: port {port} is {why}")
    return url


def port_of(url: httpx.URL) -> int:
    """The port that is connected to."""
    return DEFAULT_PORTS[url.scheme] if url.port is None else url.port


def is_v6(host: str) -> bool:
    """Whether it is an IPv6 address without a zone."""
    try:
        return IPv6Address(host).scope_id is None
    except ValueError:
        return False
