"""What was found and what to do about it, in Spanish and in English: two sentences for each name of a finding.

`{subject}`, `{detail}` and `{n}` are the finding's. An empty remedy: there is nothing to do.
"""

from collections.abc import Mapping
from typing import Literal

from thaud.doctor.finding import Finding
from thaud.doctor.said import Said, by_fix
from thaud.doctor.version_sentences import OF_VERSIONS

BACKUP_ES = "detén el servicio y pon una copia de seguridad del archivo en su lugar (borra también sus -wal y -shm)"
BACKUP_EN = "stop the service and put a backup of the file in its place (remove its -wal and -shm as well)"
SENTENCES: Mapping[str, Said] = {
    # the place
    "folder_missing": by_fix("falta la carpeta {subject}", "the folder {subject} is missing", "la crea", "makes it"),
    "not_a_folder": Said(
        "{subject} no es una carpeta, ni lleva a ninguna ({detail})",
        "quítalo de ahí o corrige el enlace; `thau start` crea la carpeta que falte",
        "{subject} is no folder, nor leads to one ({detail})",
        "move it away or correct the link; `thau start` makes a folder that is missing",
    ),
    "not_writable": Said(
        "{subject} no se puede leer y escribir ({detail})",
        "cambia su dueño o sus permisos (chown, chmod u+rwX)",
        "{subject} cannot be read and written ({detail})",
        "change its owner or mode (chown, chmod u+rwX)",
    ),
    "network_ledger": Said(
        "{subject} está en un sistema de archivos de red ({detail}), donde los bloqueos de SQLite no valen",
        "lleva la carpeta a un disco de esta máquina; solo la cola puede quedarse allí",
        "{subject} lies on a network file system ({detail}), where SQLite's locks do not hold",
        "move the home to a disk of this machine; only the drop-box may stay there",
    ),
    "config_unusable": Said(
        "{detail}; lo demás no se ha mirado",
        "corrige thau.toml o la variable de entorno",
        "{detail}; the rest was not looked at",
        "correct thau.toml or the environment",
    ),
    "daemon_runs": Said("el servicio está en marcha", "", "the service is running", ""),
    "daemon_stopped": Said("el servicio está parado", "", "the service is stopped", ""),
    "daemon_paused": Said(
        "el servicio está en pausa ({subject}): {detail}",
        "haz sitio o corrige los permisos; sigue por sí solo",
        "the service is paused ({subject}): {detail}",
        "make room or correct the permissions; it goes on by itself",
    ),
    "requests_wait": Said(
        "peticiones que esperan al servicio: {n}",
        "arráncalo con `thau start`",
        "requests that wait for the service: {n}",
        "start it with `thau start`",
    ),
    "request_unreadable": by_fix(
        "data/control/{subject} no es una petición que alguien entienda",
        "data/control/{subject} is no request that anybody understands",
        "la aparta en data/orphans/",
        "sets it aside in data/orphans/",
    ),
    "disk_full": Said(
        "no queda sitio en {subject} ({detail} libres)",
        "borra algo; el servicio sigue por sí solo",
        "there is no room left in {subject} ({detail} free)",
        "remove something; the service goes on by itself",
    ),
    "little_room": Said(
        "quedan {detail} libres, y el próximo entrenamiento necesita unos {subject}",
        "haz sitio antes de entrenar; data/runs/ es lo que más se puede aligerar",
        "{detail} are free, and the next run needs about {subject}",
        "make room before training; data/runs/ is what can be thinned out first",
    ),
    "disk_use": Said(
        "runs/, versions/ y bases/ ocupan {subject}; quedan {detail} libres",
        "",
        "runs/, versions/ and bases/ take {subject}; {detail} are free",
        "",
    ),
    "base_incomplete": Said(
        "a la base {subject} le faltan archivos",
        "copia la carpeta entera, o elige otra con `thau init --base`",
        "the base {subject} lacks files",
        "copy the whole folder, or choose another with `thau init --base`",
    ),
    "base_gone": Said(
        "la base {subject} no está",
        "vuelve a ponerla, o elige otra con `thau init --base`",
        "the base {subject} is not there",
        "put it back, or choose another with `thau init --base`",
    ),
    "base_to_fetch": Said(
        "la base {subject} se descargará antes del primer entrenamiento",
        "",
        "the base {subject} will be fetched before the first training",
        "",
    ),
    "walls_stand": Said(
        "los programas del agente se ejecutan aislados por {subject} (en pie: {detail})",
        "",
        "programs of the agent run behind {subject} (standing: {detail})",
        "",
    ),
    "walls_missing": Said(
        "los programas del agente no se ejecutan, porque nada los aísla aquí ({detail})",
        "instala `bubblewrap` y permite espacios de nombres de usuario, o usa Linux 6.7 (packaging/README.md)",
        "programs of the agent are not run, because there are no walls for them here ({detail})",
        "install `bubblewrap` and allow user namespaces, or use Linux 6.7 (packaging/README.md)",
    ),
    # the ledger
    "ledger_gone": Said(
        "falta el registro {subject}, o está vacío",
        "recupéralo de una copia de seguridad; para empezar de cero, aparta antes data/versions y data/runs",
        "the ledger {subject} is gone or empty",
        "restore it from a backup; to begin from nothing, move data/versions and data/runs away first",
    ),
    "ledger_refused": by_fix("{detail}", "{detail}", "lo pone al día", "brings it up to date"),
    "ledger_damaged": Said(
        "el registro está dañado: {detail}", BACKUP_ES, "the ledger is damaged: {detail}", BACKUP_EN
    ),
    "indexes_damaged": by_fix(
        "los índices de {subject} están dañados ({detail})",
        "indexes of {subject} are damaged ({detail})",
        "los rehace",
        "makes them anew",
    ),
    "reference_broken": Said(
        "{n} filas de {subject} apuntan a filas de {detail} que no existen",
        BACKUP_ES,
        "{n} rows of {subject} point to rows of {detail} that do not exist",
        BACKUP_EN,
    ),
    "wal_large": by_fix(
        "el registro de escritura de {subject} ocupa {detail}",
        "the write-ahead log of {subject} takes {detail}",
        "lo vacía",
        "empties it",
    ),
    "numbers_gap": Said(
        "las versiones de {subject} no van seguidas: {detail}",
        BACKUP_ES,
        "the versions of {subject} are not numbered in a row: {detail}",
        BACKUP_EN,
    ),
    "alias_astray": Said(
        "{subject} apunta a la versión {n}, que no existe",
        BACKUP_ES,
        "{subject} points to version {n}, which does not exist",
        BACKUP_EN,
    ),
    "version_lost": Said(
        "{subject} terminó con una versión que no existe",
        BACKUP_ES,
        "{subject} ended with a version that does not exist",
        BACKUP_EN,
    ),
    "age_unknown": Said(
        "la edad {subject} no es ninguna de las etapas",
        "`thau reset` vuelve a la edad 0; ejemplos y versiones se conservan",
        "the age {subject} is none of the stages",
        "`thau reset` goes back to age 0; examples and versions stay",
    ),
    "runs_unfinished": Said(
        "hay varios entrenamientos sin terminar: {subject}",
        "el servicio los acaba por orden; si no avanza, " + BACKUP_ES,
        "several runs have not ended: {subject}",
        "the service finishes them in order; if it does not, " + BACKUP_EN,
    ),
    "counts_differ": by_fix(
        "el recuento guardado no cuadra ({subject})",
        "what is kept counted does not add up ({subject})",
        "vuelve a contar",
        "counts again",
    ),
    "position_unreadable": by_fix(
        "no se sabe hasta dónde se leyó {subject}",
        "it is not known how far {subject} was read",
        "hace que se lea desde el principio, sin repetir nada",
        "has it read from its start, and nothing is stored twice",
    ),
    "not_checked": Said("no se ha podido mirar", "", "could not be looked at", ""),
    "check_failed": Said(
        "la comprobación no pudo terminar: {detail}",
        "corrige lo que dice, y mira data/logs/thau_service.log",
        "the check could not be finished: {detail}",
        "correct what it says, and see data/logs/thau_service.log",
    ),
    # what was done
    "run_waits": Said(
        "{subject} está a medias ({detail})",
        "sigue cuando arranque el servicio (`thau start`)",
        "{subject} is unfinished ({detail})",
        "it goes on when the service starts (`thau start`)",
    ),
    "run_stuck": Said(
        "{subject} ({detail}) no ha dicho nada en {n} minutos",
        "mira `thau logs`; si no avanza, reinicia el servicio: sigue donde estaba",
        "{subject} ({detail}) has said nothing for {n} minutes",
        "see `thau logs`; if it does not move, restart the service: it goes on where it was",
    ),
    "runs_fail": Said(
        "los últimos {n} entrenamientos fallaron por lo mismo: {detail}",
        "corrige la causa y ejecuta `thau train`",
        "the last {n} runs failed for the same reason: {detail}",
        "correct its cause and run `thau train`",
    ),
    "run_unreadable": by_fix(
        "{subject} no puede seguir: no se entiende con qué se empezó",
        "{subject} cannot go on: what it was begun with cannot be read",
        "lo da por fallido",
        "ends it as failed",
    ),
    "run_examples_gone": by_fix(
        "{subject} no puede seguir: faltan {n} de sus ejemplos",
        "{subject} cannot go on: {n} of its examples are gone",
        "lo da por fallido",
        "ends it as failed",
    ),
    "run_receipt_gone": by_fix(
        "{subject} no puede seguir: falta el recibo de su paso {detail}",
        "{subject} cannot go on: the receipt of its step {detail} is gone",
        "lo devuelve al paso que hay que repetir",
        "takes it back to the step that is to be done again",
    ),
    "registration_astray": by_fix(
        "de {detail} se recuerda {subject}, que ya no es ninguna versión",
        "{detail} is remembered to hold {subject}, which is no version any more",
        "lo olvida (el servidor no se toca)",
        "forgets it (the server is left alone)",
    ),
    "ollama_off": Said("el registro en Ollama está apagado", "", "registering with Ollama is switched off", ""),
    "ollama_away": Said(
        "ningún servidor Ollama responde en {subject}", "", "no Ollama server answers at {subject}", ""
    ),
    "ollama_refused": Said(
        "Ollama no aceptó {subject}: {detail}",
        "corrige la causa; el servicio lo vuelve a intentar",
        "Ollama did not take {subject}: {detail}",
        "correct its cause; the service tries again",
    ),
    "ollama_behind": Said(
        "a Ollama en {detail} le falta {subject}",
        "el servicio lo registra mientras está en marcha (`thau start`)",
        "Ollama at {detail} lacks {subject}",
        "the service registers it while it runs (`thau start`)",
    ),
    # files
    "temporary_left": by_fix("quedó a medias {subject}", "{subject} was left unfinished", "lo borra", "removes it"),
    "refused_left": by_fix(
        "sobra {subject}, de un entrenamiento que no dio versión",
        "{subject} is left over from a run that made no version",
        "lo borra",
        "removes it",
    ),
    "run_stranger": by_fix(
        "data/runs/{subject} no es de ningún entrenamiento",
        "data/runs/{subject} belongs to no run",
        "lo aparta en data/orphans/",
        "sets it aside in data/orphans/",
    ),
    "orphans_kept": Said(
        "data/orphans/ guarda {subject} de lo que se apartó; bórralo cuando no lo eches en falta",
        "",
        "data/orphans/ keeps {subject} of what was set aside; remove it when you do not miss it",
        "",
    ),
    "model_stranger": by_fix(
        "{subject} no es de ninguna versión",
        "{subject} belongs to no version",
        "lo aparta en data/orphans/",
        "sets it aside in data/orphans/",
    ),
    "version_stranger": by_fix(
        "data/versions/{subject} no es de ninguna versión",
        "data/versions/{subject} belongs to no version",
        "lo aparta en data/orphans/",
        "sets it aside in data/orphans/",
    ),
    "queue_unread": Said(
        "en la cola hay algo que no se lee, {subject}: {detail}",
        "haz lo que dice, o sácalo de la cola",
        "{subject} lies in the drop-box and is not read: {detail}",
        "do as it says, or take it out of the drop-box",
    ),
    "queue_unreadable": Said(
        "{subject} está en la cola y no se puede leer",
        "cambia su dueño o sus permisos (chmod u+r)",
        "{subject} lies in the drop-box and cannot be read",
        "change its owner or mode (chmod u+r)",
    ),
    "trained_strangers": Said(
        "en data/trained/ hay {n} archivos que el registro no conoce: {subject}",
        "",
        "data/trained/ has {n} files that the ledger does not know: {subject}",
        "",
    ),
    "quarantine_differs": by_fix(
        "data/rejected/{subject} no dice lo que dice el registro",
        "data/rejected/{subject} does not say what the ledger says",
        "lo rehace",
        "makes it anew",
    ),
    "quarantine_edited": Said(
        "data/rejected/{subject} tiene líneas puestas a mano, y le faltan otras",
        "`thau retry {subject}` las toma; si no las quieres, borra el archivo y `thau doctor --fix` lo rehace",
        "data/rejected/{subject} has lines that were put there by hand, and lacks others",
        "`thau retry {subject}` takes them; else delete the file, and `thau doctor --fix` makes it anew",
    ),
    "progress_deleted": Said(
        "{subject} se borró: la edad vuelve a 0 cuando arranque el servicio",
        "si no es lo que quieres, no lo arranques: recupera el archivo antes",
        "{subject} was deleted: the age goes back to 0 when the service starts",
        "if that is not what you want, do not start it: restore the file first",
    ),
    "projection_differs": by_fix(
        "data/logs/{subject} no dice lo que dice el registro",
        "data/logs/{subject} does not say what the ledger says",
        "lo rehace (también lo hace el servicio cuando arranca)",
        "makes it anew (so does the service when it starts)",
    ),
    "proposal_damaged": Said(
        "data/proposed/{subject} no es una propuesta que se pueda leer ({detail})",
        "corrígelo o bórralo; nadie más lo toca",
        "data/proposed/{subject} is no proposal that can be read ({detail})",
        "mend it or remove it; nobody else touches it",
    ),
    "proposals_wait": Said(
        "propuestas que esperan revisión: {n} (`thau review`)",
        "",
        "proposals that wait for review: {n} (`thau review`)",
        "",
    ),
    **OF_VERSIONS,
}


def say(finding: Finding, language: Literal["es", "en"]) -> tuple[str, str]:
    """(what was found, what to do) in a language; the second may be empty."""
    said = SENTENCES[finding.name]
    sentence, remedy = (said.es, said.es_remedy) if language == "es" else (said.en, said.en_remedy)
    values = {"subject": finding.subject, "detail": finding.detail, "n": finding.n}
    return sentence.format(**values), remedy.format(**values)


CHECK_TITLES: Mapping[str, tuple[str, str]] = {
    "folders": ("carpetas y permisos", "folders and permissions"),
    "config": ("configuración", "configuration"),
    "ledger": ("registro", "ledger"),
    "sense": ("versiones, alias y edad", "versions, aliases and age"),
    "positions": ("lectura de la cola", "reading of the drop-box"),
    "counts": ("recuentos", "counts"),
    "daemon": ("servicio", "service"),
    "progress": ("entrenamiento en curso", "run under way"),
    "runs": ("entrenamientos", "runs"),
    "versions": ("archivos de las versiones", "files of the versions"),
    "leftovers": ("restos", "leftovers"),
    "strangers": ("archivos sin dueño", "files without an owner"),
    "queue": ("cola", "drop-box"),
    "quarantine": ("cuarentena", "quarantine"),
    "projections": ("proyecciones", "projections"),
    "proposals": ("propuestas", "proposals"),
    "disk": ("disco", "disk"),
    "ollama": ("Ollama", "Ollama"),
    "base": ("modelo base", "base model"),
    "walls": ("aislamiento de programas", "walls around programs"),
}


def title_of(check: str, language: Literal["es", "en"]) -> str:
    """What a check is called."""
    es, en = CHECK_TITLES[check]
    return es if language == "es" else en
