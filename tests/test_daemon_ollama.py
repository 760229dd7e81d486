"""A real daemon and the strict double of an Ollama server: what was promoted appears there by itself."""

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.testkit.daemon import QUICK, command_line, look, running, thau, wait_until
from tests.testkit.served import FAMILY, answer, held, promote, report_of, served_home, wait_for_death, with_server
from thaud.home import Home
from thaud.ledger import Ledger, LedgerReader
from thaud.serving.fake_ollama import FakeOllama, Fault, parse_name
from thaud.serving.ollama import OllamaServer
from thaud.synced import read_synced

BOTH = {"thau-nano": "served", "thau-nano-v1": "served"}
POINTS = [
    f"ollama.{act}.{when}" for act in ("push", "create", "copy", "delete", "unload") for when in ("before", "after")
]
LARGE = 24 << 20  # bytes: more than the sockets between hold
TAGS = {"thau-nano:latest", "thau-nano-v1:latest"}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home whose ledger holds one promoted version, a scripted GGUF."""
    return served_home(tmp_path / "home", ["azul"])


def empty_manifest(server: FakeOllama, name: str) -> None:
    """What a full disk or a crash of the server's machine leaves of a name."""
    known = parse_name(name)
    assert known is not None
    path = server.store.manifest(known)
    assert path.stat().st_size
    path.write_bytes(b"")


def last_look(home: Home) -> str:
    """The state of the server as the ledger remembers it."""
    synced = look(home, read_synced)
    return synced.state if synced else ""


def all_is_right(server: FakeOllama, said: str = "azul") -> bool:
    """Version and alias are there, nothing else is, and both answer."""
    tags = OllamaServer(server.url).tags()
    same = tags.get("thau-nano:latest") == tags.get("thau-nano-v1:latest")
    return tags.keys() == TAGS and same and answer(server, FAMILY) == said


def launch(home: Home, **environment: str) -> subprocess.Popen[bytes]:
    """A daemon that is going to die, perhaps before it says that it is ready."""
    every = {**os.environ, **QUICK, **environment}
    with (home.root / "stderr.log").open("ab") as log:
        return subprocess.Popen(command_line(home), env=every, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


@pytest.mark.parametrize("generation", ["new", "old"])
def test_promoted_versions_appear_on_the_server(home: Home, generation: str) -> None:
    """Version and alias are registered at start, on both generations of server, and the ledger knows it."""
    with FakeOllama(generation=generation) as server, running(home, **with_server(server)):
        assert wait_until(lambda: held(home) == BOTH, what="both names")
        report = report_of(home, "thau-nano-v1")
        assert report["server_version"] == server.version
        assert report["served_sha256"] == OllamaServer(server.url).gguf_digest("thau-nano-v1")
        assert "completion" in report["capabilities"]
        assert report["renders"]["asked"] >= 10
        assert report["renders"]["differs"] == ["empty system"]  # plain ChatML, which both run as a Go template


def test_a_server_that_comes_later_is_found(home: Home) -> None:
    """Away at start, the server gets the version when it answers; without it the daemon works as ever."""
    with FakeOllama() as first:
        environment = with_server(first)
        port = int(first.url.rsplit(":", 1)[1])
    with running(home, **environment):
        assert held(home) == {}
        with FakeOllama(port=port):
            assert wait_until(lambda: held(home).get("thau-nano") == "served", what="the alias")


def test_a_server_that_goes_and_comes_back_empty_is_filled_again(home: Home) -> None:
    """A server that was started anew without its models has them again, and its address is all that must stay."""
    with FakeOllama() as first, running(home, **with_server(first)):
        port = int(first.url.rsplit(":", 1)[1])
        wait_until(lambda: held(home) == BOTH, what="both names")
        first.stop()
        wait_until(lambda: last_look(home) == "away", what="its going")
        assert "does not answer" in thau(home.root, "status", LC_ALL="C.UTF-8", **with_server(first)).stdout
        with FakeOllama(port=port) as second:
            assert wait_until(lambda: all_is_right(second), what="both names again")


def test_a_server_that_never_answers_does_not_delay_the_end(home: Home) -> None:
    """Asked to end while an exchange with Ollama hangs, the daemon ends in order and at once."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environment = {"THAU_SERVING__OLLAMA_ENABLED": "true", "OLLAMA_HOST": f"127.0.0.1:{silent.getsockname()[1]}"}
        silent.settimeout(30)
        with running(home, **environment):
            silent.accept()[0].close()
            exchange, _ = silent.accept()
            assert exchange.recv(1)
    exchange.close()


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_killed_at_each_step_the_next_daemon_makes_it_right(home: Home, point: str) -> None:
    """Wherever a daemon is killed on the way to the server, the next one finishes, and leaves nothing lying about."""
    with FakeOllama() as server:
        assert wait_for_death(launch(home, THAU_FAILPOINTS=f"{point}=crash", **with_server(server))) == -signal.SIGKILL
        with running(home, **with_server(server)):
            assert wait_until(lambda: all_is_right(server) and held(home) == BOTH, what="what should be there")


@pytest.mark.slow
@pytest.mark.parametrize(("route", "path"), [("blobs", "/api/blobs/"), ("create", "/api/create")])
def test_killed_in_the_middle_of_a_stream(tmp_path: Path, route: str, path: str) -> None:
    """A daemon killed while it uploads, or while the server says how far the making is, leaves nothing in the way."""
    home = served_home(tmp_path / "home", ["azul"], padding=LARGE)
    with FakeOllama() as server:
        server.faults.append(Fault(route, "slow", seconds=0.2))
        daemon = launch(home, **with_server(server))
        wait_until(lambda: any(m == "POST" and p.startswith(path) for m, p in server.requests), what="the request")
        daemon.kill()
        assert wait_for_death(daemon) == -signal.SIGKILL
        there = OllamaServer(server.url)
        assert "thau-nano-v1:latest" not in there.tags()
        digest = look(home, LedgerReader.versions)[0].gguf_sha256
        assert there.has_blob(f"sha256:{digest}") is (route == "create")  # it was in the middle of that one
        with running(home, **with_server(server)):
            assert wait_until(lambda: all_is_right(server), 60, what="what should be there")


def test_an_upload_says_how_far_it_is(tmp_path: Path) -> None:
    """While a file goes to the server, whoever reads the ledger sees how much of it has; then it is served."""
    home = served_home(tmp_path / "home", ["azul"], padding=LARGE)
    with FakeOllama() as server:
        server.faults.append(Fault("blobs", "slow", seconds=0.1))
        with running(home, **with_server(server)):
            wait_until(lambda: held(home).get("thau-nano-v1") == "uploading", what="the progress")
            row = next(row for row in look(home, LedgerReader.registrations) if row["state"] == "uploading")
            sent, _, size = row["detail"].partition("/")
            assert 0 < int(sent) <= int(size) == (home.versions / "thau-nano-v1" / "model.gguf").stat().st_size
            assert wait_until(lambda: held(home) == BOTH, what="both names")


def test_what_was_deleted_by_hand_comes_back(home: Home) -> None:
    """A version and an alias that somebody removed are made again by the timer, without anybody asking."""
    with FakeOllama() as server, running(home, **with_server(server)):
        wait_until(lambda: held(home) == BOTH, what="both names")
        hand = OllamaServer(server.url)
        hand.delete("thau-nano")
        hand.delete("thau-nano-v1")
        assert wait_until(lambda: all_is_right(server), what="both names again")


@pytest.mark.parametrize("names", [("thau-nano-v1",), ("thau-nano",), ("thau-nano", "thau-nano-v1")])
def test_an_empty_manifest_is_repaired(home: Home, names: tuple[str, ...]) -> None:
    """Names of which a full disk left an empty manifest are made again."""
    with FakeOllama() as server, running(home, **with_server(server)):
        wait_until(lambda: held(home) == BOTH, what="both names")
        for name in names:
            empty_manifest(server, name)
        done = thau(home.root, "sync", **with_server(server))
        assert (done.returncode, done.stderr) == (0, "")
        assert all_is_right(server)


def test_a_file_that_was_exchanged_on_the_server_is_noticed(home: Home) -> None:
    """A name that runs another file than the one that was proved, whatever its licence says, is made again."""
    with FakeOllama() as server, running(home, **with_server(server)):
        wait_until(lambda: held(home) == BOTH, what="both names")
        proved = report_of(home, "thau-nano-v1")["served_sha256"]
        manifest = parse_name("thau-nano-v1")
        assert manifest is not None
        path = server.store.manifest(manifest)
        other, _ = server.store.keep((server.store.blobs / f"sha256-{proved}").read_bytes() + b"\0" * 32)
        path.write_text(path.read_text().replace(f"sha256:{proved}", other))
        assert OllamaServer(server.url).gguf_digest("thau-nano-v1") != proved
        assert thau(home.root, "sync", **with_server(server)).returncode == 0
        assert OllamaServer(server.url).gguf_digest("thau-nano-v1") == proved
        assert all_is_right(server)


def test_two_homes_on_one_server_do_not_fight(tmp_path: Path) -> None:
    """The second home's daemon leaves the first one's names alone, and says whose they are and what to set."""
    first, second = served_home(tmp_path / "first", ["azul"]), served_home(tmp_path / "second", ["rojo"])
    with FakeOllama() as server, running(first, **with_server(server)):
        wait_until(lambda: held(first) == BOTH, what="the first home's names")
        with running(second, **with_server(server)):
            wait_until(lambda: held(second).get("thau-nano") == "failed", what="the second home's failure")
            assert all_is_right(server)
            refused = thau(second.root, "sync", LC_ALL="C.UTF-8", **with_server(server))
            assert refused.returncode == 10
            assert "another THAU home" in refused.stderr
            assert "serving.namespace" in refused.stderr
        with running(second, **with_server(server, "segundo")):
            wait_until(lambda: held(second) == BOTH, what="the second home's names")
            assert (answer(server, "thau-nano"), answer(server, "segundo/thau-nano")) == ("azul", "rojo")
        assert held(first) == BOTH


def test_a_pruned_version_goes_from_the_server(tmp_path: Path) -> None:
    """A version that was given up is deleted there, and neither its successor nor the alias is touched."""
    home = served_home(tmp_path / "home", ["azul"], ["rojo"])
    with FakeOllama() as server:
        with running(home, **with_server(server)):
            wait_until(lambda: held(home).get("thau-nano") == "served", what="the alias")
            assert set(held(home)) == {"thau-nano", "thau-nano-v1", "thau-nano-v2"}
        with Ledger.open(home.ledger) as ledger:
            ledger.give_up([ledger.versions()[0]])
        with running(home, **with_server(server)):
            gone = {"thau-nano:latest", "thau-nano-v2:latest"}
            wait_until(lambda: OllamaServer(server.url).tags().keys() == gone, what="the deletion")
            wait_until(lambda: "thau-nano-v1" not in held(home), what="its end in the ledger")
            assert answer(server, "thau-nano") == "rojo"


def test_a_promotion_while_the_server_is_away_is_made_good(home: Home) -> None:
    """Versions wait for a server that is away, the ledger says so, and they appear when it is back."""
    with FakeOllama() as first:
        environment, port = with_server(first), int(first.url.rsplit(":", 1)[1])
    promote(home, 2, ["rojo"])
    with running(home, **environment), FakeOllama(port=port) as server:
        wait_until(lambda: held(home).get("thau-nano") == "served", what="the alias")
        assert answer(server, "thau-nano") == "rojo"
