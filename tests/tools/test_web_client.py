"""What the guarded client bounds, and whom it believes to be whom."""

import datetime as dt
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.safety.local_web import ANYTHING, PUBLIC_V4, SECRET, LeadingDialer, LocalServer, serving, table
from thaud.errors import ToolError
from tools.web.client import GuardedWeb
from tools.web.rules import PUBLIC
from tools.web.transport import Door, trusted


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with serving(LocalServer(("127.0.0.1", 0))) as running:
        yield running


def web(server: LocalServer, **fields: object) -> GuardedWeb:
    door = Door(table(site_org=[PUBLIC_V4]), LeadingDialer(server.port))
    return GuardedWeb(PUBLIC, door, **fields)  # type: ignore[arg-type]


def test_a_page_that_drips_ends_at_the_deadline(server: LocalServer) -> None:
    """The deadline is for the whole answer: a byte every moment does not keep us."""
    begun = monotonic()
    with pytest.raises(ToolError, match=r"no whole answer in 0\.3 s"):
        web(server).get("http://site.org/slow", timeout_s=0.3)
    assert monotonic() - begun < 5


def test_a_resolver_that_hangs_ends_at_the_deadline(server: LocalServer) -> None:
    """The deadline is for the name too, though a resolver cannot be stopped."""
    over = threading.Event()

    def hanging(host: str, port: int) -> list[str]:
        over.wait(60)
        return [PUBLIC_V4]

    with pytest.raises(ToolError, match=r"no whole answer in 0\.3 s"):
        GuardedWeb(PUBLIC, Door(hanging), deadline_s=0.3).get("http://site.org/")
    over.set()


@pytest.mark.parametrize("path", ["endless", "bomb"])
def test_what_is_too_long_is_cut(server: LocalServer, path: str) -> None:
    """An endless page, and one that unpacks to much more than it is, are read to the limit and no further."""
    page = web(server, most_bytes=100_000).get(f"http://site.org/{path}")
    assert (len(page.body), page.cut) == (100_000, True)


def test_packed_pages_are_unpacked(server: LocalServer) -> None:
    """gzip, which is asked for, is read."""
    page = web(server).get("http://site.org/zipped")
    assert (page.body.decode(), page.cut) == (SECRET, False)


@pytest.mark.parametrize("path", ["halved", "doubled"])
def test_packing_that_breaks_off_is_said_to_be_cut(server: LocalServer, path: str) -> None:
    """Half of a packed page is not given as the whole, and neither is the first of two."""
    page = web(server).get(f"http://site.org/{path}")
    assert (SECRET.startswith(page.body.decode()), bool(page.body), page.cut) == (True, True, True)


@pytest.mark.parametrize(
    "place", ["http://xn--/", "http://xn--a.org/", "http://site.org:0/secret", "http://site.org:65536/"]
)
def test_places_that_no_client_reads_are_refused(server: LocalServer, place: str) -> None:
    """Names in broken Punycode and ports that are none are refusals, wherever they come from, and no crash."""
    for url in (place, f"http://site.org/to?place={quote(place, safe='')}"):
        with pytest.raises(ToolError, match=r"^refused: "):
            web(server).get(url)


def test_a_redirect_may_hold_an_address_in_its_path(server: LocalServer) -> None:
    """Archives of the web redirect so: only what begins with a scheme is an address of its own."""
    page = web(server).get(f"http://site.org/to?place={quote('/secret/http://elsewhere.org/', safe='')}")
    assert (page.url, page.body.decode()) == ("http://site.org/secret/http://elsewhere.org/", SECRET)


def test_other_packings_are_refused(server: LocalServer) -> None:
    """What was not asked for is not unpacked."""
    with pytest.raises(ToolError, match="encoded as 'br'"):
        web(server).get("http://site.org/br")


def test_a_name_that_is_not_known_says_so(server: LocalServer) -> None:
    """A name without an address, and a door that nobody opens, are errors that name them."""
    with pytest.raises(ToolError, match=r"elsewhere\.org is not known"):
        web(server).get("http://elsewhere.org/")
    with pytest.raises(ToolError, match=r"http://127\.0\.0\.1:1/: "):
        GuardedWeb(ANYTHING).get("http://127.0.0.1:1/")


def test_one_address_that_does_not_answer_is_not_the_end(server: LocalServer) -> None:
    """Of several judged addresses the next is tried."""
    door = Door(lambda host, port: ["127.0.0.2", "127.0.0.1"])
    page = GuardedWeb(ANYTHING, door).get(f"http://site.org:{server.port}/secret")
    assert page.body.decode() == SECRET
    with socket.create_server(("127.0.0.3", server.port), backlog=0) as full, ExitStack() as waiting:
        crowd = [waiting.enter_context(socket.socket()) for _ in range(3)]
        for each in crowd:  # its queue is full: nobody who comes now is answered
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        silent = Door(lambda host, port: ["127.0.0.3", "127.0.0.1"], connect_s=0.2)
        page = GuardedWeb(ANYTHING, silent).get(f"http://site.org:{server.port}/secret")
    assert page.body.decode() == SECRET


def certificate(folder: Path, name: str) -> Path:
    """A key and a certificate of its own for a name, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    path.write_bytes(
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain) + made.public_bytes(encoding)
    )
    return path


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalServer, ssl.SSLContext]]:
    """A TLS server that is site.org, and a context that trusts it."""
    path = certificate(tmp_path_factory.mktemp("tls"), "site.org")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    with serving(LocalServer(("127.0.0.1", 0), context)) as running:
        yield running, ssl.create_default_context(cafile=path)


def secure(sealed: tuple[LocalServer, ssl.SSLContext], tls: ssl.SSLContext | None) -> GuardedWeb:
    numbers = {"site_org": [PUBLIC_V4], "other_org": [PUBLIC_V4]}
    return GuardedWeb(PUBLIC, Door(table(**numbers), LeadingDialer(sealed[0].port), tls))


def test_tls_verifies_the_name_though_a_number_is_dialled(sealed: tuple[LocalServer, ssl.SSLContext]) -> None:
    """A pinned connection is still the name's: its certificate counts, and the Host header names it."""
    page = secure(sealed, sealed[1]).get("https://site.org/echo")
    assert b"Host: site.org" in page.body


def test_a_certificate_for_another_name_or_by_nobody_is_refused(sealed: tuple[LocalServer, ssl.SSLContext]) -> None:
    """Neither another site's certificate nor one that no authority signed is believed."""
    for url, tls in (("https://other.org/echo", sealed[1]), ("https://site.org/echo", trusted())):
        with pytest.raises(ToolError, match="certificate verify failed"):
            secure(sealed, tls).get(url)


def test_https_is_not_downgraded(sealed: tuple[LocalServer, ssl.SSLContext]) -> None:
    """A secure page does not lead to one that anybody on the way can write."""
    with pytest.raises(ToolError, match=r"refused: site\.org redirects from https to http"):
        secure(sealed, sealed[1]).get("https://site.org/to?place=http%3A%2F%2Fsite.org%2Fsecret")
