"""What the web client may reach: a value, so that a user's own server has another rule than a page, and a test none.

Owns the two rules; refuses to connect. Ports: 80, 443 and those that need no privilege, less the ones that browsers
refuse because another protocol listens there (Fetch, "bad port"), for a request can be words to it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tools.web.addresses import Address, metadata, not_a_public_name, not_public

WEB_PORTS = frozenset({80, 443})
FIRST_UNPRIVILEGED = 1024
OTHER_PROTOCOLS = frozenset(
    {1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080}
)


@dataclass(frozen=True, slots=True)
class Rule:
    """Each says why not, in a few words, or None.

    name:    a host as the URL has it, before anything is resolved.
    address: a number that a connection would go to; every one that a name has is asked about.
    port:    a port.
    itself:  whether an address of this very machine's own may be connected to, a public one too.
    downgrade: whether a redirect may lead from https to http.
    credentials: whether a URL may hold a user and a password.
    redirects: how many are followed.
    """

    name: Callable[[str], str | None]
    address: Callable[[Address], str | None]
    port: Callable[[int], str | None]
    itself: bool = False
    downgrade: bool = False
    credentials: bool = False
    redirects: int = 5


def anything(_: object) -> None:
    """No reason against it."""


def not_a_web_port(port: int) -> str | None:
    """Why a port is refused."""
    if port in WEB_PORTS or (port >= FIRST_UNPRIVILEGED and port not in OTHER_PROTOCOLS):
        return None
    return "not a port of the web"


PUBLIC = Rule(not_a_public_name, not_public, not_a_web_port)
CONFIGURED = Rule(anything, metadata, anything, itself=True, redirects=0)
