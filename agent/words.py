"""What the conversation's own voice says, in Spanish and in English. Owns words; refuses to print them."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from agent.state import Ending, Notice

Language = Literal["es", "en"]
Command = Literal["help", "tools", "teach", "clear", "exit"]

COMMANDS: Mapping[str, Command] = MappingProxyType(
    {
        "/help": "help",
        "/ayuda": "help",
        "/tools": "tools",
        "/herramientas": "tools",
        "/teach": "teach",
        "/enseñar": "teach",
        "/ensenar": "teach",
        "/clear": "clear",
        "/limpiar": "clear",
        "/exit": "exit",
        "/quit": "exit",
        "/salir": "exit",
    }
)


@dataclass(frozen=True, slots=True)
class Words:
    """One language. Fields in braces are filled by `str.format`."""

    welcome: str
    no_tools: str
    workspace: str
    help: str
    allow: str
    yes: tuple[str, ...]
    unknown_command: str
    nothing_to_teach: str
    teach_what: str
    taught: str
    cleared: str
    error: str
    endings: Mapping[Ending, str]
    notices: Mapping[Notice, str]


SPANISH = Words(
    welcome="Hablas con {model}. /ayuda para ver qué se puede hacer; Ctrl-C detiene la respuesta; Ctrl-D termina.",
    no_tools="Sin herramientas: no caben en un contexto de {tokens} tokens.",
    workspace="Carpeta que puede leer: {path}",
    help=(
        "/ayuda                 esta ayuda\n"
        "/herramientas          las herramientas que el modelo puede usar\n"
        "/enseñar <respuesta>   la respuesta correcta a tu última pregunta, para entrenar\n"
        "/limpiar               empezar otra conversación\n"
        "/salir                 terminar"
    ),
    allow="¿Permitir {call}? [s/N] ",
    yes=("s", "si", "sí", "y", "yes"),
    unknown_command="No existe {command}. /ayuda muestra los comandos.",
    nothing_to_teach="Aún no has preguntado nada que corregir.",
    teach_what="Escribe la respuesta correcta: /enseñar <respuesta>",
    taught="Anotado para el próximo entrenamiento: {path}",
    cleared="Conversación nueva.",
    error="Error: {message}",
    endings=MappingProxyType(
        {
            Ending.EMPTY: "(el modelo no dijo nada)",
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
            Notice.FORGOT: "(se olvida lo más antiguo: no cabe en el contexto)",
            Notice.NO_TOOLS: "(sin herramientas: no caben en el contexto)",
        }
    ),
)

ENGLISH = Words(
    welcome="You are talking to {model}. /help shows what can be done; Ctrl-C stops an answer; Ctrl-D ends.",
    no_tools="No tools: they do not fit a context of {tokens} tokens.",
    workspace="The folder it may read: {path}",
    help=(
        "/help             this help\n"
        "/tools            the tools that the model may use\n"
        "/teach <answer>   the right answer to your last question, to be trained on\n"
        "/clear            begin another conversation\n"
        "/exit             end"
    ),
    allow="Allow {call}? [y/N] ",
    yes=("y", "yes"),
    unknown_command="There is no {command}. /help shows the commands.",
    nothing_to_teach="You have not asked anything yet that could be corrected.",
    teach_what="Write the right answer: /teach <answer>",
    taught="Noted for the next training: {path}",
    cleared="New conversation.",
    error="Error: {message}",
    endings=MappingProxyType(
        {
            Ending.EMPTY: "(the model said nothing)",
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
            Notice.FORGOT: "(forgetting the oldest exchange: it does not fit the context)",
            Notice.NO_TOOLS: "(without tools: they do not fit the context)",
        }
    ),
)


def words_in(language: Language) -> Words:
    """The words of a language."""
    return SPANISH if language == "es" else ENGLISH
