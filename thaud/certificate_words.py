"""What the step certify says of itself, in Spanish and in English: which check it is at, and what it found.

Refuses to know where it is shown (watch.py), and the certificate's other readers, who show all of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from thaud.words import ES as SPANISH
from thaud.words import Words

Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CertificateWords:
    """Every phrase of one language. Braces name the values that `str.format` fills in. `checks`: by the step's name."""

    passed: str
    not_passed: str
    first_choice: str
    divergence: str
    checks: Mapping[str, str]


ES = CertificateWords(
    passed="certificado: aprobado",
    not_passed="certificado: no aprobado",
    first_choice="misma primera opción en el {top1:.1%} de {positions} posiciones",
    divergence="KL {kl:.2g} nats",
    checks={
        "prompts": "plantilla y tokens",
        "reference": "lo que se entrenó",
        "logits": "lo que dice el archivo",
        "answers": "respuestas que terminan",
    },
)
EN = CertificateWords(
    passed="certificate: passed",
    not_passed="certificate: not passed",
    first_choice="same first choice at {top1:.1%} of {positions} positions",
    divergence="KL {kl:.2g} nats",
    checks={
        "prompts": "template and tokens",
        "reference": "what was trained",
        "logits": "what the file says",
        "answers": "answers that end",
    },
)


def certificate_words(words: Words) -> CertificateWords:
    """Those of the same language."""
    return ES if words is SPANISH else EN


def check_in_words(event: Event, words: Words) -> str | None:
    """The check that an event is about; None where it is about none."""
    what = event.get("what")
    return certificate_words(words).checks.get(what, what) if isinstance(what, str) else None


def outcome(found: Event, words: Words) -> str:
    """A certificate on one line, by what a run's events tell of it: passed, top1, positions, kl (nats)."""
    own = certificate_words(words)
    parts = [own.passed if found.get("passed") else own.not_passed]
    top1, positions, kl = (found.get(name) for name in ("top1", "positions", "kl"))
    if isinstance(top1, int | float) and positions:
        parts.append(own.first_choice.format(top1=top1, positions=positions))
    if isinstance(kl, int | float):
        parts.append(own.divergence.format(kl=kl))
    return ", ".join(parts)
