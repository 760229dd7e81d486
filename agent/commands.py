"""The slash commands: their names, what follows them, and what they are for. Owns the table; refuses to do any."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Language = Literal["es", "en"]
Name = Literal[
    "help", "tools", "model", "think", "system", "context", "unfold", "undo", "retry", "teach", "good", "bad", "save",
    "export", "clear", "exit",
]  # fmt: skip
Follows = Literal["", "file", "version", "switch"]


@dataclass(frozen=True, slots=True)
class Described:
    """A command in one language: its names, the first of which is shown, what follows, and what it is for."""

    names: tuple[str, ...]
    follows: str
    purpose: str


@dataclass(frozen=True, slots=True)
class Command:
    """A slash command. `follows` says what its argument is, for completion."""

    name: Name
    en: Described
    es: Described
    follows: Follows = ""

    def described(self, language: Language) -> Described:
        """It in a language."""
        return self.es if language == "es" else self.en


COMMANDS: tuple[Command, ...] = (
    Command(
        "help",
        Described(("/help",), "", "this help"),
        Described(("/ayuda",), "", "esta ayuda"),
    ),
    Command(
        "tools",
        Described(("/tools",), "", "the tools that the model may use, and what each may do"),
        Described(("/herramientas",), "", "las herramientas que el modelo puede usar, y qué puede cada una"),
    ),
    Command(
        "model",
        Described(("/model",), "[N]", "the versions there are; go on with version N"),
        Described(("/modelo",), "[N]", "las versiones que hay; seguir con la versión N"),
        "version",
    ),
    Command(
        "think",
        Described(("/think",), "[on|off]", "whether the model thinks before it answers"),
        Described(("/pensar",), "[on|off]", "si el modelo piensa antes de responder"),
        "switch",
    ),
    Command(
        "system",
        Described(("/system",), "[TEXT|-]", "what the model is told before everything; - for nothing"),
        Described(("/sistema",), "[TEXTO|-]", "lo que se le dice al modelo antes de todo; - para nada"),
    ),
    Command(
        "context",
        Described(("/context",), "", "how full the context is"),
        Described(("/contexto",), "", "cuánto contexto queda"),
    ),
    Command(
        "unfold",
        Described(("/unfold",), "[N]", "a result or a thought whole: the last one, or number N"),
        Described(("/desplegar",), "[N]", "un resultado o pensamiento entero: el último, o el número N"),
    ),
    Command(
        "undo",
        Described(("/undo",), "", "take back the last question and its answer"),
        Described(("/deshacer",), "", "retirar la última pregunta y su respuesta"),
    ),
    Command(
        "retry",
        Described(("/retry",), "", "ask the last question again, for another answer"),
        Described(("/reintentar", "/repetir"), "", "hacer otra vez la última pregunta, para otra respuesta"),
    ),
    Command(
        "teach",
        Described(("/teach",), "[TEXT]", "correct the last answer, in the editor or by TEXT: proposed for training"),
        Described(
            ("/enseñar", "/ensenar"), "[TEXTO]", "corregir la última respuesta, en el editor o con TEXTO: se propone"
        ),
    ),
    Command(
        "good",
        Described(("/good",), "", "the last answer is good: proposed for training"),
        Described(("/bien",), "", "la última respuesta es buena: se propone para entrenar"),
    ),
    Command(
        "bad",
        Described(("/bad",), "[TEXT]", "the last answer is bad; TEXT is the right one"),
        Described(("/mal",), "[TEXTO]", "la última respuesta es mala; TEXTO es la correcta"),
    ),
    Command(
        "save",
        Described(("/save",), "[FILE]", "the last answer into a file; without one, where the conversation is kept"),
        Described(("/guardar",), "[FICHERO]", "la última respuesta a un fichero; sin él, dónde está la conversación"),
        "file",
    ),
    Command(
        "export",
        Described(("/export",), "FILE", "the conversation as Markdown, or as JSONL where FILE ends in .jsonl"),
        Described(("/exportar",), "FICHERO", "la conversación en Markdown, o JSONL si FICHERO termina en .jsonl"),
        "file",
    ),
    Command(
        "clear",
        Described(("/clear",), "", "begin another conversation"),
        Described(("/limpiar",), "", "empezar otra conversación"),
    ),
    Command(
        "exit",
        Described(("/exit", "/quit"), "", "end"),
        Described(("/salir",), "", "terminar"),
    ),
)
BY_NAME: Mapping[str, Command] = MappingProxyType(
    {name: command for command in COMMANDS for name in (*command.en.names, *command.es.names)}
)


def find(word: str) -> Command | None:
    """The command of a name, in either language."""
    return BY_NAME.get(word.lower())


def resemble(word: str, language: Language) -> str | None:
    """The name that somebody may have meant, in their language."""
    close = difflib.get_close_matches(word.lower(), BY_NAME, 1, 0.7)
    begun = [name for name in BY_NAME if name.startswith(word.lower()) and len(word) > 1]
    meant = next(iter((*close, *begun)), None)
    return BY_NAME[meant].described(language).names[0] if meant else None


def overview(language: Language) -> list[tuple[str, str]]:
    """(name and what follows, purpose) of each command."""
    described = [command.described(language) for command in COMMANDS]
    return [(f"{each.names[0]} {each.follows}".rstrip(), each.purpose) for each in described]
