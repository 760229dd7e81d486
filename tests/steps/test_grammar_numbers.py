"""Numbers as grammars: whatever is written lies between the bounds, and all that does can be written."""

import re
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from thaud.steps.numerals import LARGEST, decimals, integers, scaled


def matcher(gbnf: str) -> re.Pattern[str]:
    """The expression as Python's: a second reading of GBNF, which has nothing in common with llama.cpp's."""
    parts = re.findall(r'"[^"]*"|\[[^\]]*\]|\{[\d,]+\}|[()|?]', gbnf)
    assert "".join(parts) == re.sub(r"\s+", "", gbnf)
    return re.compile("".join(re.escape(part[1:-1]) if part[0] == '"' else part for part in parts))


whole = st.integers(-LARGEST, LARGEST) | st.integers(-120, 1200)
near = st.integers(-3, 3)


@given(whole, whole, near, whole)
def test_whole_numbers_between_bounds(one: int, other: int, beside: int, any_number: int) -> None:
    """Right at the bounds, beside them, and anywhere."""
    least, most = sorted((one, other))
    pattern = matcher(integers(least, most))
    for number in (least + beside, most + beside, any_number, 0):
        assert bool(pattern.fullmatch(str(number))) is (least <= number <= most)


@given(whole, st.sampled_from(["{}", "0{}", "{}0", "+{}", "{}.0", "{}e0", " {}", "-{}"]))
def test_whole_numbers_have_one_spelling(number: int, spelling: str) -> None:
    """No leading zeros, signs for decoration, decimals or exponents: JSON's integers as every reader takes them."""
    text = spelling.format(number)
    found = matcher(integers(-LARGEST, LARGEST)).fullmatch(text)
    assert bool(found) is (re.fullmatch(r"-?[1-9]\d{0,14}|0", text) is not None)


units = st.integers(-(10**9), 10**9) | st.integers(-2000, 2000)


@given(units, units, st.integers(0, 4), near, units)
def test_decimals_between_bounds(one: int, other: int, places: int, beside: int, any_number: int) -> None:
    """In units of the last place, with and without the zeros that end them."""
    least, most = sorted((one, other))
    pattern = matcher(decimals(least, most, places))
    for number in (least + beside, most + beside, any_number, 0):
        text = f"{Decimal(number).scaleb(-places):f}"
        short = text.rstrip("0").rstrip(".") if "." in text else text
        for written in {text, short}:
            assert bool(pattern.fullmatch(written)) is (least <= number <= most), written


bounds = st.none() | st.decimals(-(10**12), 10**12, places=3)


@given(bounds, bounds, st.sets(st.sampled_from(["above", "below"])))
def test_what_is_written_is_within_as_a_double(one: Decimal | None, other: Decimal | None, beyond: set[str]) -> None:
    """Bounds that are out of bounds themselves are so for readers that take numbers as doubles too."""
    above, below = "above" in beyond, "below" in beyond
    least, most = (one, other) if one is None or other is None or one <= other else (other, one)
    low, high, places = scaled(least, most, above=above, below=below)
    if low > high:
        return
    for unit in (low, high, (low + high) // 2):
        value = float(Decimal(unit).scaleb(-places))
        assert least is None or (value > float(least) if above else value >= float(least))
        assert most is None or (value < float(most) if below else value <= float(most))
        assert matcher(decimals(low, high, places)).fullmatch(f"{Decimal(unit).scaleb(-places):f}")
