import re
from contextlib import suppress
from dataclasses import fields
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from tests.seeded import fail_run, freeze, make_home, open_ledger, promote, take_in
from tests.testkit.certificates import certificate_of
from thaud.config import load_settings
from thaud.demo import PHRASES, Answered, Phrases, Teller, chosen_questions, is_over, main, promises, throw_away
from thaud.domain import RunState, Score, Side
from thaud.errors import UsageError
from thaud.home import Home
from thaud.ledger import Ledger

FAMILY = "thau-nano"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path / "home")


def quiet() -> Teller:
    return Teller(Console(file=StringIO()), "en")


def two_versions(ledger: Ledger, right: int, certified: int = 2) -> None:
    """Two accepted versions, the second at age 1 with so many of 40 right; so many of them have certificates."""
    ids = take_in(ledger, 0, 120, "age_0.jsonl")
    versions = [promote(ledger, freeze(ledger, ids, 0, FAMILY), 1, Score(30, 28), 1)]
    ids += take_in(ledger, 1, 220, "age_1.jsonl")
    versions.append(promote(ledger, freeze(ledger, ids, 1, FAMILY), 2, Score(40, right), None))
    for version in versions[:certified]:
        digest = version.gguf_sha256
        receipt = {"gguf_sha256": digest, "passed": True, "reasons": [], "seconds": 1.0}
        ledger.intend(version.run_id, "certify")
        ledger.receive(version.run_id, "certify", {**receipt, "certificate": certificate_of(digest)}, RunState.PROMOTED)


def test_the_home_is_thrown_away(tmp_path: Path) -> None:
    """The demo deletes the folder that it made, also when it fails, and keeps it only when asked."""
    for keep in (False, True):
        with suppress(KeyboardInterrupt), throw_away(tmp_path / "new", quiet(), keep=keep) as root:
            (root / "file").touch()
            raise KeyboardInterrupt
        assert (tmp_path / "new").exists() == keep


def test_a_folder_with_something_in_it_is_not_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The demo refuses a home that is not empty, in one line, because it would delete it."""
    (tmp_path / "precious").touch()
    with pytest.raises(UsageError, match="not empty"), throw_away(tmp_path, quiet(), keep=False):
        pass
    assert main(["--home", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert (tmp_path / "precious").exists()


def test_it_is_over_when_nothing_more_will_come(home: Home) -> None:
    """Not before a run ended, nor while the next age has examples waiting; at once when a run made no version."""
    with open_ledger(home) as ledger:
        assert not is_over(ledger)
        ids = take_in(ledger, 0, 3, "a.jsonl")
        take_in(ledger, 1, 3, "b.jsonl")
        spec = freeze(ledger, ids, 0, FAMILY)
        assert not is_over(ledger)
        promote(ledger, spec, 1, Score(3, 3), 1)
        assert not is_over(ledger)
        fail_run(ledger, ids, "broken", FAMILY)
        assert is_over(ledger)


def test_questions_are_held_out_and_of_different_kinds(home: Home) -> None:
    """The questions were never taught, come from both ages, and are the same each time."""
    with open_ledger(home) as ledger:
        for age in (0, 1):
            take_in(ledger, age, 5, f"taught_{age}", Side.TAUGHT)
            take_in(ledger, age, 5, f"held_{age}", Side.HELD_OUT)
    chosen = chosen_questions(home)
    assert [each.age for each in chosen] == [0, 1, 1]
    assert all(each.side is Side.HELD_OUT for each in chosen)
    assert len({each.example.group for each in chosen}) == 3
    assert chosen == chosen_questions(home)


@pytest.mark.parametrize(("right_of_40", "right_answers", "holds"), [(36, 2, True), (36, 1, False), (20, 3, False)])
def test_promises(home: Home, right_of_40: int, right_answers: int, holds: bool) -> None:  # noqa: FBT001 - a table
    """The demo succeeds only with two versions, an age, an accuracy at the bar, certificates and two right answers of
    three.
    """
    with open_ledger(home) as ledger:
        two_versions(ledger, right_of_40)
    answers = [Answered("q", "a", "a", right=n < right_answers) for n in range(3)]
    kept = list(promises(home, load_settings(home), answers, quiet()))
    assert len(kept) == 5
    assert all(each for each, _ in kept) == holds
    assert (True, "certificates: passed, same first choice at 99.9% of the positions") in kept


def test_a_version_without_a_certificate_is_named(home: Home) -> None:
    """The demo fails where a version's file was never compared with what was trained."""
    with open_ledger(home) as ledger:
        two_versions(ledger, 36, certified=1)
    kept = list(promises(home, load_settings(home), [Answered("q", "a", "a", right=True)] * 3, quiet()))
    assert (False, "certificates: thau-nano-v2 have none that passed") in kept


def test_nothing_is_promised_of_a_new_home(home: Home) -> None:
    """Without versions the promises fail; they do not crash."""
    assert not any(holds for holds, _ in promises(home, load_settings(home), [], quiet()))


@pytest.mark.parametrize("name", [field.name for field in fields(Phrases)])
def test_the_demo_says_the_same_in_every_language(name: str) -> None:
    """A phrase is filled in with the same values in every language."""
    taken = {tuple(re.findall(r"{\w+", getattr(phrases, name))) for phrases in PHRASES.values()}
    assert len({frozenset(each) for each in taken}) == 1
