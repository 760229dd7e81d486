"""Every way in which an Ollama server or its client library fails -> one ServerError with one line.

The library raises ResponseError (status -1 for an error inside a stream), ConnectionError, raw httpx errors in
streaming calls, pydantic's ValidationError for answers it does not know, and json's errors for lines cut short.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from thaud.errors import ServerError

REFUSED = " refused "  # in what is made here of an answer that is an error
LONGEST_TEXT = 600
NESTING = 4


def connection(url: str) -> dict[str, Any]:
    """How to connect: past the environment's proxies, and without loading certificates for plain HTTP."""
    return {"trust_env": False, "verify": url.startswith("https:")}


@contextmanager
def translated(url: str, doing: str) -> Iterator[None]:
    """Run one exchange with the server at `url`. Raises ServerError; `doing` completes the sentence 'while ...'."""
    import httpx  # noqa: PLC0415 - loaded only where a server is spoken to
    import ollama  # noqa: PLC0415

    try:
        yield
    except ollama.ResponseError as error:
        raise ServerError(
            f"Ollama at {url} refused while {doing}: {refusal(error.error, error.status_code)}"
        ) from error
    except httpx.TimeoutException as error:
        raise ServerError(f"Ollama at {url} gave no answer in time while {doing}") from error
    except httpx.InvalidURL as error:
        raise ServerError(f"{url} is no address of an Ollama server: {error}; set OLLAMA_HOST") from error
    except (httpx.ConnectError, ConnectionError) as error:
        if "SSL" in str(error):  # somebody answers, and is not trusted
            raise ServerError(f"Ollama at {url} is not trusted while {doing}: {plain(str(error))}") from error
        raise ServerError(f"no Ollama server answers at {url}: start it (`ollama serve`) or set OLLAMA_HOST") from error
    except httpx.HTTPStatusError as error:
        reason = refusal(error.response.text, error.response.status_code)
        raise ServerError(f"Ollama at {url} refused while {doing}: {reason}") from error
    except httpx.HTTPError as error:
        raise ServerError(
            f"Ollama at {url} broke off while {doing}: {plain(str(error)) or type(error).__name__}"
        ) from error
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        raise ServerError(
            f"Ollama at {url} gave an answer that is not understood while {doing}: {plain(str(error))}"
        ) from error


def refusal(error: Any, status: int) -> str:
    """What an error answer says, or its status where it says nothing (403 to a foreign Host header)."""
    return plain(error) or (f"status {status} and no reason" if status > 0 else "no reason given")


def unwrap(error: Any) -> Any:
    """Undo the nesting of an error: an object in a JSON string in an object ... -> the innermost object or text."""
    for _ in range(NESTING):
        if isinstance(error, str) and error.lstrip().startswith("{"):
            try:
                error = json.loads(error)
            except json.JSONDecodeError:
                return error
        if not (isinstance(error, dict) and "error" in error):
            return error
        error = error["error"]
    return error


def plain(error: Any) -> str:
    """An error's text in one line of bounded length."""
    inner = unwrap(error)
    if isinstance(inner, dict):
        inner = inner.get("message", inner)
    text = "".join(filter(str.isprintable, " ".join(str(inner or "").split())))
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}..."


OVERFLOW_TEXTS = ("exceeds the context length", "exceeds the available context size", "longer than the context length")


def overflow(error: Any) -> str | None:
    """Where the error says that the prompt does not fit the context: what it says, with figures where it has them."""
    inner, text = unwrap(error), plain(error)
    if isinstance(inner, dict) and inner.get("type") == "exceed_context_size_error":
        return f"{inner.get('n_prompt_tokens')} tokens, the context holds {inner.get('n_ctx')}"
    return text if any(known in text for known in OVERFLOW_TEXTS) else None
