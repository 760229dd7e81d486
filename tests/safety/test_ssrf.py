"""Forms of forbidden addresses: each is refused before a byte is sent, and each reaches the local server and its secret
once the rule is off, or with a client that reads URLs as laxly as many do. A form whose control fails is no probe.
"""

import urllib.request
from unicodedata import normalize

import pytest
import requests

from tests.safety.local_web import (
    ANYTHING,
    PUBLIC_V4,
    PUBLIC_V6,
    SECRET,
    LeadingDialer,
    Servers,
    led,
)
from thaud.errors import ToolError
from tools.web.client import GuardedWeb
from tools.web.rules import CONFIGURED, PUBLIC, Rule
from tools.web.transport import Door


def real(rule: Rule) -> GuardedWeb:
    """A client on the system's own resolver and sockets."""
    return GuardedWeb(rule, deadline_s=10)


# Really resolved and, in the control, really connected to.
LOCAL_FORMS = (
    "http://127.0.0.1:{v4}/secret",
    "http://127.0.0.1.:{v4}/secret",
    "http://2130706433:{v4}/secret",
    "http://017700000001:{v4}/secret",
    "http://0x7f000001:{v4}/secret",
    "http://0X7F000001:{v4}/secret",
    "http://0x7f.0.0.1:{v4}/secret",
    "http://0x7f.0x0.0x0.0x1:{v4}/secret",
    "http://127.1:{v4}/secret",
    "http://127.0.1:{v4}/secret",
    "http://0177.1:{v4}/secret",
    "http://0:{v4}/secret",
    "http://0.0.0.0:{v4}/secret",
    "http://localhost:{v4}/secret",
    "http://LOCALHOST:{v4}/secret",
    "http://localhost.:{v4}/secret",
    "http://127\u30020\u30020\u30021:{v4}/secret",
    "http://127\uff0e0\uff0e0\uff0e1:{v4}/secret",
    "http://user@127.0.0.1:{v4}/secret",
    "http://user:word@127.0.0.1:{v4}/secret",
    "http://example.org@127.0.0.1:{v4}/secret",
    "http://example.org%2f@127.0.0.1:{v4}/secret",
    "http://127.0.0.1:{v4}/secret#@example.org",
    "http://127.0.0.1:{v4}/secret?@example.org",
    "HTTP://127.0.0.1:{v4}/secret",
    "http://[::1]:{v6}/secret",
    "http://[0:0:0:0:0:0:0:1]:{v6}/secret",
    "http://[0000::0001]:{v6}/secret",
    "http://[::ffff:127.0.0.1]:{v4}/secret",
    "http://[::ffff:7f00:1]:{v4}/secret",
    "http://[0:0:0:0:0:ffff:127.0.0.1]:{v4}/secret",
    "http://[::]:{v6}/secret",
    "http://[::ffff:0.0.0.0]:{v4}/secret",
)


@pytest.mark.parametrize("form", LOCAL_FORMS)
def test_this_machine_is_refused_in_every_spelling(servers: Servers, form: str) -> None:
    """No spelling of this machine's address is asked; with the rule off the very same one gives the secret."""
    url = form.format(v4=servers.v4.port, v6=servers.v6.port)
    assert real(ANYTHING).get(url).body.decode() == SECRET
    before = servers.hits()
    with pytest.raises(ToolError, match=r"^refused: "):
        real(PUBLIC).get(url)
    assert servers.hits() == before


# Read strictly here and laxly elsewhere: (form, the client that is led there).
LAX_FORMS = (
    ("http://0177.0.0.1:{v4}/secret", "requests"),
    ("http://127.0.0.01:{v4}/secret", "requests"),
    ("http://\uff11\uff12\uff17.0.0.1:{v4}/secret", "browser"),
    ("http://\u2460\u2461\u2466.0.0.1:{v4}/secret", "browser"),
    ("http://\u24db\u24de\u24d2alhost:{v4}/secret", "browser"),
    ("http://127.0.0.1:{v4}\t/secret", "browser"),
    ("ht\ntp://127.0.0.1:{v4}/secret", "browser"),
    ("http://127.0.0\r.1:{v4}/secret", "browser"),
    ("http:\\\\127.0.0.1:{v4}\\secret", "browser"),
    ("http://127.0.0.1:{v4}\\@example.org/secret", "requests"),
    ("\x0bhttp://127.0.0.1:{v4}/secret", "requests"),
    ("http://%31%32%37.0.0.1:{v4}/secret", "urllib"),
    ("URL:http://127.0.0.1:{v4}/secret", "urllib"),
    ("file:///proc/self/comm", "urllib"),
    ("data:text/plain,{v4}", "urllib"),
)


@pytest.mark.parametrize(("form", "client"), LAX_FORMS)
def test_what_readers_disagree_about_is_refused(servers: Servers, form: str, client: str) -> None:
    """A text that some client takes for an address of this machine is none here, whatever the rule."""
    url = form.format(v4=servers.v4.port)
    before = servers.hits()
    with pytest.raises(ToolError, match=r"^refused: "):
        real(PUBLIC).get(url)
    assert servers.hits() == before
    assert lax(client, url)


def lax(client: str, url: str) -> bytes:
    """What a client that reads URLs its own way gets; browsers map letters, drop tabs and turn backslashes round."""
    if client == "browser":
        url = normalize("NFKC", url.translate({9: "", 10: "", 13: "", 92: "/"}))
    if client != "urllib":
        return requests.get(url, timeout=10).content
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as answer:
        content: bytes = answer.read()
    return content


# Numbers that this machine cannot dial are led to the local server, which then stands for what is there.
NUMBERS = (
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.2",
    "168.63.129.16",
    "169.254.1.1",
    "169.254.169.254",
    "169.254.170.2",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.0.192",
    "192.0.2.1",
    "192.31.196.1",
    "192.52.193.1",
    "192.88.99.1",
    "192.168.1.1",
    "192.175.48.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "0.1.2.3",
    "::127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:93.184.215.14",
    "::ffff:0:127.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::10.0.0.1",
    "64:ff9b:1:fffe::5db8:d70e",
    "100::1",
    "100:0:0:1::1",
    "2001::7f00:1",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
    "2001:1::1",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2002:5db8:d70e::1",
    "2606:2800:21f:cb07:0:5efe:7f00:1",
    "2606:2800:21f:cb07:200:5efe:a00:1",
    "2620:4f:8000::1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fd12:3456:789a::1",
    "fd20:ce::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
)


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("as_name", [False, True], ids=["literal", "resolved"])
def test_numbers_that_are_not_public_are_refused(servers: Servers, number: str, *, as_name: bool) -> None:
    """Every special block of IANA is refused, in the URL and as what a name resolves to, before anything is dialled."""
    literal = f"[{number}]" if ":" in number else number
    url = f"http://{'site.org' if as_name else literal}/secret"
    open_web, dialled = led(servers, ANYTHING, site_org=[number])
    assert open_web.get(url).body.decode() == SECRET
    assert dialled.dialled
    web, dialer = led(servers, PUBLIC, site_org=[number])
    with pytest.raises(ToolError, match=r"^refused: "):
        web.get(url)
    assert dialer.dialled == []


@pytest.mark.parametrize(
    "number", ["169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "168.63.129.16", "fd00:ec2::254"]
)
def test_metadata_is_refused_where_private_addresses_are_not(servers: Servers, number: str) -> None:
    """What a user configured may be private, and is still no way to a machine's credentials."""
    web, dialer = led(servers, CONFIGURED, site_org=[number], box_org=["10.0.0.1"])
    with pytest.raises(ToolError, match=r"^refused: .*metadata of a cloud"):
        web.get("http://site.org/secret")
    assert dialer.dialled == []
    assert web.get("http://box.org/secret").body.decode() == SECRET


NAMES = (
    "localhost",
    "api.localhost",
    "localhost.localdomain",
    "printer.local",
    "metadata",
    "metadata.google.internal",
    "instance-data",
    "instance-data.ec2.internal",
    "kubernetes.default.svc.cluster.local",
    "router.lan",
    "nas.home",
    "nas.home.arpa",
    "wiki.corp",
    "wiki.intranet",
    "intranet",
    "1.0.0.127.in-addr.arpa",
    "hidden.onion",
    "some.test",
    "some.invalid",
)


@pytest.mark.parametrize("name", NAMES)
def test_local_names_are_not_even_resolved(servers: Servers, name: str) -> None:
    """A local name is refused whatever a resolver says of it, and no resolver learns of it."""
    asked: list[str] = []

    def resolver(host: str, port: int) -> list[str]:
        asked.append(host)
        return [PUBLIC_V4]

    dialer = LeadingDialer(servers.v4.port)
    assert GuardedWeb(ANYTHING, Door(resolver, dialer)).get(f"http://{name}/secret").body.decode() == SECRET
    asked.clear()
    dialer.dialled.clear()
    with pytest.raises(ToolError, match=r"^refused: "):
        GuardedWeb(PUBLIC, Door(resolver, dialer)).get(f"http://{name}/secret")
    assert (asked, dialer.dialled) == ([], [])


@pytest.mark.parametrize("port", [1, 21, 22, 23, 25, 110, 143, 445, 587, 1023, 2049, 5060, 6000, 6667, 10080])
def test_ports_of_other_protocols_are_refused(servers: Servers, port: int) -> None:
    """A request is not sent where it would be words of another protocol."""
    url = f"http://site.org:{port}/secret"
    open_web, _ = led(servers, ANYTHING, site_org=[PUBLIC_V4])
    assert open_web.get(url).body.decode() == SECRET
    web, dialer = led(servers, PUBLIC, site_org=[PUBLIC_V4])
    with pytest.raises(ToolError, match=rf"^refused: .*port {port} "):
        web.get(url)
    assert dialer.dialled == []


@pytest.mark.parametrize("port", ["", ":80", ":8080", ":3000"])
@pytest.mark.parametrize("number", [PUBLIC_V4, PUBLIC_V6, f"64:ff9b::{PUBLIC_V4}"])
def test_public_addresses_are_asked(servers: Servers, port: str, number: str) -> None:
    """The guard is no wall around everything: a public name is fetched, from the very number that was judged."""
    web, dialer = led(servers, PUBLIC, site_org=[number])
    page = web.get(f"http://site.org{port}/secret#part")
    assert (page.status, page.body.decode()) == (200, SECRET)
    assert page.url == f"http://site.org{'' if port == ':80' else port}/secret"
    assert dialer.dialled == [(number, int(port[1:] or 80))]
