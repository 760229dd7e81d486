"""POST /api/chat and /api/generate: which model a request means, how it renders, and what runs it.

Owns the way from a request to a Question; what is then said is answering.py's.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from thaud.serving.fake.answering import Question
from thaud.serving.fake.checks import (
    Abilities,
    check_last,
    check_messages,
    check_options,
    check_request,
    check_tools,
    go_abilities,
    jinja_abilities,
    keep_alive_seconds,
    runs_natively,
)
from thaud.serving.fake.engine import Loaded, check_adapter, check_template, load
from thaud.serving.fake.held import Presses
from thaud.serving.fake.prompts import Think
from thaud.serving.fake.protocol import Name, Refusal, required_name
from thaud.serving.fake.runners import Runner, Runners, moment
from thaud.serving.fake.store import Manifest, Store

Line = dict[str, Any]
DEFAULT_CONTEXT = 4096
NOTHING = Abilities(tools=False, thinking=False, round_trip=False)


@dataclass
class Speaker:
    """Answers questions to stored models. `new`: the generation from 0.30 on."""

    store: Store
    new: bool
    runners: Runners = field(default_factory=Runners)
    presses: Presses = field(default_factory=Presses)

    def answer(self, body: Line, *, chat: bool) -> Iterator[Line]:
        """The chunks of one request, `message` or `response` in each. Raises Refusal."""
        name, manifest = self.find(body)
        keep_alive = keep_alive_seconds(body.get("keep_alive"))
        sent = list(body.get("messages") or ()) if chat else as_messages(body)
        check_messages(sent)
        if not sent and keep_alive == 0:
            self.runners.stop(manifest)
            yield self._nothing_said(body, "unload", chat=chat)
            return
        question = self._question(body, name, manifest, sent, chat=chat)
        self.runners.keep(question.runner, keep_alive)
        if not sent:
            yield self._nothing_said(body, "load", chat=chat)
            return
        if body.get("_debug_render_only"):
            yield {"model": body["model"], **self._stamp(), "_debug_info": {"rendered_template": question.prompt}}
            return
        stamp = {"model": body["model"], **self._stamp()}
        for chunk in question.chunks():
            yield {**stamp, **(chunk if chat else as_response(chunk))}
        if keep_alive == 0:
            self.runners.stop(manifest)

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
        if self.store.config(manifest).get("renderer"):
            return False
        return runs_natively(self.store.text(manifest, "template"), self.jinja(manifest), new=self.new)

    def abilities(self, manifest: Manifest) -> Abilities:
        """What /api/show says of a model."""
        if manifest.layer("model") is None:
            return NOTHING
        if self.native(manifest):
            return jinja_abilities(self.jinja(manifest))
        return go_abilities(self.store.text(manifest, "template") or "")

    def jinja(self, manifest: Manifest) -> str:
        """The template inside a model's file, empty where there is none."""
        try:
            return load(self.store.blob(manifest.layer("model") or "")).template
        except Refusal:
            return ""

    def _load(self, manifest: Manifest, *, native: bool) -> Loaded:
        path = self.store.blob(manifest.layer("model") or "")
        try:
            loaded = load(path)
            if native:
                check_template(loaded)
            if adapter := manifest.layer("adapter"):
                check_adapter(path, self.store.blob(adapter))
        except Refusal as refusal:
            raise refusal if self.new else Refusal(500, f"unable to load model: {path}") from refusal
        return loaded

    def _runner(self, name: Name, manifest: Manifest, options: Mapping[str, Any], loaded: Loaded) -> Runner:
        """The model's runner, started where there is none with this context size."""
        context = max(4, min(int(options.get("num_ctx") or DEFAULT_CONTEXT), loaded.context_length))
        if (runner := self.runners.find(manifest, context)) is not None:
            return runner
        config, native = self.store.config(manifest), self.native(manifest)
        return self.runners.start(name, manifest, config, native=native, context=context)

    def _question(self, body: Line, name: Name, manifest: Manifest, sent: Sequence[Line], *, chat: bool) -> "Question":
        if manifest.layer("model") is None:
            raise Refusal(400, f'"{body["model"]}" does not support {"chat" if chat else "generate"}')
        able, native = self.abilities(manifest), self.native(manifest)
        check_request(body, name, able)
        if renderer := self.store.config(manifest).get("renderer"):
            raise Refusal(500, f'unknown renderer "{renderer}"')
        options = {**self.store.parameters(manifest), **(body.get("options") or {})}
        check_options(options)
        loaded = self._load(manifest, native=native)
        runner = self._runner(name, manifest, options, loaded)
        tools = body.get("tools") or []
        if native and tools and not runner.native:
            raise Refusal(500, {"code": 500, "message": "tools param requires --jinja flag", "type": "server_error"})
        question = Question(
            loaded=loaded,
            runner=runner,
            native=native,
            template=None if native else self.store.text(manifest, "template"),
            messages=self._turns(manifest, sent),
            tools=tools,
            options=options,
            think=thinking(body.get("think"), able),
            thinks=able.thinking,
            body=body,
            presses=self.presses,
            new=self.new,
        )
        if sent and native:
            check_tools(tools)
            check_last(question.messages)
        return question.fitted() if sent else question

    def _turns(self, manifest: Manifest, sent: Sequence[Line]) -> list[Line]:
        """The turns sent, behind the model's own, and its system message where they do not begin with one."""
        own = json.loads(self.store.text(manifest, "messages") or "[]")
        system = self.store.text(manifest, "system")
        begins = [{"role": "system", "content": system}] if system and sent and role_of(sent[0]) != "system" else []
        return [
            {**turn, "role": role_of(turn), "content": turn.get("content") or ""} for turn in [*begins, *own, *sent]
        ]

    def _nothing_said(self, body: Line, reason: str, *, chat: bool) -> Line:
        empty: Line = {"message": {"role": "assistant", "content": ""}} if chat else {"response": ""}
        return {"model": body["model"], **self._stamp(), **empty, "done": True, "done_reason": reason}

    def _stamp(self) -> Line:
        return {"created_at": moment(self.runners.clock())}


def role_of(turn: Line) -> str:
    """A turn's role, in small letters; a missing one is no error."""
    return str(turn.get("role") or "").lower()


def thinking(asked: Think, able: Abilities) -> Think:
    """Whether to think: a model that can does so unless told otherwise; one that cannot is told what was said."""
    return True if asked is None and able.thinking else asked


def as_messages(body: Line) -> list[Line]:
    """A generate request's prompt as a turn."""
    if body.get("raw") and (body.get("template") or body.get("system") or body.get("context")):
        raise Refusal(400, "raw mode does not support template, system, or context")
    if not body.get("prompt"):
        return []
    system = [{"role": "system", "content": body["system"]}] if body.get("system") else []
    return [*system, {"role": "user", "content": body["prompt"]}]


def as_response(chunk: Line) -> Line:
    """A chat's chunk in the words of generate."""
    rest = {key: value for key, value in chunk.items() if key != "message"}
    message = chunk.get("message", {})
    thought = {"thinking": message["thinking"]} if message.get("thinking") else {}
    return {"response": message.get("content", ""), **thought, **rest}
