"""What a tool is: a name, a model of its arguments, a risk and a function. Owns the reduction of schemas to what
servers keep.

A tool's function gets validated arguments and a Context and returns text for the model; it raises ToolError where it
cannot do what it was asked. Ollama keeps only `type`, `required` and, for each property, `type`, `description`,
`enum` and `items`, so nothing else is sent.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from thaud.errors import ToolError
from tools.workspace import Workspace

KEPT_FIELDS = ("type", "description", "enum", "items")


class Risk(StrEnum):
    """What a call can do at worst; approval goes by it."""

    COMPUTES = "computes"
    READS = "reads"
    SENDS = "sends"


class Arguments(BaseModel):
    """Base of the argument models: what was not asked for is an error, so that a misspelt argument is noticed."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


@dataclass(frozen=True, slots=True)
class Context:
    """What the outside world is for a tool. `clock` gives an aware time."""

    workspace: Workspace
    clock: Callable[[], datetime]
    timeout_s: float = 10.0


A = TypeVar("A", bound=Arguments)


@dataclass(frozen=True, slots=True)
class Tool(Generic[A]):
    """A tool. `name` and `description` are what the model reads."""

    name: str
    description: str
    arguments: type[A]
    risk: Risk
    action: Callable[[A, Context], str]

    @property
    def definition(self) -> dict[str, Any]:
        """The OpenAI-style definition in the reduced form."""
        schema = self.arguments.model_json_schema()
        properties = {name: reduce_property(field) for name, field in schema.get("properties", {}).items()}
        parameters = {"type": "object", "required": schema.get("required", []), "properties": properties}
        function = {"name": self.name, "description": self.description, "parameters": parameters}
        return {"type": "function", "function": function}

    def validate(self, raw: Mapping[str, Any]) -> A:
        """Check a model's arguments. Raises ToolError naming the argument and what is wrong with it."""
        try:
            return self.arguments.model_validate(dict(raw))
        except ValidationError as error:
            complaints = "; ".join(complaint(self.arguments, dict(found)) for found in error.errors())
            raise ToolError(f"{self.name}: {complaints}") from error

    def run(self, arguments: A, context: Context) -> str:
        """Do it. Raises ToolError where it cannot be done."""
        return self.action(arguments, context)


def reduce_property(field: Mapping[str, Any]) -> dict[str, Any]:
    """One property of a JSON schema with the kept fields alone; of `X or null` X remains, since absent says null."""
    alternatives = [option for option in field.get("anyOf", ()) if option.get("type") != "null"]
    merged = {**(alternatives[0] if alternatives else {}), **field}
    return {name: merged[name] for name in KEPT_FIELDS if name in merged}


def complaint(model: type[Arguments], found: Mapping[str, Any]) -> str:
    """One validation error in words that a small model can act on."""
    where = ".".join(str(part) for part in found["loc"])
    if found["type"] == "extra_forbidden":
        return f"there is no argument {where!r}, only {', '.join(model.model_fields) or 'none'}"
    if found["type"] == "missing":
        return f"the argument {where!r} is missing"
    return f"the argument {where!r} is wrong: {found['msg'].lower()}"
