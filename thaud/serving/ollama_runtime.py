"""A model on an Ollama server, behind the interface of runtime.py. Owns the translation of one streamed chat.

It speaks HTTP itself: the ollama library cannot send `truncate` and `shift`, without which a prompt that does not fit
is cut silently, and it drops parts of tool definitions (nested `properties`, `anyOf`) that the model was trained with.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from thaud.domain import Message, ToolCall
from thaud.errors import ModelError, ServerError
from thaud.serving.address import parse_host
from thaud.serving.ollama_errors import connection, overflow, refusal, translated
from thaud.serving.runtime import Delta, DoneReason

ANSWER_S = 600.0
DONE_REASONS: Mapping[str, DoneReason] = {"stop": "stop", "length": "length"}


class OllamaRuntime:
    """A model served by Ollama at `host` under `name`, always asked with a context of `context_tokens`."""

    def __init__(self, host: str, name: str, context_tokens: int) -> None:
        self.url = parse_host(host).url
        self._name, self._context_tokens = name, context_tokens

    @property
    def name(self) -> str:
        """The name it is served under."""
        return self._name

    @property
    def context_tokens(self) -> int:
        """The context asked for with every question, whatever the server's default."""
        return self._context_tokens

    def chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        max_new_tokens: int = 512,
        temperature: float = 0.0,
    ) -> Iterator[Delta]:
        """Stream the next turn. Raises ModelError where the prompt does not fit, ServerError where the server fails."""
        import httpx  # noqa: PLC0415 - heavy

        body = self._request(messages, tools, max_new_tokens, temperature)
        with (
            translated(self.url, f"{self._name} was answering"),
            httpx.Client(base_url=self.url, timeout=ANSWER_S, **connection(self.url)) as client,
            client.stream("POST", "/api/chat", json=body) as answer,
        ):
            if answer.status_code != 200:
                self._refuse(answer.read().decode("utf-8", "replace"), answer.status_code)
            yield from self._deltas(line for line in answer.iter_lines() if line)

    def _request(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]],
        max_new_tokens: int,
        temperature: float,
    ) -> dict[str, Any]:
        """The question, with what would otherwise differ between servers said aloud."""
        body: dict[str, Any] = {
            "model": self._name,
            "messages": [message_to_ollama(message) for message in messages],
            "stream": True,
            "think": False,
            "truncate": False,
            "shift": False,
            "options": {
                "num_ctx": self._context_tokens,
                "num_predict": max_new_tokens,
                "temperature": temperature,
                "repeat_penalty": 1.0,
            },
        }
        return body | ({"tools": [dict(tool) for tool in tools]} if tools else {})

    def _deltas(self, lines: Iterable[str]) -> Iterator[Delta]:
        """The server's chunks; where the stream ends without its last one, a delta that says `aborted` is added."""
        for line in lines:
            part = json.loads(line)
            if "error" in part:
                self._refuse(part["error"], 0)
            yield delta(part)
            if part.get("done"):
                return
        yield Delta(done="aborted")

    def _refuse(self, error: Any, status: int) -> None:
        if (figures := overflow(error)) is not None:
            raise ModelError(f"the conversation does not fit {self._name}: {figures}; shorten it or start a new one")
        raise ServerError(f"Ollama at {self.url} refused while {self._name} was answering: {refusal(error, status)}")


def delta(part: Mapping[str, Any]) -> Delta:
    """One chunk of a chat."""
    message = part.get("message") or {}
    calls = [call["function"] for call in message.get("tool_calls") or ()]
    return Delta(
        message.get("content") or "",
        tuple(ToolCall(call["name"], call.get("arguments") or {}) for call in calls),
        DONE_REASONS.get(part.get("done_reason") or "stop", "aborted") if part.get("done") else None,
        part.get("prompt_eval_count", 0),
        part.get("eval_count", 0),
    )


def message_to_ollama(message: Message) -> dict[str, Any]:
    """A turn in Ollama's JSON: like OpenAI's, but a tool's answer carries `tool_name`."""
    row: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        row["tool_calls"] = [call.to_json() for call in message.tool_calls]
    if message.tool_name is not None:
        row["tool_name"] = message.tool_name
    return row
