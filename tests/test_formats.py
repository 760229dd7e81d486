"""Every dialect becomes the same canonical example, and whatever is no example is refused with a reason."""

import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from thaud.domain import Example, GraderName, Message, Rejection, ToolCall
from thaud.formats import (
    MalformedError,
    age_from_name,
    decode_document,
    is_object,
    judge,
    parse_line,
    parse_object,
    reduce_tool,
)

ASKED = {"role": "user", "content": "¿De qué color es el cielo?"}
SAID = {"role": "assistant", "content": "Azul"}
SUM = {"name": "sum", "arguments": {"a": 2, "b": 3}}
ADDER = {"type": "function", "function": {"name": "sum", "parameters": {"type": "object", "properties": {}}}}


def accepted(row: dict[str, Any]) -> Example:
    """The example of a row that must be one."""
    result = parse_line(json.dumps(row))
    assert isinstance(result, Example), result.reason
    return result


def reason(raw: bytes | str) -> str:
    """Why a line that must be refused is."""
    result = parse_line(raw)
    assert isinstance(result, Rejection), result
    assert "\n" not in result.reason
    return result.reason


def refusal(row: Any) -> str:
    """Why a row that must be refused is."""
    return reason(json.dumps(row))


def chat(*turns: Any, **fields: Any) -> dict[str, Any]:
    """A row in the messages dialect."""
    return {"messages": list(turns), **fields}


def test_the_four_dialects_of_one_fact_are_one_example() -> None:
    """The same question and answer has one id, in whichever dialect it came."""
    question, answer = ASKED["content"], SAID["content"]
    rows: list[dict[str, Any]] = [
        {"instruction": question, "output": answer},
        {"instruction": question, "input": "", "output": answer},
        {"prompt": question, "completion": answer},
        {"prompt": [ASKED], "completion": [SAID]},
        chat(ASKED, SAID),
        chat(ASKED | {"content": [{"type": "text", "text": question}]}, SAID),
        {"conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]},
        {"conversations": [ASKED, {"role": "model", "content": answer}]},
    ]
    examples = [accepted(row) for row in rows]
    assert {example.id for example in examples} == {examples[0].id}
    assert examples[0].messages == (Message("user", question), Message("assistant", answer))


def test_the_lines_of_the_manual_are_examples() -> None:
    """The lines that docs/drop-box.md shows are what it says: one example in four dialects, and one with a tool."""
    text = (Path(__file__).parents[1] / "docs" / "drop-box.md").read_text()
    lines = re.findall(r"^    (\{.*\})$", text, re.MULTILINE)
    assert len(lines) == 4
    assert len({accepted(json.loads(line)).id for line in lines}) == 1
    [tool] = re.findall(r"^        (\{.*?\}) +\(on one line\)$", text, re.MULTILINE | re.DOTALL)
    assert accepted(json.loads(tool)).messages[2].tool_name == "sum"


def test_alpaca_input_and_system() -> None:
    """Alpaca's input follows the instruction after a blank line, and its system text comes first."""
    example = accepted({"system": "Sé breve.", "instruction": "Suma", "input": "2 y 3", "output": "5"})
    assert [message.content for message in example.messages] == ["Sé breve.", "Suma\n\n2 y 3", "5"]


def test_text_is_canonical() -> None:
    """Line ends, outer space and the composition of accents make no second example."""
    plain = accepted({"instruction": "Añade\nuno", "output": "sí"})
    decomposed = unicodedata.normalize("NFD", "Añade\r\nuno ")
    assert accepted({"instruction": decomposed, "output": "\tsí\r\n"}).id == plain.id


@pytest.mark.parametrize("arguments", [SUM["arguments"], json.dumps(SUM["arguments"])])
def test_tool_calls(arguments: Any) -> None:
    """A call keeps its arguments as an object, whether they came as one or as JSON text, and its result its name."""
    call = {"id": "call_1", "type": "function", "function": {"name": "sum", "arguments": arguments}}
    turns: list[dict[str, Any]] = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "5"},
    ]
    example = accepted(chat({"role": "user", "content": "¿2+3?"}, *turns, {"role": "assistant", "content": "5"}))
    assert example.messages[1].tool_calls == (ToolCall("sum", {"a": 2, "b": 3}),)
    assert example.messages[2] == Message("tool", "5", (), "sum")


def test_sharegpt_function_calls() -> None:
    """ShareGPT's function_call and observation turns are the same calls and results."""
    turns = [{"from": "human", "value": "¿2+3?"}, {"from": "function_call", "value": json.dumps(SUM)}]
    turns += [{"from": "observation", "value": "5"}, {"from": "gpt", "value": "5"}]
    example = accepted({"conversations": turns, "tools": json.dumps([ADDER])})
    assert example.messages[1].tool_calls == (ToolCall("sum", {"a": 2, "b": 3}),)
    assert example.messages[2].tool_name == "sum"
    assert example.tools == (ADDER,)


def test_a_call_may_be_the_completion() -> None:
    """An example may end in a tool call, without text."""
    example = accepted(chat(ASKED, {"role": "assistant", "tool_calls": [SUM]}, tools=[ADDER]))
    assert example.completion == Message("assistant", "", (ToolCall("sum", {"a": 2, "b": 3}),))


def test_tools_are_reduced_to_what_a_server_keeps() -> None:
    """A tool has the keys, in the order, that reach a template through a server; a bare function is wrapped."""
    unit = {"enum": ["C", "F"], "type": "string", "title": "Unit", "default": "C", "description": ""}
    schema = {"properties": {"unit": unit}, "required": ["unit"], "additionalProperties": False, "type": "object"}
    reduced = reduce_tool({"parameters": schema, "strict": True, "description": "Weather", "name": "weather"})
    assert json.dumps(reduced) == (
        '{"type": "function", "function": {"name": "weather", "description": "Weather", "parameters": '
        '{"type": "object", "required": ["unit"], "properties": {"unit": {"type": "string", "enum": ["C", "F"]}}}}}'
    )
    assert reduce_tool(reduced) == reduced
    assert reduce_tool({"name": "now"})["function"]["parameters"] == {"type": "object", "properties": {}}


@pytest.mark.parametrize("tool", [None, 3, {}, {"name": ""}, {"function": {}}, {"name": "a", "parameters": 3}])
def test_a_tool_that_is_none_is_refused(tool: Any) -> None:
    """reduce_tool says in words what is wrong with a schema."""
    with pytest.raises(MalformedError, match="use"):
        reduce_tool(tool)


@pytest.mark.parametrize(
    ("field", "value", "age"),
    [
        ("age", 3, 3),
        ("age", "3", 3),
        ("age", 4, 4),
        ("stage", "toddler", 3),
        ("stage", "Recién Nacido", 0),
        ("stage", "NINO PEQUEÑO", 3),
        ("stage", "Pre-adolescente", 11),
        ("stage", "preadolescente", 11),
        ("stage", "niño", 6),
        ("stage", "Infante", 1),
        ("stage", "adulto", 15),
        ("age", "teen", 13),
        ("age", None, None),
    ],
)
def test_ages(field: str, value: Any, age: int | None) -> None:
    """An age is a number, or a stage's name in English or Spanish, with or without accents."""
    assert accepted(chat(ASKED, SAID, **{field: value})).age == age


def test_age_and_stage_may_both_be_there() -> None:
    """Age and stage together are fine where they agree, and then the exact age counts."""
    assert accepted(chat(ASKED, SAID, age=4, stage="niño pequeño")).age == 4
    assert "belongs to the stage toddler" in refusal(chat(ASKED, SAID, age=4, stage="adult"))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"age": -1}, "age is the number -1"),
        ({"age": 151}, "0 to 150"),
        ({"age": True}, "age is true"),
        ({"age": 3.5}, "age is the number 3.5"),
        ({"stage": "elder"}, 'stage is the text "elder"'),
        ({"group": []}, "group is the list"),
        ({"grader": "guess"}, "tool_call"),
        ({"metadata": 3}, "use an object"),
        ({"tools": {"a": 1}}, "tools is the object"),
        ({"system": 3}, "system is the number 3"),
    ],
)
def test_bad_optional_fields(fields: dict[str, Any], said: str) -> None:
    """An optional field that cannot be used is named with its value and what would be right."""
    assert said in refusal(chat(ASKED, SAID, **fields))


def test_optional_fields_are_kept_and_no_part_of_the_id() -> None:
    """Group, grader, age and metadata survive; the id is that of the content alone."""
    example = accepted(chat(ASKED, SAID, group=7, grader="yes_no", age=1, metadata={"source": "project"}, extra=1))
    assert (example.group, example.grader, example.age) == ("7", GraderName.YES_NO, 1)
    assert example.metadata == {"source": "project"}
    assert example.id == accepted(chat(ASKED, SAID)).id


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (chat(), "use a list of turns"),
        (chat(ASKED), "ends with the assistant's"),
        (chat(SAID), "nobody asks"),
        (chat(ASKED, {"role": "wizard", "content": "x"}), 'messages[1] has the role "wizard"'),
        (chat(ASKED, SAID, ASKED), "the last turn is a user turn"),
        (chat(ASKED, "hi"), 'messages[1] is the text "hi"'),
        (chat({"role": "user", "content": " "}, SAID), "turn 1 (user) is empty"),
        (chat(ASKED, SAID | {"content": 3}), "the content of messages[1] is the number 3"),
        (chat(ASKED, {"role": "tool", "content": "5"}, SAID), "follows no tool call"),
        (chat(ASKED | {"tool_calls": [SUM]}, SAID), "only the assistant calls tools"),
        (chat(ASKED, {"role": "assistant", "tool_calls": [SUM | {"arguments": "[]"}]}), "use an object of arguments"),
        (chat(ASKED, {"role": "assistant", "tool_calls": [SUM | {"name": "x"}]}, tools=[ADDER]), "not declared"),
        ({"instruction": "a", "output": ""}, "the completion is empty"),
        ({"prompt": "a"}, "completion is missing"),
        ({"instruction": "a", "output": 5}, "output is the number 5"),
        ({"instruction": "a"}, "output is missing"),
        ({"instruction": "a", "output": "<|im_end|>\n<|endoftext|>"}, "only special tokens"),
        ({"prompt": "a", "completion": "</s>"}, "only special tokens"),
        ({"prompt": 3, "completion": "a"}, "prompt is"),
        ({"text": "a"}, "no known dialect"),
        ({}, "instruction and output; prompt and completion; messages"),
        ([1], "it is the list [1]"),
        ("a", "one JSON object a line"),
        (None, "it is null"),
        (5, "it is the number 5"),
    ],
)
def test_rows_that_are_no_example(row: Any, said: str) -> None:
    """A row that is no example is refused with the field, the value and what would be right."""
    assert said in refusal(row)


def test_a_result_must_answer_a_call() -> None:
    """One call has one result, of the tool that was called."""
    called = {"role": "assistant", "tool_calls": [SUM]}
    result = {"role": "tool", "content": "5"}
    assert "which the turn before it did not call" in refusal(chat(ASKED, called, result | {"name": "other"}, SAID))
    assert "follows no tool call" in refusal(chat(ASKED, called, result, result, SAID))


def test_template_tokens_stay_text() -> None:
    """Control tokens inside a user's text are kept as the text that they are: the renderer defuses them."""
    text = "¿Qué es <|im_end|>?"
    assert accepted({"instruction": text, "output": "Un token"}).messages[0].content == text


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"\xff\xfe{\0}\0", "UTF-16"),
        ('{"instruction": "a"}'.encode("utf-16-le"), "UTF-8"),
        (b'{"a": "\xe9"}', "0xe9"),
        (b'{"a": "x\0"}', "NUL"),
        (b'{"a": "\\u0000"}', "NUL"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b"", "not JSON"),
        (b'{"\\udc00": 1, "\\udc00": 2}', "twice"),
        (b'{"a": 1, "a": 1}', 'the key "a" is there twice'),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b'{"a": 1e999}', "1e999 is out of range"),
        (b'{"a": ' + b"7" * 5000 + b"}", "5000 digits"),
        (b"[" * 10_000 + b"]" * 10_000, "64 levels"),
        (b'{"a": ' + b"[" * 64 + b"]" * 64 + b"}", "64 levels"),
        (b'{"a": 1,}', "not JSON: "),
        (b"{'a': 1}", "not JSON"),
        (b'{"a": 1} x', "not JSON: extra data, at character 10"),
        ("{\ud800", "not valid UTF-8"),
    ],
)
def test_text_that_is_not_strict_json(raw: bytes | str, said: str) -> None:
    """Whatever another reader might read differently is refused, and its text is kept in a form that can be stored."""
    assert said in reason(raw)
    result = parse_line(raw)
    assert isinstance(result, Rejection)
    result.raw.encode()


def test_depth_is_counted_exactly() -> None:
    """64 levels are accepted where 64 is the limit."""
    deep = '{"instruction": "a", "output": "b", "metadata": ' + '{"a": ' * 63 + "1" + "}" * 64
    assert isinstance(parse_line(deep), Example)
    assert isinstance(parse_line(deep, max_depth=63), Rejection)


def test_a_byte_order_mark_and_crlf_are_tolerated() -> None:
    """What Windows' editors add does no harm."""
    line = b"\xef\xbb\xbf" + json.dumps(chat(ASKED, SAID)).encode() + b"\r"
    assert isinstance(parse_line(line), Example)


def test_reasons_are_short() -> None:
    """A reason shows at most 80 characters of a value."""
    said = refusal({"instruction": "a", "output": ["x" * 500_000]})
    assert len(said) < 150
    assert "..." in said


def test_documents() -> None:
    """A .json file is one row or a list of rows, each judged alone; a broken file is refused as a whole."""
    good = {"prompt": "a", "completion": "b"}
    assert decode_document(json.dumps(good).encode()) == [good]
    rows = decode_document(json.dumps([good, 5]).encode())
    assert isinstance(rows, list)
    assert [type(judge(row)) for row in rows] == [Example, Rejection]
    assert isinstance(decode_document(b"[{"), Rejection)


def test_objects_are_held_to_the_same_rules() -> None:
    """A row that another decoder let through is judged like a line."""
    assert isinstance(parse_object({"instruction": "a", "output": "b"}), Example)
    for row in ({"a": float("nan")}, {"a": "\ud800"}, {"a": {1, 2}}):
        assert isinstance(parse_object(row), Rejection)


def test_whole_objects_are_told_from_halves() -> None:
    """Only a whole object counts as one, example or not."""
    assert is_object(b'{"a": 1}')
    assert not any(is_object(raw) for raw in (b'{"a": 1', b"[1]", b"1", b"", b"\xff"))


@pytest.mark.parametrize(
    ("name", "age"),
    [
        ("age_3_toddler.jsonl", 3),
        ("AGE-15.jsonl", 15),
        ("data.age_0_newborn-1f2e.jsonl", 0),
        ("edad_6.jsonl", 6),
        ("language_3.jsonl", None),
        ("age_300.jsonl", None),
        ("age_3rd.jsonl", None),
        ("rows.jsonl", None),
    ],
)
def test_ages_in_names(name: str, age: int | None) -> None:
    """A file's name gives its age where it carries one as a word of its own."""
    assert age_from_name(name) == age
