import subprocess
import sys
from typing import Annotated, Literal

import pytest
from pydantic import Field

from thaud.errors import ToolError
from tools.base import Context, Risk, Tool, Verbatim, tool
from tools.registry import TOOLS

ALLOWED_FIELDS = {"type", "description", "enum", "items"}
PROMISED = {
    "calculator": Risk.COMPUTES,
    "current_time": Risk.COMPUTES,
    "read_file": Risk.READS,
    "list_files": Risk.READS,
    "search_files": Risk.READS,
    "code_analysis": Risk.READS,
    "recall": Risk.READS,
    "write_file": Risk.WRITES,
    "edit_file": Risk.WRITES,
    "run_python": Risk.RUNS,
    "run_shell": Risk.RUNS,
    "web_search": Risk.SENDS,
    "fetch_url": Risk.SENDS,
}


def sample(
    _: Context,
    city: str,
    days: Annotated[int, Field(ge=1)] = 1,
    unit: Literal["c", "f"] | None = None,
    tags: tuple[str, ...] = (),
    text: Verbatim = "",
) -> str:
    """A sample
    in two lines.

    Nothing of this is told.

    Args:
        city: where
        days: how many days
            there are
        unit: of what
        tags: which
        text: as it stands
    """
    return f"{city}|{days}|{unit}|{','.join(tags)}|{text}"


SAMPLE = tool(sample, Risk.COMPUTES)


def test_the_registry_is_what_is_promised() -> None:
    """Each tool under its own name, with the risk that decides about approval."""
    assert len({each.name for each in TOOLS}) == len(TOOLS)
    assert {each.name: each.risk for each in TOOLS}.items() >= PROMISED.items()


@pytest.mark.parametrize("each", [*TOOLS, SAMPLE], ids=lambda each: each.name)
def test_definitions_have_the_reduced_form(each: Tool) -> None:
    """A definition holds nothing that a server would drop, and every argument is described."""
    definition = each.definition
    parameters = definition["function"]["parameters"]
    assert definition["type"] == "function"
    assert set(definition["function"]) == {"name", "description", "parameters"}
    assert set(parameters) == {"type", "required", "properties"}
    assert all(set(field) <= ALLOWED_FIELDS and "type" in field for field in parameters["properties"].values())
    assert all(field["description"] for field in parameters["properties"].values())


@pytest.mark.parametrize("each", TOOLS, ids=lambda each: each.name)
def test_words_from_outside_are_marked(each: Tool) -> None:
    """What is read or asked outside is foreign, lines in an error of edit_file too; sums and writing are not."""
    assert each.foreign is (each.risk is not Risk.COMPUTES and each.name != "write_file")


def test_schemas_come_from_hints_and_docstring() -> None:
    """Types, choices, items and which arguments are required are the hints'; words are the docstring's."""
    function = SAMPLE.definition["function"]
    properties = function["parameters"]["properties"]
    assert function["description"] == "A sample in two lines."
    assert function["parameters"]["required"] == ["city"]
    assert properties["days"] == {"type": "integer", "description": "how many days there are"}
    assert properties["unit"] == {"type": "string", "enum": ["c", "f"], "description": "of what"}
    assert properties["tags"] == {"type": "array", "items": {"type": "string"}, "description": "which"}


def test_an_argument_without_words_is_noticed() -> None:
    """A tool whose docstring forgets an argument is not made."""

    def silent(_: Context, city: str) -> str:
        """A sample."""
        return city

    with pytest.raises(TypeError, match="'city'"):
        tool(silent, Risk.COMPUTES)


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ({}, "'city' is missing"),
        ({"city": "Cali", "dayz": 2}, "no argument 'dayz', only city, days, unit, tags, text"),
        ({"city": "Cali", "days": "soon"}, "'days' is wrong"),
        ({"city": "Cali", "days": 0}, "'days' is wrong"),
        ({"city": ["Cali"]}, "'city' is wrong"),
    ],
)
def test_wrong_arguments_are_explained(raw: dict[str, object], told: str) -> None:
    """The model reads which argument is wrong and why."""
    with pytest.raises(ToolError, match=told):
        SAMPLE.accept(raw)


def test_calls_are_normalised(context: Context) -> None:
    """Blanks around words are no part of them, those of a verbatim text are; what was left out is left out."""
    values = SAMPLE.accept({"city": " Cali ", "text": "  x\n", "days": "2"})
    assert values == {"city": "Cali", "text": "  x\n", "days": 2}
    assert SAMPLE.perform(values, context) == "Cali|2|None||  x\n"


def test_tools_are_light() -> None:
    """Importing every tool loads no heavy library, and none for the web."""
    heavy = ("torch", "transformers", "numpy", "llama_cpp", "ddgs", "gguf", "httpx", "trafilatura", "lxml", "sqlite3")
    code = f"import sys, tools.registry; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
