"""One schema for all that a turn may do, and the reading of replies made by it."""

import json
from random import Random
from typing import Any

import jsonschema
import pytest

from agent import actions
from agent.actions import FINAL, AnswerScreen
from agent.dialects.reading import Parsed
from tests.agent.offers import Anything, Nothing
from tests.testkit.schemas import tool_schema
from tests.testkit.validity import made, offered
from thaud.domain import Message, ToolCall
from thaud.steps.grammar import schema_grammar
from tools.registry import TOOLS

SHORT = {"type": "string", "maxLength": 3}
SUM = ToolCall("calculator", {"expression": "6*7"})


def said(text: str) -> str:
    return json.dumps({"name": FINAL, "arguments": {"text": text}}, ensure_ascii=False)


def test_union_is_of_what_is_offered() -> None:
    """An action for each tool, in order, and the answer where it is asked for."""
    names = [tool.name for tool in TOOLS]
    for answer, more in ((False, []), (True, [FINAL])):
        schema = actions.union(TOOLS, answer=answer)
        assert [each["properties"]["name"]["const"] for each in schema["anyOf"]] == [*names, *more]
        jsonschema.Draft202012Validator.check_schema(schema)


def test_every_schema_of_tools_can_be_held() -> None:
    """THAU's own tools, and generated ones: no keyword of theirs keeps a grammar from being made."""
    assert schema_grammar(actions.union(TOOLS, answer=True))
    for seed in range(200):
        assert schema_grammar(actions.union(offered(seed), answer=False))


@pytest.mark.parametrize(
    ("schema", "held"),
    [
        ({"type": "string", "pattern": "^a", "format": "date", "title": "T"}, {"type": "string"}),
        ({"type": "integer", "multipleOf": 5, "minimum": 0}, {"type": "integer", "minimum": 0}),
        ({"$ref": "#/$defs/A", "description": "d"}, {"type": "string", "maxLength": 3}),
        ({"allOf": [{"$ref": "#/$defs/A"}, {"minLength": 1}]}, {"type": "string", "maxLength": 3, "minLength": 1}),
        ({"type": "array", "items": {"$ref": "#/$defs/A"}}, {"type": "array", "items": SHORT}),
        ({"type": "object", "additionalProperties": True, "maxProperties": 2}, {"type": "object", "maxProperties": 2}),
        ({"$ref": "#/$defs/gone"}, {}),
        ({"$ref": "#/$defs/B~1C"}, {"type": "null"}),
        ({"type": "integer", "allOf": [True, {"minimum": 0}, False]}, {"type": "integer", "minimum": 0}),
    ],
)  # fmt: skip
def test_what_a_grammar_cannot_keep_is_left_to_validation(schema: dict[str, Any], held: dict[str, Any]) -> None:
    """References are resolved, patterns and the like left out, bounds kept."""
    whole = {"type": "object", "properties": {"a": schema}, "$defs": {"A": SHORT, "B/C": {"type": "null"}}}
    (action,) = actions.union([made("t", whole)], answer=False)["anyOf"]
    assert action["properties"]["arguments"]["properties"]["a"] == held


def test_schema_that_holds_itself_ends() -> None:
    """A tree as deep as one likes becomes one of bounded depth."""
    tree = {"type": "object", "properties": {"next": {"$ref": "#/$defs/T"}}}
    whole = {"type": "object", "properties": {"t": {"$ref": "#/$defs/T"}}, "$defs": {"T": tree}}
    assert schema_grammar(actions.union([made("t", whole)], answer=False))


def test_a_deep_schema_is_held_to_its_bottom() -> None:
    """Depth alone, without references, is no reason to let anything pass."""
    deep: dict[str, Any] = {"type": "integer", "minimum": 7}
    for _ in range(14):
        deep = {"anyOf": [{"type": "array", "items": deep}, {"type": "null"}]}
    (action,) = actions.union([made("t", {"type": "object", "properties": {"a": deep}})], answer=False)["anyOf"]
    assert action["properties"]["arguments"]["properties"]["a"] == deep


def test_held_allows_nothing_but_what_the_tool_does() -> None:
    """Of what generated tools say, all keywords are kept: an instance of the union is an instance of the tool's own."""
    bounds = {"minimum", "maximum", "maxLength", "minLength", "maxItems", "minItems", "maxProperties"}
    for seed in range(100):
        schema = tool_schema(Random(seed))
        text = json.dumps(actions.union([made("t", schema)], answer=False))
        for word in bounds:
            if f'"{word}"' in json.dumps(schema["properties"]):
                assert f'"{word}"' in text


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        (said("Son 42."), Parsed("Son 42.")),
        (f"\n {said('a')} ", Parsed("a")),
        (f"```json\n{said('a')}\n```", Parsed("a")),
        (actions.written(SUM), Parsed("", (SUM,))),
        (f"```\n{actions.written(SUM)}\n```", Parsed("", (SUM,))),
        ("Son 42.", Parsed("Son 42.")),
        ('{"age": 3}', Parsed('{"age": 3}')),
        (f'{{"name": "{FINAL}", "arguments": {{"words": "a"}}}}', Parsed("", (ToolCall(FINAL, {"words": "a"}),))),
    ],
)
def test_replies_are_read(text: str, parsed: Parsed) -> None:
    """The answer is text, an action a call; what is neither is read as any other reply."""
    assert actions.read(text, Nothing()) == parsed


@pytest.mark.parametrize("written", [actions.written(SUM), json.dumps(SUM.to_json()["function"], indent=2)])
def test_half_an_action_is_a_problem(written: str) -> None:
    """It is neither run nor shown, wherever it breaks off and however it is spaced."""
    for end in range(1, len(written)):
        parsed, screen = actions.read(written[:end], Anything()), AnswerScreen(Anything())
        assert (parsed.content, parsed.calls) == ("", ())
        assert parsed.problems
        assert screen.feed(written[:end]) + screen.finish() == ""


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    ("reply", "shown"),
    [
        (said('Di "hola"\n\\ ñ 🙂'), 'Di "hola"\n\\ ñ 🙂'),
        (json.dumps(json.loads(said("ñ 🙂 \t"))), "ñ 🙂 \t"),
        (actions.written(SUM), ""),
        ("Son {42}.", "Son {42}."),
        ('{"age": 3}', '{"age": 3}'),
    ],
)
def test_answers_are_shown_without_their_json(reply: str, shown: str, size: int) -> None:
    """However the reply is cut, in the middle of an escape too."""
    screen = AnswerScreen(Nothing())
    pieces = [screen.feed(reply[at : at + size]) for at in range(0, len(reply), size)]
    assert "".join([*pieces, screen.finish()]) == shown


def test_answers_are_shown_as_they_come() -> None:
    """Nothing is held back that is certain."""
    screen = AnswerScreen(Nothing())
    assert screen.feed(said("Son 42.")[:-5]) == "Son 4"


def test_conversations_are_spelled_in_actions() -> None:
    """Calls and answers as the model is to write them, results as the user's words, in both languages."""
    messages = [
        Message("user", "6*7?"),
        Message("assistant", "", (SUM,)),
        Message("tool", "42", tool_name="calculator"),
        Message("assistant", "Son 42."),
    ]
    for language, word in (("es", "Resultado de calculator:"), ("en", "Result of calculator:")):
        spelled = actions.spelled_out(messages, language)
        assert [each.role for each in spelled] == ["user", "assistant", "user", "assistant"]
        assert actions.read(spelled[1].content, Anything()).calls == (SUM,)
        assert spelled[2].content == f"{word}\n42"
        assert actions.read(spelled[3].content, Anything()) == Parsed("Son 42.")
        told = actions.instructions(TOOLS, language)
        assert all(f'"{tool.name}"' in told for tool in TOOLS)
        assert FINAL in told
