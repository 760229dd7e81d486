"""Read a page of the public web. Owns the form of the answer and its size; refuses what the guarded client refuses.

The address is normalised before anyone approves it, so that what is shown is what is asked.
"""

import re
from typing import Annotated
from urllib.parse import unquote

from pydantic import AfterValidator, Field

from thaud.errors import ToolError
from tools.base import Context, Risk, tool
from tools.web.reading import readable

MOST_CHARACTERS = 20_000
FIRST_FAILURE = 400
UNRESERVED = re.compile(r"%(?:2[DE]|3[0-9]|4[1-9A-F]|5[0-9AF]|6[1-9A-F]|7[0-9AE])", re.IGNORECASE)  # RFC 3986, 2.3


def normalised(url: str) -> str:
    """A URL as it will be asked: letters that need no escape have none, and a path is there, so that no rule misses it.

    Raises ValueError for what is none.
    """
    from tools.web.locations import RefusedError, read  # noqa: PLC0415 - httpx is heavy
    from tools.web.rules import PUBLIC  # noqa: PLC0415 - see above

    try:
        asked = read(UNRESERVED.sub(lambda found: unquote(found.group()), url), PUBLIC)
        return str(asked.copy_with(raw_path=asked.raw_path))
    except RefusedError as error:
        raise ValueError(str(error)) from error


def fetch_url(
    context: Context,
    url: Annotated[str, Field(min_length=8, max_length=2000), AfterValidator(normalised)],
    first_character: Annotated[int, Field(ge=1)] = 1,
) -> str:
    """Read a web page as text, with its links. Says how long the text is.

    Raises ToolError where the address is refused, nothing answers, or what answers is no text.

    Args:
        url: the whole address, beginning with https:// or http://
        first_character: where to begin in a long text; leave it out for the beginning
    """
    if context.web is None:
        raise ToolError("the web cannot be asked here")
    page = context.web.get(url)
    if page.status >= FIRST_FAILURE:
        raise ToolError(f"{page.url} answers {page.status}")
    text = readable(page)
    return f"{headline(page.url, text, first_character, cut=page.cut)}\n\n{piece(text, first_character)}"


def piece(text: str, first: int) -> str:
    """The part that begins at a character, counted from 1."""
    return text[first - 1 : first - 1 + MOST_CHARACTERS]


def headline(url: str, text: str, first: int, *, cut: bool) -> str:
    """Where the text is from and which part of it follows."""
    last = min(len(text), first - 1 + MOST_CHARACTERS)
    if last < first:
        part = f"there is nothing from character {first} on: the text has {len(text)}"
    elif (first, last) == (1, len(text)):
        part = f"{len(text)} characters"
    else:
        part = f"characters {first} to {last} of {len(text)}"
    return f"[{url}: {part}{'; the page is longer than is read' if cut else ''}]"


TOOL = tool(fetch_url, Risk.SENDS, subject=lambda values: str(values["url"]), foreign=True)
