"""Who may ask over HTTP. Pure.

There is no login, so two roads that lead a browser to us are closed: a page of another site that posts here (its Origin
is not ours) and, while we are bound to this machine alone, a name that was pointed at 127.0.0.1 to make a foreign page
look like ours (DNS rebinding: its Host is no name of this machine). Who binds to a public address (`[api] host`) puts a
proxy with a login in front.
"""

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

READING = frozenset({"GET", "HEAD", "OPTIONS"})


def refusal(method: str, headers: Mapping[str, str], bound_to: str) -> str | None:
    """Why a request is refused, or None."""
    host = headers.get("host", "")
    if is_loopback(bound_to) and not is_loopback(name_in(host)):
        return f"the host {host[:80]!r} is not this machine: use http://localhost"
    origin = headers.get("origin")
    if origin is not None and method not in READING and urlsplit(origin).netloc.lower() != host.lower():
        return f"pages of {origin[:80]!r} may not write here"
    return None


def name_in(host: str) -> str:
    """The name in a Host header, without port and brackets; empty where it has none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def is_loopback(name: str) -> bool:
    """Whether a name or an address is this machine and nothing else."""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
