"""Arithmetic, exactly. Owns a small evaluator of its own; refuses names, attributes, strings and everything else that
is no sum.

Whole numbers stay whole; other numbers are decimals of 50 digits. A result that is exact is told in full, any other
to 15 significant digits, so that 0.1 + 0.2 is 0.3 and 1/3*3 is 1. Results of more than 1,000 digits are refused
before they are computed.
"""

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from decimal import Context as DecimalContext
from decimal import (
    Decimal,
    DecimalException,
    DivisionByZero,
    Inexact,
    InvalidOperation,
    Overflow,
    getcontext,
    localcontext,
)
from types import MappingProxyType
from typing import Annotated

from pydantic import Field

from thaud.errors import ToolError
from tools.base import Context, Risk, tool

Number = int | Decimal

MAX_CHARACTERS = 1000
MAX_DIGITS = 1000
MAX_DEPTH = 150
TOLD_DIGITS = 15
ARITHMETIC = DecimalContext(
    prec=50, Emax=MAX_DIGITS, Emin=-MAX_DIGITS, capitals=0, traps=[DivisionByZero, InvalidOperation, Overflow]
)
SIGNS = str.maketrans(
    {
        "\N{MULTIPLICATION SIGN}": "*",
        "\N{MIDDLE DOT}": "*",
        "\N{DOT OPERATOR}": "*",
        "\N{DIVISION SIGN}": "/",
        "\N{MINUS SIGN}": "-",
        "\N{EN DASH}": "-",
        "\N{SQUARE ROOT}": "sqrt",
        "^": "**",
    }
)
ROOT = re.compile(r"\N{SQUARE ROOT}\s*(\d+(?:\.\d+)?)(?![\d.,])")
NUMBER = re.compile(r"\d[\d.,]*\d")
ALLOWED = "use numbers, + - * / // % ^, brackets, pi, e and functions such as sqrt(2)"


def normalise(text: str) -> str:
    """School notation as Python's: its signs, and decimal commas where no function's brackets need the comma."""
    signs = ROOT.sub(r"sqrt(\1)", text.strip().rstrip("=")).translate(SIGNS)
    crosses = re.sub(r"(?<=[\d)])\s+[xX]\s+(?=[\d(])", " * ", signs)
    return crosses if re.search(r"[A-Za-z]\s*\(", crosses) else NUMBER.sub(point, crosses)


def point(found: re.Match[str]) -> str:
    """A number with a decimal point. Raises ToolError where a comma may mean thousands."""
    written = found.group()
    if "," not in written:
        return written
    whole, _, decimals = written.partition(",")
    if "." in written or "," in decimals or (len(decimals) == 3 and whole != "0"):
        raise ToolError(f"{written} can be read in two ways: write 1234.5, with a point and nothing between thousands")
    return f"{whole}.{decimals}"


def decimal(value: Number) -> Decimal:
    """The number as a decimal of the current context."""
    return +Decimal(value)


def bounded(value: Number) -> Number:
    """The value itself. Raises ToolError where it has too many digits."""
    if isinstance(value, int) and digits(value) > MAX_DIGITS:
        raise too_long()
    return value


def digits(value: int) -> float:
    """About how many decimal digits a whole number has."""
    return value.bit_length() * math.log10(2)


def too_long() -> ToolError:
    """The refusal of a result that nobody can read."""
    return ToolError(f"the result has more than {MAX_DIGITS} digits")


def divide(left: Number, right: Number) -> Number:
    """Division, whole where it comes out whole."""
    if not right:
        raise ToolError("division by zero")
    if isinstance(left, int) and isinstance(right, int) and left % right == 0:
        return left // right
    return decimal(left) / decimal(right)


def power(base: Number, exponent: Number) -> Number:
    """Exponentiation, refused before it is computed where the result is too long."""
    if not (isinstance(base, int) and isinstance(exponent, int) and exponent >= 0):
        return decimal(base) ** decimal(exponent)
    if base not in (-1, 0, 1) and exponent * math.log10(abs(base)) > MAX_DIGITS:
        raise too_long()
    return int(base**exponent)


def mixed(action: Callable[[Number, Number], Number]) -> Callable[[Number, Number], Number]:
    """An operator that stays whole on whole numbers and is decimal otherwise."""

    def apply(left: Number, right: Number) -> Number:
        whole = isinstance(left, int) and isinstance(right, int)
        return action(left, right) if whole else action(decimal(left), decimal(right))

    return apply


def floor_divide(left: Number, right: Number) -> Number:
    """Division rounded down, also below zero."""
    return math.floor(divide(left, right))


def remainder(left: Number, right: Number) -> Number:
    """What floor division leaves; it has the divisor's sign."""
    return left - right * floor_divide(left, right)


def inexact(digits_of_it: str) -> Decimal:
    """A number known to so many digits only; the whole result is told as such."""
    getcontext().flags[Inexact] = True
    return Decimal(digits_of_it)


def factorial(value: Number) -> Number:
    """n! for the n whose result can be read."""
    if not isinstance(value, int) or not 0 <= value <= 449:
        raise ToolError("factorial takes a whole number from 0 to 449")
    return math.factorial(value)


def measured(function: Callable[[float], float]) -> Callable[[Number], Number]:
    """A function of the mathematics library, to its 15 decimals."""

    def apply(value: Number) -> Number:
        result = function(float(value))
        if abs(result) > 10**TOLD_DIGITS:
            raise ToolError(f"it is undefined at {value:.15g}")
        return inexact(repr(round(result, TOLD_DIGITS)))

    return apply


def logarithm(value: Number, base: Number | None = None) -> Number:
    """The natural logarithm, or the one to a base."""
    return decimal(value).ln() if base is None else decimal(value).ln() / decimal(base).ln()


def rounded(value: Number, places: Number = 0) -> Number:
    """Round half up, as schools and tills do."""
    if not isinstance(places, int) or not -MAX_DIGITS < places < 40:
        raise ToolError("round takes a whole number of places below 40")
    return decimal(value).quantize(Decimal((0, (1,), -places)), rounding="ROUND_HALF_UP")


FUNCTIONS: Mapping[str, Callable[..., Number]] = MappingProxyType(
    {
        "sqrt": lambda value: decimal(value).sqrt(),
        "abs": abs,
        "round": rounded,
        "floor": math.floor,
        "ceil": math.ceil,
        "min": min,
        "max": max,
        "sum": lambda *values: sum(values),
        "factorial": factorial,
        "exp": lambda value: decimal(value).exp(),
        "ln": logarithm,
        "log": logarithm,
        "log10": lambda value: decimal(value).log10(),
        "sin": measured(math.sin),
        "cos": measured(math.cos),
        "tan": measured(math.tan),
    }
)
CONSTANTS: Mapping[str, str] = MappingProxyType(
    {
        "pi": "3.1415926535897932384626433832795028841971693993751",
        "e": "2.7182818284590452353602874713526624977572470937",
    }
)
OPERATORS: Mapping[type[ast.operator], Callable[[Number, Number], Number]] = MappingProxyType(
    {
        ast.Add: mixed(operator.add),
        ast.Sub: mixed(operator.sub),
        ast.Mult: mixed(operator.mul),
        ast.Div: divide,
        ast.FloorDiv: floor_divide,
        ast.Mod: mixed(remainder),
        ast.Pow: power,
    }
)


def evaluate(node: ast.expr, source: str, depth: int = 0) -> Number:
    """The value of an expression's tree. Raises ToolError for whatever is no arithmetic."""
    if depth > MAX_DEPTH:
        raise ToolError(f"the expression nests deeper than {MAX_DEPTH} levels: calculate it in parts")
    match node:
        case ast.Constant():
            return literal(node, source)
        case ast.Name(id=name) if name in CONSTANTS:
            return inexact(CONSTANTS[name])
        case ast.UnaryOp(op=ast.USub()):
            return -evaluate(node.operand, source, depth + 1)
        case ast.UnaryOp(op=ast.UAdd()):
            return evaluate(node.operand, source, depth + 1)
        case ast.BinOp() if type(node.op) in OPERATORS:
            left, right = evaluate(node.left, source, depth + 1), evaluate(node.right, source, depth + 1)
            return bounded(OPERATORS[type(node.op)](left, right))
        case ast.Call(func=ast.Name(id=name), keywords=[]) if name in FUNCTIONS:
            return call(name, [evaluate(argument, source, depth + 1) for argument in node.args])
    raise ToolError(f"{ast.get_source_segment(source, node) or 'that'!r} is no arithmetic: {ALLOWED}")


def literal(node: ast.Constant, source: str) -> Number:
    """A number as it was written, so that no digit is lost in a float. Raises ToolError for anything else."""
    if type(node.value) is int:
        return node.value
    if type(node.value) is float:
        return decimal(Decimal(ast.get_source_segment(source, node) or repr(node.value)))
    raise ToolError(f"{node.value!r} is no number: {ALLOWED}")


def call(name: str, values: list[Number]) -> Number:
    """A function's value. Raises ToolError where it takes other arguments."""
    try:
        return bounded(FUNCTIONS[name](*values))
    except (TypeError, ValueError) as error:
        raise ToolError(f"{name} cannot take {', '.join(map(str, values)) or 'nothing'}") from error


def tell(value: Number, *, exact: bool) -> str:
    """A result in digits: in full where it is exact, else to TOLD_DIGITS significant digits; no trailing zeros."""
    if isinstance(value, int):
        return str(value)
    told = value if exact else DecimalContext(prec=TOLD_DIGITS).create_decimal(value)
    if told == 0:
        return "0"
    plain = -TOLD_DIGITS <= told.adjusted() <= 50
    text = format(told, "f") if plain else f"{told.normalize():e}"
    return text.rstrip("0").rstrip(".") if plain and "." in text else text


def calculate(expression: str) -> str:
    """The value of an expression, in digits. Raises ToolError for what is no arithmetic, too long or undefined."""
    source = normalise(expression)
    with localcontext(ARITHMETIC) as arithmetic:
        arithmetic.clear_flags()
        try:
            value = evaluate(ast.parse(source, mode="eval").body, source)
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            raise ToolError(f"{expression!r} is no arithmetic that I can read: {ALLOWED}") from error
        except (DecimalException, OverflowError) as error:
            raise ToolError(f"{expression!r} has no result: {reason(error)}") from error
        if isinstance(value, Decimal) and not value.is_finite():
            raise ToolError(f"{expression!r} has no result: it is undefined")
        return tell(value, exact=not arithmetic.flags[Inexact])


def reason(error: ArithmeticError) -> str:
    """Why there is no result."""
    return "it is too large" if isinstance(error, Overflow | OverflowError) else "it is undefined"


def calculator(_: Context, expression: Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)]) -> str:
    """Calculate an arithmetic expression exactly.

    The value alone: what a small model copies best. Raises ToolError for what has none.

    Args:
        expression: arithmetic such as (3 + 4.5) * 2^10 or sqrt(2)
    """
    return calculate(expression)


TOOL = tool(calculator, Risk.COMPUTES, subject=lambda values: str(values["expression"]))
