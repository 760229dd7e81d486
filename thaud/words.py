"""The words that commands say to people, in Spanish and in English: one dataclass, one value for each language.

mypy and the tests see to it that no language lacks a phrase. Errors, help texts and the log are English everywhere, so
that they can be searched for; the verdicts of the gate are translated here. Refuses to know what is said when (the
commands').
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Language = Literal["es", "en"]


@dataclass(frozen=True, slots=True)
class StageWords:
    """How a stage is called, and what THAU can do there."""

    name: str
    description: str


@dataclass(frozen=True, slots=True)
class Words:
    """Every phrase of one language. Braces name the values that `str.format` fills in."""

    title: str
    model: str
    no_model: str
    size: str
    version: str
    development: str
    age: str
    years: str
    one_year: str
    description: str
    progress: str
    examples_here: str
    accuracy_now: str
    accuracy_detail: str
    not_measured: str
    accuracy_needed: str
    can_advance: str
    yes: str
    no_because: str
    missing_examples: str
    missing_one_example: str
    missing_evidence: str
    low_accuracy: str
    never_trained: str
    last_stage: str
    total_examples: str
    trainings: str
    pending: str
    waiting_later: str
    at_age: str
    rejected_lines: str
    not_read: str
    half_line: str
    service: str
    running: str
    stopped: str
    automatic_off: str
    run_under_way: str
    run_detail: str
    last_failure: str
    ollama: str
    nothing_registered: str
    stages: Mapping[str, StageWords]
    states: Mapping[str, str]
    made_home: str
    home_kept: str
    size_changed: str
    base_changed: str
    base_kept_out: str
    restart_needed: str
    next_version: str
    next_steps: str
    added: str
    taken_soon: str
    taken_later: str
    imported: str
    bad_lines: str
    more_lines: str
    nothing_good: str
    train_asked: str
    waiting_for_run: str
    nothing_rejected: str
    how_to_correct: str
    reset_question: str
    yes_replies: tuple[str, ...]
    reset_nothing: str
    reset_asked: str
    reset_done: str
    run_began: str
    step_base: str
    step_train: str
    step_export: str
    step_certify: str
    step_exam: str
    step_gate: str
    step_promote: str
    loss: str
    eta: str
    right: str
    accepted: str
    refused: str
    failed: str
    not_started: str
    verdicts: Mapping[str, str]


ES = Words(
    title="🤖 THAU Status",
    model="Modelo",
    no_model="{family} (aún sin versión)",
    size="Tamaño",
    version="Versión",
    development="Desarrollo Cognitivo",
    age="Edad",
    years="{age} años ({stage})",
    one_year="{age} año ({stage})",
    description="Descripción",
    progress="Progreso",
    examples_here="Ejemplos en esta edad",
    accuracy_now="Accuracy actual",
    accuracy_detail="{accuracy} ({right} de {n}, intervalo del 95%: {low} a {high})",
    not_measured="sin medir a esta edad",
    accuracy_needed="Accuracy requerida",
    can_advance="Puede avanzar",
    yes="Sí",
    no_because="No ({reasons})",
    missing_examples="faltan {n} ejemplos",
    missing_one_example="falta 1 ejemplo",
    missing_evidence="el examen tiene {n} de las {needed} preguntas que hacen falta",
    low_accuracy="la accuracy ({accuracy}) no llega al {needed}",
    never_trained="aún no hay una versión de esta edad",
    last_stage="es la última edad",
    total_examples="Total ejemplos",
    trainings="Entrenamientos completados",
    pending="Pendientes de entrenar",
    waiting_later="Esperan a una edad posterior",
    at_age="{n} (edad {age})",
    rejected_lines="Líneas rechazadas",
    not_read="En la cola, sin leer",
    half_line="la línea {line} está a medias: complétala, o termínala con un salto de línea",
    service="Servicio",
    running="en marcha",
    stopped="parado (arranca con `thau start`; lo que se añada espera en la cola)",
    automatic_off="en marcha, con el entrenamiento automático apagado",
    run_under_way="Entrenamiento en curso",
    run_detail="{id}, edad {age}, {state}",
    last_failure="Último entrenamiento sin versión",
    ollama="Ollama",
    nothing_registered="ninguna versión registrada",
    stages={
        "newborn": StageWords("Recién Nacido", "Palabras clave y respuestas simples de sí o no."),
        "infant": StageWords("Infante", "Frases de 2-3 palabras. Puede seguir instrucciones simples."),
        "toddler": StageWords("Niño Pequeño", "Razonamiento simple. Puede explicar conceptos básicos con ejemplos."),
        "child": StageWords("Niño", "Matemáticas básicas, lógica y lectura comprensiva."),
        "preteen": StageWords("Pre-adolescente", "Pensamiento abstracto y múltiples perspectivas."),
        "teen": StageWords("Adolescente", "Pensamiento crítico y razonamiento complejo."),
        "adult": StageWords("Adulto", "Razonamiento experto, tool calling y chain-of-thought."),
    },
    states={
        "frozen": "entrenando",
        "trained": "exportando",
        "exported": "examinando",
        "examined": "juzgando",
        "accepted": "registrando",
        "promoted": "promovido",
        "rejected": "rechazado",
        "failed": "fallido",
    },
    made_home="Listo: {root} es ahora una carpeta de THAU ({family}).",
    home_kept="{root} ya era una carpeta de THAU ({family}); no cambia nada.",
    base_changed="Base: {base}.",
    size_changed="Tamaño: {before} -> {after}. Las versiones anteriores se conservan.",
    base_kept_out="La base de {before} ({base}) queda comentada en thau.toml.",
    restart_needed="El servicio está en marcha: reinícialo para que use la nueva configuración.",
    next_version="El próximo entrenamiento creará {family}-v{n}.",
    next_steps="Ahora: `thau start`, y copia archivos JSONL en {queue}",
    added="En cola: {file}",
    taken_soon="El servicio lo leerá en unos segundos.",
    taken_later="El servicio está parado: lo leerá cuando arranque (`thau start`).",
    imported="{file}: {good} líneas buenas, {bad} malas -> {queued}",
    bad_lines="  línea {line}: {reason}",
    more_lines="  ... y {n} más",
    nothing_good="{file}: {good} líneas buenas, {bad} malas; no se ha puesto nada en la cola",
    train_asked="Entrenamiento pedido; síguelo con `thau watch`.",
    waiting_for_run="Esperando un entrenamiento (Ctrl-C para salir)...",
    nothing_rejected="Ninguna línea rechazada.",
    how_to_correct="Total: {total}. Para corregirlas: edita `raw` en {path} y ejecuta `thau retry` con ese archivo.",
    reset_question="¿Volver de la edad {age} a la 0? Los ejemplos y las versiones se conservan. [s/N]",
    yes_replies=("s", "si", "sí", "y", "yes"),
    reset_nothing="No se ha cambiado nada.",
    reset_asked="El servicio volverá a la edad 0 en cuanto lea la petición.",
    reset_done="La edad vuelve a ser 0; `thau train` vuelve a entrenar con lo que hay.",
    run_began="Entrenamiento {id}: edad {age} ({stage}), {examples} ejemplos",
    step_base="base",
    step_train="entrenar",
    step_export="exportar",
    step_certify="certificado",
    step_exam="examen",
    step_gate="veredicto",
    step_promote="promover",
    loss="pérdida {loss:.3f}",
    eta="quedan {eta}",
    right="{right} aciertos de {done}",
    accepted="aceptada: {version}",
    refused="rechazada",
    failed="falló",
    not_started="No se pudo empezar a entrenar",
    verdicts={
        "certificate: fidelity: the file's first choice is that of base plus adapter at {top1} of {positions}"
        " positions, {bar} are wanted (KL {kl} nats): its weights are not those trained": (
            "certificado: la primera opción del archivo es la de base y adaptador en el {top1} de {positions}"
            " posiciones, y se pide el {bar} (KL {kl} nats): sus pesos no son lo que se entrenó"
        ),
        "certificate: change: the adapter changes nothing: {how}": "certificado: el adaptador no cambia nada: {how}",
        "certificate: change: the file has {share} of the change that the adapter makes, {bar} are wanted: {why}": (
            "certificado: el archivo tiene el {share} del cambio que hace el adaptador, y se pide {bar}: {why}"
        ),
        "certificate: stops: {stopped} of {asked} answers came to an end, {bar} are wanted": (
            "certificado: terminaron {stopped} de {asked} respuestas, y se pide el {bar}"
        ),
        "certificate: {reason}": "certificado: {reason}",
        "every answer is empty": "todas las respuestas están vacías",
        "none of {n} held-out answers is right": "ninguna de las {n} respuestas del examen es correcta",
        "first version: {mine} at age {age}": "primera versión: {mine} a la edad {age}",
        "nothing to compare: no held-out items at age {age}": "sin comparación: nada reservado a la edad {age}",
        "no worse than the champion: {mine} against {theirs} at age {age}": (
            "no es peor que la anterior: {mine} frente a {theirs} a la edad {age}"
        ),
        "worse at age {age}: {mine} against the champion's {theirs} ({lost} lost, {won} won, p = {p})": (
            "peor a la edad {age}: {mine} frente a {theirs} de la anterior ({lost} perdidas, {won} ganadas, p = {p})"
        ),
        "age {age} forgotten: {mine}, under its bar of {bar}; champion {theirs}": (
            "edad {age} olvidada: {mine}, por debajo del {bar} requerido; la anterior, {theirs}"
        ),
    },
)

EN = Words(
    title="🤖 THAU Status",
    model="Model",
    no_model="{family} (no version yet)",
    size="Size",
    version="Version",
    development="Cognitive development",
    age="Age",
    years="{age} years ({stage})",
    one_year="{age} year ({stage})",
    description="Description",
    progress="Progress",
    examples_here="Examples at this age",
    accuracy_now="Current accuracy",
    accuracy_detail="{accuracy} ({right} of {n}, 95% interval: {low} to {high})",
    not_measured="not measured at this age",
    accuracy_needed="Required accuracy",
    can_advance="Can advance",
    yes="Yes",
    no_because="No ({reasons})",
    missing_examples="{n} examples are missing",
    missing_one_example="1 example is missing",
    missing_evidence="the exam has {n} of the {needed} questions that it takes",
    low_accuracy="accuracy ({accuracy}) is below {needed}",
    never_trained="there is no version of this age yet",
    last_stage="it is the last age",
    total_examples="Total examples",
    trainings="Completed trainings",
    pending="Waiting to be trained",
    waiting_later="Waiting for a later age",
    at_age="{n} (age {age})",
    rejected_lines="Rejected lines",
    not_read="In the queue, not read",
    half_line="line {line} is unfinished: complete it, or end it with a line end",
    service="Service",
    running="running",
    stopped="stopped (start it with `thau start`; what is added waits in the queue)",
    automatic_off="running, automatic training off",
    run_under_way="Training under way",
    run_detail="{id}, age {age}, {state}",
    last_failure="Last training without a version",
    ollama="Ollama",
    nothing_registered="no version registered",
    stages={
        "newborn": StageWords("newborn", "Keywords and simple yes or no answers."),
        "infant": StageWords("infant", "Phrases of 2-3 words. Can follow simple instructions."),
        "toddler": StageWords("toddler", "Simple reasoning. Can explain basic concepts with examples."),
        "child": StageWords("child", "Basic mathematics, logic and reading comprehension."),
        "preteen": StageWords("preteen", "Abstract thinking and several perspectives."),
        "teen": StageWords("teen", "Critical thinking and complex reasoning."),
        "adult": StageWords("adult", "Expert reasoning, tool calling and chain-of-thought."),
    },
    states={
        "frozen": "training",
        "trained": "exporting",
        "exported": "taking its exam",
        "examined": "being judged",
        "accepted": "being registered",
        "promoted": "promoted",
        "rejected": "rejected",
        "failed": "failed",
    },
    made_home="Done: {root} is a THAU home ({family}).",
    home_kept="{root} was a THAU home already ({family}); nothing changes.",
    base_changed="Base: {base}.",
    size_changed="Size: {before} -> {after}. Earlier versions stay.",
    base_kept_out="The base of {before} ({base}) is commented out in thau.toml.",
    restart_needed="The service is running: restart it to use the new configuration.",
    next_version="The next training will make {family}-v{n}.",
    next_steps="Now: `thau start`, and copy JSONL files into {queue}",
    added="Queued: {file}",
    taken_soon="The service will read it in a few seconds.",
    taken_later="The service is stopped: it will read it when it starts (`thau start`).",
    imported="{file}: {good} good, {bad} bad -> {queued}",
    bad_lines="  line {line}: {reason}",
    more_lines="  ... and {n} more",
    nothing_good="{file}: {good} good, {bad} bad; nothing was queued",
    train_asked="Training requested; follow it with `thau watch`.",
    waiting_for_run="Waiting for a training (Ctrl-C to leave)...",
    nothing_rejected="No rejected lines.",
    how_to_correct="Total: {total}. To correct them: edit `raw` in {path} and run `thau retry` on that file.",
    reset_question="Go back from age {age} to age 0? Examples and versions stay. [y/N]",
    yes_replies=("y", "yes"),
    reset_nothing="Nothing was changed.",
    reset_asked="The service was asked to go back to age 0.",
    reset_done="The age is 0 again; `thau train` trains again on what there is.",
    run_began="Training {id}: age {age} ({stage}), {examples} examples",
    step_base="base",
    step_train="train",
    step_export="export",
    step_certify="certify",
    step_exam="exam",
    step_gate="verdict",
    step_promote="promote",
    loss="loss {loss:.3f}",
    eta="{eta} left",
    right="{right} right of {done}",
    accepted="accepted: {version}",
    refused="rejected",
    failed="failed",
    not_started="No training could begin",
    verdicts={},
)

LANGUAGES: Mapping[Language, Words] = {"es": ES, "en": EN}


def sentence_of(reasons: list[str], language_and: str) -> str:
    """Reasons in a row: `a, b y c`."""
    if len(reasons) < 2:
        return "".join(reasons)
    return f"{', '.join(reasons[:-1])} {language_and} {reasons[-1]}"


def reasons_in(words: Words, reasons: Sequence[str]) -> str:
    """Why a run ended as it did: the gate's verdicts in the user's language, everything else as it was said."""
    return "; ".join(translated(words, reason) for reason in reasons)


def translated(words: Words, reason: str) -> str:
    """A verdict in the language of the words; what is none stays as it is."""
    return said_in(words.verdicts, reason)


def said_in(table: Mapping[str, str], reason: str) -> str:
    """A sentence by a table from English ones, with the same values; what is not in it stays as it is."""
    for english, own in table.items():
        pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>.+)", re.escape(english))
        if found := re.fullmatch(pattern, reason):
            return own.format(**found.groupdict())
    return reason
