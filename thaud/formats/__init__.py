"""One row in any accepted dialect -> Example or Rejection. Pure: no files, no clock.

Dialects: alpaca (instruction, input, output), prompt/completion, OpenAI `messages`, ShareGPT `conversations`.
What is accepted, and every optional field, is told to writers in docs/drop-box.md.
Nothing here raises for bad data: a row that is no example is a Rejection with its reason and its raw text.

    strict.py   JSON, decoded without leniency
    quick.py    the same sooner, where that is proved
    tools.py    tool schemas and calls
    turns.py    messages, and the rules of a conversation
    fields.py   age, stage, group, grader, metadata; the age in a file's name
"""

import json
from typing import Any

from thaud.domain import Example, Message, Rejection
from thaud.formats.fields import age_from_name, read_age, read_grader, read_group, read_metadata
from thaud.formats.quick import decoded, read_pair
from thaud.formats.strict import MalformedError, decode, described, excerpt, to_raw, to_text
from thaud.formats.tools import read_tools, reduce_tool
from thaud.formats.turns import check_conversation, read_turns, tidy

__all__ = [
    "MalformedError",
    "age_from_name",
    "decode_document",
    "example_to_line",
    "is_object",
    "judge",
    "parse_line",
    "parse_object",
    "reduce_tool",
    "to_raw",
]

DIALECTS = "instruction and output; prompt and completion; messages (role, content); or conversations (from, value)"


def parse_line(raw: bytes | str, *, max_depth: int = 64) -> Example | Rejection:
    """One line of a JSONL file. Never raises."""
    row = decoded(raw, max_depth) if isinstance(raw, bytes) else None
    try:
        if row is None:
            row = decode(to_text(raw), max_depth)
        return read_pair(row) or read_row(row)
    except MalformedError as error:
        return Rejection(str(error), to_raw(raw))


def parse_object(row: dict[str, Any], *, max_depth: int = 64) -> Example | Rejection:
    """One row that is decoded already, by whatever decoder: it is held to the same rules as a line. Never raises."""
    try:
        text = json.dumps(row, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        return Rejection(f"it cannot be written as JSON: {error}", "")
    return parse_line(text, max_depth=max_depth)


def decode_document(raw: bytes, *, max_depth: int = 64) -> list[Any] | Rejection:
    """The rows of a whole .json file, one object or a list of them, for `judge`; a Rejection where it is not JSON."""
    try:
        document = decode(to_text(raw), max_depth + 1)
    except MalformedError as error:
        return Rejection(str(error), to_raw(raw))
    return document if isinstance(document, list) else [document]


def judge(row: Any) -> Example | Rejection:
    """A strictly decoded row as a value. Never raises."""
    try:
        return read_pair(row) or read_row(row)
    except MalformedError as error:
        return Rejection(str(error), json.dumps(row, ensure_ascii=False))


def is_object(raw: bytes, *, max_depth: int = 64) -> bool:
    """Whether the text is one whole JSON object, example or not."""
    try:
        return isinstance(decode(to_text(raw), max_depth), dict)
    except MalformedError:
        return False


def example_to_line(example: Example) -> str:
    """The example in the messages dialect, without a line end; `parse_line` gives the same example back."""
    row = example.content
    if example.age is not None:
        row["age"] = example.age
    if example.group is not None:
        row["group"] = example.group
    if example.grader is not None:
        row["grader"] = example.grader.value
    if example.metadata:
        row["metadata"] = dict(example.metadata)
    return json.dumps(row, ensure_ascii=False, allow_nan=False)


def read_row(row: Any) -> Example:
    """A decoded row as an example. Raises MalformedError."""
    if not isinstance(row, dict):
        raise MalformedError(f"it is {described(row)}: use one JSON object a line")
    tools = read_tools(row)
    messages = read_messages(row)
    if row.get("system") is not None:
        messages = with_system(text_of(row, "system"), messages)
    names = [tool["function"]["name"] for tool in tools]
    return Example(
        check_conversation(messages, names), tools, read_age(row), read_group(row), read_grader(row), read_metadata(row)
    )


def read_messages(row: dict[str, Any]) -> list[Message]:
    """The conversation of a row, by the first dialect whose fields it has; fields that are null count as missing."""
    present = {field for field, value in row.items() if value is not None}
    if {"instruction", "output"} <= present and present.isdisjoint(("messages", "conversations", "prompt")):
        return read_alpaca(row)  # the commonest first, for speed
    for field in ("messages", "conversations"):
        if field in present:
            return read_turns(row[field], field)
    if {"prompt", "completion"} <= present:
        prompt, completion = as_turns(row, "prompt", "user"), as_turns(row, "completion", "assistant")
        return read_turns(prompt + completion, "prompt + completion")
    if {"instruction", "output"} <= present:
        return read_alpaca(row)
    for field, partner in (("instruction", "output"), ("prompt", "completion")):
        if field in present or partner in present:
            missing = partner if field in present else field
            raise MalformedError(f"the field {missing} is missing: rows of this dialect have {field} and {partner}")
    raise MalformedError(f"no known dialect among the fields {excerpt(sorted(row))}: use {DIALECTS}")


def read_alpaca(row: dict[str, Any]) -> list[Message]:
    """Alpaca: the input, where there is one, follows the instruction after a blank line."""
    asked = text_of(row, "instruction")
    if given := row.get("input") and text_of(row, "input"):
        asked = f"{asked}\n\n{given}" if asked else given
    return [Message("user", asked), Message("assistant", text_of(row, "output"))]


def as_turns(row: dict[str, Any], field: str, role: str) -> list[Any]:
    """A side of prompt/completion: text stands for one turn, a list is turns already."""
    value = row[field]
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    if not isinstance(value, list):
        raise MalformedError(f"{field} is {described(value)}: use a text in quotes or a list of turns")
    return value


def with_system(system: str, messages: list[Message]) -> list[Message]:
    """The messages with the row's own `system` field in front, where they do not begin with the same."""
    if not messages or messages[0].role != "system":
        return [Message("system", system), *messages]
    if messages[0].content != system:
        raise MalformedError("system is given twice, in the field and in the first turn: keep one of them")
    return messages


def text_of(row: dict[str, Any], field: str) -> str:
    """A field that must be text, tidied."""
    value = row[field]
    if not isinstance(value, str):
        raise MalformedError(f"{field} is {described(value)}: use a text in quotes")
    return tidy(value)
