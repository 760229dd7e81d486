"""`thau sync`, with the service and without it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.testkit.daemon import make_home, running, thau, wait_until
from tests.testkit.served import answer, held, promote, served_home, with_server
from thaud.home import Home
from thaud.serving.fake_ollama import FakeOllama, Fault
from thaud.serving.ollama import OllamaServer

ENGLISH, SPANISH = {"THAU_LANGUAGE": "en"}, {"THAU_LANGUAGE": "es"}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home with one promoted version."""
    return served_home(tmp_path / "home", ["azul"])


def ask(home: Home, server: FakeOllama, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return thau(home.root, "sync", *arguments, **with_server(server), **{**ENGLISH, **more})


def parsed(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_without_the_service_it_is_done_here(home: Home) -> None:
    """Versions and alias are there when the command ends, each is named, and a second time nothing is done."""
    with FakeOllama() as server:
        done = ask(home, server)
        assert (done.returncode, done.stderr) == (0, "")
        assert "thau-nano-v1: served from now on" in done.stdout
        assert "thau-nano answers as thau-nano-v1." in done.stdout
        assert "is up to date" in done.stdout
        assert answer(server, "thau-nano") == "azul"
        assert held(home) == {"thau-nano": "served", "thau-nano-v1": "served"}
        assert "thau-nano-v1: served, as it was" in ask(home, server).stdout
        assert parsed(ask(home, server, "--json"))["at"] > "2026"


def test_with_the_service_it_is_asked_and_waited_for(home: Home) -> None:
    """While the service runs the command asks it, and tells what it found; a name deleted by hand is back."""
    with FakeOllama() as server, running(home, **{**with_server(server), "THAU_SERVING__RETRY_S": "600"}):
        wait_until(lambda: held(home).get("thau-nano") == "served", what="the first look")
        OllamaServer(server.url).delete("thau-nano-v1")
        report = parsed(ask(home, server, "--json"))
        assert report["state"] == "in_step"
        assert report["names"] == [{"name": "thau-nano-v1", "state": "served", "detail": ""}]
        assert report["alias"] == {"name": "thau-nano", "version": "thau-nano-v1", "failure": None}
        assert "thau-nano-v1:latest" in OllamaServer(server.url).tags()


@pytest.mark.parametrize(("words", "said"), [(ENGLISH, "versions that wait: 1"), (SPANISH, "versiones que esperan: 1")])
def test_nobody_there(home: Home, words: dict[str, str], said: str) -> None:
    """A server that is away is exit code 10 and says how many versions wait; `thau status` says it too."""
    with FakeOllama() as server:
        environment = with_server(server)
    done = thau(home.root, "sync", **environment, **words)
    assert done.returncode == 10
    assert said in done.stdout
    assert "nobody answers" in done.stderr
    assert said in thau(home.root, "status", **environment, **words).stdout
    report = parsed(thau(home.root, "sync", "--json", **environment))
    assert (report["state"], report["names"][0]["state"]) == ("away", "waiting")


def test_what_fails_is_named(home: Home) -> None:
    """One version that the server refuses is exit code 10, with the reason, and the others are served."""
    promote(home, 2, ["rojo"])
    with FakeOllama() as server:
        server.faults.append(Fault("create", "full", after_lines=1))
        done = ask(home, server)
        assert done.returncode == 10
        assert "thau-nano-v1: not served: " in done.stdout
        assert "thau-nano-v2: served from now on" in done.stdout
        assert "no space left on device" in done.stderr
        assert held(home) == {"thau-nano-v1": "failed", "thau-nano-v2": "served", "thau-nano": "served"}


def test_taking_over(tmp_path: Path) -> None:
    """Another home's names are refused with the remedy, and claimed where that is asked for, also by the service."""
    first, second = served_home(tmp_path / "first", ["azul"]), served_home(tmp_path / "second", ["rojo"])
    with FakeOllama() as server:
        assert ask(first, server).returncode == 0
        refused = ask(second, server)
        assert refused.returncode == 10
        assert "thau sync --take-over" in refused.stderr
        assert answer(server, "thau-nano") == "azul"
        assert ask(second, server, "--take-over").returncode == 0
        assert answer(server, "thau-nano") == "rojo"
        with running(first, **{**with_server(server), "THAU_SERVING__RETRY_S": "600"}):
            wait_until(lambda: held(first).get("thau-nano") == "failed", what="the first home's failure")
            assert ask(first, server, "--take-over").returncode == 0
        assert answer(server, "thau-nano") == "azul"


def test_a_namespace_is_said(home: Home) -> None:
    """The alias is named as the server has it."""
    with FakeOllama() as server:
        done = thau(home.root, "sync", **with_server(server, "casa"), **ENGLISH)
        assert "casa/thau-nano answers as thau-nano-v1." in done.stdout
        assert set(OllamaServer(server.url).tags()) == {"casa/thau-nano:latest", "casa/thau-nano-v1:latest"}


def test_in_vain(tmp_path: Path, home: Home) -> None:
    """Where Ollama is switched off, or nothing was trained yet, the line says what to do."""
    off = thau(home.root, "sync")
    assert (off.returncode, "serving.ollama_enabled" in off.stderr) == (6, True)
    empty = make_home(tmp_path / "empty")
    with FakeOllama() as server:
        assert ask(empty, server).returncode == 11


def test_interrupted_it_is_begun_again_the_next_time(home: Home) -> None:
    """Ctrl-C in the middle of an exchange ends the command; the next one finishes what it began."""
    with FakeOllama() as server:
        server.faults.append(Fault("create", "slow", seconds=0.5))
        command = [sys.executable, "-m", "thaud.cli", "--home", str(home.root), "sync"]

        child = subprocess.Popen(command, env={**os.environ, **with_server(server)}, stdout=subprocess.DEVNULL)
        wait_until(lambda: ("POST", "/api/create") in server.requests, what="the making")
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 130
        assert ask(home, server).returncode == 0
        assert OllamaServer(server.url).tags().keys() == {"thau-nano:latest", "thau-nano-v1:latest"}
