"""What a turn may do, as one JSON schema: a union of the tools offered and, where asked for, of the answer itself.

Owns that schema, what a model without tools in its template is told of it, and the reading of replies made by it.
Refuses to run anything, and to know how a runtime holds a model to a schema.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from agent.dialects import Curtain, Offered, Parsed, parse
from agent.dialects.reading import UnreadableCallError, as_call, decode_whole, whole
from thaud.domain import Message, ToolCall
from tools.base import Tool

FINAL = "final_answer"
# What grammars of llama.cpp and of servers can hold a model to; all else is left to validation.
HELD = frozenset(
    {"type", "enum", "const", "required", "minItems", "maxItems", "minLength", "maxLength"}
    | {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minProperties", "maxProperties"}
)
COUNTED = frozenset({"minProperties", "maxProperties"})  # held where keys have no names of their own
DEEPEST = 6  # references within references: some schemas hold themselves
FENCED = re.compile(r"\s*```[\w-]*\s*\n(?P<inside>.*?)\n?\s*```\s*", re.DOTALL)

Words = Mapping[str, str]
TOLD: Mapping[str, Words] = MappingProxyType(
    {
        "en": MappingProxyType(
            {
                "tools": "You can use these tools:",
                "form": "Reply with one JSON object and nothing else. To use a tool:",
                "answer": "To answer, when you know enough:",
                "text": "the answer",
                "result": "Result of {name}:",
            }
        ),
        "es": MappingProxyType(
            {
                "tools": "Puedes usar estas herramientas:",
                "form": "Responde con un solo objeto JSON y nada más. Para usar una herramienta:",
                "answer": "Para responder, cuando sepas bastante:",
                "text": "la respuesta",
                "result": "Resultado de {name}:",
            }
        ),
    }
)


def union(tools: Sequence[Tool], *, answer: bool) -> dict[str, Any]:
    """The schema of one action: `anyOf` of objects with `name` (a constant) and `arguments`, in the tools' order.

    answer: whether `{"name": "final_answer", "arguments": {"text": ...}}` is one of them (Runtime.calling "schema").
    What a grammar cannot hold a model to (patterns and the like) is left out: validation sees to it. There are no
    references in it, whatever the tools' schemas have.
    """
    found = [action(tool.name, held(tool.schema, tool.schema)) for tool in tools]
    if answer:
        text = {"type": "string", "minLength": 1}
        found.append(action(FINAL, object_of({"text": text}, ["text"])))
    return {"anyOf": found}


def action(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of one call."""
    return object_of({"name": {"const": name}, "arguments": dict(arguments)}, ["name", "arguments"])


def object_of(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    """The schema of an object with these properties and no others."""
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def held(schema: Any, defs: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
    """A schema without what cannot be held, references resolved. Beyond DEEPEST of them there may be anything."""
    if not isinstance(schema, Mapping) or depth > DEEPEST:
        return {}
    together = list(parts(schema, defs))
    depth += len(together) > 1
    merged = {name: each for part in together for name, each in part.items()}
    kept = {name: each for name, each in merged.items() if name in HELD}
    for several in ("anyOf", "oneOf"):
        if merged.get(several) and not {"properties", "enum", "const"} & set(merged):
            shared = {name: each for name, each in kept.items() if name != "type"}
            return {"anyOf": [{**shared, **held(each, defs, depth)} for each in merged[several]]}
    if isinstance(merged.get("items"), Mapping):
        kept["items"] = held(merged["items"], defs, depth)
    if merged.get("prefixItems"):
        kept["prefixItems"] = [held(each, defs, depth) for each in merged["prefixItems"]]
    if isinstance(merged.get("additionalProperties"), Mapping):
        kept["additionalProperties"] = held(merged["additionalProperties"], defs, depth)
    described = merged.get("properties", {})
    named = dict.fromkeys([*described, *kept.get("required", ())])
    if named or (kept.get("type") == "object" and merged.get("additionalProperties") is False):
        kept = {name: each for name, each in kept.items() if name not in COUNTED}
        kept["properties"] = {name: held(described.get(name), defs, depth) for name in named}
        kept["additionalProperties"] = False
    return kept


def parts(schema: Any, defs: Mapping[str, Any], depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """A schema and what it refers to or consists of (`$ref`, `allOf`), what is nearest last."""
    if not isinstance(schema, Mapping):  # true or false
        return
    if depth <= DEEPEST:
        if isinstance(target := schema.get("$ref"), str):
            found: Any = defs
            for step in target.removeprefix("#/").split("/"):
                name = step.replace("~1", "/").replace("~0", "~")
                found = found.get(name) if isinstance(found, Mapping) else None
            if isinstance(found, Mapping):
                yield from parts(found, defs, depth + 1)
        together = [part for each in schema.get("allOf", ()) for part in parts(each, defs, depth + 1)]
        yield from together
        objects = [part for part in [*together, schema] if "properties" in part]
        if len(objects) > 1:
            properties = {name: each for part in objects for name, each in part["properties"].items()}
            required = [name for part in [*together, schema] for name in part.get("required", ())]
            yield {**schema, "properties": properties, "required": list(dict.fromkeys(required))}
            return
    yield schema


def read(text: str, offered: Offered) -> Parsed:
    """A reply made by the union with the answer: the answer's text as `content`, or one call.

    What is no action (a model that was not held to it) is read as `dialects.parse` reads it. Never raises.
    """
    fenced = FENCED.fullmatch(text)
    try:
        value = decode_whole((fenced["inside"] if fenced else text).strip())
        if isinstance(value, Mapping) and isinstance(value.get("name"), str):
            call = as_call(value)
            said = call.arguments.get("text")
            return Parsed(said.strip()) if call.name == FINAL and isinstance(said, str) else Parsed("", (call,))
    except UnreadableCallError as error:
        if begins_action(text):
            return Parsed("", (), (str(error),))
    return parse(text, offered)


def begins_action(text: str) -> bool:
    """Whether a text begins as an action does, however it is spaced, or breaks off before it has."""
    begun = "".join(text[:64].split())[:7]
    return bool(begun) and '{"name"'.startswith(begun)


def instructions(tools: Sequence[Tool], language: str) -> str:
    """For the system prompt where the template knows no tools: which there are, and how an action is written."""
    words = TOLD["es" if language == "es" else "en"]
    shown = [json.dumps(tool.definition["function"], ensure_ascii=False) for tool in tools]
    called = '{"name": "...", "arguments": {...}}'
    answered = written(ToolCall(FINAL, {"text": words["text"]}))
    return "\n".join([words["tools"], *shown, f"{words['form']} {called}", f"{words['answer']} {answered}"])


def spelled_out(messages: Sequence[Message], language: str) -> list[Message]:
    """Messages for a template that knows no tools: calls and answers as the actions that they are, results as the
    user's words. Whoever asks with actions gives every assistant turn in the form that the next one is to have.
    """
    words = TOLD["es" if language == "es" else "en"]
    found = []
    for message in messages:
        if message.role == "assistant":
            found.append(Message("assistant", as_action(message), thinking=message.thinking))
        elif message.role == "tool":
            head = f"{words['result'].format(name=message.tool_name)}\n" if message.tool_name else ""
            found.append(Message("user", head + message.content))
        else:
            found.append(message)
    return found


def as_action(message: Message) -> str:
    """An assistant's turn as the union has it; a try at one that failed, as it was tried."""
    if message.content.lstrip().startswith('{"name"') and not message.tool_calls:
        return message.content
    said = message.tool_calls or (ToolCall(FINAL, {"text": message.content}),)
    return "\n".join(written(call) for call in said)


def written(call: ToolCall) -> str:
    """A call as the union has it."""
    return json.dumps({"name": call.name, "arguments": dict(call.arguments)}, ensure_ascii=False)


ANSWERING = re.compile(
    r'\s*\{\s*"name"\s*:\s*"' + FINAL + r'"\s*,\s*"(?:arguments|parameters)"\s*:\s*\{\s*"text"\s*:\s*"'
)
SAID = re.compile(r'(?:[^"\\]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*')
HALF = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}$")


class AnswerScreen:
    """Streams the answer's text out of an action's JSON; calls stay hidden. As Curtain, for replies of `read`."""

    def __init__(self, offered: Offered) -> None:
        self._offered = offered
        self._text = ""
        self._at: int | None = None  # up to where the answer's text is shown
        self._curtain: Curtain | None = None

    def feed(self, piece: str) -> str:
        """Take a piece and give what of the answer is certain."""
        if self._curtain:
            return self._curtain.feed(piece)
        self._text += piece
        begun = self._text.lstrip()
        if begun and begun[0] != "{":
            self._curtain = Curtain(self._offered)
            return self._curtain.feed(self._text)
        if self._at is None and (opened := ANSWERING.match(self._text)):
            self._at = opened.end()
        return "" if self._at is None else self._go_on()

    def finish(self) -> str:
        """What was held back, where the reply was no action at all but text."""
        if self._curtain:
            return self._curtain.finish()
        return read(self._text, self._offered).content if self._at is None else ""

    def _go_on(self) -> str:
        """The answer's text from where it was shown to, up to its end or to what is not whole yet."""
        start = self._at or 0
        found = SAID.match(self._text, start)
        raw = found[0] if found else ""
        if HALF.search(raw) and not self._text.startswith('"', start + len(raw)):
            raw = HALF.sub("", raw)
        self._at = start + len(raw)
        said = json.loads(f'"{raw}"', strict=False)
        return "".join(character if whole(character) else "\N{REPLACEMENT CHARACTER}" for character in said)
