"""A model on an Ollama server, behind the interface of runtime.py. Owns the translation of one streamed chat.

It speaks HTTP itself: the ollama library cannot send `truncate` and `shift`, without which a prompt that does not fit
is cut silently, and it drops parts of tool definitions (nested `properties`, `anyOf`) that the model was trained with.

How a model calls is asked of `/api/show` (`/api/tags` may say otherwise): natively where it can, else through `format`.
`format` with thinking is held by the server in one of two ways, and not by all: from 0.30 on its grammar lets the model
think first; with a Go template it generates twice, and if the model does not think, the first answer stands as it is.
So what comes is looked at, and where it begins as no JSON does, the question is asked again without thinking.
"""

import json
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from thaud.domain import Message
from thaud.errors import OverfullError, ServerError
from thaud.serving.address import parse_host
from thaud.serving.gauge import Gauge
from thaud.serving.ollama_errors import connection, overflow, refusal, translated, unwrap
from thaud.serving.ollama_stream import Hearing, cut_lines, is_cut_call
from thaud.serving.runtime import Calling, Delta, DoneReason

if TYPE_CHECKING:
    import httpx

ANSWER_S = 600.0
SHOW_S = CONNECT_S = 30.0
NOTHING = Delta()
REMADE = "; thau sync makes it again, /model takes another"


class OllamaRuntime:
    """A model served by Ollama at `host` under `name`, always asked with a context of `context_tokens`.

    What the model can is asked of the server when it is first needed, and kept.
    """

    def __init__(self, host: str, name: str, context_tokens: int) -> None:
        self.url = parse_host(host).url
        self._name, self._context_tokens = name, context_tokens
        self._gauge = Gauge()

    @property
    def name(self) -> str:
        """The name it is served under."""
        return self._name

    @property
    def context_tokens(self) -> int:
        """The context asked for with every question, whatever the server's default."""
        return self._context_tokens

    @property
    def calling(self) -> Calling:
        """How this model calls tools. Raises ServerError where the server does not say."""
        return "native" if "tools" in self._capabilities else "schema"

    @property
    def thinks(self) -> bool:
        """Whether the server's template can have thinking switched on. Raises ServerError."""
        return "thinking" in self._capabilities

    @cached_property
    def _capabilities(self) -> frozenset[str]:
        with self._client(f"showing {self._name}", SHOW_S) as client:
            answer = client.post("/api/show", json={"model": self._name})
            if answer.status_code != 200:
                self._refuse(answer.text, answer.status_code, ())
            return frozenset(answer.json().get("capabilities") or ())

    def count(
        self, messages: Sequence[Message], *, tools: Sequence[Mapping[str, Any]] = (), think: bool = False
    ) -> int:
        """An estimate of the prompt's tokens that errs upwards; exact for what the server counted before.

        Raises ServerError where tools are given and the server does not say whether the model has a place for them.
        """
        del think  # a handful of tokens, within the margin
        offered = tools if tools and self.calling == "native" else ()
        return self._gauge.estimate(prompt_rows(messages, offered))

    def chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        actions: Mapping[str, Any] | None = None,
        think: bool = False,
        max_new_tokens: int = 512,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Iterator[Delta]:
        """Stream the next turn. Raises OverfullError where the prompt does not fit, ServerError where the server fails.

        A model that cannot think is not asked to; one that can is told not to, unless it is asked.
        """
        held = actions is not None and self.calling == "schema"
        offered = () if held else tools
        thinking = think and self.thinks
        body = self._request(messages, max_new_tokens, temperature, seed) | {"think": thinking}
        if offered:
            body["tools"] = [tool_to_ollama(tool) for tool in offered]
        if held:
            body["format"] = actions
            body["options"]["stop"] = []  # the schema says where it ends; a stop may stand inside of a text
        rows = prompt_rows(messages, offered)
        yield from self._hold(body, rows) if held and thinking else self._ask(body, rows)

    def _request(
        self, messages: Sequence[Message], max_new_tokens: int, temperature: float, seed: int
    ) -> dict[str, Any]:
        """The question, with what would otherwise differ between servers said aloud."""
        return {
            "model": self._name,
            "messages": [message_to_ollama(message) for message in messages],
            "stream": True,
            "truncate": False,
            "shift": False,
            "options": {
                "num_ctx": self._context_tokens,
                "num_predict": max_new_tokens,
                "temperature": temperature,
                "seed": seed,
                "repeat_penalty": 1.0,
            },
        }

    def _hold(self, body: Mapping[str, Any], rows: Sequence[str]) -> Iterator[Delta]:
        """Thoughts, then JSON: if need be in a second pass, which is held to the schema from its first token."""
        begun = False
        with closing(self._ask(body, rows)) as first:
            for delta in first:
                text = delta.text if begun else delta.text.lstrip()
                if not begun and is_loose(text, delta.done):
                    break
                begun = begun or bool(text)
                yield replace(delta, text=text)
                if delta.done:
                    return
        yield from self._ask({**body, "think": False}, rows)

    def _ask(self, body: Mapping[str, Any], rows: Sequence[str]) -> Generator[Delta, None, None]:
        """One request. Closing the iterator closes the connection, at which the server stops generating."""
        with (
            self._client(f"{self._name} was answering", ANSWER_S) as client,
            client.stream("POST", "/api/chat", json=body) as answer,
        ):
            if answer.status_code == 200:
                yield from self._hear(cut_lines(answer.iter_bytes()), rows)
            else:
                self._refuse(answer.read().decode("utf-8", "replace"), answer.status_code, rows)
                yield Delta(done="length")

    def _hear(self, lines: Iterable[bytes], rows: Sequence[str]) -> Iterator[Delta]:
        """The server's chunks; where the stream ends without its last one, a delta that says `aborted` is added."""
        hearing = Hearing()
        for line in lines:
            part = json.loads(line)
            if "error" in part:
                self._refuse(part["error"], 0, rows)
                yield hearing.break_off("length")
                return
            delta = hearing.hear(part)
            if delta.done == "stop":
                self._gauge.learn(rows, delta.prompt_tokens)
            if delta != NOTHING:
                yield delta
            if delta.done:
                return
        yield hearing.break_off()

    def _refuse(self, error: Any, status: int, rows: Sequence[str]) -> None:
        """Raise what an error means; nothing, where it means that the limit came within a call."""
        if is_cut_call(error):
            return
        if (figures := overflow(error)) is not None:
            inner = unwrap(error)
            self._gauge.learn(rows, inner.get("n_prompt_tokens") or 0 if isinstance(inner, dict) else 0)
            raise OverfullError(f"the conversation does not fit {self._name}: {figures}; shorten it or start a new one")
        why = f"{refusal(error, status)}{REMADE if status == 404 else ''}"
        raise ServerError(f"Ollama at {self.url} refused while {self._name} was answering: {why}")

    @contextmanager
    def _client(self, doing: str, answer_s: float) -> Iterator["httpx.Client"]:
        import httpx  # noqa: PLC0415 - heavy

        patience = httpx.Timeout(answer_s, connect=CONNECT_S)
        with (
            translated(self.url, doing),
            httpx.Client(base_url=self.url, timeout=patience, **connection(self.url)) as client,
        ):
            yield client


def is_loose(text: str, done: DoneReason | None) -> bool:
    """Whether an answer begins as no JSON object does, or is over before it began."""
    return not text.startswith("{") if text else done == "stop"


def message_to_ollama(message: Message) -> dict[str, Any]:
    """A turn in Ollama's JSON: like OpenAI's, but a tool's answer carries `tool_name`."""
    row: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.thinking:
        row["thinking"] = message.thinking
    if message.tool_calls:
        row["tool_calls"] = [call.to_json() for call in message.tool_calls]
    if message.tool_name is not None:
        row["tool_name"] = message.tool_name
    return row


def tool_to_ollama(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A definition in the shape that servers of both generations read: newer ones make no grammar of a tool without a
    `type` and an object of `properties`, and to Go a property that is no object, or a null, is an unreadable request.
    """
    function = tool.get("function") or tool
    given = function.get("parameters") or {}
    parameters: dict[str, Any] = {**given, "type": "object"}
    properties = given.get("properties")
    found = properties if isinstance(properties, Mapping) else {}
    parameters["properties"] = {name: dict(each) if isinstance(each, Mapping) else {} for name, each in found.items()}
    parameters["required"] = [name for name in given.get("required") or () if name in found]
    return {"type": "function", "function": {**function, "parameters": parameters}}


def prompt_rows(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """What of a prompt decides about its length: the tools, then its turns."""
    offered = [json.dumps([dict(tool) for tool in tools], ensure_ascii=False)] if tools else []
    return (*offered, *(json.dumps(message_to_ollama(message), ensure_ascii=False) for message in messages))
