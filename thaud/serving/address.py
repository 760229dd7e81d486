"""Where an Ollama server listens: host strings as Ollama reads them, and a look whether anybody is there.

Kept apart from the client so that a daemon without a server never loads an HTTP library.
"""

import ipaddress
import socket
from dataclasses import dataclass

DEFAULT_PORT = 11434
SCHEME_PORTS = {"http": 80, "https": 443}
LOCAL = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Address:
    """A server's place. `path` is where a proxy put it, without slashes around it."""

    scheme: str
    host: str
    port: int
    path: str = ""

    @property
    def url(self) -> str:
        """The base of its URLs, with the port spelled out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}" + (f"/{self.path}" if self.path else "")


def parse_host(text: str) -> Address:
    """Read what OLLAMA_HOST may hold (ollama/ollama, envconfig.Host): `host`, `host:port`, `:port`, a URL, or nothing.

    A bare host means port 11434, `http://host` means 80. A port that is no number means the default, as it does there.
    An address to listen on (0.0.0.0, ::) is this machine to a client.
    """
    scheme, separator, rest = text.strip(" \t\"'").partition("://")
    if not separator:
        scheme, rest = "http", scheme
    place, _, path = rest.partition("/")
    default = SCHEME_PORTS.get(scheme, DEFAULT_PORT) if separator else DEFAULT_PORT
    host, port = split_port(place)
    number = int(port) if port.isdecimal() and int(port) < 1 << 16 else default
    return Address(scheme, connectable(host), number, path.strip("/"))


def split_port(place: str) -> tuple[str, str]:
    """`host:port` -> (host, port); brackets around an IPv6 host go away, and a bare one keeps its colons."""
    if place.startswith("["):
        host, _, rest = place[1:].partition("]")
        return host, rest.removeprefix(":")
    if place.count(":") > 1:
        return place, ""
    host, _, port = place.partition(":")
    return host, port


def connectable(host: str) -> str:
    """The host to connect to where a server listens on `host`."""
    if not host:
        return LOCAL
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return "::1" if address.version == 6 else LOCAL
    return str(address)


def reachable(host: str, timeout_s: float = 1.0) -> bool:
    """Whether anybody accepts a TCP connection at `host`. Says nothing about who."""
    address = parse_host(host)
    try:
        with socket.create_connection((address.host, address.port), timeout=timeout_s):
            return True
    except (OSError, UnicodeError):
        return False
