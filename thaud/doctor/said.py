"""The shape of what is said of a finding, in both languages: one sentence for what was found, one for what to do."""

from dataclasses import dataclass

MENDS = "`thau doctor --fix`"


@dataclass(frozen=True, slots=True)
class Said:
    """A finding in both languages."""

    es: str
    es_remedy: str
    en: str
    en_remedy: str


def by_fix(es: str, en: str, es_how: str, en_how: str) -> Said:
    """A finding that can be mended."""
    return Said(es, f"{MENDS} {es_how}", en, f"{MENDS} {en_how}")
