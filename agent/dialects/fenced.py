"""Tool calls in fences of Markdown: "```json", a bare call or one of OpenAI's, "```".

Owns the fences that a reply ends with. What is in them is a call where it may run, and all of the fences hold such;
else all is text, so that people can be shown code.
"""

import re
from typing import Any

from agent.dialects import bare, openai
from agent.dialects.reading import Offered, Parsed, UnreadableCallError, accepted, series

FENCE = re.compile(r"^[ \t]*```[\w-]*[ \t]*\n(?P<inside>.*?)\n?[ \t]*```[ \t]*$", re.MULTILINE | re.DOTALL)
MOST_FENCES = 128


def parse(text: str, offered: Offered) -> Parsed:
    """Take a whole reply apart. A last fence need not be closed."""
    whole = text.strip()
    fences = len(re.findall(r"^[ \t]*```", whole, re.MULTILINE))
    if fences > MOST_FENCES:  # each would be followed to the end
        return Parsed(whole)
    if fences % 2:
        whole += "\n```"
    last = closing(whole)
    if not last:
        return Parsed(text.strip())
    try:
        found = [inside(fence["inside"]) for fence in last]
    except UnreadableCallError:
        return Parsed(text.strip())
    calls = tuple(call for parsed in found for call in parsed.calls)
    if not accepted(offered, calls):
        return Parsed(text.strip())
    said = [whole[: last[0].start()].strip(), *(parsed.content for parsed in found)]
    return Parsed("\n".join(filter(None, said)), calls)


def closing(text: str) -> list[re.Match[str]]:
    """The fences that a text ends with, nothing but blank space between them."""
    last: list[re.Match[str]] = []
    for fence in FENCE.finditer(text):
        if last and text[last[-1].end() : fence.start()].strip():
            last = []
        last.append(fence)
    return last if last and not text[last[-1].end() :].strip() else []


def inside(text: str) -> Parsed:
    """The calls within one fence, which holds nothing else. Raises UnreadableCallError."""
    stripped = text.strip()
    parsed, end = series(stripped, 0, read)
    if end != len(stripped):
        raise UnreadableCallError("something else follows the call")
    return parsed


def read(value: Any) -> Parsed:
    """A value of either dialect. Raises UnreadableCallError."""
    try:
        return openai.read(value)
    except UnreadableCallError:
        return bare.read(value)
