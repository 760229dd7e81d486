"""What a fact is, and how a family of facts is worded.

Owns the shape of a fact family, the filling of its templates and the normal form in which two texts count as the
same. Refuses to hold facts (the `families_*` modules do) and to know about files, tokens or weights.

A template names the fields of a fact: `{s}` subject, `{t}` and `{u}` further terms, `{a}` the answer; the same letter
in capitals starts with a capital. Three kinds of template never mix: `exam` wordings go to the datasets alone,
`asked` and `told` wordings go to the pretraining corpus alone.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

UNEXAMINED = -1
"""The age of facts that the corpus tells and no dataset asks."""

EXAM_WORDINGS = 4
_CONTRACTION = re.compile(r"\b([Dd]e|[Aa]) el\b")
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Fact:
    """One thing to know: its terms (`s`, then `t` and `u` where the family has them), its answer, the age that asks."""

    terms: tuple[str, ...]
    answer: str
    age: int


@dataclass(frozen=True)
class Family:
    """Facts that share their wordings.

    `exam`: four questions for the datasets. `asked`: questions for the corpus. `told`: whole sentences that hold the
    answer, read alone or as the reply to an `asked` question. `weight`: how often the corpus draws a fact of this
    family, next to 1 for the others.
    """

    name: str
    language: str
    exam: tuple[str, ...]
    asked: tuple[str, ...]
    told: tuple[str, ...]
    facts: tuple[Fact, ...]
    weight: float = 1.0


def parse_facts(table: Mapping[int, str]) -> tuple[Fact, ...]:
    """Read `{age: "term|term=answer; ..."}`; ValueError on an entry without an answer."""
    facts = []
    for age, entries in table.items():
        for entry in filter(None, (part.strip() for part in entries.split(";"))):
            terms, separator, answer = entry.partition("=")
            if not separator or not answer.strip():
                msg = f"the fact {entry!r} has no answer: write it as 'subject=answer'"
                raise ValueError(msg)
            facts.append(Fact(tuple(term.strip() for term in terms.split("|")), answer.strip(), age))
    return tuple(facts)


def word(template: str, fact: Fact) -> str:
    """Fill a template with a fact's fields; in Spanish `de el` becomes `del` and `a el` becomes `al`."""
    values = {**dict(zip("stu", fact.terms, strict=False)), "a": fact.answer}
    values |= {key.upper(): capital(value) for key, value in values.items()}
    return _CONTRACTION.sub(lambda found: found[1] + "l", template.format(**values))


def exam_prompts(family: Family, fact: Fact) -> Iterator[str]:
    """Yield the four wordings in which the datasets ask for a fact."""
    return (word(template, fact) for template in family.exam)


def words_of(text: str) -> tuple[str, ...]:
    """Return the words of a text in normal form: NFC, casefolded, without punctuation or spacing."""
    return tuple(_WORD.findall(unicodedata.normalize("NFC", text).casefold()))


def without_accents(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return words as a hurried hand writes them: no accents, no tilde on the ñ."""
    plain = (unicodedata.normalize("NFD", each) for each in words)
    return tuple("".join(letter for letter in each if not unicodedata.combining(letter)) for each in plain)


def capital(text: str) -> str:
    """Return a text with its first letter in capitals and the rest as it is."""
    return text[:1].upper() + text[1:]
