"""`thau versions` and `thau versions show N`, and the rules by which versions keep their files."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.seeded import freeze, make_home, open_ledger, promote, take_in
from thaud.cli import make_app, run
from thaud.cli.version_words import EN, ES, VersionWords
from thaud.cli.versions import version_lines
from thaud.control import Request, send, take, unreadable
from thaud.domain import RunSpec, RunState, Score, Version
from thaud.errors import NoVersionError, UsageError
from thaud.home import Home
from thaud.ledger import Ledger, LedgerReader
from thaud.lifecycle import REFUSED, Reason, choice, choose, disk_bytes, given_up, prune, roll_back
from thaud.status import report_version

Invoke = Callable[..., tuple[int, str, str]]
pytestmark = pytest.mark.usefixtures("plain_environment")
FAMILY = "thau-nano"
CERTIFICATE = {
    "format": 1,
    "gguf_sha256": "a" * 64,
    "kind": "q8_0",
    "passed": True,
    "reasons": [],
    "prompts": {"ok": True, "conversations": 11, "equal": 11, "as_one_text": 9, "differences": []},
    "tokens": {"ok": False, "checked": 7, "differences": []},
    "fidelity": {"ok": True, "positions": 400, "top1": 0.9975, "bar": 0.985, "kl": 0.00031},
    "change": {"ok": True, "kl_from_base": 1.25, "share": 0.998, "bar": 0.5},
    "stops": {"ok": True, "asked": 20, "stopped": 20, "bar": 0.9},
    "tools": {"ok": True, "promised": False, "detail": ""},
    "capabilities": ["completion", "tools"],
}


@pytest.fixture
def thau(capsys: pytest.CaptureFixture[str]) -> Invoke:
    def invoke(*words: str | Path) -> tuple[int, str, str]:
        code = run(make_app(), [str(word) for word in words], "thau")
        out, err = capsys.readouterr()
        return code, out, err

    return invoke


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path / "home")


@pytest.fixture
def ledger(home: Home) -> Iterator[Ledger]:
    with open_ledger(home) as opened:
        yield opened


def add(ledger: Ledger, n: int, age: int = 0, right: int = 20, base: str | None = None) -> Version:
    """A promoted version with a file of `n` bytes, of an adapter where there is a `base`."""
    folder = ledger.path.parent / "versions" / f"{FAMILY}-v{n}"
    folder.mkdir(parents=True)
    (folder / "model.gguf").write_bytes(b"x" * n)
    spec = freeze(ledger, [], age, FAMILY)
    version = replace(
        promoted_as(spec, n, Score(30, right), str(folder / "model.gguf")),
        kind="adapter" if base else "q8_0",
        base_gguf=base,
        base_sha256="b" * 64 if base else None,
    )
    ledger.accept(version, ["fine"], {})
    ledger.promote(version, None)
    return next(each for each in ledger.versions() if each.n == n)


def promoted_as(spec: RunSpec, n: int, score: Score, gguf: str) -> Version:
    return Version(FAMILY, n, spec.id, spec.age, gguf, "a" * 64, n, score, 2, f"2026-01-02T03:04:{n:02d}.000+00:00")


def names(versions: object) -> list[int]:
    """Numbers, for short."""
    return [version.n for version in versions]  # type: ignore[attr-defined]


def untold(*_: object, **__: object) -> None:
    """Nobody listens."""


# The rules


def test_the_last_the_best_and_the_champion_stay(ledger: Ledger) -> None:
    """Of seven versions: the last two, the best of each age, of two alike the newer, and the one that answers."""
    for n, (age, right) in enumerate([(0, 10), (0, 25), (0, 25), (0, 24), (1, 29), (1, 11), (1, 12)], 1):
        add(ledger, n, age, right)
    ledger.move_alias(ledger.versions()[3], "test")
    found = choice(ledger, FAMILY, 2)
    assert names(found.given_up) == [1, 2]
    assert {version.n: set(reasons) for version, reasons in found.kept} == {
        3: {Reason.BEST},
        4: {Reason.CHAMPION},
        5: {Reason.BEST},
        6: {Reason.RECENT},
        7: {Reason.RECENT},
    }


def test_what_a_run_under_way_is_measured_against_stays(ledger: Ledger) -> None:
    """The champion that was frozen into an unfinished run keeps its file until that run has ended."""
    for n in (1, 2):
        add(ledger, n, right=20 + n)
    spec = replace(freeze(ledger, [], 0, FAMILY), id="run-0004", champion=1)
    ledger.end_run("run-0003", RunState.FAILED, ["no"])
    ledger.freeze_run(spec)
    assert names(choice(ledger, FAMILY, 1).given_up) == []
    ledger.end_run("run-0004", RunState.FAILED, ["no"])
    assert names(choice(ledger, FAMILY, 1).given_up) == [1]


def test_only_what_was_agreed_to_goes(ledger: Ledger) -> None:
    """A prune takes what it names and nothing else, not even where the rules would give up more; twice does no more."""
    for n in (1, 2, 3):
        add(ledger, n, right=20 + n)
    adapter = ledger.path.parent / "runs" / "run-0001" / "train" / "adapter" / "adapter_model.safetensors"
    adapter.parent.mkdir(parents=True)
    adapter.write_text("weights")
    assert names(choice(ledger, FAMILY, 1).given_up) == [1, 2]
    for _ in range(2):
        prune(ledger, FAMILY, 1, [f"{FAMILY}-v1", f"{FAMILY}-v3", "thau-9b-v1"], untold)
        assert [version.n for version in ledger.versions() if version.pruned_at] == [1]
        assert [Path(version.gguf).exists() for version in ledger.versions()] == [False, True, True]
    assert adapter.exists()


def test_a_shared_base_goes_with_the_last_that_needs_it(ledger: Ledger) -> None:
    """A base stays while one version on it has its file, or a run makes an adapter; disk_bytes counts it once."""
    base = ledger.path.parent / "bases" / "x-f16" / "model.gguf"
    base.parent.mkdir(parents=True)
    base.write_bytes(b"base" * 25)
    first, second = (add(ledger, n, base=str(base)) for n in (1, 2))
    add(ledger, 3, right=29)
    assert disk_bytes(ledger) == 100 + 1 + 2 + 3
    ledger.give_up([first])
    assert list(given_up(ledger)) == [Path(first.gguf)]
    assert list(given_up(ledger, [second])) == sorted([base, Path(first.gguf), Path(second.gguf)])
    ledger.give_up([second])
    spec = replace(freeze(ledger, [], 0, FAMILY), id="run-0005", export_kind="adapter")
    ledger.end_run("run-0004", RunState.FAILED, ["no"])
    ledger.freeze_run(spec)
    assert base not in given_up(ledger)
    ledger.end_run("run-0005", RunState.FAILED, ["no"])
    assert base in given_up(ledger)


def test_back_to_the_one_before(ledger: Ledger) -> None:
    """Without a number: the last one promoted before the champion that has its file; with one, whichever may answer."""
    with pytest.raises(NoVersionError):
        choose(ledger, FAMILY, None)
    for n in (1, 2, 3):
        add(ledger, n)
    assert choose(ledger, FAMILY, None).n == 2
    ledger.give_up([ledger.versions()[1]])
    assert choose(ledger, FAMILY, None).n == 1
    assert choose(ledger, FAMILY, 3).n == 3
    for n, words in ((2, "given up"), (7, "choose one of 1, 3")):
        with pytest.raises(UsageError, match=words):
            choose(ledger, FAMILY, n)
    assert roll_back(ledger, FAMILY, 1, "test", untold)
    assert not roll_back(ledger, FAMILY, 1, "test", untold)
    assert [event["after"] for event in ledger.events(kinds=["rolled_back"])] == [f"{FAMILY}-v1"]
    with pytest.raises(UsageError, match="no version before it"):
        choose(ledger, FAMILY, None)


def test_a_file_of_another_size_does_not_answer(ledger: Ledger) -> None:
    """Whoever moves the alias looks at the file's size once more: one that was cut meanwhile is refused, and noted."""
    first, second = add(ledger, 1), add(ledger, 2)
    Path(first.gguf).write_bytes(b"")
    assert not roll_back(ledger, FAMILY, 1, "test", untold)
    assert ledger.champion(FAMILY) == second
    (event,) = ledger.events(kinds=[REFUSED])
    assert (event["n"], "has 0 bytes, not 1" in event["reason"]) == (1, True)


def test_after_a_rollback_nothing_is_due_by_itself(ledger: Ledger) -> None:
    """What only a later version was taught counts as taught: no run starts for it; one that is asked for takes all."""
    first = take_in(ledger, 0, 3, "a.jsonl")
    promote(ledger, freeze(ledger, first, 0, FAMILY), 1, Score(3, 3), None)
    both = first + take_in(ledger, 0, 4, "b.jsonl")
    promote(ledger, freeze(ledger, both, 0, FAMILY), 2, Score(3, 3), None)
    ledger.move_alias(ledger.versions(FAMILY)[0], "test")
    assert ledger.pending(FAMILY, 0) == (0, 0)
    assert ledger.trainable(0) == 7


@pytest.mark.parametrize(
    "values", [{"request": "rollback"}, {"request": "rollback", "n": "3"}, {"request": "rollback", "n": True},
               {"request": "prune"}, {"request": "prune", "names": 3}, {"request": "prune", "names": [1]}]
)  # fmt: skip
def test_a_request_that_says_too_little_is_none(home: Home, values: dict[str, Any]) -> None:
    """What does not name its version, or its versions, is left where it is and told as unreadable."""
    home.control.mkdir(exist_ok=True)
    (home.control / "x-1.json").write_text(json.dumps(values))
    assert list(take(home)) == []
    assert unreadable(home) == ["x-1.json"]
    send(home, Request.ROLLBACK, n=3)
    assert [(asked.request, asked.values["n"]) for asked in take(home)] == [(Request.ROLLBACK, 3)]


# The words


@pytest.fixture
def told(home: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    """Three versions: one with a certificate and on a server, one from before there were any, one that is pruned."""
    monkeypatch.setenv("THAU_SERVING__OLLAMA_HOST", "http://h:1")
    with open_ledger(home) as ledger:
        for n in (1, 2, 3):
            add(ledger, n, right=20 + n)
        ledger.intend("run-0003", "certify")
        receipt = {"gguf_sha256": "a" * 64, "passed": True, "reasons": [], "certificate": CERTIFICATE, "seconds": 1.0}
        ledger.receive("run-0003", "certify", receipt, RunState.PROMOTED)
        live = {"server_version": "0.33.0", "capabilities": ["completion"], "renders": {"asked": 11, "equal": 10}}
        ledger.register("http://h:1", f"{FAMILY}-v3", "served", "", live)
        ledger.register("http://h:1", f"{FAMILY}-v2", "failed", "it is broken")
        ledger.register("http://before:1", f"{FAMILY}-v2", "served", "")
        prune(ledger, FAMILY, 1, [f"{FAMILY}-v1"], untold)
    return home


def test_the_table_says_where_each_answers(thau: Invoke, told: Home) -> None:
    """One line a version, in at most 100 columns: number, age, accuracy, size, kind, date, where it answers."""
    code, out, _ = thau("--home", told.root, "versions")
    heading, *rows = out.splitlines()
    assert code == 0
    assert heading.split()[:2] == ["Version", "Age"]
    assert [re.split(r"  +", row)[-1] for row in rows] == ["pruned", "here, Ollama no", "here, Ollama"]
    assert [" * " in row for row in rows] == [False, False, True]
    assert max(map(len, out.splitlines())) <= 100
    (told.versions / f"{FAMILY}-v2" / "model.gguf").unlink()
    assert "lost, Ollama no" in thau("--home", told.root, "versions")[1]


@pytest.mark.parametrize("words", [EN, ES])
def test_the_table_fits_a_narrow_terminal(told: Home, words: VersionWords) -> None:
    """In 80 columns a version still takes one line: the interval and the time of day are left out, and nothing else."""
    with LedgerReader.open(told.ledger) as ledger:
        reports = [{**report_version(each, ledger), "champion": each.n == 3} for each in ledger.versions(FAMILY)]
    wide, narrow = (version_lines(reports, words, "http://h:1", width) for width in (100, 80))
    assert max(map(len, wide)) > 80 >= max(map(len, narrow))
    assert wide == version_lines(reports, words, "http://h:1")
    assert [line.split()[-1] for line in narrow] == [line.split()[-1] for line in wide]
    assert "77% (23/30)  " in narrow[3]
    assert "2026-01-02  " in narrow[3]


def test_the_table_as_json_says_what_show_says(thau: Invoke, told: Home) -> None:
    """--json works with and without a subcommand before and after; promised fields stay, kind and served are new."""
    rows: list[dict[str, Any]] = json.loads(thau("--home", told.root, "versions", "--json")[1])
    assert [(row["n"], row["champion"], row["kind"]) for row in rows] == [
        (1, False, "q8_0"),
        (2, False, "q8_0"),
        (3, True, "q8_0"),
    ]
    assert rows[0]["pruned_at"]
    assert {"name", "age", "accuracy", "size_bytes", "examples", "accepted_at", "run", "training"} <= rows[0].keys()
    after = json.loads(thau("--home", told.root, "versions", "show", "3", "--json")[1])
    before = json.loads(thau("--home", told.root, "versions", "--json", "show", "v3")[1])
    assert after == before
    assert rows[2].items() <= after.items()
    assert after["certificate"] == CERTIFICATE
    assert (after["base"]["name"], after["made"]["seed"], after["reasons"]) == ("/bases/x", 0, ["fine"])
    (served,) = after["served"]["ollama"]
    assert (served["state"], served["report"]["renders"]) == ("served", {"asked": 11, "equal": 10})


def test_show_says_everything(thau: Invoke, told: Home) -> None:
    """Figures, run, file, digest, each check of the certificate with its figures, and what the server showed."""
    code, out, _ = thau("--home", told.root, "versions", "show", f"{FAMILY}-v3")
    assert code == 0
    for words in (
        "answers as thau-nano",
        "77% (23/30",
        "run-0003",
        "a" * 64,
        "model.gguf (q8_0",
        "passed every check",
        "ok      Training and file write and tokenise conversations alike: 11 of 11",
        "NOT OK  Tokens that steer mean the same in both: 7 checked",
        "99.8% of 400 positions (at least 98.5%); KL 0.00031",
        "KL: how far apart the predictions of two models lie",
        "capabilities: completion, tools",
        "http://h:1",
        "conversations written as in training: asked 11, equal 10",
    ):
        assert words in out, words
    assert "made before there were certificates" in thau("--home", told.root, "versions", "show", "2")[1]
    assert "it is broken" in thau("--home", told.root, "versions", "show", "2")[1]
    assert "given up on" in thau("--home", told.root, "versions", "show", "1")[1]


def test_show_speaks_spanish(thau: Invoke, told: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a Spanish locale the table and the certificate are Spanish."""
    monkeypatch.setenv("LC_ALL", "es_ES.UTF-8")
    assert "Edad" in thau("--home", told.root, "versions")[1]
    said = thau("--home", told.root, "versions", "show", "3")[1]
    assert "pasó todas las pruebas" in said
    assert "La primera elección del archivo es la del modelo entrenado: 99.8% de 400 posiciones" in said
    assert "conversaciones escritas como al entrenar: preguntadas 11, iguales 10" in said
    assert not [word for word in ("served", "checked", "asked", "checks") if word in said]


def test_show_refuses_what_there_is_not(thau: Invoke, home: Home, told: Home) -> None:
    """An unknown number names those that there are (2); a home without versions says so (11)."""
    code, _, err = thau("--home", told.root, "versions", "show", "7")
    assert (code, "choose one of 1, 2, 3" in err) == (2, True)
    with Ledger.open(home.ledger) as ledger:
        ledger.connection.execute("PRAGMA foreign_keys=OFF")
        ledger.connection.execute("DELETE FROM versions")
    assert thau("--home", told.root, "versions", "show", "1")[0] == 11


def placeholders(phrase: str) -> list[str]:
    return sorted(re.findall(r"{(\w+)}", phrase))


def test_both_languages_say_the_same_things() -> None:
    """Every phrase is there in both languages and takes the same values; every check and reason has words."""
    for name in EN.__slots__:
        spanish, english = getattr(ES, name), getattr(EN, name)
        if isinstance(english, str):
            assert placeholders(spanish) == placeholders(english), name
            assert spanish
            assert english
    assert len(ES.columns) == len(EN.columns) == len(ES.columns_short) == len(EN.columns_short)
    assert ES.titles.keys() == EN.titles.keys()
    assert ES.states.keys() == EN.states.keys()
    assert ES.reasons.keys() == EN.reasons.keys() == set(Reason)
    assert EN.figures.keys() <= ES.figures.keys()
