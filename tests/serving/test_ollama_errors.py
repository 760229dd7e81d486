"""Every failure of a server is one line of ours."""

import inspect
import json

import httpx
import ollama
import pytest

from thaud.errors import ServerError
from thaud.serving.ollama_errors import LONGEST_TEXT, overflow, plain, refusal, translated

URL = "http://127.0.0.1:11434"
REQUEST = httpx.Request("GET", URL)
HTTPX_ERRORS = [
    error
    for _, error in inspect.getmembers(httpx, inspect.isclass)
    if issubclass(error, httpx.HTTPError) and error is not httpx.HTTPStatusError
]
OVERFLOW = {
    "code": 400,
    "message": "request (3030 tokens) exceeds the available context size (512 tokens), try increasing it",
    "type": "exceed_context_size_error",
    "n_prompt_tokens": 3030,
    "n_ctx": 512,
}


@pytest.mark.parametrize("kind", HTTPX_ERRORS, ids=lambda kind: kind.__name__)
def test_no_transport_error_escapes(kind: type[httpx.HTTPError]) -> None:
    """Each of httpx's errors becomes a ServerError in one line that names the server."""
    with pytest.raises(ServerError, match=r"127\.0\.0\.1:11434") as caught, translated(URL, "listing its models"):
        raise kind("boom\nboom")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        ollama.ResponseError('{"error": "model \'x\' not found"}', 404),
        ollama.ResponseError("an error was encountered", -1),
        ollama.ResponseError("", 403),
        ConnectionError("refused"),
        ConnectionResetError("reset"),
        httpx.HTTPStatusError("bad", request=REQUEST, response=httpx.Response(500, text="oops", request=REQUEST)),
        json.JSONDecodeError("bad", "{", 0),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        TypeError("the JSON object must be str, not dict"),
        AttributeError("'list' object has no attribute 'get'"),
        KeyError("version"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_no_other_error_escapes(error: Exception) -> None:
    """So do the library's errors and those of answers that are cut short or of another shape."""
    with pytest.raises(ServerError, match=r"127\.0\.0\.1:11434") as caught, translated(URL, "listing its models"):
        raise error
    assert caught.value.__cause__ is error


def test_absent_server_names_the_remedy() -> None:
    """Where nobody answers, the line says how to start a server or name another."""
    with pytest.raises(ServerError, match=r"`ollama serve`.*OLLAMA_HOST"), translated(URL, "listing its models"):
        raise httpx.ConnectError("refused")


def test_nested_errors_are_unwrapped() -> None:
    """An error inside a JSON string inside an object is told in its innermost words."""
    assert plain(json.dumps({"error": json.dumps({"error": OVERFLOW})})) == OVERFLOW["message"]
    assert plain({"error": {"message": "tools param\n requires --jinja flag"}}) == "tools param requires --jinja flag"
    assert plain('{"half": ') == '{"half":'
    assert len(plain("x" * 5000)) == LONGEST_TEXT + 3


def test_silent_refusal_has_its_status() -> None:
    """An empty body is told by its status, and an error line without words as such."""
    assert refusal("", 403) == "status 403 and no reason"
    assert refusal(None, -1) == "no reason given"


def test_overflow_is_recognised_in_every_dress() -> None:
    """Both generations' ways of saying that a prompt does not fit are found, with figures where there are any."""
    assert overflow(json.dumps({"error": json.dumps({"error": OVERFLOW})})) == "3030 tokens, the context holds 512"
    assert overflow({"error": "the input length exceeds the context length"}) is not None
    assert overflow("the prompt is longer than the context length currently available to the model; x") is not None
    assert overflow("model 'x' not found") is None
