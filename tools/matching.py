"""Lines in texts, by a literal or a regular expression. Owns what a match is; a plain function over JSON, so that it
can run apart from everything else (apart.py). Refuses to open files.
"""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """`found`: which lines match, as pairs (number of the text, number of the line from 1); or `wrong`: why none can.

    `texts`: the texts; `pattern`: a regular expression; `ignore_case`; `most`: how many lines at most; `reach`: how
    many characters of a line count.
    """
    try:
        pattern = re.compile(question["pattern"], re.IGNORECASE if question["ignore_case"] else 0)
    except (re.error, OverflowError, RecursionError) as error:
        return {"wrong": str(error)}
    return {"found": list(islice(found_in(question["texts"], pattern, question["reach"]), question["most"]))}


def found_in(texts: list[str], pattern: re.Pattern[str], reach: int) -> Iterator[tuple[int, int]]:
    """The lines that match in what counts of them."""
    for number, text in enumerate(texts):
        for at, line in enumerate(text.split("\n"), start=1):
            if pattern.search(line, 0, reach):
                yield number, at
