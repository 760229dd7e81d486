"""What the conversation says of how turns end and of what happens on the way, in Spanish and in English.

Owns words; refuses to print them. What is said around it is in chat_words.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from agent.state import Ending, Notice

Language = Literal["es", "en"]


@dataclass(frozen=True, slots=True)
class Words:
    """One language. Fields in braces are filled by `str.format`."""

    endings: Mapping[Ending, str]
    notices: Mapping[Notice, str]


SPANISH = Words(
    endings=MappingProxyType(
        {
            Ending.EMPTY: "(el modelo no dijo nada)",
            Ending.LOST: "(el modelo generó texto, pero no llegó nada legible)",
            Ending.THOUGHT: "(cortado: gastó todos sus tokens en pensar; prueba /think off)",
            Ending.LOOPED: "(detenido: se repetía)",
            Ending.FAILED: "(la respuesta falló)",
            Ending.CUT: "(cortado: la respuesta llegó al máximo de tokens)",
            Ending.BROKEN: "(la respuesta se interrumpió antes de terminar)",
            Ending.STOPPED: "(detenido)",
        }
    ),
    notices=MappingProxyType(
        {
            Notice.REPAIR: "(llamada incorrecta; se le pide otra vez)",
            Notice.REPEATED: "(la misma llamada otra vez; no se repite)",
            Notice.LIMIT: "(sin más herramientas: respuesta final)",
            Notice.SHORTENED: "(se acortan resultados antiguos para que quepan en el contexto)",
            Notice.SUMMARISED: "(se resume lo más antiguo para que quepa en el contexto)",
            Notice.FORGOT: "(se olvida lo más antiguo: no cabe en el contexto)",
            Notice.NO_TOOLS: "(sin herramientas: no caben en el contexto)",
        }
    ),
)

ENGLISH = Words(
    endings=MappingProxyType(
        {
            Ending.EMPTY: "(the model said nothing)",
            Ending.LOST: "(the model generated text, but nothing readable arrived)",
            Ending.THOUGHT: "(cut: it spent all its tokens on thinking; try /think off)",
            Ending.LOOPED: "(stopped: it was repeating itself)",
            Ending.FAILED: "(the answer failed)",
            Ending.CUT: "(cut: the answer reached its limit of tokens)",
            Ending.BROKEN: "(the answer broke off before its end)",
            Ending.STOPPED: "(stopped)",
        }
    ),
    notices=MappingProxyType(
        {
            Notice.REPAIR: "(a malformed call; it is asked again)",
            Notice.REPEATED: "(the same call again; it is not repeated)",
            Notice.LIMIT: "(no more tools: last answer)",
            Notice.SHORTENED: "(old results are shortened to fit the context)",
            Notice.SUMMARISED: "(the oldest exchanges are summarised to fit the context)",
            Notice.FORGOT: "(forgetting the oldest exchange: it does not fit the context)",
            Notice.NO_TOOLS: "(without tools: they do not fit the context)",
        }
    ),
)


def words_in(language: Language) -> Words:
    """The words of a language."""
    return SPANISH if language == "es" else ENGLISH
