"""What a tool is: a name, a schema of its arguments, a risk and a function; and what the outside world is for it.

Owns the reduction of schemas to what servers keep, and the making of a tool from a function's type hints and
docstring. A tool's function gets a Context and validated arguments and returns text for the model; it raises ToolError
where it cannot do what it was asked. It touches files through `Context.workspace`, runs programs through
`Context.sandbox` and asks the web through `Context.web` alone.
"""

import inspect
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError, create_model
from pydantic.fields import FieldInfo

from thaud.errors import ToolError
from tools.outside import Memory, Sandbox, Search, Web
from tools.workspace import Workspace

KEPT_FIELDS = ("anyOf", "type", "description", "enum", "items", "properties", "required")

Values = Mapping[str, Any]
Verbatim = Annotated[str, StringConstraints(strip_whitespace=False)]  # a text whose blanks count: a file's, a program's


class Risk(StrEnum):
    """What a call can do at worst; approval goes by it."""

    COMPUTES = "computes"
    READS = "reads"
    WRITES = "writes"
    RUNS = "runs"
    SENDS = "sends"


class Arguments(BaseModel):
    """Base of the argument models: what was not asked for is an error, so that a misspelt argument is noticed."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


@dataclass(frozen=True, slots=True)
class Context:
    """What the outside world is for a tool. `clock` gives an aware time. What is None is not to be had here, and a
    tool that needs it says so.
    """

    workspace: Workspace
    clock: Callable[[], datetime]
    timeout_s: float = 10.0
    sandbox: Sandbox | None = None
    web: Web | None = None
    memory: Memory | None = None
    search: Search | None = None


def whole(values: Values) -> str:
    """All arguments, as JSON with sorted keys: what a person approves where a tool says nothing shorter."""
    return json.dumps(dict(values), ensure_ascii=False, sort_keys=True)


def path_of(values: Values) -> str:
    """The subject of a call about a file: its path, without what makes no difference (`./a//b` is `a/b`)."""
    return str(PurePosixPath(str(values["path"])))


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool. `name` and `description` are what the model reads; `schema` is the JSON schema of the arguments, whole.

    accept:  a model's arguments -> the validated, normalised JSON values. Raises ToolError in words for the model.
    perform: those values -> text. Raises ToolError.
    subject: what of a call decides about approval and is shown first: a command, a path, a host, a query.
    preview: what a person sees before saying yes: a diff, a program. None where the subject says it all.
    foreign: the result holds words from outside: other people's, a file's, a page's.
    """

    name: str
    description: str
    risk: Risk
    schema: Values
    accept: Callable[[Values], dict[str, Any]]
    perform: Callable[[Values, Context], str]
    subject: Callable[[Values], str] = whole
    preview: Callable[[Values, Context], str] | None = None
    foreign: bool = False

    @property
    def definition(self) -> dict[str, Any]:
        """The OpenAI-style definition in the reduced form."""
        properties = {name: reduce_schema(each) for name, each in self.schema.get("properties", {}).items()}
        parameters = {"type": "object", "required": list(self.schema.get("required", [])), "properties": properties}
        function = {"name": self.name, "description": self.description, "parameters": parameters}
        return {"type": "function", "function": function}


def tool(
    function: Callable[..., str],
    risk: Risk,
    *,
    subject: Callable[[Values], str] = whole,
    preview: Callable[[Values, Context], str] | None = None,
    foreign: bool = False,
) -> Tool:
    """The tool that a function is: `def name(context: Context, first: str, second: int = 1) -> str`.

    The description is the docstring's first paragraph, those of the arguments its Args section; types and bounds are
    the hints' (`Annotated[int, Field(ge=1)]`). Raises TypeError for an argument that the docstring does not describe.
    """
    description, described = read_docstring(function)
    fields: dict[str, Any] = {}
    for name, parameter in list(inspect.signature(function, eval_str=True).parameters.items())[1:]:
        if name not in described:
            raise TypeError(f"{function.__name__}: the docstring's Args do not describe {name!r}")
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[name] = (parameter.annotation, FieldInfo(default=default, description=described[name]))
    model = create_model(function.__name__, __base__=Arguments, **fields)

    def accept(values: Values) -> dict[str, Any]:
        return validated(function.__name__, model, values)

    def perform(values: Values, context: Context) -> str:
        arguments = model.model_validate(dict(values))
        return function(context, **{name: getattr(arguments, name) for name in fields})

    schema = model.model_json_schema()
    return Tool(function.__name__, description, risk, schema, accept, perform, subject, preview, foreign)


def validated(name: str, model: type[Arguments], values: Values) -> dict[str, Any]:
    """A model's arguments as JSON values, what was left out left out. Raises ToolError naming each wrong one."""
    try:
        return model.model_validate(dict(values)).model_dump(mode="json", exclude_unset=True)
    except ValidationError as error:
        complaints = "; ".join(complaint(list(model.model_fields), dict(found)) for found in error.errors())
        raise ToolError(f"{name}: {complaints}") from error


def complaint(known: list[str], found: Values) -> str:
    """One validation error in words that a small model can act on."""
    where = ".".join(str(part) for part in found["loc"])
    if found["type"] == "extra_forbidden":
        return f"there is no argument {where!r}, only {', '.join(known) or 'none'}"
    if found["type"] == "missing":
        return f"the argument {where!r} is missing"
    return f"the argument {where!r} is wrong: {found['msg'].lower()}"


def reduce_schema(schema: Values) -> dict[str, Any]:
    """A JSON schema with the kept fields alone, at every depth; of `X or null` X remains, since absent says null."""
    alternatives = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]
    merged = {**alternatives[0], **schema} if len(alternatives) == 1 else {**schema}
    if len(alternatives) == 1:
        merged.pop("anyOf", None)
    kept = {name: merged[name] for name in KEPT_FIELDS if name in merged}
    if "anyOf" in kept:
        kept["anyOf"] = [reduce_schema(each) for each in alternatives]
    if isinstance(kept.get("items"), Mapping):
        kept["items"] = reduce_schema(kept["items"])
    if "properties" in kept:
        kept["properties"] = {name: reduce_schema(each) for name, each in kept["properties"].items()}
    return kept


ENTRY = re.compile(r"^    (?P<name>\w+): (?P<text>.+)$")


def read_docstring(function: Callable[..., str]) -> tuple[str, dict[str, str]]:
    """The first paragraph of a docstring, and its Args section by name; continuation lines are indented deeper."""
    head, _, tail = inspect.cleandoc(function.__doc__ or "").partition("\nArgs:\n")
    described: dict[str, str] = {}
    name = ""
    for line in tail.split("\n\n")[0].splitlines():
        if entry := ENTRY.match(line):
            name = entry["name"]
            described[name] = entry["text"].strip()
        elif name and line.strip():
            described[name] += f" {line.strip()}"
    return " ".join(head.split("\n\n")[0].split()), described
