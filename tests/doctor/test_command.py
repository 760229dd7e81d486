"""`thau doctor`: what it prints, in two languages and for programs, and how it ends."""

import json
import string
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from tests.doctor.faults import champion_changed, quarantine_deleted
from thaud.cli import make_app, mend, run
from thaud.cli.mend_words import EN, ES, MendWords
from thaud.control import only_daemon
from thaud.home import Home

Invoke = Callable[..., tuple[int, str, str]]
CODE = Path(mend.__file__).read_text(encoding="utf-8")


@pytest.fixture
def thau(home: Home, capsys: pytest.CaptureFixture[str]) -> Invoke:
    def invoke(*words: str) -> tuple[int, str, str]:
        code = run(make_app(), ["--home", str(home.root), *words], "thau")
        return (code, *capsys.readouterr())

    return invoke


def test_the_command_on_a_healthy_home(thau: Invoke) -> None:
    """Exit code 0, a line for each check, and the sum."""
    code, out, err = thau("doctor")
    assert (code, err) == (0, "")
    assert out.endswith("All is well.\n")
    assert "ok       files of the versions" in out


def test_the_command_finds_and_mends(thau: Invoke, home: Home) -> None:
    """Exit code 16 with what to do, in the user's language; --fix says each repair and ends with 0."""
    quarantine_deleted(home)
    code, out, err = thau("doctor", "--quick")
    assert code == 16
    assert "data/rejected/bad.jsonl does not say" in out
    assert "-> `thau doctor --fix` makes it anew" in out
    assert err.count("\n") == 1
    code, out, _ = thau("doctor", "--fix")
    assert code == 0
    assert "Mended: data/rejected/bad.jsonl" in out
    assert thau("doctor")[0] == 0


def test_mending_one_thing_does_not_hide_another(thau: Invoke, home: Home) -> None:
    """After --fix what could not be mended is still told, a changed model among it."""
    quarantine_deleted(home)
    champion_changed(home)
    code, out, _ = thau("doctor", "--fix")
    assert code == 16
    assert "Mended: data/rejected/bad.jsonl" in out
    assert "not the one that was examined" in out


def test_the_command_in_spanish(thau: Invoke, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Findings and remedies are Spanish under a Spanish locale."""
    monkeypatch.setenv("LC_ALL", "es_ES.UTF-8")
    quarantine_deleted(home)
    code, out, _ = thau("doctor", "--quick")
    assert code == 16
    assert "problema cuarentena: data/rejected/bad.jsonl no dice lo que dice el registro" in out


def test_the_command_for_programs(thau: Invoke, home: Home) -> None:
    """--json is a list of checks with their findings and repairs."""
    quarantine_deleted(home)
    code, out, _ = thau("doctor", "--json", "--quick")
    checks = {each["check"]: each for each in json.loads(out)}
    assert code == 16
    assert checks["quarantine"]["level"] == "problem"
    assert checks["quarantine"]["findings"][0]["name"] == "quarantine_differs"
    assert checks["versions"] == {"check": "versions", "level": "ok", "findings": [], "mended": []}
    checks = {each["check"]: each for each in json.loads(thau("doctor", "--json", "--fix")[1])}
    assert checks["quarantine"]["level"] == "ok"
    assert checks["quarantine"]["mended"][0]["failure"] is None


def test_mending_needs_a_stopped_service(thau: Invoke, home: Home) -> None:
    """--fix beside a daemon is refused with exit code 4; looking is not."""
    with only_daemon(home):
        code, _, err = thau("doctor", "--fix")
        assert (code, err.count("\n")) == (4, 1)
        assert thau("doctor", "--quick")[0] == 0


def test_a_configuration_that_cannot_be_read_is_a_finding(thau: Invoke, home: Home) -> None:
    """doctor says so, instead of ending with the error that it is there to explain."""
    home.config.write_text("size = ", encoding="utf-8")
    code, out, _ = thau("doctor")
    assert code == 16
    assert "configuration: " in out


def placeholders(phrase: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(phrase) if name}


@pytest.mark.parametrize("name", [field.name for field in fields(MendWords)])
def test_languages_take_the_same_values(name: str) -> None:
    """A phrase is filled in with the same values in both languages, and is said somewhere."""
    spanish, english = getattr(ES, name), getattr(EN, name)
    assert placeholders(spanish) == placeholders(english)
    assert f"words.{name}" in CODE or f'"{name}"' in CODE
