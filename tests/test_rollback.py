"""Rollback and prune, proved by asking the alias before and after: llama.cpp, a real daemon, the double of Ollama."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from tests.testkit.daemon import QUICK, look, running, start, thau, wait_until
from tests.testkit.served import FAMILY, answer, held, promote, served_home, with_server
from thaud.cli import make_app, run
from thaud.control import Request, send
from thaud.home import Home
from thaud.ledger import Ledger
from thaud.serving.fake_ollama import FakeOllama

KEEP_ONE = {"THAU_EXPORT__KEEP_VERSIONS": "1", "THAU_TRAINING__AUTO_TRAIN_ENABLED": "false"}
pytestmark = pytest.mark.slow
SAYS = {1: "azul", 2: "rojo", 3: "verde"}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home with three promoted versions that answer differently; the third is the champion."""
    return served_home(tmp_path / "home", *([said] for said in SAYS.values()))


def thau_here(home: Home, *words: str, **environment: str) -> tuple[int, str, str]:
    """`thau` in this process, which spares its start, with nothing piped in; exit code, output, errors."""
    out, err = io.StringIO(), io.StringIO()
    with (
        patch.dict(os.environ, {**QUICK, **KEEP_ONE, **environment}),
        patch.object(sys, "stdin", io.StringIO()),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        code = run(make_app(), ["--home", str(home.root), *words], "thau")
    return code, out.getvalue(), err.getvalue()


def command(home: Home, *words: str, **environment: str) -> dict[str, Any]:
    """What a command hands out with --json."""
    code, out, err = thau_here(home, *words, "--json", **environment)
    assert code == 0, err
    report: dict[str, Any] = json.loads(out)
    return report


def asked(home: Home) -> str:
    """What the alias answers by llama.cpp in `thau ask`."""
    return str(command(home, "ask", "hola")["answer"])


def refused(home: Home, *words: str) -> tuple[int, str]:
    """Exit code and words of a command that says no."""
    code, _, err = thau_here(home, *words)
    assert code != 0
    return code, err


@contextmanager
def daemon_or_none(home: Home, *, runs: bool, **environment: str) -> Iterator[None]:
    """With a daemon or without one: what the commands promise is the same."""
    if runs:
        with running(home, **KEEP_ONE, **environment):
            yield
    else:
        yield


def progress_model(home: Home) -> str | None:
    """The champion, as the projection says it."""
    said = json.loads(home.progress.read_bytes()) if home.progress.exists() else {}
    return said.get("model")


@pytest.mark.parametrize("runs", [True, False], ids=["daemon", "no daemon"])
def test_the_alias_answers_as_the_version_gone_back_to(home: Home, *, runs: bool) -> None:
    """Before: the third; after: the second, at once and after a restart; then the first by number."""
    assert asked(home) == SAYS[3]
    with daemon_or_none(home, runs=runs):
        report = command(home, "rollback")
        assert report == {"before": f"{FAMILY}-v3", "after": f"{FAMILY}-v2", "moved": True, "ollama": None}
        assert asked(home) == SAYS[2]
    with running(home, **KEEP_ONE):
        assert asked(home) == SAYS[2]
        assert command(home, "rollback", "1")["after"] == f"{FAMILY}-v1"
        assert asked(home) == SAYS[1]
        wait_until(lambda: progress_model(home) == f"{FAMILY}-v1", what="the projection")
    assert asked(home) == SAYS[1]
    assert command(home, "rollback", "1") == {
        "before": f"{FAMILY}-v1",
        "after": f"{FAMILY}-v1",
        "moved": False,
        "ollama": None,
    }


@pytest.mark.parametrize("runs", [True, False], ids=["daemon", "no daemon"])
def test_what_is_pruned_is_gone_and_the_alias_answers(home: Home, *, runs: bool) -> None:
    """The newest, the champion and the best stay and answer; the rest has no file, and nobody can go back to it."""
    command(home, "rollback", "1")
    files = {n: home.versions / f"{FAMILY}-v{n}" / "model.gguf" for n in SAYS}
    sizes = {n: path.stat().st_size for n, path in files.items()}
    with daemon_or_none(home, runs=runs):
        dry = command(home, "prune", "--dry-run")
        assert (dry["goes"], dry["pruned"], files[2].exists()) == ([f"{FAMILY}-v2"], [], True)
        assert dry["would_be"] == sizes[1] + sizes[3]
        report = command(home, "prune", "--yes")
        assert report["pruned"] == [f"{FAMILY}-v2"]
        assert report["kept"] == [
            {"name": f"{FAMILY}-v1", "why": ["champion"]},
            {"name": f"{FAMILY}-v3", "why": ["recent", "best"]},
        ]
        assert report["disk"] == {"before": sum(sizes.values()), "after": sizes[1] + sizes[3]}
        assert {n: path.exists() for n, path in files.items()} == {1: True, 2: False, 3: True}
        assert asked(home) == SAYS[1]
        assert command(home, "prune", "--yes")["pruned"] == []
    with running(home, **KEEP_ONE):
        assert asked(home) == SAYS[1]
        assert command(home, "rollback", "3")["moved"]
        assert asked(home) == SAYS[3]
        code, words = refused(home, "rollback", "2")
        assert (code, "given up" in words, "choose one of 1, 3" in words) == (2, True, True)
        code, words = refused(home, "ask", "hola", "--version", "2")
        assert (code, "given up" in words) == (2, True)
        assert command(home, "rollback")["after"] == f"{FAMILY}-v1"
    assert {row["name"]: bool(row["pruned_at"]) for row in versions(home)} == {
        f"{FAMILY}-v1": False,
        f"{FAMILY}-v2": True,
        f"{FAMILY}-v3": False,
    }


def versions(home: Home) -> list[dict[str, Any]]:
    """`thau versions --json`."""
    rows: list[dict[str, Any]] = json.loads(thau_here(home, "versions", "--json")[1])
    return rows


@pytest.mark.parametrize("runs", [True, False], ids=["daemon", "no daemon"])
def test_the_alias_on_ollama_follows(home: Home, *, runs: bool) -> None:
    """What the alias says on the server changes with the rollback; what is pruned leaves the server, and its size is
    told.
    """
    with FakeOllama() as server:
        environment = with_server(server)
        with running(home, **KEEP_ONE, **environment):
            wait_until(lambda: held(home).get(FAMILY) == "served", what="the alias")
            assert answer(server, FAMILY) == SAYS[3]
        with daemon_or_none(home, runs=runs, **environment):
            report = command(home, "rollback", "1", **environment)
            assert report["ollama"]["moved"], report
            assert answer(server, FAMILY) == SAYS[1]
            pruned = command(home, "prune", "--yes", **environment)
            assert pruned["pruned"] == [f"{FAMILY}-v2"]
            assert pruned["ollama"]["after"] < pruned["ollama"]["before"]
            names = {f"{FAMILY}:latest", f"{FAMILY}-v1:latest", f"{FAMILY}-v3:latest"}
            assert {model["name"] for model in tags(server)} == names
            assert answer(server, FAMILY) == SAYS[1]
            (gone,) = (row for row in versions(home) if row["pruned_at"])
            assert gone["served"] == {"embedded": False, "ollama": []}


def tags(server: FakeOllama) -> list[dict[str, Any]]:
    """What the server lists."""
    import httpx  # noqa: PLC0415 - beside its one use

    found: list[dict[str, Any]] = httpx.get(f"{server.url}/api/tags").json()["models"]
    return found


def test_a_server_that_is_away_holds_nothing_up(home: Home) -> None:
    """With nobody at the server's address the alias moves here, and the words say what brings the server in step."""
    away = {"THAU_SERVING__OLLAMA_ENABLED": "true", "OLLAMA_HOST": "127.0.0.1:1"}
    code, out, _ = thau_here(home, "rollback", **away)
    assert (code, "thau sync" in out) == (0, True)
    assert asked(home) == SAYS[2]


def test_what_cannot_answer_is_refused(home: Home) -> None:
    """An unknown number, one that was never promoted, none before the first, a file that is lost or damaged."""
    assert refused(home, "rollback", "9")[0] == 2
    with Ledger.open(home.ledger) as ledger:
        ledger.connection.execute("UPDATE runs SET state = 'failed' WHERE id = 'run-0002'")
    code, words = refused(home, "rollback", "2")
    assert (code, "not promoted" in words, "choose one of 1, 3" in words) == (2, True, True)
    gguf = home.versions / f"{FAMILY}-v1" / "model.gguf"
    sound = gguf.read_bytes()
    gguf.write_bytes(b"W" + sound[1:])
    code, words = refused(home, "rollback", "1")
    assert (code, "SHA-256" in words) == (8, True)
    gguf.unlink()
    code, words = refused(home, "rollback")
    assert (code, "is gone" in words, "backup" in words) == (8, True, True)
    assert asked(home) == SAYS[3]
    gguf.write_bytes(sound)
    command(home, "rollback")
    assert refused(home, "rollback")[0] == 2


def test_a_daemon_says_why_it_does_not_go_back(home: Home) -> None:
    """A file that is lost after the command looked is the daemon's to refuse: an event says why, and nothing moves."""
    with running(home, **KEEP_ONE):
        (home.versions / f"{FAMILY}-v1" / "model.gguf").unlink()
        send(home, Request.ROLLBACK, n=1)
        said = wait_until(lambda: look(home, lambda ledger: ledger.events(1, ["not_rolled_back"])), what="the refusal")
        assert "is gone" in said[0]["reason"]
    assert asked(home) == SAYS[3]


def test_what_a_crash_leaves_of_a_prune_goes_at_the_next_start(home: Home) -> None:
    """Dead between commit and removal, the daemon's next life removes the files; the request is obeyed once."""
    with running(home, **KEEP_ONE):
        pass
    with Ledger.open(home.ledger) as ledger:
        ledger.give_up([version for version in ledger.versions(FAMILY) if version.n == 1])
    gguf = home.versions / f"{FAMILY}-v1" / "model.gguf"
    card = gguf.with_name("certificate.json")
    card.write_text("{}")
    assert gguf.exists()
    with running(home, **KEEP_ONE):
        assert not gguf.exists()
    assert card.exists()


def test_a_no_prunes_nothing(home: Home) -> None:
    """Nobody there to say yes is a no: exit code 1, and every file stays."""
    done = thau(home.root, "prune", **KEEP_ONE)
    assert done.returncode == 1
    assert "Nothing was changed" in done.stdout
    assert all((home.versions / f"{FAMILY}-v{n}" / "model.gguf").exists() for n in SAYS)


def test_a_promotion_after_a_rollback_moves_the_alias(home: Home) -> None:
    """Going back holds until the next version is promoted, which was examined: that one answers then."""
    command(home, "rollback", "1")
    promote(home, 4, ["negro"])
    assert asked(home) == "negro"
    assert command(home, "rollback")["after"] == f"{FAMILY}-v3"


def test_a_daemon_that_dies_first_is_done_without(home: Home) -> None:
    """What was asked of a daemon that was killed before it read it is done all the same, and not once more later."""
    daemon = start(home, stdin=subprocess.DEVNULL, **KEEP_ONE)
    os.kill(daemon.pid, signal.SIGSTOP)
    with thau_beside(home, "rollback", "1") as asking:
        wait_until(lambda: any(home.control.glob("*.json")), what="the request")
        daemon.kill()
        daemon.wait()
        assert asking.wait(60) == 0
    assert asked(home) == SAYS[1]
    assert not list(home.control.iterdir())
    command(home, "rollback", "2")
    with running(home, **KEEP_ONE):
        assert asked(home) == SAYS[2]


def test_two_who_go_back_at_once_both_hear_of_it(home: Home) -> None:
    """Both requests wait when the daemon looks: each command ends, the one that came first says who answers now."""
    with running(home, **KEEP_ONE) as daemon:
        os.kill(daemon.pid, signal.SIGSTOP)
        with thau_beside(home, "rollback", "1", "--json") as one, thau_beside(home, "rollback", "2", "--json") as two:
            wait_until(lambda: len(list(home.control.glob("*.json"))) == 2, what="both requests")
            os.kill(daemon.pid, signal.SIGCONT)
            said = [json.loads(each.communicate(timeout=60)[0]) for each in (one, two)]
        assert [each.returncode for each in (one, two)] == [0, 0]
        assert all(each["moved"] for each in said)
        assert asked(home) in {SAYS[1], SAYS[2]}


@contextmanager
def thau_beside(home: Home, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """`thau` as a process of its own."""
    command_line = [sys.executable, "-m", "thaud.cli", "--home", str(home.root), *words]
    with subprocess.Popen(command_line, env={**os.environ, **QUICK, **KEEP_ONE}, stdout=subprocess.PIPE) as child:
        try:
            yield child
        finally:
            child.kill()
