import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Protocol

import pytest
from pydantic import Field
from rich.console import Console

from agent.conversation import Equipment, Shelf
from agent.repl import run_chat
from agent.setup import Setup, answer_once
from agent.state import Ending, Limits, Notice
from tests.agent.conftest import Notes, Rows
from tests.agent.teaching_double import Written
from tests.testkit.scripted_gguf import write_scripted_gguf
from thaud.domain import ToolCall
from thaud.rendering import CHATML
from thaud.serving.embedded import EmbeddedRuntime
from tools.base import Context, Risk, tool

AFTER_TOOL, AFTER_ERROR, WITHOUT_TOOLS = "<|after_tool|>", "<|after_error|>", "<|without_tools|>"
TEMPLATE = (
    "{% if tools %}<|im_start|>system\n<tools>{% for tool in tools %}\n{{ tool | tojson }}{% endfor %}\n</tools>"
    "<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.role == 'tool' %}<tool_response>\n{{ message.content }}\n</tool_response>"
    "{% else %}{{ message.content }}{% endif %}"
    "{% for call in message.tool_calls or [] %}\n<tool_call>\n{{ call.function | tojson }}\n</tool_call>{% endfor %}"
    "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
)
MARKED = {
    AFTER_TOOL: "{% if tools and messages[-1].role == 'tool' %}" + AFTER_TOOL + "{% endif %}",
    AFTER_ERROR: "{% if tools and 'error:' in messages[-1].content %}" + AFTER_ERROR + "{% endif %}",
    WITHOUT_TOOLS: "{% if not tools %}" + WITHOUT_TOOLS + "{% endif %}",
}
SUM = ToolCall("calculator", {"expression": "6*7"})
CALL = ("<tool_call>", '\n{"name": "calculator", "arguments": {"expression": "6*7"}}\n', "</tool_call>")


class Load(Protocol):
    """Writes a scripted model and loads it into llama.cpp."""

    def __call__(
        self, script: Sequence[str], after: Mapping[str, Sequence[str]], *, repeat: bool = False
    ) -> EmbeddedRuntime: ...


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    """Writes a scripted model and loads it into llama.cpp."""
    loaded: list[EmbeddedRuntime] = []

    def write(script: Sequence[str], after: Mapping[str, Sequence[str]], *, repeat: bool = False) -> EmbeddedRuntime:
        path = tmp_path / "scripted.gguf"
        template = TEMPLATE + "".join(MARKED[marker] for marker in after) + "{% endif %}"
        write_scripted_gguf(path, script, after=after, chat_template=template, repeat=repeat)
        loaded.append(EmbeddedRuntime(path, "thau-nano-v1", 2048))
        return loaded[-1]

    yield write
    for runtime in loaded:
        runtime.close()


def test_chat_answers_a_sum_by_calling_the_calculator(load: Load, setup: Setup, transcript: Rows) -> None:
    """`thau chat` on llama.cpp: the model calls, the calculator computes, the model answers with its result."""
    runtime = load(CALL, {AFTER_TOOL: ["Son 42."]})
    shown = io.StringIO()
    kit = Equipment(Shelf(runtime.name, list, lambda _: runtime), setup, Written(setup.transcripts.parent / "taught"))
    code = run_chat(kit, stdin=io.StringIO("¿Cuánto es 6*7?\n"), console=Console(file=shown, width=80))
    assert (code, shown.getvalue()) == (0, '→ calculator({"expression":"6*7"})\n← 42\nSon 42.\n')
    rows = transcript()
    assert [row["call"] for row in rows if row["event"] == "call"] == [SUM.to_json()]
    assert [row["text"] for row in rows if row["event"] == "result"] == ["42"]
    assert [row["message"]["content"] for row in rows if row["event"] == "message"] == [
        "¿Cuánto es 6*7?",
        "",
        "42",
        "Son 42.",
    ]


def test_a_model_that_only_ever_calls_is_asked_for_words(load: Load, setup: Setup, notes: Notes) -> None:
    """The same call after its own result is not run again; the turn without tools gives the answer."""
    runtime = load(CALL, {WITHOUT_TOOLS: ["Me rindo: 42."]})
    outcome = answer_once(runtime, "?", setup, listener=notes)
    assert notes.calls == [SUM]
    assert notes.notices == [Notice.REPEATED, Notice.LIMIT]
    assert (outcome.text, outcome.ending) == ("Me rindo: 42.", Ending.ANSWERED)


def test_a_call_cut_by_the_limit_of_tokens_does_not_run(load: Load, setup: Setup, notes: Notes, tmp_path: Path) -> None:
    """llama.cpp stops in the middle of the call; nothing of it is run or shown."""
    runtime = load(("Veamos. ", *CALL), {})
    setup = Setup(setup.transcripts, setup.workspace, limits=Limits(max_new_tokens=3), clock=setup.clock)
    outcome = answer_once(runtime, "?", setup, listener=notes)
    assert (outcome.text, outcome.ending) == ("Veamos.", Ending.CUT)
    assert notes.calls == []
    assert notes.shown == "Veamos. "


WRONG = {
    "malformed": '{"name": "calculator", "arguments"',
    "unknown tool": '{"name": "run_shell", "arguments": {"command": "ls"}}',
    "wrong types": '{"name": "calculator", "arguments": {"expression": 42}}',
    "another argument": '{"name": "calculator", "arguments": {"expression": "1", "mode": "fast"}}',
}


@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG)
def test_a_wrong_call_cannot_be_made(load: Load, setup: Setup, notes: Notes, call: str) -> None:
    """A model that is set on it is held to the schema instead, until its tokens are spent; nothing is run or shown."""
    runtime = load(("<tool_call>", call, "</tool_call>"), {AFTER_TOOL: ["Son 42."]})
    outcome = answer_once(runtime, "?", replace(setup, limits=Limits(max_new_tokens=60)), listener=notes)
    assert (outcome.text, outcome.ending) == ("", Ending.CUT)
    assert (notes.calls, notes.shown) == ([], "")


def airport(_: Context, code: Annotated[str, Field(pattern="^[A-Z]{3}$")]) -> str:
    """Say where an airport is.

    Args:
        code: Three letters.
    """
    return {"VGO": "Vigo"}[code]


def test_what_the_grammar_cannot_hold_is_asked_for_again(load: Load, setup: Setup, notes: Notes) -> None:
    """A pattern is left to validation: its words go back to the model, and the call that comes then is run. The tags of
    the second one are not tokens of their own.
    """
    failed = ("<tool_call>", '\n{"name": "airport", "arguments": {"code": "vgo"}}\n', "</tool_call>")
    fixed = ("<tool", '_call>{"name": "airport","arguments":{"code":"VGO"}}</tool', "_call>")
    runtime = load(failed, {AFTER_TOOL: ["En Vigo."], AFTER_ERROR: fixed})
    outcome = answer_once(runtime, "?", replace(setup, tools=(tool(airport, Risk.COMPUTES),)), listener=notes)
    assert (outcome.text, outcome.ending) == ("En Vigo.", Ending.ANSWERED)
    assert notes.notices == [Notice.REPAIR]
    assert "'code' is wrong" in notes.details[0]
    assert notes.calls == [ToolCall("airport", {"code": "VGO"})]
    assert [repair.fixed.tool_calls for repair in notes.repairs] == [(notes.calls[0],)]


def test_parallel_calls_are_run_in_their_order(load: Load, setup: Setup, notes: Notes) -> None:
    """Two calls of one reply, their results, and the answer from both."""
    second = ("\n<tool_", 'call>{"name": "calculator","arguments":{"expression":"2^10"}}</tool_', "call>")
    runtime = load((*CALL, *second), {AFTER_TOOL: ["Son 42 y 1024."]})
    outcome = answer_once(runtime, "?", setup, listener=notes)
    assert (outcome.text, notes.shown) == ("Son 42 y 1024.", "Son 42 y 1024.")
    assert notes.calls == [SUM, ToolCall("calculator", {"expression": "2^10"})]
    assert [result.text for result in notes.results] == ["42", "1024"]


def test_a_call_within_a_thought_is_none(load: Load, setup: Setup, notes: Notes) -> None:
    """Thinking is free and apart: what it plays with is neither held, run nor shown as the answer."""
    thought = ("<think>", 'Quizá <tool_call_ o {"name": ¿cuál?}', "</think>", "\n\nSon cuarenta y dos.")
    outcome = answer_once(load(thought, {}), "?", setup, listener=notes)
    assert (outcome.text, notes.shown) == ("Son cuarenta y dos.", "Son cuarenta y dos.")
    assert (notes.thought, notes.calls) == ('Quizá <tool_call_ o {"name": ¿cuál?}', [])


def test_a_model_that_repeats_itself_is_stopped(load: Load, setup: Setup, notes: Notes) -> None:
    """The same passage over and over ends the generation, not the limit of tokens."""
    runtime = load(("El perro del vecino ladra mucho ", "cuando pasa por la calle el cartero. "), {}, repeat=True)
    outcome = answer_once(runtime, "?", replace(setup, limits=Limits(max_new_tokens=1000)), listener=notes)
    assert outcome.ending is Ending.LOOPED
    assert outcome.text.count("cartero") < 3


# As Gemma's and older ones of Mistral: no system turn, and no two turns of one side.
STRICT = (
    "{% for message in messages %}{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}"
)


@pytest.mark.parametrize("before", ["", STRICT], ids=["plain", "strict"])
def test_a_template_without_tools_acts_in_json(setup: Setup, notes: Notes, tmp_path: Path, before: str) -> None:
    """The reply is one action by the grammar; its result is the user's word, and the answer an action too. Where the
    template has no system turn the tools stand in the question's.
    """
    path = tmp_path / "plain.gguf"
    ended = "{% if add_generation_prompt %}"
    template = before + CHATML.replace(
        "{% endif %}", f"{{% if messages | length > 2 %}}{AFTER_TOOL}{{% endif %}}{{% endif %}}"
    )
    assert ended in template
    answer = '{"name":"final_answer","arguments":{"text":"Son «42»."}}'
    write_scripted_gguf(path, [CALL[1].strip()], after={AFTER_TOOL: [answer]}, chat_template=template)
    with EmbeddedRuntime(path, "plain", 2048) as runtime:
        assert runtime.calling == "schema"
        outcome = answer_once(runtime, "?", setup, listener=notes)
    assert (outcome.text, outcome.ending, notes.shown) == ("Son «42».", Ending.ANSWERED, "Son «42».")
    assert (notes.calls, [result.text for result in notes.results]) == ([SUM], ["42"])
