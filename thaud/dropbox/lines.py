"""Bytes -> lines -> items, in bounded batches. Owns what a line is and when the last one counts; refuses files."""

from collections.abc import Iterator

from thaud.config import Queue
from thaud.domain import Example, Rejection
from thaud.dropbox.position import Cursor
from thaud.formats import is_object, parse_line, to_raw

BATCH_LINES = 2_000  # a batch is the least that is committed: this bounds how long it keeps the loop
RAW_BYTES = 1024  # what is kept of a line or a file that is too long to keep
BLANK = b" \t\r\v\f\xef\xbb\xbf"  # a byte order mark alone is a blank line
Item = tuple[int, Example | Rejection]


def cut(cursor: Cursor, data: bytes, limits: Queue, *, ends: bool) -> Iterator[list[Item]]:
    """Batches of the items in the next bytes; with each the cursor moves past what is used.

    What is left behind the cursor at the end is the beginning of a line. `ends`: nothing follows the data, so that an
    unterminated last line counts, if it is a whole object.
    """
    while True:
        *lines, rest = data.split(b"\n", BATCH_LINES)
        items = read_whole(lines, cursor, limits)
        if lines:
            cursor.pass_over(data, len(data) - len(rest), len(lines))
        if b"\n" not in rest:
            break
        yield items
        data = rest
    if cursor.skipping or len(rest) > limits.max_line_bytes:
        items += [] if cursor.skipping else judged(cursor.line + 1, rest, limits)
        cursor.pass_over(rest, len(rest), 0, skipping=True)
    elif ends and counts(rest, limits):
        items += judged(cursor.line + 1, rest, limits)
        cursor.pass_over(rest, len(rest), 0)
    yield items


def read_whole(lines: list[bytes], cursor: Cursor, limits: Queue) -> list[Item]:
    """Terminated lines; the first may be the end of one that was rejected as too long."""
    first = 1 if cursor.skipping else 0
    numbered = enumerate(lines[first:], cursor.line + first + 1)
    if max(map(len, lines), default=0) > limits.max_line_bytes:
        return [item for number, raw in numbered for item in judged(number, raw, limits)]
    depth = limits.max_depth
    return [(number, parse_line(raw, max_depth=depth)) for number, raw in numbered if raw.strip(BLANK)]


def counts(rest: bytes, limits: Queue) -> bool:
    """Whether an unterminated last line may be taken: a whole object, or nothing but space."""
    return bool(rest) and (not rest.strip(BLANK) or is_object(rest, max_depth=limits.max_depth))


def judged(number: int, raw: bytes, limits: Queue) -> list[Item]:
    """One line as no item (blank) or one."""
    if len(raw) > limits.max_line_bytes:
        reason = f"the line is over the limit of {limits.max_line_bytes} bytes: shorten it or split it"
        return [(number, Rejection(reason, to_raw(raw[:RAW_BYTES])))]
    return [(number, parse_line(raw, max_depth=limits.max_depth))] if raw.strip(BLANK) else []
