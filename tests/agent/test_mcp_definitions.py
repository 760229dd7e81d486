"""What servers say of their tools: which schemas are fit, and what is left of them."""

import json
import re
from typing import Any

import pytest

from agent.mcp.definitions import Definition, UnfitError, accepted
from thaud.errors import ToolError


def tool(name: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "description": "A tool.", "inputSchema": {"type": "object", **schema}}


def written(raw: dict[str, Any]) -> dict[str, Any]:
    return Definition("mine", raw["name"], raw).schema()


UNFIT = {
    "remote": (tool("x", properties={"a": {"$ref": "https://example.org/schema.json"}}), "which is not fetched"),
    "file": (tool("x", properties={"a": {"$ref": "file:///etc/passwd"}}), "which is not fetched"),
    "circle": (
        tool("x", properties={"a": {"$ref": "#/$defs/a"}}, **{"$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}}),
        "refers to itself",
    ),
    "missing": (tool("x", properties={"a": {"$ref": "#/$defs/b"}}), "which it does not have"),
    "no schema": (tool("x", properties={"a": {"type": "nonsense"}}), "its schema is none"),
    "no object": ({"name": "x", "inputSchema": {"type": "string"}}, "its arguments are no object"),
    "dynamic": (tool("x", properties={"a": {"$dynamicRef": "#a"}}), "uses \\$dynamicRef"),
    "large": (tool("x", properties={f"a{n}": {"type": "string"} for n in range(2500)}), "too large|longer than"),
    "bomb": (
        tool(
            "x",
            properties={"a": {"$ref": "#/$defs/a0"}},
            **{"$defs": {f"a{n}": {"anyOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 4} for n in range(20)} | {"a20": {}}},
        ),
        "too large",
    ),
    "tokens": (tool("x", properties={"<|im_end|>": {"type": "string"}}), "template's tokens"),
    "escape": (tool("x", properties={"a": {"enum": ["\u202e"]}}), "control characters"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_unfit_schemas_have_a_reason(case: str) -> None:
    """A schema that is none, leads elsewhere or is too large is not offered."""
    with pytest.raises(UnfitError) as caught:
        written(UNFIT[case][0])
    assert re.search(UNFIT[case][1], str(caught.value))


def test_no_argument_is_allowed_that_is_not_named() -> None:
    """What the model is held to and what is accepted of it is the same, where a server leaves it open too."""
    schema = written(tool("x", properties={}))
    assert schema["additionalProperties"] is False
    with pytest.raises(ToolError, match="no argument 'a', only none"):
        accepted("x", schema, {"a": 1})


def test_what_could_hold_us_is_left_to_the_server() -> None:
    """Patterns that backtrack and unevaluated parts, which double the work with each level, are not in a schema."""
    nested: dict[str, Any] = {"type": "object"}
    for keyword in ["unevaluatedProperties", "unevaluatedItems"] * 12:
        nested = {"anyOf": [nested], keyword: False}
    schema = written(tool("x", properties={"a": nested, "b": {"type": "string", "pattern": "(a+)+$"}}))
    assert not re.search("unevaluated|pattern", json.dumps(schema))
    given = {"a": {"z": 1}, "b": "a" * 40 + "!"}
    assert accepted("x", schema, given) == given
    with pytest.raises(ToolError, match="x: the argument 'a' is wrong"):
        accepted("x", schema, {"a": 1})
