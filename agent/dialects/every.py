"""A reply taken apart, in whatever dialect its calls are. Owns the order in which the dialects are tried."""

from collections.abc import Callable

from agent.dialects import bare, fenced, hermes, openai
from agent.dialects.reading import Offered, Parsed

DIALECTS: tuple[Callable[[str, Offered], Parsed], ...] = (fenced.parse, openai.parse, bare.parse)


def parse(text: str, offered: Offered) -> Parsed:
    """Take a whole reply apart. Never raises: what cannot be read is in `problems`.

    `offered`: the turn's Toolbox, or whatever can check a call. Calls in tags are given whether they may run or not.
    """
    if hermes.OPEN in text:
        return hermes.parse(text, offered)
    found = (dialect(text, offered) for dialect in DIALECTS)
    return next((parsed for parsed in found if parsed.calls), Parsed(text.strip()))
