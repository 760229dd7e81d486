"""What the fake does wrong on purpose."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.serving.kit import Forge
from thaud.errors import ServerError
from thaud.serving.fake_ollama import FakeOllama, Fault, read_fault
from thaud.serving.ollama import OllamaServer


@pytest.fixture
def fake() -> Iterator[FakeOllama]:
    with FakeOllama("new") as server:
        yield server


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("blobs:drop:1000", Fault("blobs", "drop", after_bytes=1000)),
        ("chat:cut:2", Fault("chat", "cut", after_lines=2)),
        ("tags:busy", Fault("tags", "busy")),
        ("chat:hang:0:1.5", Fault("chat", "hang", seconds=1.5)),
    ],
)
def test_fault_is_read_from_the_command_line(text: str, fault: Fault) -> None:
    """ROUTE:KIND[:AFTER[:SECONDS]], with AFTER in bytes for uploads and in lines for streams."""
    assert read_fault(text) == fault


@pytest.mark.parametrize("text", ["", "chat", "chat:explode", "chat:cut:x", "chat:cut:1:2:3"])
def test_fault_that_is_none(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(ValueError, match=r"is no fault|invalid literal"):
        read_fault(text)


def test_upload_broken_at_a_byte_leaves_nothing(fake: FakeOllama, tmp_path: Path) -> None:
    """The connection breaks behind that byte, the blob is not there, and the next try stores it."""
    version = Forge(tmp_path).version(1, ["hola"])
    digest, path = f"sha256:{version.gguf_sha256}", Path(version.gguf)
    server = OllamaServer(fake.url)
    fake.faults.append(Fault("blobs", "drop", after_bytes=1000))
    with pytest.raises(ServerError):
        server.push_blob(path, digest)
    assert not server.has_blob(digest)
    assert server.push_blob(path, digest)


@pytest.mark.parametrize(("kind", "status"), [("busy", 503), ("broken", 500)])
@pytest.mark.parametrize("route", ["tags", "version"])
def test_refusal_is_once(fake: FakeOllama, route: str, kind: str, status: int) -> None:
    """The next request on the route is refused, the one after it is not."""
    fake.faults.append(read_fault(f"{route}:{kind}"))
    asked = [httpx.get(f"{fake.url}/api/{route}", trust_env=False).status_code for _ in range(2)]
    assert asked == [status, 200]


def test_short_answer_may_break_off(fake: FakeOllama) -> None:
    """A dropped connection is no answer at all."""
    fake.faults.append(Fault("version", "drop"))
    with pytest.raises(ServerError, match="broke off"):
        OllamaServer(fake.url).version()


def test_hanging_request_is_answered_in_the_end(fake: FakeOllama) -> None:
    """Nothing comes for so long; then all is as it would have been."""
    fake.faults.append(Fault("version", "hang", seconds=0.2))
    start = time.monotonic()
    assert OllamaServer(fake.url).version() == "0.33.0"
    assert time.monotonic() - start >= 0.2


def test_stopping_lets_go_of_what_hangs() -> None:
    """A server that is stopped does not wait for its own faults."""
    with FakeOllama("new") as fake:
        fake.faults.append(Fault("version", "hang", seconds=600))
        with pytest.raises(httpx.TimeoutException):
            httpx.get(f"{fake.url}/api/version", trust_env=False, timeout=0.1)
    assert fake.ended.is_set()


def test_slow_upload_arrives(fake: FakeOllama, tmp_path: Path) -> None:
    """A slow upload takes its time and is whole."""
    version = Forge(tmp_path).version(1, ["hola"])
    fake.faults.append(Fault("blobs", "slow", seconds=0.01))
    assert OllamaServer(fake.url).push_blob(Path(version.gguf), f"sha256:{version.gguf_sha256}")
