"""What `thau review` says, in Spanish and in English, and the keys that it reads."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from thaud.proposals import Kind, Lesson
from thaud.words import ES as SPANISH
from thaud.words import Language, Words


class Key(StrEnum):
    """What a reviewer can ask for."""

    ACCEPT = "accept"
    KEEP_OUTSIDE = "keep_outside"
    OTHER_LESSON = "other_lesson"
    EDIT = "edit"
    EDIT_ALL = "edit_all"
    SKIP = "skip"
    DROP = "drop"
    QUIT = "quit"


@dataclass(frozen=True, slots=True)
class ReviewWords:
    """Every phrase of one language. Braces name the values that `str.format` fills in."""

    waiting: str
    nothing_waits: str
    waits: str
    damaged: str
    heading: str
    from_where: str
    kinds: Mapping[Kind, str]
    roles: Mapping[str, str]
    call: str
    learned: str
    earlier_learned: str
    tools_offered: str
    more_lines: str
    difference: str
    problem: str
    no_answer: str
    outside: str
    lessons: Mapping[Lesson, str]
    exchanges_gone: str
    on_left_out: str
    nothing_left: str
    suspect: str
    question: str
    keys: Mapping[str, Key]
    doubt: str
    drop_doubt: str
    yes: tuple[str, ...]
    accepted: str
    dropped: str
    skipped: str
    kept_edit: str
    refused: str
    edit_again: str
    not_edited: str
    unknown_key: str
    one_lesson: str
    done: str


ES = ReviewWords(
    waiting="Propuestas que esperan revisión",
    nothing_waits="No hay propuestas que revisar.",
    waits="{n} (`thau review`)",
    damaged="No se puede leer {name}: {reason}. Sigue en {folder}; corrígelo o bórralo.",
    heading="[{number}/{of}] {id} · {kind}",
    from_where="{model}, pregunta {question} de {transcript}, {at}",
    kinds={
        Kind.TEACH: "respuesta corregida",
        Kind.GOOD: "respuesta buena",
        Kind.BAD: "respuesta mala",
        Kind.REPAIR: "llamada reparada",
    },
    roles={"system": "sistema", "user": "usuario", "assistant": "modelo", "tool": "herramienta"},
    call="→ {name}({arguments})",
    learned="(se aprende)",
    earlier_learned="También se aprenden las respuestas anteriores del modelo que se ven arriba.",
    tools_offered="Herramientas ofrecidas: {names}",
    more_lines="... y {n} líneas más (`thau review {id} --json` las muestra)",
    difference="Cambio (- mala, + buena):",
    problem="Lo que estaba mal: {problem}",
    no_answer="Falta la respuesta buena: escríbela (e) antes de aceptar.",
    outside="Palabras de fuera (no se incluyen si no las conservas): {turns}",
    lessons={
        Lesson.WHOLE: "Lo que se enseña: la conversación entera.",
        Lesson.CALLS: "Lo que se enseña: la pregunta y la primera llamada, sin resultados ni respuesta.",
        Lesson.ANSWER: "Lo que se enseña: la pregunta y la respuesta final, sin llamadas ni resultados.",
    },
    exchanges_gone="Preguntas anteriores que se quitan enteras, porque ya habían entrado palabras de fuera: {n}.",
    on_left_out="Cuidado: la respuesta se apoya en palabras que ya no están.",
    nothing_left="Sin las palabras de fuera no queda nada que enseñar: consérvalas, elige otra lección o bórrala.",
    suspect="Parece un secreto: {kind}, en {place}, línea {line}",
    question=(
        "(a)ceptar, (c)onservar lo de fuera y aceptar, otra (l)ección, (e)ditar la respuesta, editar todo como (j)son,"
        " (s)altar, (b)orrar, (q) salir"
    ),
    keys={
        "a": Key.ACCEPT,
        "c": Key.KEEP_OUTSIDE,
        "l": Key.OTHER_LESSON,
        "e": Key.EDIT,
        "j": Key.EDIT_ALL,
        "s": Key.SKIP,
        "b": Key.DROP,
        "q": Key.QUIT,
    },
    doubt="Contiene lo que parece un secreto, y el modelo lo aprenderá. ¿Aceptar de todos modos? [s/N] ",
    drop_doubt="¿Borrar esta propuesta? [s/N] ",
    yes=("s", "si", "sí", "y", "yes"),
    accepted="Aceptada: {file}",
    dropped="Borrada: {id}",
    skipped="Saltada: {id}",
    kept_edit="Guardado lo editado.",
    refused="No vale: {reason}",
    edit_again="¿Editar otra vez? [S/n] ",
    not_edited="Sin cambios.",
    unknown_key="Escribe una de estas letras: {keys}",
    one_lesson="No hay otra lección.",
    done="Aceptadas: {accepted}; borradas: {dropped}; esperan: {left}.",
)

EN = ReviewWords(
    waiting="Proposals that wait for review",
    nothing_waits="No proposals wait.",
    waits="{n} (`thau review`)",
    damaged="{name} cannot be read: {reason}. It stays in {folder}; mend it or remove it.",
    heading="[{number}/{of}] {id} · {kind}",
    from_where="{model}, question {question} of {transcript}, {at}",
    kinds={
        Kind.TEACH: "corrected answer",
        Kind.GOOD: "good answer",
        Kind.BAD: "bad answer",
        Kind.REPAIR: "repaired call",
    },
    roles={"system": "system", "user": "user", "assistant": "model", "tool": "tool"},
    call="→ {name}({arguments})",
    learned="(learned)",
    earlier_learned="The model's earlier answers shown above are learned too.",
    tools_offered="Tools offered: {names}",
    more_lines="... and {n} more lines (`thau review {id} --json` shows them)",
    difference="Change (- bad, + good):",
    problem="What was wrong: {problem}",
    no_answer="The good answer is missing: write it (e) before accepting.",
    outside="Words from outside (left out unless you keep them): {turns}",
    lessons={
        Lesson.WHOLE: "What is taught: the whole conversation.",
        Lesson.CALLS: "What is taught: the question and the first call, without results or answer.",
        Lesson.ANSWER: "What is taught: the question and the final answer, without calls or results.",
    },
    exchanges_gone="Earlier questions left out as a whole, since words from outside had come in: {n}.",
    on_left_out="Careful: the answer stands on words that are not there any more.",
    nothing_left="Without words from outside nothing is left to teach: keep them, choose another lesson or drop it.",
    suspect="Looks like a secret: {kind}, in {place}, line {line}",
    question=(
        "(a)ccept, (k)eep what is from outside and accept, other (l)esson, (e)dit the answer, edit all as (j)son,"
        " (s)kip, (d)rop, (q)uit"
    ),
    keys={
        "a": Key.ACCEPT,
        "k": Key.KEEP_OUTSIDE,
        "l": Key.OTHER_LESSON,
        "e": Key.EDIT,
        "j": Key.EDIT_ALL,
        "s": Key.SKIP,
        "d": Key.DROP,
        "q": Key.QUIT,
    },
    doubt="It holds what looks like a secret, and the model will learn it. Accept all the same? [y/N] ",
    drop_doubt="Drop this proposal? [y/N] ",
    yes=("y", "yes"),
    accepted="Accepted: {file}",
    dropped="Dropped: {id}",
    skipped="Skipped: {id}",
    kept_edit="The edit is kept.",
    refused="It will not do: {reason}",
    edit_again="Edit again? [Y/n] ",
    not_edited="Nothing was changed.",
    unknown_key="Type one of these letters: {keys}",
    one_lesson="There is no other lesson.",
    done="Accepted: {accepted}; dropped: {dropped}; waiting: {left}.",
)

REVIEW: Mapping[Language, ReviewWords] = {"es": ES, "en": EN}


def review_words(words: Words) -> ReviewWords:
    """Those of the same language."""
    return ES if words is SPANISH else EN
