"""The fake's Go templates, against what Go's own text/template wrote for the same; and how it counts a prompt."""

from pathlib import Path
from typing import Any

import pytest

from tests.serving.kit import ADD, HERMES, Forge
from thaud.rendering import CHATML
from thaud.serving.fake.autodetect import NEAR, QWEN_1_5_JINJA, ZEPHYR_JINJA, autodetected, distance
from thaud.serving.fake.engine import load
from thaud.serving.fake.goexecute import execute
from thaud.serving.fake.gojson import go_json, go_number
from thaud.serving.fake.gotemplate import TemplateError, parse
from thaud.serving.fake.prompts import go_prompt
from thaud.serving.fake.tools import generic_calls, normalised, tag_of
from thaud.serving.templates import SKELETON

TURNS: list[dict[str, Any]] = [
    {"role": "system", "content": "s"},
    {"role": "user", "content": "u {{x}}"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"function": {"name": "f", "arguments": {"z": 1, "a": [1.5]}}}],
    },
    {"role": "tool", "content": "1"},
    {"role": "tool", "content": "2"},
    {"role": "user", "content": "más"},
]
VALUES: dict[str, Any] = {"System": "s", "Messages": [{"Role": "user", "Content": "hola"}], "Think": False, "N": 2}


@pytest.mark.parametrize(
    ("template", "written"),
    [
        ("{{- /* c */ -}} {{ with .System }}<{{ . }}>{{ else }}none{{ end }}", "<s>"),
        ('{{ len .Messages }} {{ not .Think }} {{ printf "%s-%d" .System (len .Messages) }}', "1 true s-1"),
        ("{{ $a := 1 }}{{ if true }}{{ $a = 2 }}{{ $b := 3 }}{{ $b }}{{ end }}{{ $a }}{{ .Nope }}", "32<no value>"),
        ('{{ and .System .Think }} {{ or .Think "x" }}', "false x"),
        ("{{ range $i, $m := .Messages }}{{ $i }}{{ $m.Content | json }}{{ end }}", '0"hola"'),
        ("{{ (index .Messages 0).Role }}", "user"),
        ('{{ range .Messages }}{{ if eq .Role "user" }}{{ break }}{{ end }}x{{ else }}empty{{ end }}.', "."),
        ('{{ "}}" }}{{ `raw` }} a \n {{- .System -}} \n b', "}}raw asb"),
        ("{{ if eq .N 1 }}one{{ else if gt .N 1 }}more{{ else }}less{{ end }}", "more"),
        ('{{ slice "hello" 1 3 }}{{ 1.5 }}{{ true }}', "el1.5true"),
        ("{{ json .Messages }}", '[{"Content":"hola","Role":"user"}]'),
    ],
)  # fmt: skip
def test_template_writes_what_go_writes(template: str, written: str) -> None:
    """Scopes, pipelines, trimming, branches and JSON are Go's."""
    assert execute(parse(template), VALUES) == written


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ if", "template: :1: unclosed action"),
        ("{{ if .System }}x", "template: :1: unexpected EOF"),
        ("x{{ end }}", "template: :1: unexpected {{end}}"),
        ("\n{{ nope }}", 'template: :2: function "nope" not defined'),
    ],
)
def test_template_that_go_does_not_read(template: str, reason: str) -> None:
    """Refused in Go's words."""
    with pytest.raises(TemplateError) as caught:
        parse(template)
    assert str(caught.value) == reason


def test_skeleton_shows_a_conversation_as_go_does() -> None:
    """The template that old servers are sent: one turn for neighbouring results, sorted arguments, braces whole."""
    template = SKELETON.replace("[default]", "").replace("[before]", "\n# T").replace("[after]", "").replace(
        "{{ [otherwise]end }}", "{{ end }}"
    )  # fmt: skip
    assert go_prompt(template, TURNS, [ADD], None) == (
        "<|im_start|>system\ns\n# T\n"
        '{"type":"function","function":{"name":"add","description":"Add two numbers","parameters":{"type":"object",'
        '"required":["a","b"],"properties":{"a":{"type":"integer"},"b":{"type":"integer"}}}}}<|im_end|>\n'
        "<|im_start|>user\nu {{x}}<|im_end|>\n"
        '<|im_start|>assistant\n<tool_call>\n{"name": "f", "arguments": {"a":[1.5],"z":1}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\n1\n</tool_response>\n<tool_response>\n2\n</tool_response><|im_end|>\n"
        "<|im_start|>user\nmás<|im_end|>\n<|im_start|>assistant\n"
    )
    assert tag_of(parse(template)) == "<tool_call>"


def test_older_style_goes_turn_by_turn() -> None:
    """A template without `.Messages` is written once for each question with its answer; the last ends at the answer."""
    turns = [*TURNS[:2], {"role": "assistant", "content": "yes"}, {"role": "user", "content": "b"}]
    template = "{{ if .System }}S:{{ .System }} {{ end }}U:{{ .Prompt }} A:{{ .Response }}|"
    assert go_prompt(template, turns, [], None) == "S:s U:u {{x}} A:yes|U:b A:"
    assert go_prompt(None, turns, [], None) == "u {{x}}yesb"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1, "1"),
        (1.0, "1"),
        (1.5, "1.5"),
        (1e21, "1e+21"),
        (1e-7, "1e-7"),
        (12345678901234567890, "12345678901234567000"),
    ],
)
def test_numbers_are_written_as_go_does(number: float, text: str) -> None:
    """Go reads every number of a request as float64."""
    assert go_number(number) == text


def test_json_escapes_what_go_escapes() -> None:
    """Marks of HTML and two separators of lines; nothing else."""
    assert go_json({"b": "<&>é🙂\u2028", "a": None}) == '{"b":"\\u003c\\u0026\\u003eé🙂\\u2028","a":null}'
    assert go_json({"b": 1, "a": 2}, sort=True) == '{"a":2,"b":1}'


def test_tag_where_the_template_hides_it() -> None:
    """A template that names the calls through a variable has no tag: calls in it stay text."""
    assert tag_of(parse("{{ range $m := .Messages }}{{ if $m.ToolCalls }}<tool_call>{{ end }}{{ end }}")) == "{"
    assert tag_of(parse("{{ if .ToolCalls }}{{ range .ToolCalls }}[CALLS] {{ . }}{{ end }}{{ end }}")) == "[CALLS]"


def test_calls_are_found_by_name() -> None:
    """Two objects are two calls; what is neither offered nor whole is lost."""
    text = '\n{"name": "add", "arguments": {"a": 1}}\n{"name": "mul", "parameters": {"b": 2}}'
    assert generic_calls(text, ["add", "mul"]) == [("add", {"a": 1}), ("mul", {"b": 2})]
    assert generic_calls(text, ["sing"]) == []
    assert generic_calls('{"name": "add", "arguments": {"a": ', ["add"]) == []


def test_tool_is_reduced() -> None:
    """Natively an empty description is left out and properties keep their order; behind Go it is there, and sorted."""
    first, second = {"title": "B", "type": ["integer"], "enum": [1]}, {"items": {"x": 1}, "type": "array"}
    parameters = {"properties": {"b": first, "a": second}, "type": "object", "required": ["b"]}
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    assert go_json(normalised(tool, go=False)) == (
        '{"type":"function","function":{"name":"f","parameters":{"type":"object","required":["b"],'
        '"properties":{"b":{"type":"integer","enum":[1]},"a":{"type":"array","items":{"x":1}}}}}}'
    )
    behind_go = normalised(tool, go=True)["function"]
    assert (behind_go["description"], list(behind_go["parameters"]["properties"])) == ("", ["a", "b"])


def test_nearness_of_templates() -> None:
    """Some edits do not matter, a hundred do, and an unknown text is near to none."""
    assert distance("kitten", "sitting") == 3
    assert distance("", "x" * NEAR) == NEAR
    near = autodetected(ZEPHYR_JINJA.replace("'", '"') + " ")
    assert near is not None
    assert near.name == "zephyr"
    found = [autodetected(text) for text in (CHATML, QWEN_1_5_JINJA)]
    assert [stored.name for stored in found if stored] == ["chatml", "chatml"]
    assert autodetected(HERMES) is None
    assert autodetected("") is None


def test_prompt_is_counted_as_llama_cpp_counts(tmp_path: Path) -> None:
    """A scripted model's tokens are bytes and special tokens: the fake's overflow comes where the real one's does."""
    llama_cpp = pytest.importorskip("llama_cpp")
    version = Forge(tmp_path).version(1, ["hola"])
    text = "<|im_start|>user\n¿Qué tal? 🙂 <tool_call> x<|im_end|>\n<|im_start|>assistant\n"
    model = llama_cpp.Llama(version.gguf, vocab_only=True, verbose=True)
    assert load(Path(version.gguf)).words.count(text) == len(model.tokenize(text.encode(), add_bos=False, special=True))
    model.close()
