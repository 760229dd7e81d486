"""What `thau retry` and `thau doctor` say, in Spanish and in English. The findings of the doctor are its own."""

from collections.abc import Mapping
from dataclasses import dataclass

from thaud.words import Language


@dataclass(frozen=True, slots=True)
class MendWords:
    """Every phrase of one language. Braces name the values that `str.format` fills in."""

    queued: str
    resolved: str
    resolved_later: str
    unchanged: str
    cut: str
    done: str
    known: str
    unpaired: str
    nothing_mended: str
    mended: str
    not_mended: str
    all_well: str
    counted: str
    fix_hint: str
    ok: str
    note: str
    warning: str
    problem: str
    taking_digest: str


ES = MendWords(
    queued="En cola: {file} ({n} líneas corregidas)",
    resolved="{n} líneas rechazadas quedan resueltas en cuanto el servicio lea la petición.",
    resolved_later="{n} líneas rechazadas quedarán resueltas cuando arranque el servicio (`thau start`).",
    unchanged="{n} líneas siguen como estaban y siguen sin valer.",
    cut="{place}: solo se guardó el primer KiB; corrige el original y vuelve a ponerlo en la cola.",
    done="{n} líneas ya estaban resueltas.",
    known="{n} ejemplos ya se conocían: no se repiten.",
    unpaired="{n} ejemplos no dicen qué línea sustituyen: están en la cola, y lo rechazado sigue en la lista.",
    nothing_mended="{file}: no hay nada corregido; no se ha puesto nada en la cola.",
    mended="Arreglado: {what}",
    not_mended="Sin arreglar: {what}",
    all_well="Todo bien.",
    counted="Problemas: {problems}; avisos: {warnings}.",
    fix_hint="`thau doctor --fix` arregla lo que se puede arreglar sin riesgo (con el servicio parado).",
    ok="bien",
    note="nota",
    warning="aviso",
    problem="problema",
    taking_digest="comprobando {name}",
)

EN = MendWords(
    queued="Queued: {file} ({n} corrected lines)",
    resolved="{n} rejected lines count as corrected as soon as the service reads the request.",
    resolved_later="{n} rejected lines will count as corrected when the service starts (`thau start`).",
    unchanged="{n} lines are as they were, and still no examples.",
    cut="{place}: only its first KiB was kept; correct the original and put it into the drop-box again.",
    done="{n} lines were corrected before.",
    known="{n} examples were known already: they are not repeated.",
    unpaired="{n} examples do not say what they replace: they are queued, and what was rejected stays listed.",
    nothing_mended="{file}: nothing in it was corrected; nothing was queued.",
    mended="Mended: {what}",
    not_mended="Not mended: {what}",
    all_well="All is well.",
    counted="Problems: {problems}; warnings: {warnings}.",
    fix_hint="`thau doctor --fix` mends what can be mended without risk (while the service is stopped).",
    ok="ok",
    note="note",
    warning="warning",
    problem="problem",
    taking_digest="checking {name}",
)

MEND: Mapping[Language, MendWords] = {"es": ES, "en": EN}
