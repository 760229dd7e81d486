"""POST /api/chat and /api/generate: runners, what a model says, and how a server cuts it into chunks."""

import codecs
import itertools
import json
import random
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from thaud.domain import Message
from thaud.rendering import CHATML, Renderer
from thaud.serving.fake.checks import (
    Abilities,
    check_messages,
    check_options,
    check_request,
    go_abilities,
    jinja_abilities,
    keep_alive_seconds,
    runs_natively,
)
from thaud.serving.fake.engine import Loaded, check_template, load
from thaud.serving.fake.protocol import Name, Refusal, required_name
from thaud.serving.fake.store import Manifest, Store

Line = dict[str, Any]
DEFAULT_CONTEXT = 4096
PIECES_ALIKE = 30
TURN_TOKENS = 5
OPENING, CLOSING = "<tool_call>", "</tool_call>"


@dataclass
class Runner:
    """A loaded model file. `native` stays as it was at loading, whatever the model has become: the server's own bug."""

    name: Name
    native: bool
    context: int


@dataclass
class Speaker:
    """Answers questions to stored models. `new`: the generation from 0.30 on."""

    store: Store
    new: bool
    runners: dict[str, Runner] = field(default_factory=dict)

    def answer(self, body: Line, *, chat: bool) -> Iterator[Line]:
        """The chunks of one request, `message` or `response` in each. Raises Refusal."""
        name, manifest = self.find(body)
        keep_alive = keep_alive_seconds(body.get("keep_alive"))
        messages = list(body.get("messages") or ()) if chat else as_messages(body)
        blob = manifest.layer("model") or ""
        if not messages:
            yield self._load_or_unload(body, name, manifest, chat=chat, unload=keep_alive == 0)
            return
        question = self._question(body, name, manifest, messages)
        if body.get("_debug_render_only"):
            yield question.rendered()
            return
        stamp = {"model": body["model"], "created_at": now()}
        for chunk in question.chunks():
            yield {**stamp, **(chunk if chat else as_response(chunk))}
        if keep_alive == 0:
            self.runners.pop(blob, None)

    def find(self, body: Line, *, tagged: bool = False) -> tuple[Name, Manifest]:
        """The model a request names, as every reading route finds it. `tagged`: name it in full where it is missing."""
        name = required_name(body)
        if name.tag.lower() == "cloud" or name.tag.lower().endswith("-cloud"):
            raise Refusal(403, "ollama cloud is disabled: remote inference is unavailable")
        manifest = None if name.tag.lower() == "local" else self.store.find(name)
        if manifest is None:
            raise Refusal(404, f"model '{name.shown if tagged else body.get('model') or body.get('name')}' not found")
        return name, manifest

    def native(self, manifest: Manifest) -> bool:
        """Whether a fresh runner of this model would run its Jinja template."""
        return runs_natively(self.store.text(manifest, "template"), self._jinja(manifest), new=self.new)

    def abilities(self, manifest: Manifest) -> Abilities:
        """What /api/show says of a model."""
        if self.native(manifest):
            return jinja_abilities(self._jinja(manifest))
        return go_abilities(self.store.text(manifest, "template") or "")

    def _jinja(self, manifest: Manifest) -> str:
        try:
            return load(self.store.blob(manifest.layer("model") or "")).template
        except Refusal:
            return ""

    def _options(self, body: Line, manifest: Manifest) -> Line:
        options = {**self.store.parameters(manifest), **(body.get("options") or {})}
        check_options(options)
        return options

    def _runner(self, name: Name, manifest: Manifest, options: Mapping[str, Any]) -> tuple[Runner, Loaded]:
        """The model's runner, started where there is none with this context size."""
        blob = manifest.layer("model") or ""
        loaded = load(self.store.blob(blob))
        native = self.native(manifest)
        if native:
            check_template(loaded)
        context = max(4, min(int(options.get("num_ctx") or DEFAULT_CONTEXT), loaded.context_length))
        runner = self.runners.get(blob)
        if runner is None or runner.context != context:
            runner = self.runners[blob] = Runner(name, native, context)
        return runner, loaded

    def _load_or_unload(self, body: Line, name: Name, manifest: Manifest, *, chat: bool, unload: bool) -> Line:
        if unload:
            self.runners.pop(manifest.layer("model") or "", None)
        else:
            self._runner(name, manifest, self._options(body, manifest))
        empty: Line = {"message": {"role": "assistant", "content": ""}} if chat else {"response": ""}
        done = {"done": True, "done_reason": "unload" if unload else "load"}
        return {"model": body["model"], "created_at": now(), **empty, **done}

    def _question(self, body: Line, name: Name, manifest: Manifest, messages: Sequence[Line]) -> "Question":
        native = self.native(manifest)
        check_messages(messages, native=native)
        check_request(body, name, self.abilities(manifest), native=native)
        options = self._options(body, manifest)
        runner, loaded = self._runner(name, manifest, options)
        tools = body.get("tools") or []
        if native and tools and not runner.native:
            raise Refusal(500, {"code": 500, "message": "tools param requires --jinja flag", "type": "server_error"})
        speechless = not self.new and self.store.text(manifest, "template") is None
        question = Question(loaded, messages, tools, options, runner, shift=body.get("shift") is not False)
        question.check_room(truncate=body.get("truncate") is not False, new=self.new)
        return Question(loaded, messages, tools, options, runner, question.shift, speechless=speechless)


@dataclass(frozen=True)
class Question:
    """One conversation put to one loaded model. `speechless`: the model has no template and meets raw text."""

    loaded: Loaded
    messages: Sequence[Line]
    tools: Sequence[Line]
    options: Mapping[str, Any]
    runner: Runner
    shift: bool
    speechless: bool = False

    @property
    def prompt_tokens(self) -> int:
        """As a byte-level vocabulary without merges would count, roughly."""
        tools = len(json.dumps(self.tools)) if self.tools else 0
        return tools + sum(len(m.get("content", "").encode()) + TURN_TOKENS for m in self.messages)

    def check_room(self, *, truncate: bool, new: bool) -> None:
        """Raises Refusal where the prompt does not fit and may not be cut; otherwise it is cut without a word."""
        kept = self.messages[-1:] if truncate else self.messages
        tokens = Question(self.loaded, kept, self.tools, {}, self.runner, self.shift).prompt_tokens
        room = self.runner.context
        if tokens < room:
            return
        if not new and not truncate:
            raise Refusal(400, "the input length exceeds the context length")
        if self.runner.native or (new and not truncate):
            raise Refusal(400, json.dumps({"error": overflow(tokens, room)}))
        if new and not self.shift:
            raise Refusal(
                400, "the prompt is longer than the context length currently available to the model; shorten it"
            )

    def rendered(self) -> Line:
        """The answer to `_debug_render_only`, for a model that runs its own template."""
        turns = [
            Message.from_json({**m, "content": m.get("content", ""), "name": m.get("tool_name")}) for m in self.messages
        ]
        renderer = Renderer(self.loaded.template or CHATML, ())
        return {"_debug_info": {"rendered_template": renderer.render(turns, self.tools, add_generation_prompt=True)}}

    def chunks(self) -> Iterator[Line]:
        """The pieces of the answer; the last has `done`, unless the server's guard against loops ends it before."""
        prompt = min(self.prompt_tokens, self.runner.context)
        room = self.runner.context - prompt if not self.shift else 10 * self.runner.context
        asked = int(self.options.get("num_predict") or -1)  # Go cuts a fraction off
        limit = min(room, asked) if asked > 0 else room
        said = [] if self.speechless else list(self.loaded.say(limit))
        ended = len(said) < limit
        counts = {"prompt_eval_count": prompt, "eval_count": len(said) + ended}
        times = dict.fromkeys(("total_duration", "load_duration", "prompt_eval_duration", "eval_duration"), 1000)
        texts = decoded(said)
        if not self.runner.native and loops(texts):
            yield from map(message, texts[:PIECES_ALIKE])
            return
        last: Line = {"role": "assistant", "content": ""}
        for chunk in self._with_calls(texts, ended=ended) if self.tools else map(message, texts):
            if self.runner.native and "tool_calls" in chunk["message"]:
                last = chunk["message"]
            else:
                yield chunk
        yield {"message": last, "done": True, "done_reason": "stop" if ended else "length", **times, **counts}

    def _with_calls(self, texts: Sequence[str], *, ended: bool) -> Iterator[Line]:
        """Text up to the first tag, then the calls; what comes after is lost."""
        before, tag, rest = "".join(texts).partition(OPENING)
        if before:
            yield message(before)
        calls = parse_calls(tag + rest, [tool["function"]["name"] for tool in self.tools])
        if tag and self.runner.native and not (calls and ended):
            raise Refusal(500, "llama-server returned invalid tool call arguments: unexpected end of JSON input")
        if calls:
            rows = [tool_call(number, call, native=self.runner.native) for number, call in enumerate(calls)]
            yield {"message": {"role": "assistant", "content": "", "tool_calls": rows}, "done": False}


def as_messages(body: Line) -> list[Line]:
    """A generate request's prompt as a turn."""
    if body.get("raw") and (body.get("template") or body.get("system") or body.get("context")):
        raise Refusal(400, "raw mode does not support template, system, or context")
    return [{"role": "user", "content": body["prompt"]}] if body.get("prompt") else []


def as_response(chunk: Line) -> Line:
    """A chat's chunk in the words of generate."""
    rest = {key: value for key, value in chunk.items() if key != "message"}
    return {"response": chunk.get("message", {}).get("content", ""), **rest}


def message(text: str) -> Line:
    """One chunk of text."""
    return {"message": {"role": "assistant", "content": text}, "done": False}


def decoded(said: Sequence[bytes | None]) -> list[str]:
    """Whole characters only; control tokens have no text."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    texts = [decoder.decode(piece or b"") for piece in said]
    return [text for text in [*texts, decoder.decode(b"", final=True)] if text]


def loops(texts: Sequence[str]) -> bool:
    """Whether the guard against loops sees more than PIECES_ALIKE equal pieces in a row."""
    return any(len(list(group)) > PIECES_ALIKE for _, group in itertools.groupby(text.strip() for text in texts))


def parse_calls(text: str, offered: Sequence[str]) -> list[tuple[str, Line]]:
    """Hermes calls of offered tools; what is malformed or unknown is lost without a word."""
    calls = []
    for block in re.findall(f"{OPENING}(.*?)(?:{CLOSING}|$)", text, re.DOTALL):
        try:
            row = json.loads(block)
        except json.JSONDecodeError:
            continue
        arguments = row.get("arguments", row.get("parameters"))
        if row.get("name") in offered and isinstance(arguments, dict):
            calls.append((row["name"], arguments))
    return calls


def tool_call(number: int, call: tuple[str, Line], *, native: bool) -> Line:
    """A call as the two ways of running a template number and name it."""
    letters = string.ascii_letters if native else string.ascii_lowercase
    tail = "".join(random.choices(letters + string.digits, k=32 if native else 8))  # noqa: S311 - an id, no secret
    name, arguments = call
    return {
        "id": tail if native else f"call_{tail}",
        "function": {"index": number, "name": name, "arguments": arguments},
    }


def overflow(tokens: int, room: int) -> Line:
    """llama-server's own error object."""
    return {
        "code": 400,
        "message": f"request ({tokens} tokens) exceeds the available context size ({room} tokens), try increasing it",
        "type": "exceed_context_size_error",
        "n_prompt_tokens": tokens,
        "n_ctx": room,
    }


def now() -> str:
    """RFC 3339, UTC."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
