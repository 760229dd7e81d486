"""What `thau sync` says, in Spanish and in English. Why something failed is the server's or the registrar's to say."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from thaud.words import ES as SPANISH
from thaud.words import Words


@dataclass(frozen=True, slots=True)
class SyncWords:
    """Every phrase of one language. Braces name the values that `str.format` fills in. `states`: registrar's words."""

    still_working: str
    uploading: str
    in_step: str
    behind: str
    away: str
    refused: str
    states: Mapping[str, str]
    alias: str
    alias_failed: str


ES = SyncWords(
    still_working="El servicio sigue con ello; `thau status` y `thau sync` dicen cómo ha ido.",
    uploading="Subiendo {name}",
    in_step="Ollama en {host} está al día.",
    behind="Ollama en {host} no está al día.",
    away="Ollama en {host} no contesta; versiones que esperan: {n}. Arráncalo (`ollama serve`) o cambia OLLAMA_HOST.",
    refused="Ollama en {host} no hace lo que se le pide: {why}",
    states={
        "served": "servida desde ahora",
        "kept": "servida, como estaba",
        "failed": "no servida",
        "waiting": "en espera del servidor",
        "deleted": "borrada del servidor",
    },
    alias="{alias} responde como {version}.",
    alias_failed="{alias} sigue como estaba, no como {version}: {why}",
)

EN = SyncWords(
    still_working="The service goes on with it; `thau status` and `thau sync` say how it went.",
    uploading="Uploading {name}",
    in_step="Ollama at {host} is up to date.",
    behind="Ollama at {host} is not up to date.",
    away="Ollama at {host} does not answer; versions that wait: {n}. Start it (`ollama serve`) or set OLLAMA_HOST.",
    refused="Ollama at {host} does not do what it is asked: {why}",
    states={
        "served": "served from now on",
        "kept": "served, as it was",
        "failed": "not served",
        "waiting": "waits for the server",
        "deleted": "deleted from the server",
    },
    alias="{alias} answers as {version}.",
    alias_failed="{alias} stays as it was, not {version}: {why}",
)


def sync_words(words: Words) -> SyncWords:
    """Those of the same language."""
    return ES if words is SPANISH else EN


def state_sentence(state: Mapping[str, Any], words: SyncWords) -> str:
    """How the server was when it was last looked at. `state` is status.report_synced's."""
    sentence = {"in_step": words.in_step, "behind": words.behind, "away": words.away}.get(state["state"], words.refused)
    return sentence.format(host=state["host"], n=len(state["waiting"]), why=state["detail"])
