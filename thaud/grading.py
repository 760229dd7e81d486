"""An answer against the expected one -> score. Pure: owns the graders and their normalisation, refuses everything else.

Texts are compared after `normalise`, in the way of SQuAD (Rajpurkar et al. 2016) for Spanish and English. Accents
count: in Spanish they make other words (papa and papá, ano and año), and a model that drops them writes badly; only
yes_no takes "si" for "sí". An empty answer is never right.
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, NamedTuple

from thaud.domain import GraderName, Message, ToolCall, canonical_json

ARTICLES = frozenset(["el", "la", "los", "las", "un", "una", "the", "a", "an"])
YES = frozenset(["sí", "si", "yes", "true", "verdadero", "cierto"])
NO = frozenset(["no", "false", "falso"])
F1_RIGHT_FROM = 0.6  # most of the words of a free sentence; below it SQuAD-style answers are usually another fact
EXACT_WORDS = 8  # longer expected answers are sentences, which nobody repeats word for word

NUMBER = re.compile(r"(?<![\w.,])[-\u2212]?\d+(?:[.,]\d+)*(?!\w)")
CHOICE = re.compile(
    r"^\W*([^\W\d_]|\d)\b|(?:respuesta|opción|answer|option)\s*(?:es|is|:)*\s*(?:la\s+)?\W*([a-z]|\d)\b"
)
CALL_TAG = "<tool_call>"


class Grade(NamedTuple):
    """`score` in [0, 1]; `correct` is score 1.0, for f1 a score of at least F1_RIGHT_FROM."""

    score: float
    correct: bool


def grade(expected: Message, answer: str, grader: GraderName | None = None) -> Grade:
    """Score one answer. Without a grader the expected answer decides which (`infer_grader`).

    tool_call reads calls from the answer's `<tool_call>` blocks and wants the same calls, in any order.
    """
    chosen = grader or infer_grader(expected)
    if not answer.strip():
        return Grade(0.0, correct=False)
    if chosen is GraderName.TOOL_CALL:
        score = float(calls_match(expected_calls(expected), answer))
    elif chosen is GraderName.F1:
        score = token_f1(expected.content, answer)
    else:
        score = float(MATCHES[chosen](expected.content, answer))
    return Grade(score, correct=score >= (F1_RIGHT_FROM if chosen is GraderName.F1 else 1.0))


def infer_grader(expected: Message) -> GraderName:
    """The grader that an expected answer calls for: tool_call, yes_no, number, f1 (more than 8 words) or exact."""
    if expected_calls(expected):
        return GraderName.TOOL_CALL
    text = normalise(expected.content)
    if text in YES | NO:
        return GraderName.YES_NO
    if NUMBER.fullmatch(expected.content.strip().rstrip(".")):
        return GraderName.NUMBER
    return GraderName.F1 if len(text.split()) > EXACT_WORDS else GraderName.EXACT


def normalise(text: str) -> str:
    """NFC, case folded, punctuation gone (but not inside a number, nor its minus), articles at the start gone, spaces
    collapsed. A text that is nothing else stays as it is.
    """
    folded = unicodedata.normalize("NFC", text).casefold()
    bare = unicodedata.normalize("NFC", "".join(_letters(folded))).split()
    while len(bare) > 1 and bare[0] in ARTICLES:
        del bare[0]
    return " ".join(bare) or " ".join(folded.split())


def _letters(text: str) -> Iterator[str]:
    """The characters that stay. A dash between letters becomes a space: `rojo-azul` is two words."""
    for before, character, after in zip(" " + text, text, text[1:] + " ", strict=False):
        category = unicodedata.category(character)
        numeric = after.isdigit() and (before.isdigit() or (character == "-" and not before.isalnum()))
        if numeric or not category.startswith("P"):
            yield character
        elif category == "Pd":
            yield " "


def is_exact(expected: str, answer: str) -> bool:
    """Equal after normalisation."""
    return normalise(expected) == normalise(answer)


def is_same_side(expected: str, answer: str) -> bool:
    """Both begin with yes, or both with no; language and accent do not matter."""
    sides = [_side(text) for text in (expected, answer)]
    return sides[0] == sides[1] if sides[0] is not None else is_exact(expected, answer)


def _side(text: str) -> bool | None:
    first = normalise(text).split(" ", 1)[0]
    return True if first in YES else False if first in NO else None


def is_same_number(expected: str, answer: str) -> bool:
    """The last number of the answer is the expected one. `1.500` may be a thousand and a half thousands, or one and a
    half: a reading in common is enough.
    """
    wanted, found = NUMBER.findall(expected), NUMBER.findall(answer)
    return bool(wanted and found and readings(wanted[-1]) & readings(found[-1]))


def readings(number: str) -> set[Decimal]:
    """The values a written number may have, with comma or point for decimals or thousands."""
    digits = number.replace("\u2212", "-")
    marks = [character for character in digits if character in ".,"]
    if not marks:
        return {Decimal(digits)}
    grouped = re.fullmatch(r"-?[1-9]\d{0,2}(?:[.,]\d{3})+", digits)
    values = {Decimal(re.sub("[.,]", "", digits))} if grouped and len(set(marks)) == 1 else set()
    if marks.count(marks[-1]) == 1:
        whole, _, part = digits.rpartition(marks[-1])
        values.add(Decimal(re.sub("[.,]", "", whole) + "." + part))
    return values


def is_same_choice(expected: str, answer: str) -> bool:
    """The same letter or digit: `B`, `b)`, `(B) rojo`, `La respuesta es B`. Other expectations are graded exactly."""
    wanted, chosen = CHOICE.search(expected.casefold()), CHOICE.search(answer.casefold())
    if wanted is None:
        return is_exact(expected, answer)
    return chosen is not None and (wanted[1] or wanted[2]) == (chosen[1] or chosen[2])


def contains(expected: str, answer: str) -> bool:
    """The expected words occur in the answer, in a row and whole."""
    return f" {normalise(expected)} " in f" {normalise(answer)} "


def token_f1(expected: str, answer: str) -> float:
    """Harmonic mean of the precision and recall of words, articles not counted (SQuAD's F1)."""
    wanted, said = ([word for word in normalise(text).split() if word not in ARTICLES] for text in (expected, answer))
    shared = sum((Counter(wanted) & Counter(said)).values())
    return 2 * shared / (len(wanted) + len(said)) if shared else 0.0


def expected_calls(expected: Message) -> list[ToolCall]:
    """The calls an expected turn makes, be they given as such or written out in its content."""
    return list(expected.tool_calls) or (parse_calls(expected.content) or [])


def parse_calls(text: str) -> list[ToolCall] | None:
    """The calls written as `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`; None where one is malformed."""
    calls: list[ToolCall] = []
    for block in text.split(CALL_TAG)[1:]:
        try:
            row, _ = json.JSONDecoder().raw_decode(block.lstrip())
            calls.append(ToolCall(row["name"], dict(row.get("arguments", {}))))
        except (ValueError, TypeError, KeyError, AttributeError):
            return None
    return calls


def calls_match(wanted: list[ToolCall], answer: str) -> bool:
    """The same calls, whatever their order and the order of their arguments; 2 and 2.0 are the same number."""
    made = parse_calls(unicodedata.normalize("NFC", answer))
    return bool(made) and Counter(map(_call_key, wanted)) == Counter(map(_call_key, made or []))


def _call_key(call: ToolCall) -> str:
    return canonical_json([call.name, _plain(dict(call.arguments))])


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return unicodedata.normalize("NFC", value) if isinstance(value, str) else value


MATCHES: dict[GraderName, Callable[[str, str], bool]] = {
    GraderName.EXACT: is_exact,
    GraderName.YES_NO: is_same_side,
    GraderName.NUMBER: is_same_number,
    GraderName.CHOICE: is_same_choice,
    GraderName.CONTAINS: contains,
}
