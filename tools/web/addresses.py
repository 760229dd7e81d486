"""Which addresses and names are public. Pure: numbers and text in, a reason or None out. Nothing is resolved here.

The tables are IANA's special-purpose registries (RFC 6890 and what was added since), written out: Python's `is_global`
changes with its patch releases. For IPv6 the rule is the other way round, since so little of it is in use: only
2000::/3 is public, less what is special in it. Addresses that carry an IPv4 address inside are refused whatever they
carry, but for NAT64's well-known prefix, by which networks without IPv4 reach public sites: its inside is judged.

A translation prefix that a network operator took from public addresses cannot be told from public addresses.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address

# (block, what it is); "metadata" are the addresses where clouds hand out a machine's credentials.
SPECIAL_V4: tuple[tuple[IPv4Network, str], ...] = tuple(
    (IPv4Network(block), what)
    for block, what in (
        ("169.254.169.254/32", "metadata of a cloud"),
        ("169.254.170.2/32", "metadata of a cloud"),
        ("100.100.100.200/32", "metadata of a cloud"),
        ("192.0.0.192/32", "metadata of a cloud"),
        ("168.63.129.16/32", "metadata of a cloud"),
        ("0.0.0.0/8", "this host"),
        ("10.0.0.0/8", "a private network"),
        ("100.64.0.0/10", "a provider's own network"),
        ("127.0.0.0/8", "this machine"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "a private network"),
        ("192.0.0.0/24", "reserved for protocols"),
        ("192.0.2.0/24", "documentation"),
        ("192.31.196.0/24", "AS112"),
        ("192.52.193.0/24", "AMT relays"),
        ("192.88.99.0/24", "6to4 relays"),
        ("192.168.0.0/16", "a private network"),
        ("192.175.48.0/24", "AS112"),
        ("198.18.0.0/15", "benchmarks"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("255.255.255.255/32", "broadcast"),
        ("240.0.0.0/4", "reserved"),
    )
)
SPECIAL_V6: tuple[tuple[IPv6Network, str], ...] = tuple(
    (IPv6Network(block), what)
    for block, what in (
        ("fd00:ec2::254/128", "metadata of a cloud"),
        ("fd20:ce::254/128", "metadata of a cloud"),
        ("::/128", "this host"),
        ("::1/128", "this machine"),
        ("::ffff:0:0/96", "an IPv4 address in IPv6 clothes"),
        ("::ffff:0:0:0/96", "an IPv4 address in IPv6 clothes"),
        ("::/96", "an IPv4 address in IPv6 clothes"),
        ("64:ff9b:1::/48", "a local translation to IPv4"),
        ("100::/64", "discard-only"),
        ("100:0:0:1::/64", "reserved for protocols"),
        ("2001::/32", "Teredo"),
        ("2001:2::/48", "benchmarks"),
        ("2001:10::/28", "ORCHID"),
        ("2001:20::/28", "ORCHID"),
        ("2001::/23", "reserved for protocols"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("2620:4f:8000::/48", "AS112"),
        ("3fff::/20", "documentation"),
        ("5f00::/16", "segment routing"),
        ("fc00::/7", "a private network"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)
NAT64 = IPv6Network("64:ff9b::/96")
PUBLIC_V6 = IPv6Network("2000::/3")
# Interface identifiers of ISATAP (RFC 5214): 0000:5efe or 0200:5efe before an IPv4 address.
ISATAP = frozenset({0x00005EFE, 0x02005EFE})
METADATA = "metadata of a cloud"

# Names that lead to this machine or this network, whatever a resolver says, and those that lead nowhere public.
LOCAL_NAMES = frozenset({"localhost", "ip6-localhost", "ip6-loopback", "broadcasthost", "metadata", "instance-data"})
LOCAL_ENDINGS = (
    "localhost",
    "localdomain",
    "local",
    "internal",
    "intranet",
    "lan",
    "home",
    "home.arpa",
    "corp",
    "private",
    "arpa",
    "onion",
    "alt",
    "test",
    "invalid",
    "example",
)


def not_public(address: Address) -> str | None:
    """What an address is, where it is not public; None where it is."""
    if isinstance(address, IPv4Address):
        return next((what for block, what in SPECIAL_V4 if address in block), None)
    if address.scope_id is not None:
        return "bound to one interface"
    if address in NAT64:
        inside = not_public(IPv4Address(int(address) & 0xFFFFFFFF))
        return None if inside is None else f"{inside}, behind a translation"
    if special := next((what for block, what in SPECIAL_V6 if address in block), None):
        return special
    if address not in PUBLIC_V6:
        return "not in use"
    return "an IPv4 address in IPv6 clothes" if (int(address) >> 32) & 0xFFFFFFFF in ISATAP else None


def metadata(address: Address) -> str | None:
    """Where a cloud hands out its machines' credentials: what is refused even where private addresses are not."""
    plain = address.ipv4_mapped if isinstance(address, IPv6Address) and address.ipv4_mapped else address
    return METADATA if (not_public(plain) or "").startswith(METADATA) else None


def not_a_public_name(host: str) -> str | None:
    """What a host is, where it may not be asked for at all; None where its addresses decide. `host` is lower case.

    Refused are local names, names without a dot, and numbers in other forms than the canonical one, which resolvers
    read as addresses: 2130706433, 0x7f.1, 0177.0.0.1, 127.1.
    """
    if host in LOCAL_NAMES or any(host.endswith(f".{ending}") for ending in LOCAL_ENDINGS):
        return "a local name"
    if ":" in host:
        return None
    last = host.rpartition(".")[2]
    if last.isdigit() or last.startswith("0x"):
        return None if is_dotted(host) else "a number in disguise"
    return None if "." in host else "a name without a dot"


def is_dotted(host: str) -> bool:
    """Whether it is an IPv4 address as people write it: four decimal numbers without leading zeros."""
    try:
        return str(IPv4Address(host)) == host
    except ValueError:
        return False
