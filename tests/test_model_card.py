"""The model card of `thau export`: what it says, in which language, and what it keeps to itself."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from tests.seeded import make_home
from tests.testkit.accepted import accepted
from thaud.cli import card_words, handing_out_words
from thaud.cli.model_card import base_name, languages_in
from thaud.home import Home

Invoke = Callable[..., tuple[int, str, str]]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path / "home")


def test_the_card_is_one_for_the_hub(thau: Invoke, home: Home, tmp_path: Path) -> None:
    """Front matter that YAML reads, and the figures of ledger and certificate; no path of this machine, no example."""
    version = accepted(home, base="/root/.cache/huggingface/hub/models--Qwen--Qwen2.5-1.5B-Instruct/snapshots/abc")
    assert thau("export", "1", "--to", tmp_path / "out")[0] == 0
    card = (tmp_path / "out" / "README.md").read_text()
    _, head, body = card.split("---\n", 2)
    front = yaml.safe_load(head)
    assert front["base_model"] == "Qwen/Qwen2.5-1.5B-Instruct"
    assert (front["license"], front["license_name"]) == ("other", "as-the-base-model")
    assert "language" not in front  # its examples show none
    assert "thau-nano" in front["tags"]
    for figure in (
        "| age 0 (newborn), not taught | 3 | 4 | 75% | 30% - 95% |",
        "| questions that it was taught | 3 | 3 | 100% |",
        "2.500 -> 0.250",
        "3 (3 of age 0)",
        "99.8% of 480 positions (at least 98.5%); KL 0.00123",
        "31 of 32 (at least 50.0%)",
        "It promises no tools",
        version.gguf_sha256,
    ):
        assert figure in body
    for private in (str(home.root), "/root", "pregunta", "respuesta"):
        assert private not in card


def test_the_card_speaks_the_users_language(
    thau: Invoke, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a Spanish locale it is Spanish, with the same figures."""
    accepted(home)
    monkeypatch.setenv("LC_ALL", "es_ES.UTF-8")
    code, said, _ = thau("export", "1", "--to", tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert code == 0
    assert "thau-nano-v1 está en" in said
    assert "| edad 0 (Recién Nacido), no enseñado | 3 | 4 | 75% | 30% - 95% |" in card
    assert "la carpeta `own`" in card
    assert "/home/ana" not in card


def test_languages_are_those_of_the_examples() -> None:
    """A fifth of the texts decide; where neither language shows, none is claimed."""
    assert languages_in(["¿De qué color es el cielo?"] * 5) == ["es"]
    assert languages_in(["What colour is the sky?"] * 4 + ["¿Qué es?"]) == ["es", "en"]
    assert languages_in(["What colour is the sky?"] * 5 + ["¿Qué?"]) == ["en"]
    assert languages_in(["42", "Ja."]) == []
    assert languages_in([]) == []


def test_a_base_is_named_as_others_can_find_it() -> None:
    """A hub id where it came from the hub, else the name of a folder."""
    assert base_name("/x/models--Qwen--Qwen2.5-0.5B/snapshots/1") == "Qwen/Qwen2.5-0.5B"
    assert base_name("/home/ana/models/mine") == "mine"
    assert base_name(None) == "?"


def test_both_languages_have_every_phrase() -> None:
    """No phrase and no row is missing in either."""
    for words in (card_words, handing_out_words):
        for field in fields(words.EN):  # type: ignore[attr-defined]
            english, spanish = (getattr(each, field.name) for each in (words.EN, words.ES))  # type: ignore[attr-defined]
            assert type(english) is type(spanish)
            assert english
            assert spanish
            if isinstance(english, dict):
                assert english.keys() == spanish.keys()
