"""Ranges of numbers as GBNF: which digits may follow which, so that what is written lies between two bounds.

Owns whole numbers and decimals in plain notation: no leading zeros, no `-0`, no exponents. Refuses other bounds than
finite ones. Right by construction; `tests/steps/test_grammar_numbers.py` holds it to comparing.
"""

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

LARGEST = 10**15 - 1  # every whole number up to here is a double of its own
FEWEST_DECIMALS, MOST_DECIMALS = 6, 18


def integers(least: int, most: int) -> str:
    """A GBNF expression for the whole numbers from `least` to `most`, which is not less."""
    found = ['"0"'] if least <= 0 <= most else []
    if most > 0:
        found.append(naturals(max(1, least), most))
    if least < 0:
        found.append(f'"-" {naturals(max(1, -most), -least)}')
    return either(found)


def naturals(least: int, most: int) -> str:
    """The same from 1 on, without signs."""
    found, whole = [], []
    for size in range(len(str(least)), len(str(most)) + 1):
        low, high = 10 ** (size - 1), 10**size - 1
        if least <= low and high <= most:
            whole.append(size - 1)
        else:
            found.append(digits_between(str(max(least, low)), str(min(most, high))))
    if whole:
        found.append(f"[1-9] [0-9]{{{whole[0]},{whole[-1]}}}")
    return either(found)


def digits_between(low: str, high: str) -> str:
    """The strings of digits, as long as both, from `low` to `high`."""
    size = len(low)
    if not size:
        return '""'
    if low == "0" * size and high == "9" * size:
        return f"[0-9]{{{size}}}"
    if low[0] == high[0]:
        return then(f'"{low[0]}"', digits_between(low[1:], high[1:]))
    first, last, found = int(low[0]), int(high[0]), []
    if low[1:].strip("0"):
        found.append(then(f'"{first}"', digits_between(low[1:], "9" * (size - 1))))
        first += 1
    if high[1:].strip("9"):
        found.append(then(f'"{last}"', digits_between("0" * (size - 1), high[1:])))
        last -= 1
    if first <= last:
        found.append(then(f"[{first}-{last}]", digits_between("0" * (size - 1), "9" * (size - 1))))
    return either(found)


def decimals(least: int, most: int, places: int) -> str:
    """Numbers of at most so many decimals, from `least` to `most`: both in units of the last place."""
    found = []
    if most >= 0:
        found.append(unsigned(max(0, least), most, places))
    if least < 0:
        found.append(f'"-" {unsigned(max(1, -most), -least, places)}')
    return either(found)


def unsigned(least: int, most: int, places: int) -> str:
    """The same from 0 on, without signs."""
    one = 10**places
    (low, low_rest), (high, high_rest) = divmod(least, one), divmod(most, one)
    if low == high:
        return then(integers(low, low), fraction(low_rest, high_rest, places))
    found = []
    if low_rest:
        found.append(then(integers(low, low), fraction(low_rest, one - 1, places)))
        low += 1
    if high_rest < one - 1:
        found.append(then(integers(high, high), fraction(0, high_rest, places)))
        high -= 1
    if low <= high:
        found.append(then(integers(low, high), fraction(0, one - 1, places)))
    return either(found)


def fraction(least: int, most: int, places: int) -> str:
    """What follows a whole number, from `least` to `most` units of the last place; nothing is zero."""
    if not places:
        return '""'
    written = f'"." {places_between(f"{least:0{places}}", f"{most:0{places}}")}'
    return written if least else f"({written})?"


def places_between(low: str, high: str) -> str:
    """Decimals, at least one and at most as many as both have, from `low` to `high`; what is left out is zero."""
    size = len(low)
    if not low.strip("0") and not high.strip("9"):
        return f"[0-9]{{1,{size}}}"
    first, last, found = int(low[0]), int(high[0]), []
    if first == last:
        return then(f'"{first}"', further(low[1:], high[1:]))
    if low[1:].strip("0"):
        found.append(then(f'"{first}"', further(low[1:], "9" * (size - 1))))
        first += 1
    if high[1:].strip("9"):
        found.append(then(f'"{last}"', further("0" * (size - 1), high[1:])))
        last -= 1
    if first <= last:
        found.append(then(f"[{first}-{last}]", further("0" * (size - 1), "9" * (size - 1))))
    return either(found)


def further(low: str, high: str) -> str:
    """Decimals after the first; none where zeros are enough."""
    if not low:
        return '""'
    more = places_between(low, high)
    return more if low.strip("0") else f"({more})?"


def scaled(
    least: Decimal | None, most: Decimal | None, *, above: bool = False, below: bool = False
) -> tuple[int, int, int]:
    """Bounds of a decimal as units of the last place, and how many places there are.

    above, below: whether `least` and `most` are themselves out of bounds. Where the result's first is more than its
    second, nothing lies between them.
    """
    widest = max((abs(bound) for bound in (least, most) if bound is not None), default=Decimal(0))
    needed = [-int(bound.normalize().as_tuple().exponent) for bound in (least, most) if bound is not None]
    places = min(MOST_DECIMALS, max(FEWEST_DECIMALS, *needed, 0) + (above or below))
    if above or below:
        # Beside a big bound only whole numbers are sure to be other doubles than it.
        places = places if widest < 10 ** (15 - FEWEST_DECIMALS) else 0
    one = Decimal(10) ** places
    low = None if least is None else int((least * one).to_integral_value(ROUND_FLOOR if above else ROUND_CEILING))
    high = None if most is None else int((most * one).to_integral_value(ROUND_CEILING if below else ROUND_FLOOR))
    reach = (LARGEST + 1) * int(one) - 1
    low = low + above if low is not None else min(-reach, (high or 0) - reach)
    high = high - below if high is not None else max(reach, low + reach)
    return low, high, places


def then(first: str, second: str) -> str:
    """One after the other."""
    return first if second == '""' else f"{first} {second}"


def either(found: list[str]) -> str:
    """One of them."""
    return found[0] if len(found) == 1 else f"({' | '.join(found)})"
