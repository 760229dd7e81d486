"""Host strings, and whether anybody is there."""

import socket
import subprocess
import sys

import pytest
from ollama._client import _parse_host

from thaud.serving.address import parse_host, reachable


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("", "http://127.0.0.1:11434"),
        ("1.2.3.4", "http://1.2.3.4:11434"),
        ("example.com:56789/", "http://example.com:56789"),
        (":56789", "http://127.0.0.1:56789"),
        ("http://example.com", "http://example.com:80"),
        ("https://example.com", "https://example.com:443"),
        ("https://example.com:56789/path/", "https://example.com:56789/path"),
        ("[::1]:1234", "http://[::1]:1234"),
        ("http://[::1]", "http://[::1]:80"),
    ],
)
def test_reads_hosts_as_the_ollama_client_does(text: str, url: str) -> None:
    """What OLLAMA_HOST may hold means the same to THAU and to the ollama library."""
    assert parse_host(text).url == url == _parse_host(text)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("http://0.0.0.0:11434", "http://127.0.0.1:11434"),
        ("[::]:11434", "http://[::1]:11434"),
        ("::1", "http://[::1]:11434"),
        (' "ollama:11434" ', "http://ollama:11434"),
        ("ollama:port", "http://ollama:11434"),
        ("ollama:99999", "http://ollama:11434"),
    ],
)
def test_reads_hosts_as_the_ollama_server_does(text: str, url: str) -> None:
    """An address to listen on is this machine; quotes go; a port that is none is the default."""
    assert parse_host(text).url == url


def test_reachable_tells_a_listener_from_nobody() -> None:
    """A bound port is reachable; closed ports and names that do not exist are not, and raise nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert reachable(f"127.0.0.1:{port}")
    assert not reachable(f"127.0.0.1:{port}")
    assert not reachable("http://no such host.invalid", timeout_s=0.2)
    assert not reachable("http://" + "a" * 70 + ".invalid", timeout_s=0.2)


def test_looking_for_a_server_loads_no_http_library() -> None:
    """The daemon that finds no server pays nothing for the client: neither httpx nor ollama is loaded."""
    code = (
        "import sys; from thaud.serving import address, ollama, ollama_runtime, reconcile, door, embedded\n"
        "address.reachable('127.0.0.1:1')\n"
        "print([name for name in ('httpx', 'ollama', 'jinja2', 'llama_cpp', 'numpy', 'gguf') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
