import subprocess
import sys
from typing import Literal

import pytest

from thaud.errors import ToolError
from tools.base import Arguments, Risk, Tool
from tools.registry import TOOLS

ALLOWED_FIELDS = {"type", "description", "enum", "items"}


class SampleArguments(Arguments):
    """One of each kind of argument."""

    city: str
    days: int = 1
    unit: Literal["c", "f"] | None = None
    tags: tuple[str, ...] = ()


def sample() -> Tool[SampleArguments]:
    return Tool("sample", "A sample.", SampleArguments, Risk.COMPUTES, lambda arguments, _: arguments.city)


def test_the_registry_is_what_is_promised() -> None:
    """The four tools, each under its own name, with the risk that decides about approval."""
    assert {tool.name: tool.risk for tool in TOOLS} == {
        "calculator": Risk.COMPUTES,
        "current_time": Risk.COMPUTES,
        "read_file": Risk.READS,
        "web_search": Risk.SENDS,
    }


@pytest.mark.parametrize("tool", [*TOOLS, sample()], ids=lambda tool: tool.name)
def test_definitions_have_the_reduced_form(tool: Tool[Arguments]) -> None:
    """A definition holds nothing that a server would drop, and `properties` is always an object."""
    definition = tool.definition
    parameters = definition["function"]["parameters"]
    assert definition["type"] == "function"
    assert set(definition["function"]) == {"name", "description", "parameters"}
    assert set(parameters) == {"type", "required", "properties"}
    assert all(set(field) <= ALLOWED_FIELDS and "type" in field for field in parameters["properties"].values())


def test_schemas_come_from_the_argument_model() -> None:
    """Types, choices, items and which arguments are required are those of the model; `or null` is left out."""
    parameters = sample().definition["function"]["parameters"]
    assert parameters["required"] == ["city"]
    assert parameters["properties"]["unit"] == {"type": "string", "enum": ["c", "f"]}
    assert parameters["properties"]["tags"] == {"type": "array", "items": {"type": "string"}}


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ({}, "'city' is missing"),
        ({"city": "Cali", "dayz": 2}, "no argument 'dayz', only city, days, unit, tags"),
        ({"city": "Cali", "days": "soon"}, "'days' is wrong"),
        ({"city": ["Cali"]}, "'city' is wrong"),
    ],
)
def test_wrong_arguments_are_explained(raw: dict[str, object], told: str) -> None:
    """The model reads which argument is wrong and why."""
    with pytest.raises(ToolError, match=told):
        sample().validate(raw)


def test_tools_are_light() -> None:
    """Importing every tool loads no heavy library, not even the search's."""
    heavy = ("torch", "transformers", "numpy", "llama_cpp", "ddgs", "gguf")
    code = f"import sys, tools.registry; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
