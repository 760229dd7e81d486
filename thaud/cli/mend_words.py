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
    queued="En cola: {file} (líneas corregidas: {n})",
    resolved="Líneas rechazadas que quedan resueltas en cuanto el servicio lea la petición: {n}.",
    resolved_later="Líneas rechazadas que quedarán resueltas cuando arranque el servicio (`thau start`): {n}.",
    unchanged="Líneas que siguen como estaban, y siguen sin valer: {n}.",
    cut="{place}: solo se guardó el primer KiB; corrige el original y vuelve a ponerlo en la cola.",
    done="Líneas que ya estaban resueltas: {n}.",
    known="Ejemplos que ya se conocían, y no se repiten: {n}.",
    unpaired="Ejemplos que no dicen qué línea sustituyen (están en la cola, y lo rechazado sigue en la lista): {n}.",
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
    queued="Queued: {file} (corrected lines: {n})",
    resolved="Rejected lines that count as corrected as soon as the service reads the request: {n}.",
    resolved_later="Rejected lines that will count as corrected when the service starts (`thau start`): {n}.",
    unchanged="Lines that are as they were, and still no examples: {n}.",
    cut="{place}: only its first KiB was kept; correct the original and put it into the drop-box again.",
    done="Lines that were corrected before: {n}.",
    known="Examples that were known already, and are not repeated: {n}.",
    unpaired="Examples that do not say what they replace (they are queued, and what was rejected stays listed): {n}.",
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
