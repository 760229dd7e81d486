"""Search what the user has taught and said before. Owns how it is told; the memory itself is the context's."""

from typing import Annotated

from pydantic import Field

from thaud.errors import ToolError
from tools.base import Context, Risk, Values, tool

MOST_CHARACTERS = 700


def query_of(values: Values) -> str:
    """The subject: what is looked for."""
    return str(values["query"])


def shortened(text: str) -> str:
    """A text, cut where it is long."""
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS].rstrip() + "…"


def recall(
    context: Context,
    query: Annotated[str, Field(min_length=1, max_length=300)],
    max_results: Annotated[int, Field(ge=1, le=10)] = 5,
) -> str:
    """Search the user's own examples and past conversations.

    Raises ToolError where there is no memory or it cannot be read.

    Args:
        query: a few words to look for
        max_results: how many results, 1 to 10
    """
    if context.memory is None:
        raise ToolError("there is no memory here")
    found = context.memory.search(query, max_results)
    rows = (f"{at}. [{each.where}, {each.when[:10]}] {shortened(each.text)}" for at, each in enumerate(found, start=1))
    return "\n".join(rows) or "[nothing found: other words may find it]"


TOOL = tool(recall, Risk.READS, subject=query_of, foreign=True)
