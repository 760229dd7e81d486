"""A real daemon and the strict double of an Ollama server: what was promoted appears there by itself."""

import hashlib
import socket
from pathlib import Path

import pytest

from tests.seeded import freeze
from tests.testkit.daemon import look, make_home, running, wait_until
from tests.testkit.scripted_gguf import write_scripted_gguf
from thaud.domain import Score, Version
from thaud.home import Home
from thaud.ledger import Ledger, LedgerReader
from thaud.serving.fake_ollama import FakeOllama

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home whose ledger holds one promoted version, a scripted GGUF."""
    made = make_home(tmp_path / "home")
    gguf = made.versions / "thau-nano-v1" / "model.gguf"
    gguf.parent.mkdir(parents=True)
    write_scripted_gguf(gguf, ["azul"], chat_template=TEMPLATE)
    digest = hashlib.sha256(gguf.read_bytes()).hexdigest()
    with Ledger.open(made.ledger) as ledger:
        run_id = freeze(ledger, [], 0, "thau-nano").id
        size, at = gguf.stat().st_size, "2026-01-02T00:00:00+00:00"
        version = Version("thau-nano", 1, run_id, 0, str(gguf), digest, size, Score(30, 25), 2, at)
        ledger.accept(version, ["fine"], {})
        ledger.promote(version, None)
    return made


def held(home: Home) -> dict[str, str]:
    return {row["name"]: row["state"] for row in look(home, LedgerReader.registrations)}


def with_server(server: FakeOllama) -> dict[str, str]:
    return {"THAU_SERVING__OLLAMA_ENABLED": "true", "OLLAMA_HOST": server.url, "THAU_SERVING__RETRY_S": "0.3"}


@pytest.mark.parametrize("generation", ["new", "old"])
def test_promoted_versions_appear_on_the_server(home: Home, generation: str) -> None:
    """Version and alias are registered at start, on both generations of server, and the ledger knows it."""
    with FakeOllama(generation=generation) as server, running(home, **with_server(server)):
        both = {"thau-nano": "served", "thau-nano-v1": "served"}
        assert wait_until(lambda: held(home) == both, what="both names")


def test_a_server_that_comes_later_is_found(home: Home) -> None:
    """Away at start, the server gets the version when it answers; without it the daemon works as ever."""
    with FakeOllama() as first:
        environment = with_server(first)
        port = int(first.url.rsplit(":", 1)[1])
    with running(home, **environment):
        assert held(home) == {}
        with FakeOllama(port=port):
            assert wait_until(lambda: held(home).get("thau-nano") == "served", what="the alias")


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
