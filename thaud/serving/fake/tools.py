"""Tool definitions as the server passes them on, and calls as it reads them out of text behind a Go template.

A definition keeps only the parts the server knows, in its order, `required` before `properties`; all else is dropped.
Owns the generic parser's losses: what is malformed, unknown or without arguments is gone without a word.
"""

import json
import random
import string
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from thaud.serving.fake.gojson import Record, in_order
from thaud.serving.fake.gotemplate import Action, Branch, Node, Text
from thaud.serving.fake.protocol import Refusal

Line = dict[str, Any]
PROPERTY_PARTS = ("anyOf", "type", "items", "description", "enum", "properties", "required")
FALLBACK_TAG = "{"


def normalised(tool: Line, *, go: bool) -> Line:
    """A tool as it reaches the template. `go`: an empty description is there, and properties come sorted."""
    function = tool.get("function") or {}
    given = function.get("parameters") or {}
    properties = given.get("properties")
    parameters = {
        "type": given.get("type", ""),
        **{key: given[key] for key in ("$defs", "items", "required") if given.get(key)},
        "properties": None if properties is None else _properties(properties, go=go),
    }
    described = {"description": function.get("description") or ""} if go or function.get("description") else {}
    items = {"items": tool["items"]} if tool.get("items") is not None else {}
    named = {"name": function.get("name", ""), **described, "parameters": parameters}
    return {"type": tool.get("type", ""), **items, "function": named}


def _properties(properties: Mapping[str, Line], *, go: bool) -> Line:
    if not isinstance(properties, Mapping):
        raise Refusal(400, "json: cannot unmarshal array into Go struct field ToolFunctionParameters.properties")
    kept = {name: _property(value) for name, value in properties.items()}
    return dict(sorted(kept.items())) if go else kept


def _property(value: Line) -> Line:
    kept: Line = {}
    for key in PROPERTY_PARTS:
        part = value.get(key)
        if not part and part is not False:
            continue
        if key == "anyOf":
            part = [_property(choice) for choice in part]
        elif key == "properties":
            part = {name: _property(inner) for name, inner in part.items()}
        elif key == "type" and isinstance(part, list) and len(part) == 1:
            part = part[0]
        kept[key] = part
    return kept


def tool_record(tool: Line) -> Record:
    """A tool as a Go template sees it."""
    shown = normalised(tool, go=True)
    function = shown["function"]
    given = function["parameters"]
    parameters = Record(
        {
            "Type": given["type"],
            "Defs": given.get("$defs"),
            "Items": given.get("items"),
            "Required": given.get("required") or [],
            "Properties": given["properties"] or {},
        },
        given,
    )
    named = {"Name": function["name"], "Description": function["description"], "Parameters": parameters}
    return Record({"Type": shown["type"], "Items": shown.get("items"), "Function": Record(named, function)}, shown)


def call_record(call: Line, number: int) -> Record:
    """A call of the history as a Go template sees it; its arguments are a map, so sorted."""
    function = call["function"]
    arguments = in_order(function.get("arguments") or {})
    index = function.get("index", number)
    inner = Record(
        {"Index": index, "Name": function.get("name", ""), "Arguments": arguments},
        {"index": index, "name": function.get("name", ""), "arguments": arguments},
    )
    return Record({"ID": call.get("id", ""), "Function": inner}, {"id": call.get("id", ""), "function": inner.shown})


def tag_of(nodes: Sequence[Node]) -> str:
    """What the generic parser takes for the beginning of a call, read off the template; `{` where nothing qualifies."""
    for node in nodes:
        if isinstance(node, Branch):
            if node.kind == "if" and _names_calls(node):
                return _first_text(node.body) or FALLBACK_TAG
            for inner in (node.body, node.otherwise):
                if (tag := tag_of(inner)) != FALLBACK_TAG:
                    return tag
    return FALLBACK_TAG


def _names_calls(node: Branch) -> bool:
    terms = [term for command in node.pipeline.commands for term in command]
    return any(term.kind == "dot" and term.fields[-1:] == ("ToolCalls",) for term in terms)


def _first_text(nodes: Sequence[Node]) -> str:
    for node in nodes:
        if isinstance(node, Text) and node.text.strip():
            return node.text.partition("{")[0].strip()
        if isinstance(node, Branch) and node.kind == "range":
            return _first_text(node.body)
        if isinstance(node, Action | Branch):
            return ""
    return ""


def split_at_tag(text: str, tag: str) -> tuple[str, str]:
    """What is content and what is searched for calls. A bare bracket as the tag counts at the very beginning only."""
    if tag in {"{", "["}:
        return ("", text) if text.lstrip().startswith(tag) else (text, "")
    before, found, rest = text.partition(tag)
    return (before, rest) if found else (text, "")


def generic_calls(text: str, offered: Sequence[str]) -> list[tuple[str, Line]]:
    """The calls that the generic parser finds after the tag."""
    calls: list[tuple[str, Line]] = []
    while (found := _earliest(text, offered)) is not None:
        at, name = found
        end, row = next(_objects(text), (0, None))
        arguments = None if row is None else _arguments(row, name)
        if arguments is None:
            break
        calls.append((name, arguments))
        text = text[max(end, at + len(name)) :]
    return calls


def _earliest(text: str, offered: Sequence[str]) -> tuple[int, str] | None:
    found = [(text.find(name), -len(name), name) for name in offered if name and name in text]
    return None if not found else (min(found)[0], min(found)[2])


def _objects(text: str) -> Iterator[tuple[int, Line]]:
    decoder, at = json.JSONDecoder(), text.find("{")
    while at >= 0:
        try:
            row, end = decoder.raw_decode(text, at)
        except json.JSONDecodeError:
            at = text.find("{", at + 1)
        else:
            yield end, row
            at = text.find("{", end)


def _arguments(row: Line, name: str) -> Line | None:
    for key in ("arguments", "parameters", name):
        if isinstance(value := row.get(key), str):
            try:
                value = json.loads(value)
            except json.JSONDecodeError:
                continue
        if isinstance(value, dict):
            return value
    return None if {"name", "function"} & row.keys() else row


def numbered(number: int, call: tuple[str, Line], *, native: bool) -> Line:
    """A call as the two ways of running a template number and name it."""
    letters = string.ascii_letters if native else string.ascii_lowercase
    tail = "".join(random.choices(letters + string.digits, k=32 if native else 8))  # noqa: S311 - an id, no secret
    name, arguments = call
    return {
        "id": tail if native else f"call_{tail}",
        "function": {"index": number, "name": name, "arguments": arguments},
    }
