"""Redirects, names that change their answer, what a client may carry along: each beside the same without the rule."""

import socket
from ipaddress import ip_address
from urllib.parse import quote

import pytest
import requests

from tests.safety.local_web import (
    ANYTHING,
    PUBLIC_V4,
    PUBLIC_V6,
    SECRET,
    LeadingDialer,
    LocalServer,
    Servers,
    led,
    serving,
    table,
)
from thaud.errors import ToolError
from tools.web.client import GuardedWeb
from tools.web.rules import PUBLIC
from tools.web.transport import Door

PLACES = (
    "http://127.0.0.1:{v4}/secret",
    "http://[::1]:{v6}/secret",
    "http://localhost:{v4}/secret",
    "http://2130706433:{v4}/secret",
    "http://[::ffff:127.0.0.1]:{v4}/secret",
    "//127.0.0.1:{v4}/secret",
    "http://169.254.169.254/secret",
    "http://inner.org/secret",
    "http://user:word@site.org/secret",
    "http://site.org:25/secret",
    "http://site.org/to?place=http%3A%2F%2F127.0.0.1%3A{v4}%2Fsecret",
)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_judged_again(servers: Servers, place: str, code: int) -> None:
    """A public page cannot lead to an address that is not public, by no status and over no other page."""
    place = place.format(v4=servers.v4.port, v6=servers.v6.port)
    url = f"http://site.org/to?code={code}&place={quote(place, safe='')}"
    names = {
        "site_org": [PUBLIC_V4],
        "inner_org": ["10.0.0.7"],
        "localhost": ["127.0.0.1"],
        "2130706433": ["127.0.0.1"],
    }
    open_web, _ = led(servers, ANYTHING, **names)
    assert open_web.get(url).body.decode() == SECRET
    web, dialer = led(servers, PUBLIC, **names)
    with pytest.raises(ToolError, match=r"^refused: "):
        web.get(url)
    assert {number for number, _ in dialer.dialled} == {PUBLIC_V4}


@pytest.mark.parametrize(
    "place", ["file:///etc/passwd", "javascript:1", "data:text/plain,x", "ftp://site.org/", "a\tb"]
)
def test_redirects_lead_to_the_web_alone(servers: Servers, place: str) -> None:
    """A redirect to another scheme, or to no URL at all, is refused."""
    web, _ = led(servers, PUBLIC, site_org=[PUBLIC_V4])
    with pytest.raises(ToolError, match=r"^refused: "):
        web.get(f"http://site.org/to?place={quote(place, safe='')}")


def test_redirects_are_counted(servers: Servers) -> None:
    """Five redirects are followed and no sixth, so a page cannot lead in circles."""
    web, dialer = led(servers, PUBLIC, site_org=[PUBLIC_V4])
    with pytest.raises(ToolError, match="more than 5 redirects"):
        web.get("http://site.org/loop")
    assert len(dialer.dialled) == 6
    web, dialer = led(servers, PUBLIC, site_org=[PUBLIC_V4])
    url = "/secret"
    for _ in range(5):
        url = f"/to?place={quote(url, safe='')}"
    assert web.get(f"http://site.org{url}").body.decode() == SECRET
    assert len(dialer.dialled) == 6


def test_all_answers_are_judged(servers: Servers) -> None:
    """A name with a public and a private address is refused whole: which one answers is not for chance to say."""
    for numbers in (
        [PUBLIC_V4, "127.0.0.1"],
        ["127.0.0.1", PUBLIC_V4],
        [PUBLIC_V4, PUBLIC_V6, "fd00::1"],
        ["nonsense"],
    ):
        web, dialer = led(servers, PUBLIC, site_org=numbers)
        with pytest.raises(ToolError, match=r"^refused: "):
            web.get("http://site.org/secret")
        assert dialer.dialled == []


def test_a_resolver_that_changes_its_mind_gains_nothing(servers: Servers) -> None:
    """What was judged is what is dialled: nobody is asked in between. Who asks twice is led to the secret."""
    answers: list[str] = []

    def rebinding(host: str, port: int) -> list[str]:
        answers.append("127.0.0.1" if answers else PUBLIC_V4)
        return [answers[-1]]

    dialer = LeadingDialer(servers.v4.port)
    web = GuardedWeb(PUBLIC, Door(rebinding, dialer))
    assert web.get("http://site.org/echo").status == 200
    assert (answers, dialer.dialled) == ([PUBLIC_V4], [(PUBLIC_V4, 80)])
    with pytest.raises(ToolError, match=r"^refused: site.org is 127.0.0.1"):
        web.get("http://site.org/secret")
    answers.clear()
    assert PUBLIC.address(ip_address(rebinding("site.org", 80)[0])) is None  # a client that checks first
    with socket.create_connection((rebinding("site.org", 80)[0], servers.v4.port)) as led_there:  # and asks again
        led_there.sendall(b"GET /secret HTTP/1.1\r\nHost: site.org\r\nConnection: close\r\n\r\n")
        assert SECRET in b"".join(iter(lambda: led_there.recv(4096), b"")).decode()


def test_a_redirect_to_itself_is_resolved_and_judged_again(servers: Servers) -> None:
    """A name that was public a moment ago is judged again for the next request, and then refused."""
    answers = iter([[PUBLIC_V4], ["127.0.0.1"]])
    dialer = LeadingDialer(servers.v4.port)
    web = GuardedWeb(PUBLIC, Door(lambda host, port: next(answers), dialer))
    with pytest.raises(ToolError, match=r"^refused: site.org is 127.0.0.1"):
        web.get("http://site.org/to?place=%2Fsecret")
    assert dialer.dialled == [(PUBLIC_V4, 80)]


def test_a_public_address_of_this_machine_is_refused(servers: Servers) -> None:
    """Where both ends of a connection have the same address, it is this machine: nothing is sent."""
    door = Door(table(site_org=[PUBLIC_V4]), LeadingDialer(servers.v4.port, own=True))
    assert GuardedWeb(ANYTHING, door).get("http://site.org/secret").body.decode() == SECRET
    before = servers.hits()
    with pytest.raises(ToolError, match="this machine"):
        GuardedWeb(PUBLIC, door).get("http://site.org/secret")
    assert servers.hits() == before


def test_the_environment_names_no_proxy(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment would connect where nobody checks; it is not asked, though others ask it."""
    with serving(LocalServer(("127.0.0.1", 0))) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        web, dialer = led(servers, PUBLIC, site_org=[PUBLIC_V4])
        assert web.get("http://site.org/secret").status == 200
        assert (proxy.seen, len(dialer.dialled)) == ([], 1)
        assert requests.get("http://site.org/secret", timeout=10).text == SECRET
        assert proxy.seen


def test_nothing_is_kept_or_carried_along(servers: Servers) -> None:
    """No cookie that a page set, no credentials and no referrer reach the next page."""
    web, _ = led(servers, PUBLIC, site_org=[PUBLIC_V4])
    said = web.get("http://site.org/to?place=%2Fecho").body.decode().lower()
    assert "host: site.org" in said
    for header in ("cookie", "authorization", "referer"):
        assert header not in said
    assert requests.get(f"http://127.0.0.1:{servers.v4.port}/to?place=%2Fecho", timeout=10).text.count("known=yes") == 1
