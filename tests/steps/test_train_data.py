"""From rows to lessons: what is learned, and what is cut or set aside."""

import json
import tracemalloc
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ollama import _types as ollama_types

from tests.testkit.chat_templates import TEMPLATES, tokenizer_of
from tests.testkit.conversations import (
    ANSWER,
    CONVERSATIONS,
    SUM,
    TOOLED,
    TURNS,
    USER,
    all_said,
    prepared,
    said,
    text_of,
)
from thaud.domain import Example, Message, QueuedExample, Side
from thaud.errors import StepError
from thaud.formats import parse_line
from thaud.steps.tokenizer import BaseTokenizer
from thaud.steps.train.cache import Table, Tokens
from thaud.steps.train.data import Choice, Lessons, Row, prepare, read_examples
from thaud.workdir import train_row


@pytest.fixture(scope="module", params=sorted(TEMPLATES))
def tokenizer(request: pytest.FixtureRequest) -> BaseTokenizer:
    return tokenizer_of(request.param)


@pytest.fixture(scope="module")
def qwen2() -> BaseTokenizer:
    return tokenizer_of("qwen2")


@pytest.fixture(scope="module")
def qwen3() -> BaseTokenizer:
    return tokenizer_of("qwen3")


# What is learned


def test_supervised_tokens_are_the_assistants_and_its_end_of_turn(qwen2: BaseTokenizer) -> None:
    """Targets decode to exactly what each assistant turn says, the end token included, tool calls too."""
    call = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "2 + ñ 👋"}}\n</tool_call>'
    outcome = prepared(qwen2, CONVERSATIONS["tools"])
    assert all_said(outcome, qwen2) == [f"{call}<|im_end|>4<|im_end|>"]
    assert outcome.lessons.supervised.tolist() == [len(outcome.lessons[0].targets)]


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_what_is_learned_follows_what_a_server_shows(tokenizer: BaseTokenizer, name: str) -> None:
    """Before each assistant turn stand exactly the tokens of the prompt that generation would go on from."""
    example = CONVERSATIONS[name]
    outcome = prepared(tokenizer, example)
    if tokenizer.template == TEMPLATES["zephyr"] and "tool" in name:
        assert [each.reason for each in outcome.aside] == ["the chat template refuses this conversation: no tools here"]
        return
    assert not outcome.aside
    assert not outcome.cut
    shown = {
        tuple(map(int, lesson.ids[:place]))
        for lesson in outcome.lessons
        for place in lesson.targets
        if place - 1 not in lesson.targets
    }
    turns = [number for number, message in enumerate(example.messages) if message.role == "assistant"]
    prompts = (tokenizer.renderer.prompt(example.messages[:turn], example.tools) for turn in turns)
    assert shown == {tuple(tokenizer.encode_all(prompt)) for prompt in prompts}


@pytest.mark.parametrize("name", ["plain", "system", "turns", "open end", "emoji", "lines"])
def test_each_turn_is_learned_once_and_ends_a_turn(tokenizer: BaseTokenizer, name: str) -> None:
    """Over all lessons of a conversation every assistant turn is said once, composed, with the token that ends it."""
    example = CONVERSATIONS[name]
    end = tokenizer.special("eos")
    wanted = "".join(f"{message.content}{end}" for message in example.messages if message.role == "assistant")
    heard = "".join(all_said(prepared(tokenizer, example), tokenizer))
    assert heard == unicodedata.normalize("NFC", wanted)


def test_thoughts_that_are_dropped_later_make_lessons_of_their_own(qwen3: BaseTokenizer) -> None:
    """Where a template rewrites earlier turns, each is learned in a lesson that ends with it; the prompt has the block
    of empty thoughts that a server puts there, and is not learned.
    """
    outcome = prepared(qwen3, CONVERSATIONS["turns"])
    assert all_said(outcome, qwen3) == ["Azul<|im_end|>", "Amarillo<|im_end|>"]
    first, second = (text_of([*map(int, lesson.ids)], qwen3) for lesson in outcome.lessons)
    assert first.endswith("assistant\n<think>\n\n</think>\n\nAzul<|im_end|>")
    assert "assistant\nAzul<|im_end|>" in second
    assert second.endswith("assistant\n<think>\n\n</think>\n\nAmarillo<|im_end|>")
    assert [lesson.id for lesson in outcome.lessons] == ["id-0", "id-0"]


def test_thoughts_that_are_said_are_learned(qwen3: BaseTokenizer) -> None:
    """A turn with thoughts is learned with them; those of one question share a lesson, where none are dropped."""
    thinking = Message("assistant", "<think>\nSumo.\n</think>\n\n", (SUM,))
    done = Message("assistant", "<think>\nListo.\n</think>\n\n4")
    outcome = prepared(qwen3, Example((TOOLED[0], thinking, TOOLED[2], done)), Example((USER, done, *TURNS)))
    call = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "2 + ñ 👋"}}\n</tool_call>'
    assert all_said(outcome, qwen3) == [
        f"<think>\nSumo.\n</think>\n\n{call}<|im_end|><think>\nListo.\n</think>\n\n4<|im_end|>",
        "<think>\nListo.\n</think>\n\n4<|im_end|>",
        "Azul<|im_end|>",
        "Amarillo<|im_end|>",
    ]


def test_calls_of_a_header_template_are_learned_and_results_are_not() -> None:
    """Llama 3's way: the call's JSON and its end are learned, the tool's answer is not, the date is always the same."""
    llama = tokenizer_of("llama3")
    outcome = prepared(llama, CONVERSATIONS["tools"])
    call = '{"name": "calculator", "parameters": {"expression": "2 + ñ 👋"}}'
    assert all_said(outcome, llama) == [f"{call}<|eot_id|>4<|eot_id|>"]
    text = text_of([int(number) for number in outcome.lessons[0].ids], llama)
    assert text.startswith("<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nToday Date: 26 Jul 2024\n")
    two = Example((USER, Message("assistant", "", (SUM, SUM)), Message("tool", "4"), ANSWER))
    assert "one call at a time" in prepared(llama, two).aside[0].reason


def test_turns_that_no_server_would_ask_for_are_set_aside(qwen3: BaseTokenizer, qwen2: BaseTokenizer) -> None:
    """Two assistant turns in a row are learned where the template only adds; where it rewrites the first, they are set
    aside with the message that is amiss.
    """
    example = Example((USER, ANSWER, Message("assistant", "claro")))
    assert all_said(prepared(qwen2, example), qwen2) == ["Azul<|im_end|>claro<|im_end|>"]
    outcome = prepared(qwen3, example)
    assert len(outcome.lessons) == 0
    assert "rewrites what stands before message 3" in outcome.aside[0].reason


def test_new_is_told_of_each_lesson(qwen3: BaseTokenizer, tmp_path: Path) -> None:
    """The flag of a row reaches each of its lessons; rows without it are old."""
    file = tmp_path / "examples.jsonl"
    rows = [{"id": "a", **CONVERSATIONS["plain"].content}, {"id": "b", "new": True, **CONVERSATIONS["turns"].content}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    lessons = prepare(read_examples(file), qwen3, 512).lessons
    assert [(lesson.id, bool(new)) for lesson, new in zip(lessons, lessons.new, strict=True)] == [
        ("a", False),
        ("b", True),
        ("b", True),
    ]


def test_the_same_example_twice_is_two_lessons(qwen2: BaseTokenizer, tmp_path: Path) -> None:
    """Neither ids nor contents that repeat lose anything, with a cache too."""
    rows = [Row("a", CONVERSATIONS["plain"]), Row("a", CONVERSATIONS["turns"]), Row("b", CONVERSATIONS["plain"])]
    for _ in range(2):
        lessons = prepare(rows, qwen2, 512, tmp_path).lessons
        assert [lesson.id for lesson in lessons] == ["a", "a", "b"]
        assert np.array_equal(lessons[0].ids, lessons[2].ids)


# Lessons


def test_lessons_are_a_sequence(qwen2: BaseTokenizer) -> None:
    """Indices, slices and lengths are those of a list; `lengths` and `supervised` those of its members."""
    lessons = prepared(qwen2, *CONVERSATIONS.values()).lessons
    each = list(lessons)
    assert lessons.lengths.tolist() == [len(lesson.ids) for lesson in each]
    assert lessons.supervised.tolist() == [len(lesson.targets) for lesson in each]
    assert np.array_equal(lessons[-1].ids, each[-1].ids)
    assert [lesson.id for lesson in lessons[1:3]] == [lesson.id for lesson in each[1:3]]
    with pytest.raises(IndexError):
        lessons[len(lessons)]


def test_lessons_cost_their_tokens_and_not_objects(qwen2: BaseTokenizer) -> None:
    """A token takes four bytes, an example some hundred beside: no Python object is kept for either."""
    rows = [Row(f"{n:064}", CONVERSATIONS["plain"]) for n in range(2000)]
    prepare(rows, qwen2, 512)
    tracemalloc.start()
    try:
        lessons = prepare(rows, qwen2, 512).lessons
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1.3 * (4 * int(lessons.lengths.sum()) + 250 * len(lessons))


def test_a_lesson_without_anything_to_learn_is_refused() -> None:
    """Whatever made it, a run that would learn nothing from a lesson does not begin."""
    table, choice = Table(), Choice()
    table.add(bytes(16), Tokens([1, 2, 3], [(0, 3, 3, 2)], 0))
    choice.add(Row("mute", CONVERSATIONS["plain"]), [(0, 3, 0, 1)])
    with pytest.raises(StepError, match="mute has no supervised token"):
        Lessons(table, choice)


def test_no_examples_are_no_lessons(qwen2: BaseTokenizer, tmp_path: Path) -> None:
    """Nothing comes of nothing, and nothing fails."""
    for _ in range(2):
        outcome = prepared(qwen2, cache=tmp_path)
        assert len(outcome.lessons) == 0
        assert outcome.lessons.lengths.tolist() == outcome.lessons.supervised.tolist() == []


# Cut and set aside


def test_examples_that_cannot_be_trained_are_set_aside_with_a_reason(qwen2: BaseTokenizer) -> None:
    """Too long, without an assistant turn, or refused by the template: aside, each with its own reason."""
    outcome = prepared(
        qwen2,
        CONVERSATIONS["plain"],
        Example((Message("user", "palabra " * 200), ANSWER)),
        Example((Message("user", "hola"),)),
        Example((Message("system", "hola"),)),
        Example(()),
        context=64,
    )
    assert [lesson.id for lesson in outcome.lessons] == ["id-0"]
    reasons = {each.id: each.reason for each in outcome.aside}
    assert "first assistant turn ends after" in reasons["id-1"]
    assert "the context of the stage is 64" in reasons["id-1"]
    assert all("no supervised token" in reasons[f"id-{number}"] for number in (2, 3, 4))
    assert outcome.cut == []
    refused = prepared(tokenizer_of("zephyr"), CONVERSATIONS["tools"]).aside
    assert [each.reason for each in refused] == ["the chat template refuses this conversation: no tools here"]


def test_a_long_conversation_keeps_its_longest_beginning(tokenizer: BaseTokenizer) -> None:
    """At every context it is cut after the last assistant turn that fits, by not one token more, and that is said."""
    example = CONVERSATIONS["turns"]
    whole = prepared(tokenizer, example).lessons
    borders = sorted(
        {int(place) + 1 for lesson in whole for place in lesson.targets if place + 1 not in lesson.targets}
    )
    for context in range(borders[0] - 1, borders[-1] + 2):
        outcome = prepared(tokenizer, example, context=context)
        fitting = [border for border in borders if border <= context]
        assert max(outcome.lessons.lengths, default=0) == max(fitting, default=0)
        assert [each.reason for each in outcome.aside] == (
            []
            if fitting
            else [f"its first assistant turn ends after {borders[0]} tokens, the context of the stage is {context}"]
        )
        why = f"2 of 4 messages kept: message 4 ends after {borders[1]} tokens, the context of the stage is {context}"
        assert [each.reason for each in outcome.cut] == ([why] if len(fitting) == 1 else [])
        for lesson in outcome.lessons:
            assert any(np.array_equal(lesson.ids, each.ids[: len(lesson.ids)]) for each in whole)


def test_a_turn_whose_thoughts_are_too_long_is_named(qwen3: BaseTokenizer) -> None:
    """What is dropped from later prompts does not keep later turns from being learned, and the lost turn is told."""
    long = Message("assistant", f"<think>\n{'pienso ' * 100}\n</think>\n\nAzul")
    outcome = prepared(qwen3, Example((USER, long, *TURNS[2:])), context=128)
    assert [said(lesson, qwen3) for lesson in outcome.lessons] == ["Amarillo<|im_end|>"]
    twice = prepared(qwen3, Example((USER, long, *TURNS[2:], USER, long)), context=128)
    assert "4 of 6 messages kept, of them 1 unlearned" in twice.cut[0].reason
    assert "4 of 4 messages kept, of them 1 unlearned: message 2 ends after" in outcome.cut[0].reason


def test_thousands_of_turns_cost_no_more_than_the_context(tokenizer: BaseTokenizer, tmp_path: Path) -> None:
    """A conversation without end is looked at as far as it can fit, not to its end: no table of what nobody trains."""
    example = Example(TURNS * 3000)
    outcome = prepared(tokenizer, example, context=256, cache=tmp_path)
    assert 128 < outcome.lessons.lengths.max() <= 256
    assert "of 12000 messages kept" in outcome.cut[0].reason
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 20_000


def test_one_huge_message_is_counted(qwen2: BaseTokenizer) -> None:
    """A megabyte in one message, or in one word, is set aside with how long it is."""
    for text in ("hola " * 200_000, "a" * 1_000_000):
        outcome = prepared(qwen2, Example((Message("user", text), ANSWER)), context=512)
        assert "the context of the stage is 512" in outcome.aside[0].reason


# Tools


def as_a_server_has_it(tool: dict[str, Any]) -> dict[str, Any]:
    """A tool after Ollama's Python client and its server: each keeps what its types name, in their order."""
    sent = ollama_types.Tool.model_validate(tool).model_dump(exclude_none=True, by_alias=True)["function"]
    parameters = sent["parameters"]
    known = ("anyOf", "type", "items", "description", "enum", "properties", "required")
    properties = {
        name: {field: field_of(each, field) for field in known if each.get(field)}
        for name, each in parameters["properties"].items()
    }
    kept = {"required": list(parameters["required"])} if parameters.get("required") else {}
    function = {field: sent[field] for field in ("name", "description") if sent.get(field)}
    return {
        "type": "function",
        "function": {**function, "parameters": {"type": "object", **kept, "properties": properties}},
    }


def field_of(schema: dict[str, Any], field: str) -> Any:
    """A field of a property; `items` is an untyped value to the server, whose objects have their keys in order."""
    return json.loads(json.dumps(schema[field], sort_keys=True)) if field == "items" else schema[field]


def test_a_dropped_tool_is_trained_as_a_server_shows_it(qwen2: BaseTokenizer, tmp_path: Path) -> None:
    """From OpenAI's form in a dropped line, through intake and the step's file, to the lesson's text: the form that
    reaches the template when the tool is offered to a served model.
    """
    tool = {
        "type": "function",
        "function": {
            "description": "El tiempo en <una> ciudad & más",
            "name": "tiempo",
            "strict": True,
            "parameters": {
                "additionalProperties": False,
                "properties": {
                    "unit": {"default": "C", "enum": ["C", "F"], "type": "string", "title": "Unidad"},
                    "ciudad": {"description": "¿Dónde?", "type": "string", "minLength": 1},
                    "días": {"type": "array", "items": {"type": "object", "description": "día", "required": ["d"]}},
                },
                "required": ["ciudad"],
                "type": "object",
            },
        },
    }
    line = {
        "messages": [
            {"role": "user", "content": "¿Llueve en Málaga?"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"function": {"name": "tiempo", "arguments": '{"unit": "C", "ciudad": "Málaga"}'}}],
            },
            {"role": "tool", "content": "no"},
            {"role": "assistant", "content": "No llueve."},
        ],
        "tools": [tool],
    }
    example = parse_line(json.dumps(line).encode())
    assert isinstance(example, Example)
    file = tmp_path / "examples.jsonl"
    file.write_bytes(train_row(QueuedExample(example, example.id, 3, Side.TAUGHT, "a.jsonl", 1), new=True))
    outcome = prepare(read_examples(file), qwen2, 4096)
    text = text_of([int(number) for number in outcome.lessons[0].ids], qwen2)
    shown = text.partition("<tools>\n")[2].partition("\n</tools>")[0]
    assert shown == json.dumps(as_a_server_has_it(tool), ensure_ascii=False)
    assert '<tool_call>\n{"name": "tiempo", "arguments": {"unit": "C", "ciudad": "Málaga"}}\n</tool_call>' in text
