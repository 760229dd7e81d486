import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.guard import FEWEST_CHARACTERS, Tail, goes_round, passage, said_once


@pytest.mark.parametrize("steps", ["aa", "abab", "xabab", "abcabc", "abcdabcd", "aabcdeabcdabcd"])
def test_a_cycle_that_comes_again_is_noticed(steps: str) -> None:
    """Cycles of one to four steps are seen as soon as they have gone round twice."""
    assert goes_round(list(steps))


@pytest.mark.parametrize("steps", ["", "a", "ab", "aba", "abcab", "abcdabc", "abcdeabcde", "aab", "abac"])
def test_going_back_once_is_no_circle(steps: str) -> None:
    """A call may come again after others: a file is read, edited and read."""
    assert not goes_round(list(steps))


@pytest.mark.parametrize("unit", ["ha", "\n", "the same. ", "Esto es una frase larga que vuelve. ", "ab" * 60 + "!"])
@pytest.mark.parametrize("piece", [1, 7, 64])
def test_a_text_that_repeats_itself_is_noticed_early(unit: str, piece: int) -> None:
    """Whatever comes again at the end is noticed before it has gone on for long, however small the pieces."""
    text = "Once upon a time. " + unit * (3000 // len(unit))
    tail = Tail()
    heard = next(at for at in range(0, len(text), piece) if tail.repeats(text[at : at + piece]))
    assert heard < len("Once upon a time. ") + max(FEWEST_CHARACTERS, 4 * len(unit)) + 4 * len(unit) + 100


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(f"{number}. {number * 7}" for number in range(300)),
        "| a | b | c |\n|---|---|---|\n" + "\n".join(f"| {n} | {n * n} | {n**3} |" for n in range(200)),
        "-" * 80 + "\nTitle\n" + "-" * 80 + "\n" + "x = 1\n",
        "[" + ", ".join("0" for _ in range(60)) + "]",
        "[\n" + "    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0],\n" * 10 + "]",
        "<table>\n" + "<tr><td></td><td></td><td></td></tr>\n" * 12 + "</table>",
        "La la la la, la la la la,\ncantemos otra vez la canción.\n" * 6,
        "".join(random.Random(7).choices(string.ascii_lowercase + "    ", k=4000)),
    ],
)
def test_lists_tables_and_rulers_are_no_repetition(text: str) -> None:
    """What people and programs write on purpose is not stopped."""
    tail = Tail()
    assert not any(tail.repeats(text[at : at + 5]) for at in range(0, len(text), 5))


@given(st.text("ab c", max_size=40), st.text("abc ", min_size=1, max_size=60))
def test_what_was_repeated_is_said_once(before: str, unit: str) -> None:
    """Of a repetition one passage is left, and nothing before it is lost."""
    text = before + unit * (1 + 1200 // len(unit))
    once = said_once(text)
    assert text.rstrip().startswith(once)
    assert not passage(once)
    assert len(once) <= len(before) + len(unit)


@given(st.text(max_size=FEWEST_CHARACTERS // 2 - 1))
def test_a_short_text_stays(text: str) -> None:
    """What is shorter than any repetition is returned as it is."""
    assert said_once(text) == text.rstrip()
