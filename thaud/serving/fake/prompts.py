"""A conversation -> the text that a model is given: by the file's Jinja template, or by a Go template in either style.

Owns what the server does to turns on the way (small letters for roles, merging, sorting); refuses to know THAU's own
renderer, which is what tests compare it with.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thaud.errors import ModelError
from thaud.rendering import CHATML, compile_template
from thaud.serving.fake.goexecute import execute
from thaud.serving.fake.gojson import Record
from thaud.serving.fake.gotemplate import Action, Branch, Node, TemplateError, names_in, parse
from thaud.serving.fake.protocol import Refusal
from thaud.serving.fake.tools import call_record, normalised, tool_record

Line = dict[str, Any]
RAW = "{{ .Prompt }}"
Think = bool | str | None


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a template and a tokenizer need to know of a model's tokens. `bytes_each`: text is one token a byte."""

    bos: str = ""
    eos: str = ""
    adds_bos: bool = False
    specials: tuple[str, ...] = ()
    bytes_each: bool = False

    def count(self, text: str) -> int:
        """How many tokens a prompt has: exact where each byte is one, otherwise a guess on the small side."""
        plain, special = text, 0
        for token in self.specials:
            special += plain.count(token)
            plain = plain.replace(token, "")
        size = len(plain.encode())
        return special + self.adds_bos + (size if self.bytes_each else size // 4)


def native_prompt(
    template: str, words: Vocabulary, messages: Sequence[Line], tools: Sequence[Line], think: Think
) -> str:
    """What llama-server's Jinja gives; an assistant's turn at the end is gone on with. Raises Refusal."""
    from jinja2 import TemplateError as JinjaError  # noqa: PLC0415 - heavy

    continued = messages[-1]["content"] if messages[-1]["role"] == "assistant" else ""
    rows = [_native_row(message) for message in (messages[:-1] if messages[-1]["role"] == "assistant" else messages)]
    switches: Line = {} if think is None else {"enable_thinking": bool(think)}
    if isinstance(think, str):
        switches["reasoning_effort"] = think
    try:
        text = compile_template(template or CHATML).render(
            messages=rows,
            tools=[normalised(tool, go=False) for tool in tools] or None,
            add_generation_prompt=True,
            bos_token=words.bos,
            eos_token=words.eos,
            **switches,
        )
    except (JinjaError, ModelError, TypeError, ValueError, KeyError) as error:
        raise Refusal(400, f"Unable to generate parser for this template. {error}") from error
    text = text.removeprefix(words.bos) if words.adds_bos and words.bos else text
    return text + continued


def _native_row(message: Line) -> Line:
    row = {"role": message["role"], "content": message["content"]}
    if message.get("tool_name"):
        row["name"] = message["tool_name"]
    if calls := message.get("tool_calls"):
        functions = [call["function"] for call in calls]
        row["tool_calls"] = [
            {"type": "function", "function": {"name": f["name"], "arguments": f["arguments"]}} for f in functions
        ]
    return row


def go_prompt(template: str | None, messages: Sequence[Line], tools: Sequence[Line], think: Think) -> str:
    """What Ollama's Go templates give. Raises Refusal where the template cannot be run on these turns."""
    try:
        nodes = parse(template or RAW)
        names = names_in(nodes)
        system, collated = merged(messages)
        level = "" if not think else think if isinstance(think, str) else "medium"
        thinking = {"Think": bool(think), "ThinkLevel": level, "IsThinkSet": think is not None}
        if "messages" not in names:
            return _turn_by_turn(nodes, collated, thinking, shows_response="response" in names)
        values = {
            "System": system,
            "Messages": [_go_message(message) for message in collated],
            "Tools": [tool_record(tool) for tool in tools],
            "Response": "",
            **thinking,
        }
        return execute(nodes, values)
    except TemplateError as error:
        raise Refusal(500, f"template: {error}") from error


def merged(messages: Sequence[Line]) -> tuple[str, list[Line]]:
    """All system messages as one text, and the turns with neighbours of one role joined (tools' excepted)."""
    rows: list[Line] = []
    for message in messages:
        if rows and rows[-1]["role"] == message["role"] != "tool":
            rows[-1] = {**rows[-1], "content": f"{rows[-1]['content']}\n\n{message['content']}"}
        else:
            rows.append(message)
    return "\n\n".join(row["content"] for row in messages if row["role"] == "system"), rows


def _go_message(message: Line) -> Record:
    fields = {
        "Role": message["role"],
        "Content": message["content"],
        "Thinking": message.get("thinking") or "",
        "Images": message.get("images") or [],
        "ToolCalls": [call_record(call, at) for at, call in enumerate(message.get("tool_calls") or [])],
        "ToolName": message.get("tool_name") or "",
        "ToolCallID": message.get("tool_call_id") or "",
    }
    return Record(fields, {"role": message["role"], "content": message["content"]})


def _turn_by_turn(
    nodes: list[Node], messages: Sequence[Line], thinking: Mapping[str, Any], *, shows_response: bool
) -> str:
    """The older style, without `.Messages`: the template once for each question with its answer, the last one cut."""
    written: list[str] = []
    turn = {"System": "", "Prompt": "", "Response": ""}
    keys = {"system": "System", "user": "Prompt", "assistant": "Response"}
    for message in messages:
        key = keys.get(message["role"])
        if key is None:
            continue
        if (key == "System" and (turn["Prompt"] or turn["Response"])) or (key == "Prompt" and turn["Response"]):
            written.append(execute(nodes, {**turn, **thinking}) + ("" if shows_response else turn["Response"]))
            turn = {"System": "", "Prompt": "", "Response": ""}
        turn[key] = message["content"]
    last = execute(_up_to_response(nodes)[0], {**turn, **thinking})
    return "".join([*written, last, "" if shows_response else turn["Response"]])


def _up_to_response(nodes: Sequence[Node]) -> tuple[list[Node], bool]:
    kept: list[Node] = []
    for node in nodes:
        kept.append(node)
        if isinstance(node, Branch):
            body, cut = _up_to_response(node.body)
            otherwise, cut_there = ([], True) if cut else _up_to_response(node.otherwise)
            kept[-1] = Branch(node.kind, node.pipeline, body, otherwise)
            if cut or cut_there:
                return kept, True
        elif isinstance(node, Action) and "response" in names_in([node]):
            return kept, True
    return kept, False
