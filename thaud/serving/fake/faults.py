"""What goes wrong on purpose: a fault waits for the next request on its route, does its harm once, and is used up.

    Fault("chat", "drop", after_lines=2)     the connection breaks behind the second line of the next chat
    Fault("blobs", "drop", after_bytes=1000) the next upload's connection breaks behind its thousandth byte
    read_fault("chat:hang:0:5")              as written at the command's --fault ROUTE:KIND[:AFTER[:SECONDS]]

Routes are blobs (uploads), create, show, copy, delete, tags, ps, version, chat, generate. AFTER counts lines of a
stream, or bytes of an upload.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Event
from typing import Any, Literal, get_args

from thaud.serving.fake.protocol import BrokenConnection, Refusal
from thaud.serving.fake.store import FULL

BUSY = "server busy, please try again.  maximum pending requests exceeded"
DIED = "an error was encountered while running the model: unexpected EOF"
STOPPED = (
    "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, "
    "check ollama server logs for details"
)
Line = dict[str, Any]
Kind = Literal["cut", "error", "drop", "busy", "broken", "full", "hang", "slow"]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong once on a route.

    cut: the stream ends early, politely. error: an error line ends it. drop: the connection breaks. busy: 503 at once.
    broken: 500 at once. full: the disk is full for this request. hang: nothing happens for `seconds`, then all is well.
    slow: `seconds` pass before each piece of an upload or line of a stream.
    """

    route: str
    kind: Kind
    after_lines: int = 0
    after_bytes: int = 0
    seconds: float = 0.0


def read_fault(text: str) -> Fault:
    """ROUTE:KIND[:AFTER[:SECONDS]]. Raises ValueError on anything else."""
    route, kind, after, seconds, *rest = [*text.split(":"), "", "", ""][: max(4, text.count(":") + 1)]
    kinds: tuple[Kind, ...] = get_args(Kind)
    found = next((known for known in kinds if known == kind), None)
    if rest or not route or found is None:
        raise ValueError(
            f"{text!r} is no fault: write ROUTE:KIND[:AFTER[:SECONDS]], with KIND one of {', '.join(kinds)}"
        )
    count = int(after or 0)
    lines, size = (0, count) if route == "blobs" else (count, 0)
    return Fault(route, found, lines, size, float(seconds or 0))


def at_once(fault: Fault, ended: Event) -> None:
    """What a fault does before the request is looked at. Raises Refusal; `ended` cuts a pause short."""
    if fault.kind == "busy":
        raise Refusal(503, BUSY)
    if fault.kind == "broken":
        raise Refusal(500, STOPPED)
    if fault.kind == "hang":
        ended.wait(fault.seconds)


def faulty(lines: Iterator[Line], fault: Fault, ended: Event) -> Iterator[Line]:
    """A stream that goes wrong after some lines."""
    if fault.kind in {"hang", "busy", "broken"}:
        yield from lines
        return
    if fault.kind == "slow":
        for line in lines:
            ended.wait(fault.seconds)
            yield line
        return
    yield from itertools.islice(lines, fault.after_lines)
    if fault.kind == "error":
        raise Refusal(500, DIED)
    if fault.kind == "drop":
        raise BrokenConnection
    if fault.kind == "full":
        raise Refusal(500, f"write sha256: {FULL}")


def faulty_upload(chunks: Iterator[bytes], fault: Fault, ended: Event) -> Iterator[bytes]:
    """An upload that goes wrong after some bytes."""
    left = fault.after_bytes
    for chunk in chunks:
        if fault.kind == "slow":
            ended.wait(fault.seconds)
            yield chunk
        elif fault.kind in {"hang", "busy", "broken"}:
            yield chunk
        elif len(chunk) <= left:
            left -= len(chunk)
            yield chunk
        else:
            yield chunk[:left]
            if fault.kind == "full":
                raise Refusal(500, f"write sha256: {FULL}")
            raise BrokenConnection
