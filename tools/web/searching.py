"""Ways to search the web, tried one after another. Owns their questions and answers; refuses to fetch what is found.

Three outcomes are told apart: results; an honest nothing, said by a way that did answer; and no answer at all, which
is an error, because engines that are unreachable or turn programs away must not read as "the web knows nothing of it".
"""

import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from thaud.errors import ToolError
from tools.apart import ask_apart
from tools.outside import Found, Web

MOST_WORDS = 200  # characters of a reason


class Way(Protocol):
    """One way to search."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    def find(self, query: str, limit: int, timeout_s: float) -> list[Found]:
        """Results; an empty list says that there are none. Raises ToolError where it could not be asked."""
        ...


@dataclass(frozen=True, slots=True)
class Chain:
    """tools.outside.Search: the first way that answers with results."""

    ways: tuple[Way, ...]
    timeout_s: float = 10.0

    def find(self, query: str, limit: int) -> Sequence[Found]:
        """Results. None where every way that was asked says so. Raises ToolError, naming each way that failed."""
        failed: list[str] = []
        answered: list[str] = []
        for way in self.ways:
            try:
                if found := way.find(query, limit, self.timeout_s):
                    return found[:limit]
                answered.append(way.name)
            except ToolError as error:
                failed.append(f"{way.name}: {first_line(str(error))}")
        if failed and answered:
            raise ToolError(f"search incomplete: {', '.join(answered)} found nothing, and {'; '.join(failed)}")
        if failed:
            raise ToolError(f"search unavailable: {'; '.join(failed)}")
        if not answered:
            raise ToolError("search unavailable: no way to search is configured")
        return []


@dataclass(frozen=True, slots=True)
class Searxng:
    """A SearXNG instance of the user's choice, by its JSON format."""

    url: str
    web: Web
    name: str = "searxng"

    def find(self, query: str, limit: int, timeout_s: float) -> list[Found]:
        """Ask the instance. An empty answer by engines that did not answer is no answer."""
        asked = f"{self.url.rstrip('/')}/search?{urlencode({'q': query, 'format': 'json'})}"
        answer = ask_json(self.web, asked, timeout_s, {403: "it has no JSON format (search.formats in its settings)"})
        rows = [Found(text(row, "title"), text(row, "url"), text(row, "content")) for row in rows_of(answer, "results")]
        if not rows and (silent := answer.get("unresponsive_engines")):
            raise ToolError(f"none of its engines answered: {silent}")
        return rows[:limit]


@dataclass(frozen=True, slots=True)
class Wikipedia:
    """Wikipedia in one language, by its own search."""

    language: str
    web: Web
    name: str = "wikipedia"

    def find(self, query: str, limit: int, timeout_s: float) -> list[Found]:
        """Ask for articles."""
        site = f"https://{self.language}.wikipedia.org"
        asked = {"action": "query", "list": "search", "srsearch": query, "srlimit": limit, "format": "json"}
        answer = ask_json(self.web, f"{site}/w/api.php?{urlencode(asked)}", timeout_s, {})
        if "error" in answer:
            raise ToolError(str(answer["error"]))
        return [
            Found(title, f"{site}/wiki/{quote(title.replace(' ', '_'))}", plain(text(row, "snippet")))
            for row in rows_of(answer.get("query"), "search")
            if (title := text(row, "title"))
        ]


@dataclass(frozen=True, slots=True)
class Ddgs:
    """Public search engines through ddgs, which speaks to them itself: fixed addresses, no model's word in them.

    In a child, for its threads heed neither a deadline nor Ctrl-C.
    """

    name: str = "ddgs"

    def find(self, query: str, limit: int, timeout_s: float) -> list[Found]:
        """Ask. It does not tell engines that found nothing from engines that turned it away: both are no answer."""
        question = {"query": query, "limit": limit, "timeout_s": max(1, round(timeout_s / 2))}
        try:
            answered = ask_apart("tools.web.searching", question, timeout_s)
        except TimeoutError as error:
            raise ToolError(f"no engine answered in {timeout_s:g} s") from error
        if not answered["rows"]:
            raise ToolError(answered["error"] or "no engine returned a result")
        return [Found(text(row, "title"), text(row, "href"), text(row, "body")) for row in answered["rows"]]


def answer(question: Mapping[str, Any]) -> dict[str, Any]:
    """In the child: what ddgs finds, or why it finds nothing."""
    from ddgs import DDGS  # noqa: PLC0415 - only a search pays for the import
    from ddgs.exceptions import DDGSException  # noqa: PLC0415

    try:
        found = DDGS(timeout=question["timeout_s"]).text(question["query"], max_results=question["limit"])
    except (DDGSException, OSError) as error:
        return {"rows": [], "error": first_line(str(error))}
    return {"rows": found, "error": ""}


def ask_json(web: Web, url: str, timeout_s: float, known: Mapping[int, str]) -> Mapping[str, Any]:
    """A JSON object from an address. Raises ToolError; `known` says what a status means there."""
    page = web.get(url, timeout_s=timeout_s)
    if page.status != 200:
        raise ToolError(f"it answers {page.status}" + (f": {known[page.status]}" if page.status in known else ""))
    try:
        answer = json.loads(page.body)
    except (ValueError, RecursionError) as error:
        raise ToolError("its answer is no JSON") from error
    if not isinstance(answer, dict):
        raise ToolError("its answer is no JSON object")
    return answer


def rows_of(answer: Any, name: str) -> list[Mapping[str, Any]]:
    """A list of objects. Raises ToolError where the answer has none of that name: it is not what was asked for."""
    rows = answer.get(name) if isinstance(answer, Mapping) else None
    if not isinstance(rows, list):
        raise ToolError(f"its answer has no {name!r}")
    return [row for row in rows if isinstance(row, dict)]


def text(row: Mapping[str, Any], name: str) -> str:
    """A field, on one line."""
    return " ".join(str(row.get(name) or "").split())


def plain(snippet: str) -> str:
    """Text without its markup."""
    return html.unescape(re.sub(r"<[^<>]*>", "", snippet))


def first_line(message: str) -> str:
    """The first line of a foreign error, short enough to read."""
    return (message.strip().splitlines() or ["no reason given"])[0][:MOST_WORDS]


def configured_web() -> Web:
    """A client for an address that the user configured."""
    from tools.web.client import GuardedWeb  # noqa: PLC0415 - httpx is heavy
    from tools.web.rules import CONFIGURED  # noqa: PLC0415 - see above

    return GuardedWeb(CONFIGURED)


def make_chain(
    names: Sequence[str], *, web: Web, searxng_url: str = "", searxng_web: Web | None = None, language: str = "en"
) -> Chain:
    """The ways that the settings name, in their order; `searxng` only where its address is known.

    `searxng_web`: the client for the user's own instance, by default one for which private addresses are no reason.
    """
    ways: dict[str, Way] = {"ddgs": Ddgs(), "wikipedia": Wikipedia(language, web)}
    if searxng_url:
        ways["searxng"] = Searxng(searxng_url, searxng_web or configured_web())
    return Chain(tuple(ways[name] for name in names if name in ways))
