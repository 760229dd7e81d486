"""What was piped into `thau ask`: read without waiting for ever, and put behind the question as data.

Owns when standard input is waited for and how much of it fits; refuses to ask (talk.py).
"""

import io
import os
import select
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

from thaud.domain import Message
from thaud.errors import ModelError, UsageError
from thaud.serving.runtime import Runtime

FIRST_BYTE_S = 2.0
"""How long a pipe on which nothing comes is waited for, where nobody said that there is something."""
MOST_BYTES = 1 << 20
"""More than the largest context of any stage can hold."""
OPENING, CLOSING = "[data]", "[/data]"


@dataclass(frozen=True, slots=True)
class Piped:
    """What came. `idle`: nothing did, and the other end is still open. `more`: there was more than was read."""

    text: str = ""
    idle: bool = False
    more: bool = False


def read_piped(source: TextIO, most_bytes: int, *, wanted: bool | None) -> Piped:
    """What is on a stream that is no terminal. `wanted`: True waits for it, False leaves it, None waits shortly.

    Raises UsageError where it was wanted and a terminal is there.
    """
    if wanted is False or source.closed:
        return Piped()
    try:
        descriptor = source.fileno()
    except (io.UnsupportedOperation, ValueError):
        return decoded(source.read(most_bytes + 1).encode(), most_bytes)
    if os.isatty(descriptor):
        if wanted:
            raise UsageError("--stdin: standard input is a terminal; pipe something into it")
        return Piped()
    if wanted is None and not soon_readable(descriptor):
        return Piped(idle=True)
    return decoded(read_bytes(descriptor, most_bytes + 1), most_bytes)


def soon_readable(descriptor: int) -> bool:
    """Whether something, or the end, comes before long. Files and devices are always readable."""
    kind = os.fstat(descriptor).st_mode
    if not (stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind)):
        return True
    return bool(select.select([descriptor], [], [], FIRST_BYTE_S)[0])


def read_bytes(descriptor: int, most: int) -> bytes:
    """Up to so many bytes, until the end."""
    parts: list[bytes] = []
    left = most
    while left and (part := os.read(descriptor, min(left, 1 << 16))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def decoded(data: bytes, most: int) -> Piped:
    """Bytes as text, in UTF-8; what is none is replaced."""
    return Piped(data[:most].decode("utf-8", "replace").strip(), more=len(data) > most)


def with_data(question: str, data: str, fits: Callable[[str], bool]) -> tuple[str, int]:
    """The question with the data behind it, and how many of its characters were left out of the middle so that it fits.

    Raises ModelError where not even the question fits with a word of it.
    """
    whole = framed(question, data)
    if fits(whole):
        return whole, 0
    low, high = 0, len(data)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(framed(question, shortened(data, middle))) else (low, middle)
    if not low:
        raise ModelError(
            "the question leaves no room for what was piped in: ask more briefly, or a version of a later age"
        )
    return framed(question, shortened(data, low)), len(data) - low


def framed(question: str, data: str) -> str:
    """The data behind the question, with marks around that are not in it."""
    inner = data.replace(OPENING, "[ data]").replace(CLOSING, "[ /data]")
    return f"{question.strip()}\n\n{OPENING}\n{inner}\n{CLOSING}"


def shortened(data: str, kept: int) -> str:
    """So many characters of the data, two thirds of them its beginning, and how many are left out between."""
    head = kept - kept // 3
    tail = data[len(data) - (kept - head) :]
    return f"{data[:head]}\n[... {len(data) - kept} characters left out ...]\n{tail if kept > head else ''}"


def fitting(runtime: Runtime, answer_tokens: int) -> Callable[[str], bool]:
    """Whether a question leaves room for an answer of so many tokens."""
    room = runtime.context_tokens - answer_tokens
    return lambda text: runtime.count([Message("user", text)]) <= room
