"""What `thau export` says, and the heads of its Modelfiles, in Spanish and in English."""

from dataclasses import dataclass

from thaud.words import ES as SPANISH
from thaud.words import Words


@dataclass(frozen=True, slots=True)
class ExportWords:
    """Every phrase of one language. Braces name the values that `str.format` fills in."""

    done: str
    left_out: str
    then: str
    no_certificate: str
    no_old_template: str
    for_new: str
    for_old: str


ES = ExportWords(
    done="{name} está en {folder}:",
    left_out="  sin {name}: {reason}",
    then="README.md lo explica todo. Para Ollama: cd {folder} && ollama create {name} -f Modelfile",
    no_certificate="la versión es anterior a los certificados",
    no_old_template="la plantilla de chat no se puede escribir para un Ollama anterior a 0.30",
    for_new=(
        "ollama create {name} -f Modelfile\n"
        "Para Ollama 0.30 o posterior: usa la plantilla de chat que va dentro del archivo."
    ),
    for_old="ollama create {name} -f {file}\nPara un Ollama anterior a 0.30, que no usa la plantilla del archivo.",
)

EN = ExportWords(
    done="{name} is in {folder}:",
    left_out="  without {name}: {reason}",
    then="README.md says all about it. For Ollama: cd {folder} && ollama create {name} -f Modelfile",
    no_certificate="the version is older than certificates",
    no_old_template="its chat template cannot be written for an Ollama older than 0.30",
    for_new="ollama create {name} -f Modelfile\nFor Ollama 0.30 or newer: it uses the chat template inside the file.",
    for_old="ollama create {name} -f {file}\nFor an Ollama older than 0.30, which runs no template of the file.",
)


def export_words(words: Words) -> ExportWords:
    """Those of the same language."""
    return ES if words is SPANISH else EN
