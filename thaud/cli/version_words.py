"""What `thau versions`, `thau rollback` and `thau prune` say, in Spanish and in English."""

from collections.abc import Mapping
from dataclasses import dataclass

from thaud.lifecycle import Reason
from thaud.words import ES as SPANISH
from thaud.words import Words


@dataclass(frozen=True, slots=True)
class VersionWords:
    """Every phrase of one language. Braces name the values that `str.format` fills in."""

    none: str
    columns: tuple[str, ...]
    columns_short: tuple[str, ...]
    here: str
    lost: str
    pruned: str
    on_ollama: str
    not_on_ollama: str
    answers: str
    not_promoted: str
    pruned_since: str
    titles: Mapping[str, str]
    of_age: str
    certified: str
    refused: str
    no_certificate: str
    figures: Mapping[str, str]
    states: Mapping[str, str]
    yes: str
    no: str
    ok: str
    not_ok: str
    already: str
    moved: str
    overtaken: str
    ollama_moved: str
    ollama_later: str
    ollama_away: str
    kept: str
    reasons: Mapping[Reason, str]
    goes: str
    nothing_to_prune: str
    prune_question: str
    gone: str
    disk: str
    disk_to_come: str
    ollama_size: str
    checking: str


ES = VersionWords(
    none="Aún no hay versiones de {family}.",
    columns=("Versión", "Edad", "Accuracy (IC del 95%)", "Tamaño", "Tipo", "Aceptada (UTC)", "Responde"),
    columns_short=("Versión", "Edad", "Accuracy", "Tamaño", "Tipo", "Aceptada", "Responde"),
    here="aquí",
    lost="falta",
    pruned="podada",
    on_ollama="Ollama",
    not_on_ollama="Ollama no",
    answers="{name}, la que responde como {family}",
    not_promoted="{name}, que no llegó a promoverse",
    pruned_since="El archivo se dejó ir el {at} (`thau prune`); el adaptador sigue en data/runs/{run}/train/adapter",
    titles={
        "accepted": "Aceptada",
        "age": "Edad",
        "accuracy": "Accuracy",
        "retention": "Retiene",
        "recall": "Recuerda lo enseñado",
        "reasons": "Por qué",
        "run": "Ejecución",
        "strategy": "Entrenada",
        "training": "Entrenamiento",
        "made": "Ajustes",
        "examples": "Ejemplos",
        "base": "Base",
        "file": "Archivo",
        "sha256": "SHA-256",
        "base_file": "Archivo de la base",
        "served": "Responde",
        "certificate": "Certificado",
    },
    of_age="edad {age}",
    certified="el archivo se comparó con lo que se entrenó y pasó todas las pruebas",
    refused="no pasó: {reasons}",
    no_certificate="ninguno: se hizo antes de que hubiera certificados",
    figures={
        "capabilities": "capacidades",
        "steps": "pasos",
        "first_loss": "pérdida al principio",
        "last_loss": "al final",
        "seconds": "segundos",
        "tokens_per_s": "tokens/s",
        "supervised_tokens_per_s": "tokens de respuesta/s",
        "peak_memory_bytes": "memoria",
        "kl_to_base": "KL hasta la base",
        "stopped_early": "parado antes",
        "seed": "semilla",
        "context_tokens": "contexto",
        "learning_rate": "learning rate",
        "epochs": "épocas",
        "batch_examples": "lote",
        "precision": "precisión",
        "name": "nombre",
        "server_version": "versión del servidor",
        "gguf_sha256": "SHA-256 del archivo",
        "served_sha256": "SHA-256 de lo que sirve",
        "renders": "conversaciones escritas como al entrenar",
        "asked": "preguntadas",
        "equal": "iguales",
        "differs": "distintas",
        "skipped": "sin preguntar",
        "tools": "herramientas",
        "accepted": "aceptadas",
        "shown": "mostradas al modelo",
        "called": "llamó a una",
        "uploaded": "se subió",
        "checked_at": "comprobada",
    },
    states={"served": "servida", "failed": "no servida:", "uploading": "subiendo"},
    yes="sí",
    no="no",
    ok="bien",
    not_ok="MAL",
    already="{name} ya es la que responde: no hay nada que cambiar.",
    moved="{family} responde ahora con {after} (antes {before}).",
    overtaken="{family} pasó a {name}, y enseguida a {after}: otra orden o una promoción llegó después.",
    ollama_moved="Ollama en {host}: {name} es ahora {after}.",
    ollama_later="Ollama en {host} sigue en cuanto conteste el servicio; `thau status` lo dice.",
    ollama_away="Ollama en {host} no contesta; `thau sync` lo pone al día cuando esté.",
    kept="Se queda {name} ({size}): {reasons}",
    reasons={
        Reason.CHAMPION: "es la que responde",
        Reason.RECENT: "reciente (export.keep_versions = {keep})",
        Reason.BEST: "la mejor de la edad {age}",
        Reason.RUN: "con ella se compara el entrenamiento en curso",
    },
    goes="Se va {name} ({size}, edad {age}, {accuracy})",
    nothing_to_prune="No hay nada que podar.",
    prune_question="¿Dejar ir los archivos de estas versiones ({n})? Adaptadores y certificados se conservan. [s/N]",
    gone="Podadas: {names}.",
    disk="En disco: {before} antes, {after} ahora.",
    disk_to_come="En disco: {before}; quedarían {after}.",
    ollama_size="En Ollama ({host}): {before} antes, {after} ahora.",
    checking="comprobando {name}",
)

EN = VersionWords(
    none="There is no version of {family} yet.",
    columns=("Version", "Age", "Accuracy (95% CI)", "Size", "Kind", "Accepted (UTC)", "Answers"),
    columns_short=("Version", "Age", "Accuracy", "Size", "Kind", "Accepted", "Answers"),
    here="here",
    lost="lost",
    pruned="pruned",
    on_ollama="Ollama",
    not_on_ollama="Ollama no",
    answers="{name}, which answers as {family}",
    not_promoted="{name}, which was not promoted",
    pruned_since="The file was given up on {at} (`thau prune`); the adapter stays in data/runs/{run}/train/adapter",
    titles={
        "accepted": "Accepted",
        "age": "Age",
        "accuracy": "Accuracy",
        "retention": "Retention",
        "recall": "Recall",
        "reasons": "Why",
        "run": "Run",
        "strategy": "Trained",
        "training": "Training",
        "made": "Settings",
        "examples": "Examples",
        "base": "Base",
        "file": "File",
        "sha256": "SHA-256",
        "base_file": "File of the base",
        "served": "Answers",
        "certificate": "Certificate",
    },
    of_age="age {age}",
    certified="the file was compared with what was trained, and passed every check",
    refused="did not pass: {reasons}",
    no_certificate="none: made before there were certificates",
    figures={
        "capabilities": "capabilities",
        "first_loss": "loss at first",
        "last_loss": "at last",
        "tokens_per_s": "tokens/s",
        "supervised_tokens_per_s": "answer tokens/s",
        "peak_memory_bytes": "memory",
        "kl_to_base": "KL to the base",
        "context_tokens": "context",
        "batch_examples": "batch",
        "gguf_sha256": "SHA-256 of the file",
        "served_sha256": "SHA-256 of what it serves",
        "renders": "conversations written as in training",
        "shown": "shown to the model",
        "called": "it called one",
    },
    states={"served": "served", "failed": "not served:", "uploading": "uploading"},
    yes="yes",
    no="no",
    ok="ok",
    not_ok="NOT OK",
    already="{name} is the one that answers already: there is nothing to change.",
    moved="{family} now answers with {after} (before: {before}).",
    overtaken="{family} went to {name}, and at once on to {after}: another command or a promotion came after it.",
    ollama_moved="Ollama at {host}: {name} is {after} now.",
    ollama_later="Ollama at {host} follows as soon as the service gets to it; `thau status` says so.",
    ollama_away="Ollama at {host} does not answer; `thau sync` brings it up to date when it does.",
    kept="Stays: {name} ({size}): {reasons}",
    reasons={
        Reason.CHAMPION: "it is the one that answers",
        Reason.RECENT: "recent (export.keep_versions = {keep})",
        Reason.BEST: "the best of age {age}",
        Reason.RUN: "the run under way is measured against it",
    },
    goes="Goes: {name} ({size}, age {age}, {accuracy})",
    nothing_to_prune="There is nothing to prune.",
    prune_question="Give up the files of these versions ({n})? Adapters and certificates stay. [y/N]",
    gone="Pruned: {names}.",
    disk="On disk: {before} before, {after} now.",
    disk_to_come="On disk: {before}; {after} would be left.",
    ollama_size="On Ollama ({host}): {before} before, {after} now.",
    checking="checking {name}",
)


def version_words(words: Words) -> VersionWords:
    """Those of the same language."""
    return ES if words is SPANISH else EN
