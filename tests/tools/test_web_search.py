import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.safety.local_web import LocalServer, serving
from thaud.errors import ToolError
from tools.base import Context
from tools.outside import Found, Page
from tools.web.client import GuardedWeb
from tools.web.searching import Chain, Ddgs, Searxng, Wikipedia, make_chain
from tools.web_search import TOOL, format_results

PARIS = Found("Paris", "https://example.org", "A city.")


@dataclass
class Says:
    """A way to search that answers, finds nothing or fails."""

    name: str
    found: list[Found] | str
    asked: list[str] = field(default_factory=list)

    def find(self, query: str, limit: int, timeout_s: float) -> list[Found]:
        self.asked.append(query)
        if isinstance(self.found, str):
            raise ToolError(self.found)
        return self.found


@dataclass
class Shelf:
    """A web that gives the same answer everywhere."""

    body: Any
    status: int = 200
    asked: list[str] = field(default_factory=list)

    def get(self, url: str, *, timeout_s: float | None = None) -> Page:
        self.asked.append(url)
        raw = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        return Page(url, self.status, "application/json", raw)


def search(context: Context, *ways: Any) -> str:
    return TOOL.perform(TOOL.accept({"query": "capital of France"}), replace(context, search=Chain(ways)))


def test_the_first_way_with_results_wins(context: Context) -> None:
    """A way that fails or finds nothing leads to the next, and after the first results nobody else learns the query."""
    last = Says("last", [PARIS])
    assert search(context, Says("one", "blocked"), Says("two", []), Says("three", [PARIS]), last).startswith("1. Paris")
    assert last.asked == []


def test_no_way_at_all_is_an_error_that_names_each(context: Context) -> None:
    """Where nobody answers the search is unavailable, and the reasons are there; it is never an empty list."""
    with pytest.raises(ToolError, match=r"^search unavailable: one: blocked; two: it answers 429$"):
        search(context, Says("one", "blocked"), Says("two", "it answers 429"))
    with pytest.raises(ToolError, match=r"^search unavailable: no way"):
        search(context)
    with pytest.raises(ToolError, match=r"^search unavailable"):
        TOOL.perform({"query": "x"}, context)


def test_nothing_found_is_said_honestly(context: Context) -> None:
    """Nothing is only nothing where all who were asked say so; with one silent it is no result at all."""
    assert search(context, Says("one", []), Says("two", [])).startswith("No results for 'capital of France'")
    with pytest.raises(ToolError, match=r"^search incomplete: two found nothing, and one: blocked$"):
        search(context, Says("one", "blocked"), Says("two", []))


def test_searxng_is_asked_for_json() -> None:
    """An instance's JSON becomes results."""
    web = Shelf({"results": [{"title": "Paris", "url": "https://example.org", "content": "A\n city."}, "x"]})
    assert Searxng("http://box:8888/", web).find("a & b", 5, 1) == [PARIS]
    assert web.asked == ["http://box:8888/search?q=a+%26+b&format=json"]


@pytest.mark.parametrize(
    ("web", "reason"),
    [
        (
            Shelf({"results": [], "unresponsive_engines": [["google", "timeout"]]}),
            "none of its engines answered.*google",
        ),
        (Shelf({"results": [], "unresponsive_engines": 3}), "none of its engines answered: 3"),
        (Shelf(b"Forbidden", 403), "403: it has no JSON format"),
        (Shelf(b"<html>", 200), "no JSON"),
        (Shelf(b"[" * 100_000, 200), "no JSON"),
        (Shelf([]), "no JSON object"),
        (Shelf({"error": "x"}), "has no 'results'"),
        (Shelf(b"", 500), "answers 500"),
    ],
)
def test_searxng_that_did_not_search_is_an_error(web: Shelf, reason: str) -> None:
    """An instance whose engines are silent, or that answers something else, found nothing because it did not look."""
    with pytest.raises(ToolError, match=reason):
        Searxng("http://box", web).find("x", 5, 1)


def test_searxng_without_results_says_so() -> None:
    """Engines that all answered with nothing are an answer."""
    assert Searxng("http://box", Shelf({"results": [], "unresponsive_engines": []})).find("x", 5, 1) == []


def test_the_users_own_instance_may_be_private() -> None:
    """An instance on loopback, which a page may not reach, is asked with the rule for what the user configured."""
    with serving(LocalServer(("127.0.0.1", 0))) as server:
        chain = make_chain(["searxng"], web=GuardedWeb(), searxng_url=f"http://127.0.0.1:{server.port}")
        with pytest.raises(ToolError, match="its answer is no JSON"):
            chain.find("x", 3)
        assert server.seen[0][0] == "/search?q=x&format=json"


def test_wikipedia_is_asked_in_the_conversations_language() -> None:
    """Its titles become addresses, its snippets plain text."""
    web = Shelf(
        {"query": {"search": [{"title": "El Niño 3", "snippet": "un <span class='x'>ni\u00f1o</span> &amp; m\u00e1s"}]}}
    )
    (found,) = Wikipedia("es", web).find("niño", 2, 1)
    assert found == Found("El Niño 3", "https://es.wikipedia.org/wiki/El_Ni%C3%B1o_3", "un niño & más")
    asked = urlsplit(web.asked[0])
    assert (asked.hostname, parse_qs(asked.query)["srsearch"]) == ("es.wikipedia.org", ["niño"])


@pytest.mark.parametrize("body", [{"error": {"code": "ratelimited"}}, {}, {"query": {}}, {"query": [1]}])
def test_wikipedia_that_did_not_search_is_an_error(body: dict[str, Any]) -> None:
    """A refusal of its interface is not the absence of articles."""
    with pytest.raises(ToolError):
        Wikipedia("en", Shelf(body)).find("x", 1, 1)


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """ddgs is told of a proxy that refuses every connection: no network, whatever the machine has."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("DDGS_PROXY", f"http://127.0.0.1:{taken.getsockname()[1]}")
        yield


@pytest.mark.usefixtures("nowhere")
def test_no_network_is_an_error(context: Context) -> None:
    """Where nothing can be reached the call fails and says so; it never returns an empty list of results."""
    with pytest.raises(ToolError, match=r"search unavailable: ddgs: \w"):
        search(context, Ddgs())


@pytest.fixture
def silence(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """ddgs is told of a proxy that takes every connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as taken:
        monkeypatch.setenv("DDGS_PROXY", f"http://127.0.0.1:{taken.getsockname()[1]}")
        yield taken


@pytest.mark.usefixtures("silence")
def test_engines_that_are_silent_end_at_the_deadline() -> None:
    """The deadline is for all engines together, though each has threads that heed none."""
    begun = monotonic()
    with pytest.raises(ToolError, match=r"^no engine answered in 0\.7 s$"):
        Ddgs().find("x", 1, 0.7)
    assert monotonic() - begun < 3


def test_ctrl_c_ends_a_search(silence: socket.socket) -> None:
    """Whoever asked need not wait for engines; nothing of the search is left."""

    def press() -> None:
        silence.accept()[0].close()
        os.kill(os.getpid(), signal.SIGINT)

    before = threading.active_count()
    thread = threading.Thread(target=press)
    thread.start()
    begun = monotonic()
    with pytest.raises(KeyboardInterrupt):
        Ddgs().find("x", 1, 60)
    thread.join()
    assert (monotonic() - begun < 15, threading.active_count()) == (True, before)


def test_the_settings_choose_the_ways() -> None:
    """The chain is what the settings name, in their order; SearXNG needs an address."""
    names = [way.name for way in make_chain(["wikipedia", "searxng", "ddgs"], web=Shelf({})).ways]
    assert names == ["wikipedia", "ddgs"]
    with_url = make_chain(["searxng", "ddgs"], web=Shelf({}), searxng_url="http://box").ways
    assert [way.name for way in with_url] == ["searxng", "ddgs"]


def test_results_are_numbered_and_short() -> None:
    """Each result is a title, an address and one line of text that is cut where it is long."""
    rows = [Found("Paris", "https://example.org", "a\n b " + "x" * 400), Found("Lyon", "", "")]
    lines = format_results(rows).splitlines()
    assert lines[:2] == ["1. Paris", "   https://example.org"]
    assert lines[2].startswith("   a b xxx")
    assert lines[2].endswith("…")
    assert len(lines[2]) < 310
    assert lines[3] == "2. Lyon"


@pytest.mark.parametrize("arguments", [{}, {"query": ""}, {"query": "x", "max_results": 50}, {"query": "x", "page": 1}])
def test_arguments_are_bounded(arguments: dict[str, object]) -> None:
    """A search without words, with too many results or with unknown arguments is not made."""
    with pytest.raises(ToolError, match="web_search"):
        TOOL.accept(arguments)
