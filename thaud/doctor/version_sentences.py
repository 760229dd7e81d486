"""What was found of versions, their files and their certificates, in Spanish and in English.

`{subject}`, `{detail}` and `{n}` are the finding's. An empty remedy: there is nothing to do.
"""

from collections.abc import Mapping

from thaud.doctor.said import Said, by_fix

OF_VERSIONS: Mapping[str, Said] = {
    "champion_gone": Said(
        "falta el archivo de {subject}, que es la versión que responde: {detail}",
        "recupéralo de una copia de seguridad, vuelve a otra con `thau rollback`, o crea otra con `thau train`",
        "the file of {subject}, the version that answers, is gone: {detail}",
        "restore it from a backup, go back to another with `thau rollback`, or make another with `thau train`",
    ),
    "version_gone": Said(
        "falta el archivo de {subject}: {detail}",
        "recupéralo de una copia de seguridad si lo quieres servir; lo demás no lo necesita",
        "the file of {subject} is gone: {detail}",
        "restore it from a backup if it is to be served; nothing else needs it",
    ),
    "version_changed": Said(
        "el archivo de {subject} no es el que se examinó: {detail}",
        "recupéralo de una copia de seguridad, o crea otra versión con `thau train`",
        "the file of {subject} is not the one that was examined: {detail}",
        "restore it from a backup, or make another version with `thau train`",
    ),
    "receipt_gone": Said(
        "{subject}: falta un recibo ({detail})",
        "no impide servirla; si hay copia de seguridad del registro, úsala",
        "{subject}: a receipt is gone ({detail})",
        "it can be served all the same; if there is a backup of the ledger, use it",
    ),
    "adapter_gone": Said(
        "{subject}: su adaptador LoRA ya no está en {detail}",
        "no impide servirla; no podrá exportarse de nuevo, ni entrenarse sobre ella",
        "{subject}: its LoRA adapter is no longer in {detail}",
        "it can be served all the same; it cannot be exported again, nor trained on",
    ),
    "champion_pruned": Said(
        "{subject} es la que responde, y su archivo se dejó ir el {detail} (`thau prune`)",
        "elige otra con `thau rollback N`, o haz otra con `thau train`",
        "{subject} is the one that answers, and its file was given up on {detail} (`thau prune`)",
        "choose another with `thau rollback N`, or make another with `thau train`",
    ),
    "base_file_gone": Said(
        "falta {detail}, la base que {subject} comparte",
        "recupérala de una copia de seguridad, o haz otra versión con `thau train`",
        "{detail}, the base that {subject} shares, is gone",
        "restore it from a backup, or make another version with `thau train`",
    ),
    "certificate_differs": by_fix(
        "el certificado junto a {subject} no dice lo que dice el registro",
        "the certificate beside {subject} does not say what the ledger says",
        "lo rehace",
        "makes it anew",
    ),
    "pruned_left": by_fix(
        "{subject} es de una versión podada, o una base que ya ninguna usa",
        "{subject} is of a version that was pruned, or a base that none uses any more",
        "lo borra (también lo hace el servicio cuando arranca)",
        "removes it (so does the service when it starts)",
    ),
    "base_stranger": by_fix(
        "data/bases/{subject} no es de ninguna versión",
        "data/bases/{subject} belongs to no version",
        "la aparta en data/orphans/",
        "sets it aside in data/orphans/",
    ),
}
