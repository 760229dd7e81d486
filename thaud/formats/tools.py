"""Tools and their calls: the schemas that a row declares and the calls that its turns make.

Owns the reduced form of a tool, the one that reaches a model whichever way it is served; refuses to run anything.
"""

from collections.abc import Mapping
from typing import Any

from thaud.domain import ToolCall
from thaud.formats.strict import MalformedError, decode, described, excerpt

MAX_DEPTH = 32  # of JSON inside text: unpacked into the canonical line it must stay below the line's own limit


def reduce_tool(tool: Any) -> dict[str, Any]:
    """A tool in the form, and the key order, in which Ollama's server and its client hand it to a template.

    Kept: type, function{name, description, parameters{type, required, properties{type, items, description, enum}}};
    empty ones are left out, `properties` never. A bare function object is wrapped. Raises MalformedError.
    Source: api/types.go of Ollama (ToolFunction, ToolProperty) and `ollama._types.Tool` of its Python client.
    """
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not is_name(function.get("name")):
        raise MalformedError(f"a tool is {described(tool)}: use an object with function.name")
    reduced: dict[str, Any] = {"name": function["name"].strip()}
    if description := optional_text(function, "description", function["name"]):
        reduced["description"] = description
    reduced["parameters"] = reduce_parameters(function.get("parameters"), function["name"])
    return {"type": "function", "function": reduced}


def reduce_parameters(parameters: Any, name: str) -> dict[str, Any]:
    """The parameters of one tool: an object schema with its properties one level deep."""
    schema = {} if parameters is None else parameters
    properties = schema.get("properties") or {} if isinstance(schema, dict) else None
    if not isinstance(properties, dict):
        raise MalformedError(f"parameters of the tool {excerpt(name)} is {described(parameters)}: use a JSON schema")
    required = schema.get("required") or []
    if not isinstance(required, list) or not all(isinstance(key, str) for key in required):
        raise MalformedError(f"required of the tool {excerpt(name)} is {described(required)}: use a list of names")
    reduced: dict[str, Any] = {"type": "object"}
    if required:
        reduced["required"] = required
    reduced["properties"] = {key: reduce_property(value, key) for key, value in properties.items()}
    return reduced


def reduce_property(schema: Any, key: str) -> dict[str, Any]:
    """One property: what both servers keep of it. To Go `items` is an untyped value, whose objects it writes by key."""
    if not isinstance(schema, dict):
        raise MalformedError(f"the property {excerpt(key)} of a tool is {described(schema)}: use an object")
    kept = ((field, schema.get(field)) for field in ("type", "items", "description", "enum"))
    return {field: by_key(value) for field, value in kept if value not in (None, "", [], {})}


def by_key(value: Any) -> Any:
    """A JSON value with the keys of all its objects in order."""
    if isinstance(value, dict):
        return {key: by_key(value[key]) for key in sorted(value)}
    return [by_key(each) for each in value] if isinstance(value, list) else value


def read_tools(row: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """The field `tools`: a list of tools, or JSON text of one as ShareGPT exports have it."""
    tools = row.get("tools")
    if isinstance(tools, str):
        tools = decode(tools, MAX_DEPTH) if tools.strip() else None
    if tools is None:
        return ()
    if not isinstance(tools, list):
        raise MalformedError(f"tools is {described(tools)}: use a list of tools")
    return tuple(reduce_tool(tool) for tool in tools)


def read_calls(calls: Any, where: str) -> list[tuple[ToolCall, str | None]]:
    """The calls of one turn, each with the id that its result will name: a list, one call, or JSON text of them."""
    if isinstance(calls, str):
        calls = decode(calls, MAX_DEPTH) if calls.strip() else None
    if calls is None:
        return []
    return [read_call(call, where) for call in (calls if isinstance(calls, list) else [calls])]


def read_call(call: Any, where: str) -> tuple[ToolCall, str | None]:
    """One call: OpenAI's nested form or the bare name and arguments; arguments as an object or as JSON text."""
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not is_name(function.get("name")):
        raise MalformedError(f"{where} has the tool call {described(call)}: use an object with name and arguments")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        arguments = decode(arguments, MAX_DEPTH) if arguments.strip() else None
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        name = excerpt(function["name"])
        raise MalformedError(f"{where} calls {name} with {described(arguments)}: use an object of arguments")
    identity = call.get("id")
    return ToolCall(function["name"].strip(), arguments), identity if isinstance(identity, str) else None


def is_name(value: Any) -> bool:
    """Whether it can name a tool."""
    return isinstance(value, str) and bool(value.strip())


def optional_text(row: Mapping[str, Any], field: str, name: str) -> str:
    """A text that may be missing."""
    value = row.get(field)
    if value is not None and not isinstance(value, str):
        raise MalformedError(f"{field} of the tool {excerpt(name)} is {described(value)}: use a text")
    return value or ""
