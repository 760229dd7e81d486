import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.seeded import fail_run, freeze, make_home, open_ledger, promote, seed_guide_sample, take_in
from thaud import __version__
from thaud.cli import make_app, run
from thaud.cli.status_view import status_lines
from thaud.config import load_settings
from thaud.control import only_daemon
from thaud.domain import Score
from thaud.dropbox import Position
from thaud.home import Home
from thaud.ledger import LedgerReader, NewFile, NewRejection
from thaud.status import report_status
from thaud.words import ES

Invoke = Callable[..., tuple[int, str, str]]
GUIDE_SAMPLE = """\
Modelo: thau-1.5b-v3
Tamaño: 1.5b
Versión: v3

Desarrollo Cognitivo:
  Edad: 3 años (Niño Pequeño)
  Descripción: Razonamiento simple. Puede explicar conceptos básicos con ejemplos.

Progreso:
  Ejemplos en esta edad: 350 / 500 (70%)
  Accuracy actual: 82% (41 de 50, intervalo del 95%: 69% a 90%)
  Accuracy requerida: 80%
  Puede avanzar: No (faltan 150 ejemplos)

Total ejemplos: 750
Entrenamientos completados: 3
"""


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in os.environ if each.startswith("THAU_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("AUTO_TRAIN_ENABLED", raising=False)
    monkeypatch.setenv("LC_ALL", "C.UTF-8")


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
def sample(tmp_path: Path) -> Home:
    home = make_home(tmp_path / "sample", "1.5b")
    seed_guide_sample(home)
    return home


@pytest.fixture
def running(home: Home) -> Iterator[Home]:
    with only_daemon(home):
        yield home


# init


def test_init_makes_a_home(thau: Invoke, tmp_path: Path) -> None:
    """init makes folders, thau.toml and a ledger, and names the model to come."""
    code, out, _ = thau("--home", tmp_path / "new", "init", "--size", "1.5b")
    home = Home(tmp_path / "new")
    assert code == 0
    assert "thau-1.5b-v1" in out
    assert load_settings(home).size == "1.5b"
    assert all(folder.is_dir() for folder in home.folders())
    with LedgerReader.open(home.ledger) as ledger:
        assert ledger.age == 0


def test_init_uses_the_current_folder(thau: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --home and THAU_HOME, init works here; every command finds a home from folders below it."""
    monkeypatch.chdir(tmp_path)
    assert thau("init")[0] == 0
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert "thau-nano" in thau("status")[1]


def test_thau_home_names_the_home(thau: Invoke, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """THAU_HOME names the home, and --home goes before it."""
    monkeypatch.setenv("THAU_HOME", str(home.root))
    assert thau("status")[0] == 0
    assert thau("--home", home.root / "other", "status")[0] == 3


def test_init_changes_the_size_and_nothing_else(thau: Invoke, sample: Home) -> None:
    """The guide's migration: init --size 7b announces thau-7b-v1, and keeps the text of thau.toml and all versions."""
    before = "# mine\nsize = '1.5b' # the size\nlanguage = \"en\"\n\n[training]\nmin_new_examples = 7  # few\n"
    sample.config.write_text(before, encoding="utf-8")
    code, out, _ = thau("--home", sample.root, "init", "--size", "7b")
    assert code == 0
    assert "1.5b -> 7b" in out
    assert "thau-7b-v1" in out
    assert sample.config.read_text(encoding="utf-8") == before.replace("'1.5b'", '"7b"')
    with LedgerReader.open(sample.ledger) as ledger:
        assert len(ledger.versions("thau-1.5b")) == 3


def test_init_again_changes_nothing(thau: Invoke, home: Home) -> None:
    """init without a new choice leaves a home as it is."""
    before = home.config.read_bytes()
    code, out, _ = thau("--home", home.root, "init")
    assert (code, home.config.read_bytes()) == (0, before)
    assert "nothing changes" in out


def test_a_base_goes_with_its_size(thau: Invoke, home: Home) -> None:
    """Another size does not silently train the old size's base: the override is commented out, and said."""
    assert thau("--home", home.root, "init", "--base", "me/my-model")[0] == 0
    assert load_settings(home).base == "me/my-model"
    _, out, _ = thau("--home", home.root, "init", "--size", "0.5b")
    assert "me/my-model" in out
    assert load_settings(home).base is None
    assert '# base = "me/my-model"' in home.config.read_text(encoding="utf-8")


def test_init_leaves_the_ledger_of_a_running_daemon_alone(thau: Invoke, running: Home) -> None:
    """With a daemon on the home, init changes thau.toml only and says that a restart is needed."""
    before = running.ledger.stat().st_mtime_ns
    code, out, _ = thau("--home", running.root, "init", "--size", "3b")
    assert code == 0
    assert "restart" in out
    assert running.ledger.stat().st_mtime_ns == before


# status, versions


def test_status_prints_the_guides_sample(thau: Invoke, sample: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a Spanish locale, status prints what the guide shows, with n and the interval beside the accuracy."""
    monkeypatch.setenv("LC_ALL", "es_ES.UTF-8")
    code, out, _ = thau("--home", sample.root, "status")
    assert code == 0
    assert "🤖 THAU Status" in out
    assert GUIDE_SAMPLE in out
    assert "Servicio: parado" in out


def test_status_fits_a_narrow_terminal(sample: Home) -> None:
    """The rules are as wide as the guide's where there is room, and no wider than the terminal."""
    with LedgerReader.open(sample.ledger) as ledger:
        report = {**report_status(ledger, load_settings(sample)), "daemon": False, "not_read": []}
    for width, expected in ((60, 60), (88, 88), (200, 88)):
        assert next(status_lines(report, ES, width))[0] == "=" * expected


def test_status_is_english_elsewhere(thau: Invoke, sample: Home) -> None:
    """Without a Spanish locale, status speaks English."""
    _, out, _ = thau("--home", sample.root, "status")
    assert "Age: 3 years (toddler)" in out
    assert "Can advance: No (150 examples are missing)" in out
    assert "Total examples: 750" in out


def test_status_names_every_blocker(thau: Invoke, home: Home) -> None:
    """All that keeps an age from advancing is in one sentence."""
    with open_ledger(home) as ledger:
        ids = take_in(ledger, 0, 99, "age_0.jsonl")
        promote(ledger, freeze(ledger, ids, 0, "thau-nano"), 1, Score(20, 10), None)
    _, out, _ = thau("--home", home.root, "status")
    assert "Can advance: No (1 example is missing and accuracy (50%) is below 70%)" in out


def test_status_shows_what_waits_and_what_failed(thau: Invoke, home: Home) -> None:
    """Examples for later ages, rejected lines and the last failure with its reason are visible."""
    with open_ledger(home) as ledger:
        ids = take_in(ledger, 0, 5, "a.jsonl")
        take_in(ledger, 3, 7, "b.jsonl")
        ledger.take_in(NewFile("c.jsonl", "{}", True, (), (), (NewRejection(1, "not JSON", "{"),)))
        fail_run(ledger, ids, "step train: out of memory")
    _, out, _ = thau("--home", home.root, "status")
    assert "Waiting to be trained: 5" in out
    assert "Waiting for a later age: 7 (age 3)" in out
    assert "Rejected lines: 1" in out
    assert "step train: out of memory" in out


def test_status_says_what_is_not_read(thau: Invoke, home: Home) -> None:
    """Files of the drop-box that are not read, and a last line that waits for its end, are named with the reason."""
    (home.queue / "a.json.gz").write_bytes(b"x")
    half = home.queue / "half.jsonl"
    half.write_bytes(b'{"instruction": "a", "output": "b"}\n{"instruction"')
    seen = half.stat()
    position = Position(seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, offset=36, line=1)
    with open_ledger(home) as ledger:
        ledger.take_in(NewFile("half.jsonl", position.to_json(), False, [], [], []))
    out = thau("--home", home.root, "status")[1]
    assert "In the queue, not read: a.json.gz: it is compressed: unpack it" in out
    assert "In the queue, not read: half.jsonl: line 2 is unfinished" in out
    report = json.loads(thau("--home", home.root, "status", "--json")[1])
    assert [each["file"] for each in report["not_read"]] == ["a.json.gz", "half.jsonl"]
    home.queue.rename(home.data / "elsewhere")
    assert "is gone: make the folder again" in thau("--home", home.root, "status")[1]


def test_status_json_keeps_the_guides_fields(thau: Invoke, sample: Home) -> None:
    """status --json is the report of the HTTP door, with the fields that the guide reads."""
    code, out, _ = thau("--home", sample.root, "status", "--json")
    stats = json.loads(out)
    assert code == 0
    assert stats["cognitive"]["current_age"] == 3
    assert stats["cognitive"]["progress"]["progress_pct"] == 70
    assert stats["service"]["total_examples_trained"] == 750
    assert stats["daemon"] is False


def test_status_says_that_the_daemon_runs(thau: Invoke, running: Home) -> None:
    """status knows the daemon by its lock."""
    assert json.loads(thau("--home", running.root, "status", "--json")[1])["daemon"] is True
    assert "Service: running" in thau("--home", running.root, "status")[1]


def test_versions(thau: Invoke, sample: Home) -> None:
    """versions lists what was accepted, with n and the interval, and marks the one that answers."""
    code, out, _ = thau("--home", sample.root, "versions")
    assert code == 0
    assert "thau-1.5b-v3 *" in out
    assert "82% (41/50, 69%-90%)" in out
    rows: list[dict[str, Any]] = json.loads(thau("--home", sample.root, "versions", "--json")[1])
    assert [(row["n"], row["champion"]) for row in rows] == [(1, False), (2, False), (3, True)]
    assert rows[2]["accuracy"]["n"] == 50


def test_versions_of_a_new_home(thau: Invoke, home: Home) -> None:
    """No version yet is a sentence for people and an empty list for programs."""
    assert "no version of thau-nano" in thau("--home", home.root, "versions")[1]
    assert json.loads(thau("--home", home.root, "versions", "--json")[1]) == []


# train, reset, logs, version


def test_train_leaves_a_request(thau: Invoke, running: Home) -> None:
    """train asks the running daemon."""
    code, out, _ = thau("--home", running.root, "train", "--json")
    assert (code, json.loads(out)["status"]) == (0, "requested")
    (request,) = running.control.glob("*.json")
    assert json.loads(request.read_bytes()) == {"request": "train"}


def test_reset_asks_first(thau: Invoke, sample: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A no, or nobody there to answer, changes nothing."""
    for reply in ("n\n", ""):
        monkeypatch.setattr(sys, "stdin", io.StringIO(reply))
        assert thau("--home", sample.root, "reset")[0] == 1
        with LedgerReader.open(sample.ledger) as ledger:
            assert ledger.age == 3


def test_reset_without_a_daemon(thau: Invoke, sample: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A yes takes the age to 0; versions and examples stay, and the projection follows."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert thau("--home", sample.root, "reset")[0] == 0
    with LedgerReader.open(sample.ledger) as ledger:
        assert ledger.age == 0
        assert len(ledger.versions("thau-1.5b")) == 3
    assert json.loads(sample.progress.read_bytes())["current_age"] == 0


@pytest.mark.parametrize(("locale", "reply", "age"), [("es_ES.UTF-8", "s", 0), ("es_ES.UTF-8", "Sí", 0), ("C", "s", 3)])
def test_reset_understands_a_yes_in_its_language(
    thau: Invoke, sample: Home, monkeypatch: pytest.MonkeyPatch, locale: str, reply: str, age: int
) -> None:
    """Who is asked in Spanish may answer in Spanish; what is no yes is a no."""
    monkeypatch.setenv("LC_ALL", locale)
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{reply}\n"))
    code, out, _ = thau("--home", sample.root, "reset")
    assert code == (0 if age == 0 else 1)
    assert ("[s/N]" in out) == locale.startswith("es")
    with LedgerReader.open(sample.ledger) as ledger:
        assert ledger.age == age


def test_reset_with_a_daemon_is_its_task(thau: Invoke, running: Home) -> None:
    """While a daemon writes the ledger, reset asks it."""
    assert thau("--home", running.root, "reset", "--yes")[0] == 0
    (request,) = running.control.glob("*.json")
    assert json.loads(request.read_bytes()) == {"request": "reset"}


def test_logs(thau: Invoke, home: Home) -> None:
    """logs shows the last lines in words, or as they are with --json."""
    lines = [
        json.dumps({"event": f"e{n}", "n": n, "level": "info", "timestamp": "2026-01-02T03:04:05Z"}) for n in range(9)
    ]
    home.service_log.write_text("\n".join(lines) + "\nno json\n", encoding="utf-8")
    code, out, _ = thau("--home", home.root, "logs", "-n", "2")
    assert code == 0
    assert out.splitlines() == ["2026-01-02 03:04:05Z info    e8 n=8", "no json"]
    assert thau("--home", home.root, "logs", "-n", "2", "--json")[1].splitlines() == [lines[8], "no json"]


def test_version(thau: Invoke) -> None:
    """The version is told in words, as JSON, and by --version."""
    assert f"thau {__version__}" in thau("version")[1]
    assert json.loads(thau("version", "--json")[1])["thau"] == __version__
    assert thau("--version")[:2] == (0, f"thau {__version__}\n")


# Refusals: one line, the right exit code, no traceback


def test_refusals(thau: Invoke, home: Home, tmp_path: Path) -> None:
    """What is wrong with a home, a size or a base is one line that names it, with the exit code of errors.py."""
    not_utf8, nowhere = tmp_path / "file", tmp_path / "nowhere"
    not_utf8.write_bytes(b"x")
    cases: list[tuple[int, str, tuple[str | Path, ...]]] = [
        (2, "unknown size '70b'", ("--home", home.root, "init", "--size", "70b")),
        (2, "question is empty", ("--home", home.root, "ask", " ")),
        (3, str(nowhere), ("--home", nowhere, "status")),
        (7, "no folder", ("--home", home.root, "init", "--base", "./not/there")),
        (7, "config.json", ("--home", home.root, "init", "--base", tmp_path)),
        (8, str(not_utf8), ("--home", not_utf8 / "below", "init")),
        (8, "no log", ("--home", home.root, "logs")),
        (11, "no version of thau-nano", ("--home", home.root, "ask", "hola")),
        (11, "no version of thau-nano", ("--home", home.root, "chat")),
        (13, "thau start", ("--home", home.root, "train")),
        (13, "thau start", ("--home", home.root, "watch")),
    ]
    for expected, said, words in cases:
        code, out, err = thau(*words)
        assert (code, out) == (expected, ""), words
        assert err.startswith("error: "), words
        assert err.count("\n") == 1, words
        assert said in err, words


def test_names_do_not_drive_the_terminal(thau: Invoke, home: Home) -> None:
    """A file's name may hold anything: what is said of it stays one line without control characters."""
    name = "two\nlines\x1b[31m.jsonl"
    code, _, err = thau("--home", home.root, "import-data", name)
    assert (code, err.count("\n")) == (8, 1)
    assert "\x1b" not in err
    (home.queue / name).mkdir()
    assert "\x1b" not in thau("--home", home.root, "status")[1]


def test_an_unknown_command_is_a_usage_error(thau: Invoke) -> None:
    """The command line's own refusals have exit code 2."""
    assert thau("fly")[0] == 2
    assert thau("init", "--wings")[0] == 2


def test_a_second_daemon_is_refused(thau: Invoke, running: Home) -> None:
    """start on a home that has a daemon names the process that holds it."""
    code, _, err = thau("--home", running.root, "start")
    assert code == 4
    assert str(os.getpid()) in err


def test_a_home_from_a_newer_version_is_refused(thau: Invoke, home: Home) -> None:
    """No command reads or writes a ledger whose schema it does not know."""
    with open_ledger(home) as ledger:
        ledger.connection.execute("PRAGMA user_version = 99")
    for words in (("status",), ("versions",), ("reset", "--yes"), ("init",)):
        code, _, err = thau("--home", home.root, *words)
        assert code == 5, words
        assert "upgrade" in err


def test_a_broken_configuration_is_refused(thau: Invoke, home: Home) -> None:
    """A thau.toml that is no TOML, or holds a value that cannot be, is named with the field."""
    for text, said in (
        ("size = ", "TOML"),
        ("[training]\nepochs = 0\n", "training.epochs"),
        ("[queue]\nquiet_s = nan\n", "queue.quiet_s"),
        ("[queue]\npoll_s = inf\n", "queue.poll_s"),
        ("sice = 'x'", "sice: there is no such setting"),
        ("size = '9b'", "unknown size '9b': choose one of nano"),
        ("[stages.4]\nmin_examples = 9\n", "stages.4: the stages are 0, 1, 3"),
    ):
        home.config.write_text(text, encoding="utf-8")
        code, _, err = thau("--home", home.root, "status")
        assert (code, err.count("\n")) == (6, 1)
        assert said in err


def test_init_is_the_way_out_of_an_unknown_size(thau: Invoke, home: Home) -> None:
    """A size that was mistyped in thau.toml is corrected by the command that sets sizes."""
    home.config.write_text("size = '9b'\n", encoding="utf-8")
    assert thau("--home", home.root, "init", "--size", "nano")[0] == 0
    assert thau("--home", home.root, "status")[0] == 0


def test_a_broken_ledger_is_one_line(thau: Invoke, home: Home) -> None:
    """A ledger that is no database is a storage error, not a traceback."""
    for path in home.data.glob("ledger.sqlite3*"):
        path.unlink()
    home.ledger.write_bytes(b"this is no database, and long enough to be taken for one" * 40)
    code, _, err = thau("--home", home.root, "status")
    assert (code, err.count("\n")) == (8, 1)


def test_ask_names_the_versions_there_are(thau: Invoke, sample: Home) -> None:
    """An unknown version is a usage error; a version whose file is gone is named by the runtime."""
    code, _, err = thau("--home", sample.root, "ask", "hola", "--version", "9")
    assert code == 2
    assert "1, 2, 3" in err
