"""What the certify step says of itself while it works, in both languages, and why a certificate did not pass."""

import string
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from tests.seeded import freeze, make_home, open_ledger, promote, take_in
from tests.test_watch import FAMILY, shown, tell
from thaud.certificate_words import CertificateWords, certificate_words, outcome
from thaud.domain import Score
from thaud.home import Home
from thaud.steps.certify.certificate import reasons_of, words_of_fidelity
from thaud.words import EN, ES, reasons_in

CHECKS: list[dict[str, Any]] = [
    {"event": "check", "what": "prompts"},
    *({"event": "check", "what": "reference", "done": done, "total": 28} for done in range(1, 29)),
    *({"event": "check", "what": "logits", "done": done, "total": 3000} for done in (64, 1600, 3000)),
    *({"event": "check", "what": "answers", "done": done, "total": 8} for done in range(1, 9)),
]
WHOLE = {name: {"ok": True} for name in ("prompts", "tokens", "contents", "fidelity", "change", "stops", "tools")}
FOUND = {"event": "certificate", "passed": True, "top1": 0.99912, "positions": 3000, "kl": 0.000123}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home with a promoted run whose certify step and export spoke."""
    made = make_home(tmp_path / "home")
    with open_ledger(made) as ledger:
        spec = freeze(ledger, take_in(ledger, 0, 3, "a.jsonl"), 0, FAMILY)
        exported = [{"step": "export", "event": "tensor", "done": done, "total": 75} for done in (1, 30, 75)]
        tell(made, spec.id, *exported, *({"step": "certify", **event} for event in (*CHECKS, FOUND)))
        promote(ledger, spec, 1, Score(4, 3), None)
    return made


def test_export_and_certificate_are_followed(home: Home) -> None:
    """The export says how many tensors are written; each check of the certificate its begin and its end; then what it
    found stays.
    """
    lines = shown(home, EN).splitlines()[1:-1]
    assert lines[:3] == ["  export 1/75", "  export 30/75", "  export 75/75"]
    assert lines[3:] == [
        "  certify template and tokens",
        "  certify 1/28 what was trained",
        "  certify 28/28 what was trained",
        "  certify 64/3000 what the file says",
        "  certify 3000/3000 what the file says",
        "  certify 1/8 answers that end",
        "  certify 8/8 answers that end",
        "  certificate: passed, same first choice at 99.9% of 3000 positions, KL 0.00012 nats",
    ]


def test_a_terminal_speaks_spanish(home: Home) -> None:
    """On a terminal the certificate's line stays, in the user's language."""
    text = shown(home, ES, force_terminal=True)
    assert "certificado: aprobado, misma primera opción en el 99.9% de 3000 posiciones" in text


def test_a_certificate_without_figures_has_words() -> None:
    """What could not be measured is left out, and what did not pass says so."""
    assert outcome({"passed": False}, EN) == "certificate: not passed"
    assert outcome({"passed": False, "top1": None, "positions": 0, "kl": None}, ES) == "certificado: no aprobado"


def test_what_a_certificate_has_against_a_run_has_words_in_spanish() -> None:
    """The sentences that refuse a run are the step's own, and people who read Spanish read them in Spanish."""
    measured = {"top1": 0.5, "positions": 300, "bar": 0.995, "kl": 0.25}
    stops = {"stopped": 1, "asked": 8, "bar": 0.5}
    reasons = [f"certificate: fidelity: {words_of_fidelity(measured)}"]
    reasons += [f"certificate: {each}" for each in reasons_of({**WHOLE, "stops": {"ok": False, **stops}})]
    said = reasons_in(ES, reasons)
    assert said.count("certificado: ") == 2
    assert "en el 50.0% de 300 posiciones, y se pide el 99.5%" in said
    assert "terminaron 1 de 8 respuestas, y se pide el 50%" in said


@pytest.mark.parametrize("phrase", [field.name for field in fields(CertificateWords) if field.type is str])
def test_both_languages_take_the_same_values(phrase: str) -> None:
    """What is said of a certificate is filled in with the same values in both languages."""
    both = (getattr(certificate_words(words), phrase) for words in (ES, EN))
    spanish, english = ({name for _, name, _, _ in string.Formatter().parse(each)} - {None} for each in both)
    assert spanish == english


def test_every_check_has_words_in_both_languages() -> None:
    """The checks that the step names in its sources are those that have words."""
    sources = Path(__file__).parent.parent / "thaud" / "steps" / "certify"
    said = {
        part.partition('"')[0]
        for source in sources.glob("*.py")
        for part in source.read_text(encoding="utf-8").split('what="')[1:]
    }
    assert said == set(certificate_words(ES).checks) == set(certificate_words(EN).checks)
