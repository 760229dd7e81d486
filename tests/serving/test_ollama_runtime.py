"""Talking to a served model when things go wrong. The rest is in tests/contract."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.kit import Forge
from thaud.domain import Message
from thaud.errors import ServerError
from thaud.serving.fake_ollama import FakeOllama, Fault
from thaud.serving.ollama import OllamaServer
from thaud.serving.ollama_runtime import OllamaRuntime
from thaud.serving.reconcile import register
from thaud.serving.runtime import Delta

HELLO = [Message("user", "hello")]


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeOllama]:
    with FakeOllama("new") as server:
        register(OllamaServer(server.url), Forge(tmp_path).version(1, ["one ", "two ", "three"]), 256)
        yield server


def runtime(fake: FakeOllama) -> OllamaRuntime:
    return OllamaRuntime(fake.url, "thau-nano-v1", 256)


def test_says_what_it_serves(fake: FakeOllama) -> None:
    """Name and context are those it was opened with."""
    assert (runtime(fake).name, runtime(fake).context_tokens) == ("thau-nano-v1", 256)


def test_stream_cut_short_is_aborted(fake: FakeOllama) -> None:
    """A stream that ends without its last chunk gives what came, and `aborted`."""
    fake.faults.append(Fault("chat", "cut", 2))
    assert list(runtime(fake).chat(HELLO)) == [Delta("one "), Delta("two "), Delta(done="aborted")]


def test_error_inside_a_stream(fake: FakeOllama) -> None:
    """An error line after some text is a ServerError in the server's words."""
    fake.faults.append(Fault("chat", "error", 1))
    with pytest.raises(ServerError, match=r"thau-nano-v1 was answering: .*unexpected EOF"):
        list(runtime(fake).chat(HELLO))


def test_connection_that_breaks(fake: FakeOllama) -> None:
    """A connection lost in the middle is a ServerError that says so."""
    fake.faults.append(Fault("chat", "drop", 1))
    with pytest.raises(ServerError, match="broke off while thau-nano-v1 was answering"):
        list(runtime(fake).chat(HELLO))


def test_busy_server(fake: FakeOllama) -> None:
    """A full queue is told in the server's words."""
    fake.faults.append(Fault("chat", "busy"))
    with pytest.raises(ServerError, match="server busy, please try again"):
        list(runtime(fake).chat(HELLO))


def test_listener_may_leave(fake: FakeOllama) -> None:
    """Whoever stops listening closes the connection, and the next question is answered."""
    stream = runtime(fake).chat(HELLO)
    assert next(stream) == Delta("one ")
    stream.close()  # type: ignore[attr-defined]
    assert list(runtime(fake).chat(HELLO))[-1].done == "stop"
