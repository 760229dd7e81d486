"""The text nano is pretrained on: generated, Spanish and English, the same for the same seed.

Owns the kinds of document, their shares and what share of the loss each piece of text carries. Refuses the datasets'
wordings: a fact is told here in other words than those an exam uses. Answers are whole sentences; giving one in a
word or two is left to be taught.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from thaud.nano.facts import UNEXAMINED, Fact, Family, without_accents, word, words_of
from thaud.nano.families import FAMILIES
from thaud.nano.lessons import LESSONS

END_OF_TEXT: Final = "<|endoftext|>"
TURN_START: Final = "<|im_start|>"
TURN_END: Final = "<|im_end|>"

ASKED_WEIGHT: Final = 0.15
"""Loss weight of what the user says, next to 1 for answers and plain text."""
UNEXAMINED_WEIGHT: Final = 0.5
"""How often a fact that no dataset asks is drawn, next to 1 for a fact that one does."""
TOLD_SHARE: Final = 0.25
TALK_SHARE: Final = 0.12
EXCHANGE_SHARE: Final = 0.57
TOOL_SHARE: Final = 0.01
LESSON_SHARE: Final = 0.05
ANSWER_FIRST_SHARE: Final = 0.75
OPENING_SHARE: Final = 0.3
SYSTEM_SHARE: Final = 0.04
CARELESS_SHARE: Final = 0.1
"""How many questions come without capitals, accents or punctuation."""
LOWERCASE_SHARE: Final = 0.1
"""How many answers start in lower case, so that a lower-case answer can be taught."""

_OPENINGS: Final = {
    "es": ("Hola. ", "Oye: ", "Una pregunta: ", "A ver, ", "Por favor: ", "Responde: ", "Tengo una duda. "),
    "en": ("Hello. ", "Hey: ", "A question: ", "Well, ", "Please: ", "Answer this: ", "I have a doubt. "),
}
_SYSTEMS: Final = {"es": "Eres THAU y ayudas.", "en": "You are THAU and you help."}


@dataclass(frozen=True)
class Piece:
    """A stretch of a document and the weight of its tokens in the loss."""

    text: str
    weight: float


Document = tuple[Piece, ...]


def documents(seed: int) -> Iterator[Document]:
    """Yield documents without end: sentences, exchanges, longer talks, lessons and a few tool calls."""
    rng = random.Random(seed)
    pool = [(family, fact) for family in FAMILIES for fact in family.facts]
    weights = [_drawn_weight(family, fact) for family, fact in pool]
    kinds = ("tool call", "lesson", "telling", "talk", "exchange")
    shares = (TOOL_SHARE, LESSON_SHARE, TOLD_SHARE, TALK_SHARE, EXCHANGE_SHARE)
    while True:
        kind = rng.choices(kinds, shares)[0]
        facts = rng.choices(pool, weights, k=rng.choice((1, 1, 2, 3)))
        if kind == "tool call":
            yield tool_call(rng)
        elif kind == "lesson":
            yield (Piece(rng.choice(LESSONS) + END_OF_TEXT, 1.0),)
        elif kind == "telling":
            yield telling(rng, facts)
        else:
            yield talk(rng, facts if kind == "talk" else facts[:1])


def telling(rng: random.Random, facts: Sequence[tuple[Family, Fact]]) -> Document:
    """Tell one to three facts in plain sentences."""
    sentences = (word(rng.choice(family.told), fact) for family, fact in facts)
    return (Piece(" ".join(sentences) + END_OF_TEXT, 1.0),)


def talk(rng: random.Random, facts: Sequence[tuple[Family, Fact]]) -> Document:
    """Ask for facts in turn, each answered by a sentence."""
    turns = [piece for family, fact in facts for piece in _exchange(rng, family, fact)]
    if rng.random() < SYSTEM_SHARE:
        turns.insert(0, Piece(_turn("system", _SYSTEMS[facts[0][0].language]), ASKED_WEIGHT))
    return tuple(turns)


def tool_call(rng: random.Random) -> Document:
    """Ask for a sum by tool, show the call, the tool's response and the sentence that follows."""
    first, second = rng.randint(1, 5), rng.randint(1, 5)
    call = f'<tool_call>\n{{"name": "sumar", "arguments": {{"a": {first}, "b": {second}}}}}\n</tool_call>'
    response = f"<tool_response>\n{first + second}\n</tool_response>"
    return (
        Piece(_turn("user", f"Usa la herramienta sumar con {first} y {second}."), ASKED_WEIGHT),
        *_reply(call),
        Piece(_turn("user", response), ASKED_WEIGHT),
        *_reply(f"{first + second} es la respuesta de la herramienta."),
    )


def _exchange(rng: random.Random, family: Family, fact: Fact) -> Document:
    question = word(rng.choice(family.asked), fact)
    if rng.random() < OPENING_SHARE:
        question = rng.choice(_OPENINGS[family.language]) + question
    if rng.random() < CARELESS_SHARE:
        question = " ".join(without_accents(words_of(question)))
    first = [template for template in family.told if template.startswith(("{A}", "{a}"))]
    told = first if first and rng.random() < ANSWER_FIRST_SHARE else family.told
    answer = word(rng.choice(told), fact)
    if rng.random() < LOWERCASE_SHARE:
        answer = answer[:1].lower() + answer[1:]
    return (Piece(_turn("user", question), ASKED_WEIGHT), *_reply(answer))


def _reply(text: str) -> Document:
    return (
        Piece(f"{TURN_START}assistant\n", ASKED_WEIGHT),
        Piece(f"{text}{TURN_END}", 1.0),
        Piece("\n", ASKED_WEIGHT),
    )


def _turn(role: str, text: str) -> str:
    return f"{TURN_START}{role}\n{text}{TURN_END}\n"


def _drawn_weight(family: Family, fact: Fact) -> float:
    return family.weight * (UNEXAMINED_WEIGHT if fact.age == UNEXAMINED else 1.0)
