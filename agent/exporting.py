"""A conversation for elsewhere: as Markdown for people, or as one line of JSONL in the training format.

Owns the forms and the file, which is never one that was there; refuses to read transcripts (resume.py).
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from agent.folding import brief
from agent.state import Exchange
from thaud.errors import StorageError, UsageError
from tools.sanitise import strip_controls


def to_markdown(exchanges: Sequence[Exchange], model: str, system: str = "") -> str:
    """The conversation to read: questions as headings, calls and results in fences."""
    parts = [f"# {model}"]
    if system:
        parts.append(quoted(system))
    for exchange in exchanges:
        parts.extend(told(exchange))
    return strip_controls("\n\n".join(parts)) + "\n"


def told(exchange: Exchange) -> Iterator[str]:
    """One exchange, part by part."""
    yield f"## {' '.join(exchange.question.split())[:120]}"
    if "\n" in exchange.question.strip() or len(exchange.question) > 120:
        yield quoted(exchange.question)
    calls = [call for message in exchange.messages for call in message.tool_calls]
    results = iter([message.content for message in exchange.messages if message.role == "tool"])
    for call in calls:
        yield fenced(f"{brief(call)}\n{next(results, '')}".rstrip())
    if exchange.answer:
        yield exchange.answer.strip()


def quoted(text: str) -> str:
    """A text as a quotation."""
    return "\n".join(f"> {line}".rstrip() for line in text.strip().splitlines())


def fenced(text: str) -> str:
    """A text in a fence that is longer than any in it."""
    longest = max((len(run) for run in "".join(c if c == "`" else " " for c in text).split()), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def to_line(exchanges: Sequence[Exchange], system: str = "") -> str:
    """The whole conversation as one example: `messages`, and `tools` where some were offered. Ends in a newline."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    messages += [message.to_json() for exchange in exchanges for message in exchange.messages]
    row: dict[str, Any] = {"messages": messages}
    if tools := offered(exchanges):
        row["tools"] = tools
    return json.dumps(row, ensure_ascii=False) + "\n"


def offered(exchanges: Sequence[Exchange]) -> list[dict[str, Any]]:
    """The definitions that were offered, each once."""
    by_name = {tool["function"]["name"]: dict(tool) for exchange in exchanges for tool in exchange.tools}
    return list(by_name.values())


def write_new(path: Path, text: str, exists: str) -> None:
    """Write a file that was not there; `exists` says what is wrong where it was. Raises UsageError and StorageError."""
    try:
        with path.expanduser().open("x", encoding="utf-8") as sink:
            sink.write(text)
    except FileExistsError as error:
        raise UsageError(exists.format(path=path)) from error
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error
    except (ValueError, RuntimeError) as error:  # a NUL, an unknown user
        raise UsageError(f"{str(path)!r} is no name for a file: {error}") from error
