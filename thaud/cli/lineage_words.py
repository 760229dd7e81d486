"""What `thau lineage` says, in Spanish and in English."""

from collections.abc import Mapping
from dataclasses import dataclass

from thaud.words import ES as SPANISH
from thaud.words import Words


@dataclass(frozen=True, slots=True)
class LineageWords:
    """Every phrase of one language. Braces name the values that `str.format` fills in."""

    accepted: str
    rows: Mapping[str, str]
    training: str
    exam: str
    certificate: Mapping[str, str]
    given_up: str
    taught: str
    taught_first: str
    lesson: tuple[str, ...]
    more_places: str
    cut: str
    more: str
    set_aside: str
    omitted: str
    nowhere: str
    place: str
    moved: str
    question: str
    answer: str
    example_rows: Mapping[str, str]
    sides: Mapping[str, str]
    states: Mapping[str, str]
    parts: Mapping[str, str]
    run: str
    run_set_aside: str
    run_cut: str
    answered: str
    right: Mapping[bool, str]
    none: str


ES = LineageWords(
    accepted="{name}: edad {age} ({stage}), aceptada el {at} UTC",
    rows={
        "line": "Línea",
        "run": "Entrenamiento",
        "base": "Base",
        "base_digest": "Digest de la base",
        "strategy": "Estrategia",
        "seed": "Semilla",
        "hyperparameters": "Ajustes",
        "training": "Medido",
        "exam": "Examen",
        "reasons": "Veredicto",
        "certificate": "Certificado",
        "file": "Archivo",
        "sha256": "SHA-256",
    },
    training="{steps} pasos, {tokens} tokens, pérdida {first:.3f} -> {last:.3f}, {seconds:.0f} s",
    exam="edad {age}: {accuracy} ({right}/{n}, {low}-{high})",
    certificate={"passed": "aprobado", "failed": "no aprobado: {reasons}", "none": "ninguno: es anterior a ellos"},
    given_up="su archivo se cedió el {at}",
    taught="Ejemplos enseñados: {n}",
    taught_first="Ejemplos enseñados: {n}; los {limit} primeros:",
    lesson=("Dónde", "Edad", "Desde", "Id", "Pregunta"),
    more_places=" (+{n})",
    cut="      recortado: {reason}",
    more="  ... y {n} más (--limit, o --json para todos)",
    set_aside="Apartados, sin enseñar: {n}",
    omitted="  {place}  {run}  {id}  {reason}",
    nowhere="(ya no está en el registro)",
    place="{file}:{line}",
    moved="{file}:{line} (ahora {retired_to}, en data/trained)",
    question="Pregunta",
    answer="Respuesta",
    example_rows={
        "state": "Estado",
        "age": "Edad",
        "side": "Lado",
        "received_at": "Recibido (UTC)",
        "places": "Visto en",
        "first_taught_by": "Enseñado primero por",
        "known_by": "Lo saben",
        "runs": "Entrenamientos",
        "answers": "Respuestas dadas",
    },
    sides={"taught": "se enseña", "held_out": "apartado para el examen, nunca se enseña"},
    states={
        "held_out": "reservado: se pregunta en los exámenes",
        "known": "la versión que contesta lo sabe",
        "in_run": "está en el entrenamiento en curso",
        "waits_for_age": "espera a que THAU llegue a la edad {age}",
        "set_aside": "el entrenador lo apartó; se prueba de nuevo con más contexto",
        "forgotten": "lo supo una versión anterior, no la que contesta; se enseñará otra vez",
        "refused": "se entrenó, pero ninguna versión quedó aceptada; vuelve al próximo entrenamiento",
        "waiting": "espera al próximo entrenamiento",
    },
    parts={"taught": "enseñado", "asked": "preguntado", "recalled": "enseñado y repasado"},
    run="{run}: {part}, {state}{version}",
    run_set_aside="; apartado: {reason}",
    run_cut="; recortado: {reason}",
    answered="{version}: {answer} ({right})",
    right={True: "bien", False: "mal"},
    none="ninguno",
)

EN = LineageWords(
    accepted="{name}: age {age} ({stage}), accepted {at} UTC",
    rows={
        "line": "Line",
        "run": "Run",
        "base": "Base",
        "base_digest": "Digest of the base",
        "strategy": "Strategy",
        "seed": "Seed",
        "hyperparameters": "Settings",
        "training": "Measured",
        "exam": "Exam",
        "reasons": "Verdict",
        "certificate": "Certificate",
        "file": "File",
        "sha256": "SHA-256",
    },
    training="{steps} steps, {tokens} tokens, loss {first:.3f} -> {last:.3f}, {seconds:.0f} s",
    exam="age {age}: {accuracy} ({right}/{n}, {low}-{high})",
    certificate={"passed": "passed", "failed": "not passed: {reasons}", "none": "none: it is older than they are"},
    given_up="its file was given up on {at}",
    taught="Examples taught: {n}",
    taught_first="Examples taught: {n}; the first {limit}:",
    lesson=("Where", "Age", "Since", "Id", "Question"),
    more_places=" (+{n})",
    cut="      cut short: {reason}",
    more="  ... and {n} more (--limit, or --json for all)",
    set_aside="Set aside, not taught: {n}",
    omitted="  {place}  {run}  {id}  {reason}",
    nowhere="(no longer in the ledger)",
    place="{file}:{line}",
    moved="{file}:{line} (now {retired_to}, in data/trained)",
    question="Question",
    answer="Answer",
    example_rows={
        "state": "State",
        "age": "Age",
        "side": "Side",
        "received_at": "Received (UTC)",
        "places": "Seen in",
        "first_taught_by": "First taught by",
        "known_by": "Known by",
        "runs": "Runs",
        "answers": "Answers given",
    },
    sides={"taught": "taught", "held_out": "held out for the exam, never taught"},
    states={
        "held_out": "held out: it is asked in exams",
        "known": "the version that answers knows it",
        "in_run": "it is in the run under way",
        "waits_for_age": "it waits until THAU reaches age {age}",
        "set_aside": "the trainer set it aside; it is tried again with more context",
        "forgotten": "an earlier version knew it, the one that answers does not; it will be taught again",
        "refused": "it was trained, but no version of it was accepted; it comes back in the next run",
        "waiting": "it waits for the next run",
    },
    parts={"taught": "taught", "asked": "asked", "recalled": "taught and asked again"},
    run="{run}: {part}, {state}{version}",
    run_set_aside="; set aside: {reason}",
    run_cut="; cut short: {reason}",
    answered="{version}: {answer} ({right})",
    right={True: "right", False: "wrong"},
    none="none",
)


def lineage_words(words: Words) -> LineageWords:
    """Those of the same language."""
    return ES if words is SPANISH else EN
