"""What comes over the wire, in every form in which a server fails: one line of ours, with what it said."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from thaud.errors import ServerError
from thaud.serving.fake_ollama import FakeOllama
from thaud.serving.ollama import OllamaServer, Recipe
from thaud.serving.ollama_errors import connection

OVERFLOW = {"code": 400, "message": "request (3030 tokens) exceeds the available context size (512 tokens)"}
RECIPE = Recipe("thau-nano-v1", Path("/nowhere.gguf"), "0" * 64, {"num_ctx": 64})
Exchange = Callable[[OllamaServer], Any]


@contextmanager
def canned(status: int, body: bytes, length: int | None = None) -> Iterator[OllamaServer]:
    """A server that answers everything alike. `length`: the size that it says, where that is a lie."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
            self.close_connection = True

        do_GET = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815 - the base class's names

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            """Keep quiet."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield OllamaServer(f"127.0.0.1:{server.server_address[1]}")
        server.shutdown()
        thread.join()


def create(server: OllamaServer) -> None:
    server.create(RECIPE)


def chat(server: OllamaServer) -> dict[str, Any]:
    return server.ask("thau-nano", [{"role": "user", "content": "hola"}])


READING: list[Exchange] = [OllamaServer.version, OllamaServer.tags, lambda server: server.show("x"), create, chat]
CHANGING: list[Exchange] = [
    lambda server: server.copy("x", "y"),
    lambda server: server.delete("x"),
    lambda server: server.unload("x"),
    lambda server: server.has_blob(RECIPE.digest),
]


@pytest.mark.parametrize("exchange", READING + CHANGING)
def test_a_foreign_host_is_refused_with_its_status(exchange: Exchange) -> None:
    """403 without a word, as a server on the loopback answers another name, is told as such by every exchange."""
    with canned(403, b"") as server, pytest.raises(ServerError, match="403") as caught:
        exchange(server)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("exchange", READING)
def test_an_answer_cut_short_is_an_error(exchange: Exchange) -> None:
    """A body that ends before it should is never taken for a whole one."""
    with canned(200, b'{"version": "0.33', 100) as server, pytest.raises(ServerError, match=r"127\.0\.0\.1"):
        exchange(server)


@pytest.mark.parametrize("exchange", [create, chat])
def test_an_error_in_an_error_is_told_in_its_own_words(exchange: Exchange) -> None:
    """An object in a JSON string in an object: the innermost message, in one line."""
    body = json.dumps({"error": json.dumps({"error": OVERFLOW})}).encode()
    with canned(400, body) as server, pytest.raises(ServerError, match=r"request \(3030 tokens\) exceeds") as caught:
        exchange(server)
    assert "{" not in str(caught.value)


def test_an_error_line_under_status_200() -> None:
    """An error that comes as a line of a stream, which the library calls status -1, ends the making."""
    lines = b'{"status":"parsing GGUF"}\n{"error":"supplied file was not in GGUF format"}\n'
    with canned(200, lines) as server, pytest.raises(ServerError, match="not in GGUF format"):
        server.create(RECIPE)


@pytest.mark.parametrize("last", [b"", b'{"status":"writing manifest"}\n'])
def test_a_stream_without_success_is_no_success(last: bytes) -> None:
    """A making whose stream ends politely before `success` did not happen, and says where it stopped."""
    where = r"stopped creating thau-nano-v1 after '(parsing GGUF|writing manifest)'"
    with canned(200, b'{"status":"parsing GGUF"}\n' + last) as server, pytest.raises(ServerError, match=where):
        server.create(RECIPE)


def test_an_error_inside_an_answer() -> None:
    """200 with an error in it, and 200 that is no JSON, are errors."""
    with canned(200, b'{"error":"an error was encountered"}') as server, pytest.raises(ServerError, match="encounter"):
        chat(server)
    with canned(200, b"Ollama is running") as server, pytest.raises(ServerError, match="not understood"):
        chat(server)


@pytest.mark.parametrize("said", ["EOF", "unexpected EOF", "unexpected end of JSON input"])
def test_a_manifest_that_cannot_be_read_is_no_model(said: str) -> None:
    """What an empty or torn manifest makes of show is an absent model; any other failure is none."""
    with canned(500, json.dumps({"error": said}).encode()) as server:
        assert server.show("thau-nano") is None
    with canned(500, b'{"error":"permission denied"}') as server, pytest.raises(ServerError, match="permission"):
        server.show("thau-nano")


def test_the_environments_proxies_are_passed_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment, which would not know this machine, is not asked."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with FakeOllama() as fake:
        server = OllamaServer(fake.url)
        assert server.version() == fake.version
        assert server.tags() == {}


def test_certificates_are_checked_where_there_are_any() -> None:
    """An https server must be who it says; plain HTTP loads no certificates."""
    assert connection("https://example.org:443") == {"trust_env": False, "verify": True}
    assert connection("http://127.0.0.1:11434") == {"trust_env": False, "verify": False}
    with FakeOllama() as fake, pytest.raises(ServerError, match="https://127"):
        OllamaServer(fake.url.replace("http:", "https:")).version()


def test_adapters_are_named_apart() -> None:
    """A base and its adapter are two files with names of their own, whatever slashes a model's name has."""
    recipe = Recipe("casa/thau-nano-v1", Path("b.gguf"), "0" * 64, {}, adapter=Path("a.gguf"), adapter_sha256="1" * 64)
    assert [digest for _, digest in recipe.blobs] == [f"sha256:{'0' * 64}", f"sha256:{'1' * 64}"]
