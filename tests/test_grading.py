import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thaud.domain import GraderName, Message, ToolCall
from thaud.grading import F1_RIGHT_FROM, grade, infer_grader, normalise, readings, token_f1


def says(text: str) -> Message:
    return Message("assistant", text)


def calls(*made: ToolCall) -> Message:
    return Message("assistant", "", tool_calls=made)


def right(expected: str, answer: str, grader: GraderName) -> bool:
    return grade(says(expected), answer, grader).correct


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("  El   Perro. ", "perro"),
        ("¡Los gatos!", "gatos"),
        ("The Sun", "sun"),
        ("la", "la"),
        ("A", "a"),
        ("rojo-azul", "rojo azul"),
        ("-3,5 °C", "-3,5 °c"),
        ("3.5", "3.5"),
        ("35", "35"),
        ("!", "!"),
        ("la casa de la abuela", "casa de la abuela"),
        (unicodedata.normalize("NFD", "árbol"), "árbol"),
        ("Straße", "strasse"),
    ],
)
def test_normalisation(text: str, plain: str) -> None:
    """Case, punctuation, leading articles and spaces do not matter; accents, numbers and inner words do."""
    assert normalise(text) == plain


@given(st.text("abcdeéfghiílmnñoóprstuúüvxyz ", min_size=1).filter(str.strip))
def test_case_decomposition_and_punctuation_around_a_text_do_not_matter(text: str) -> None:
    """A text equals itself shouted, decomposed and between marks."""
    assert normalise(unicodedata.normalize("NFD", f" ¡«{text.upper()}»! ")) == normalise(f"«{text}»")


@pytest.mark.parametrize("grader", list(GraderName))
@pytest.mark.parametrize("empty", ["", " \n\t"])
def test_empty_answer_is_never_right(grader: GraderName, empty: str) -> None:
    """No grader accepts silence, whatever was expected."""
    for expected in ("rojo", "sí", "4", "B", "!", ""):
        assert grade(says(expected), empty, grader) == (0.0, False)


def test_exact_keeps_accents() -> None:
    """`papa` is not `papá`, but case, article and full stop do not matter."""
    assert right("papá", "Papá.", GraderName.EXACT)
    assert right("azul", "El azul", GraderName.EXACT)
    assert not right("papá", "papa", GraderName.EXACT)
    assert not right("azul", "azul y rojo", GraderName.EXACT)


@pytest.mark.parametrize(
    ("expected", "answer", "verdict"),
    [
        ("sí", "Si", True),
        ("Sí.", "sí, es un animal", True),
        ("yes", "Sí", True),
        ("no", "No, nunca.", True),
        ("no", "nosotros", False),
        ("sí", "no", False),
        ("no", "tal vez", False),
        ("quizás", "quizás", True),
    ],
)
def test_yes_no(expected: str, answer: str, verdict: bool) -> None:  # noqa: FBT001 - a table's column
    """The first word decides; the accent of `sí` does not."""
    assert right(expected, answer, GraderName.YES_NO) is verdict


@pytest.mark.parametrize(
    ("expected", "answer", "verdict"),
    [
        ("4", "2 + 2 = 4", True),
        ("4", "4.0", True),
        ("3,5", "3.5", True),
        ("1.500", "1500", True),
        ("1.500", "1,5", True),
        ("1.234.567", "1,234,567", True),
        ("1.234,5", "1234.5", True),
        ("-3", "\u22123", True),
        ("-3", "3", False),
        ("4", "44", False),
        ("4", "cuatro", False),
        ("0.500", "500", False),
    ],
)
def test_number(expected: str, answer: str, verdict: bool) -> None:  # noqa: FBT001 - a table's column
    """Values are compared, in Spanish and English writing; the answer's last number counts."""
    assert right(expected, answer, GraderName.NUMBER) is verdict


@given(st.integers(-(10**9), 10**9))
def test_every_integer_reads_as_itself_in_three_writings(value: int) -> None:
    """Plain, with points and with commas for thousands, an integer has its value among its readings."""
    for written in (str(value), f"{value:,}", f"{value:,}".replace(",", ".")):
        assert value in readings(written)


@pytest.mark.parametrize(
    ("expected", "answer", "verdict"),
    [
        ("B", "b)", True),
        ("B", "(B) rojo", True),
        ("B) rojo", "B", True),
        ("a", "A", True),
        ("B", "La respuesta es B.", True),
        ("B", "The answer is: (b)", True),
        ("B", "C", False),
        ("B", "barco", False),
        ("rojo", "Rojo", True),
        ("rojo", "azul", False),
    ],
)
def test_choice(expected: str, answer: str, verdict: bool) -> None:  # noqa: FBT001 - a table's column
    """The letter decides, however it is dressed; `A` is no article here."""
    assert right(expected, answer, GraderName.CHOICE) is verdict


def test_contains_wants_whole_words() -> None:
    """The expected words must stand in the answer as words."""
    assert right("el sol", "Es de día porque sale Sol.", GraderName.CONTAINS)
    assert not right("sol", "solo", GraderName.CONTAINS)


def test_f1_gives_partial_credit_and_is_right_from_the_bar() -> None:
    """Word overlap scores between 0 and 1, by hand: 3 of 4 and 3 of 3 words shared is 6/7."""
    assert token_f1("el perro come carne hoy", "perro come carne") == pytest.approx(6 / 7)
    partial = grade(says("uno dos tres"), "uno cinco seis", GraderName.F1)
    assert partial.score == pytest.approx(1 / 3)
    assert not partial.correct
    assert grade(says("uno dos tres"), "uno dos cuatro", GraderName.F1).score >= F1_RIGHT_FROM
    assert grade(says("uno dos"), "tres", GraderName.F1) == (0.0, False)


TWO = ToolCall("sum", {"a": 2, "b": [1.0, "ñ"]})
OTHER = ToolCall("now", {})


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ('<tool_call>\n{"name": "sum", "arguments": {"b": [1, "ñ"], "a": 2.0}}\n</tool_call>', True),
        ('<tool_call>{"name": "sum", "arguments": {"a": 2, "b": [1, "ñ"]}}', True),
        ('<tool_call>{"name": "sum", "arguments": {"a": true, "b": [1, "ñ"]}}</tool_call>', False),
        ('<tool_call>{"name": "sum", "arguments": {"a": "2", "b": [1, "ñ"]}}</tool_call>', False),
        ('<tool_call>{"name": "add", "arguments": {"a": 2, "b": [1, "ñ"]}}</tool_call>', False),
        ('<tool_call>{"name": "sum", "arguments": {"a": 2', False),
        ("<tool_call>[1]</tool_call>", False),
        ("2", False),
    ],
)
def test_tool_call_is_matched_as_a_tree(answer: str, verdict: bool) -> None:  # noqa: FBT001 - a table's column
    """Name and arguments must be the same values, numbers by value, booleans not as numbers; broken JSON is wrong."""
    assert grade(calls(TWO), answer).correct is verdict


def test_several_calls_in_any_order_but_none_missing_or_doubled() -> None:
    """Calls are a bag: order is free, the count is not."""
    first = '<tool_call>{"name": "now", "arguments": {}}</tool_call>'
    second = '<tool_call>{"name": "sum", "arguments": {"a": 2, "b": [1, "ñ"]}}</tool_call>'
    assert grade(calls(TWO, OTHER), first + "\n" + second).correct
    assert not grade(calls(TWO, OTHER), first).correct
    assert not grade(calls(OTHER), first + first).correct


@pytest.mark.parametrize(
    ("expected", "grader"),
    [
        ("Sí", GraderName.YES_NO),
        ("no.", GraderName.YES_NO),
        ("12", GraderName.NUMBER),
        ("-3,5", GraderName.NUMBER),
        ("12.", GraderName.NUMBER),
        ("12 perros", GraderName.EXACT),
        ("el perro", GraderName.EXACT),
        ("el sol sale por el este y se pone por el oeste", GraderName.F1),
        ('<tool_call>{"name": "now", "arguments": {}}</tool_call>', GraderName.TOOL_CALL),
    ],
)
def test_grader_is_inferred_from_the_expected_answer(expected: str, grader: GraderName) -> None:
    """Without a named grader the expected answer's form chooses it."""
    assert infer_grader(says(expected)) is grader


def test_tool_calls_infer_their_grader() -> None:
    """An expected turn that calls a tool is graded by its calls, not by its words."""
    assert infer_grader(calls(TWO)) is GraderName.TOOL_CALL
