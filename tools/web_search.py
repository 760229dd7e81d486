"""Search the web through ddgs, which asks public search engines. Owns the query and its failures; refuses to fetch
the pages found.

The query leaves the machine. Where nothing comes back the call fails: engines that are unreachable, or that turn a
program away, must not read as "the web knows nothing about it".
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from thaud.errors import ToolError
from tools.base import Arguments, Context, Risk, Tool

LONGEST_SNIPPET = 300


class WebSearchArguments(Arguments):
    """What the model may ask."""

    query: Annotated[str, Field(description="what to search for, in a few words", min_length=1, max_length=300)]
    max_results: Annotated[int, Field(description="how many results, 1 to 10", ge=1, le=10)] = 5


def search(query: str, max_results: int, timeout_s: float) -> list[dict[str, Any]]:
    """Ask ddgs: rows with `title`, `href` and `body`. Raises ToolError where no engine answers with a result."""
    from ddgs import DDGS  # noqa: PLC0415 - only a search pays for the import
    from ddgs.exceptions import DDGSException  # noqa: PLC0415

    try:
        rows = DDGS(timeout=max(1, round(timeout_s))).text(query, max_results=max_results)
    except (DDGSException, OSError) as error:
        raise ToolError(f"search unavailable: {first_line(str(error))}") from error
    if not rows:
        raise ToolError("search unavailable: no engine returned a result")
    return list(rows)


def first_line(message: str) -> str:
    """The first line of a foreign error, short enough to read."""
    return (message.strip().splitlines() or ["no reason given"])[0][:200]


def format_results(rows: Sequence[Mapping[str, Any]]) -> str:
    """Numbered results: title, address, snippet on one line."""
    return "\n".join(
        f"{number}. {row.get('title', '')}\n   {row.get('href', '')}\n   {snippet(str(row.get('body', '')))}"
        for number, row in enumerate(rows, start=1)
    )


def snippet(body: str) -> str:
    """A result's text on one line, cut where it is long."""
    line = " ".join(body.split())
    return line if len(line) <= LONGEST_SNIPPET else line[:LONGEST_SNIPPET].rstrip() + "…"


def web_search(arguments: WebSearchArguments, context: Context) -> str:
    """Search and number what was found. Raises ToolError where the search is unavailable."""
    return format_results(search(arguments.query, arguments.max_results, context.timeout_s))


TOOL = Tool(
    name="web_search",
    description="Search the web. Gives titles, addresses and short excerpts.",
    arguments=WebSearchArguments,
    risk=Risk.SENDS,
    action=web_search,
)
