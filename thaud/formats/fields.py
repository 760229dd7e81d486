"""The optional fields beside a conversation: age or stage, group, grader, metadata; and the age in a file's name.

Owns the names people give the stages, in English and Spanish; refuses to decide what an age means (curriculum.py).
"""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from thaud.domain import GraderName
from thaud.formats.strict import MalformedError, described, excerpt

MAX_AGE = 150
STAGES = {0: "newborn", 1: "infant", 3: "toddler", 6: "child", 11: "preteen", 13: "teen", 15: "adult"}
STAGE_AGES = {
    **{name: age for age, name in STAGES.items()},
    "teenager": 13,
    "reciennacido": 0,
    "reciennacida": 0,
    "infante": 1,
    "ninopequeno": 3,
    "ninapequena": 3,
    "nino": 6,
    "nina": 6,
    "preadolescente": 11,
    "adolescente": 13,
    "adulto": 15,
    "adulta": 15,
}
AGE_IN_NAME = re.compile(r"(?<![^\W_])(?:age|edad)[_-]?([0-9]{1,3})(?![^\W_])", re.IGNORECASE)


def age_from_name(name: str) -> int | None:
    """The age that a file's name carries: 3 for `age_3_toddler.jsonl`, None where it carries none."""
    found = AGE_IN_NAME.search(name)
    return int(found[1]) if found and int(found[1]) <= MAX_AGE else None


def read_age(row: Mapping[str, Any]) -> int | None:
    """The age of the fields `age` and `stage`; either may hold a number or a stage's name."""
    age, stage = (age_of(row, field) if row.get(field) is not None else None for field in ("age", "stage"))
    if age is None or stage is None:
        return stage if age is None else age
    if stage_at(age) != stage_at(stage):
        raise MalformedError(
            f"age {excerpt(row['age'])} belongs to the stage {stage_at(age)}, but stage is {excerpt(row['stage'])}:"
            " keep one of the two"
        )
    return age


def stage_at(age: int) -> str:
    """Name of the stage that an age belongs to."""
    return STAGES[max(start for start in STAGES if start <= age)]


def age_of(row: Mapping[str, Any], field: str) -> int:
    """One of the two fields as an age."""
    value = row[field]
    if isinstance(value, str):
        plain = value.strip()
        value = int(plain) if plain.isascii() and plain.isdigit() and len(plain) <= 3 else STAGE_AGES.get(folded(plain))
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_AGE:
        names = ", ".join(STAGES.values())
        raise MalformedError(f"{field} is {described(row[field])}: use a number from 0 to {MAX_AGE}, or one of {names}")
    return value


def folded(name: str) -> str:
    """Letters only, without case and accents: `Pre-adolescente` and `NIÑO PEQUEÑO` find their entries."""
    return "".join(char for char in unicodedata.normalize("NFKD", name[:40]).casefold() if char.isalpha())


def read_group(row: Mapping[str, Any]) -> str | None:
    """What ties paraphrases of one fact together."""
    group = row.get("group")
    if group is None:
        return None
    if isinstance(group, bool) or not isinstance(group, (str, int)):
        raise MalformedError(f"group is {described(group)}: use a text or a whole number")
    return unicodedata.normalize("NFC", str(group)).strip() or None


def read_grader(row: Mapping[str, Any]) -> GraderName | None:
    """How the answer is to be compared."""
    grader = row.get("grader")
    if grader is None:
        return None
    try:
        return GraderName(grader.strip().lower() if isinstance(grader, str) else grader)
    except ValueError:
        known = ", ".join(GraderName)
        raise MalformedError(f"grader is {described(grader)}: use one of {known}") from None


def read_metadata(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Whatever the writer wants to find again."""
    metadata = row.get("metadata")
    if metadata is None:
        return {}
    if not isinstance(metadata, dict):
        raise MalformedError(f"metadata is {described(metadata)}: use an object")
    return metadata
