"""Search the web. Owns the form of the answer; refuses to fetch the pages found, or to know who searches.

The query leaves the machine.
"""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from thaud.errors import ToolError
from tools.base import Context, Risk, tool
from tools.outside import Found

LONGEST_SNIPPET = 300


def format_results(rows: Sequence[Found]) -> str:
    """Numbered results: title, address, snippet on one line."""
    return "\n".join(
        f"{number}. {row.title}\n   {row.url}\n   {snippet(row.text)}" for number, row in enumerate(rows, start=1)
    )


def snippet(body: str) -> str:
    """A result's text on one line, cut where it is long."""
    line = " ".join(body.split())
    return line if len(line) <= LONGEST_SNIPPET else line[:LONGEST_SNIPPET].rstrip() + "…"


def web_search(
    context: Context,
    query: Annotated[str, Field(min_length=1, max_length=300)],
    max_results: Annotated[int, Field(ge=1, le=10)] = 5,
) -> str:
    """Search the web. Gives titles, addresses and short excerpts.

    Raises ToolError where the search is unavailable.

    Args:
        query: what to search for, in a few words
        max_results: how many results, 1 to 10
    """
    if context.search is None:
        raise ToolError("search unavailable: nothing here can be asked")
    rows = context.search.find(query, max_results)
    return format_results(rows) if rows else f"No results for {query!r}: every engine that was asked found nothing."


TOOL = tool(web_search, Risk.SENDS, subject=lambda values: str(values["query"]), foreign=True)
