"""What `thau status` says of pauses and of what may become one, in Spanish and in English."""

from collections.abc import Mapping
from dataclasses import dataclass

from thaud.words import ES as SPANISH
from thaud.words import Words


@dataclass(frozen=True, slots=True)
class PauseWords:
    """Every phrase of one language. Braces name the values that `str.format` fills in."""

    paused: Mapping[str, str]
    pause: str
    when_there_is_room: str
    tried_again: str
    reading_now: str
    polling: str
    silent_since: str
    unreadable_requests: str
    little_disk: str


ES = PauseWords(
    paused={
        "intake": "La lectura de la cola",
        "projections": "La escritura de data/logs",
        "requests": "Lo pedido a mano",
        "watching": "La vigilancia de la cola",
        "runs": "El entrenamiento",
    },
    pause="{what} está en pausa desde {since}: {reason}. No se pierde nada; {hope}",
    when_there_is_room="sigue solo en cuanto haya sitio en el disco",
    tried_again="se vuelve a intentar solo a las {at}",
    reading_now="Leyendo (archivo: líneas)",
    polling="La cola se mira cada {every} s: {why}",
    silent_since="El paso en curso no dice nada desde",
    unreadable_requests="En data/control, ilegible (se puede borrar)",
    little_disk="Queda poco sitio en el disco",
)

EN = PauseWords(
    paused={
        "intake": "Reading the queue",
        "projections": "Writing data/logs",
        "requests": "What was asked by hand",
        "watching": "Watching the queue",
        "runs": "Training",
    },
    pause="{what} is paused since {since}: {reason}. Nothing is lost; {hope}",
    when_there_is_room="it goes on by itself as soon as the disk has room",
    tried_again="it is tried again by itself at {at}",
    reading_now="Reading (file: lines)",
    polling="The queue is looked at every {every} s: {why}",
    silent_since="The step under way has said nothing since",
    unreadable_requests="In data/control, not readable (may be removed)",
    little_disk="Little room on the disk",
)


def pause_words(words: Words) -> PauseWords:
    """Those of the same language."""
    return ES if words is SPANISH else EN
