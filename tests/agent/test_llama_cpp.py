import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from rich.console import Console

from agent.repl import run_chat
from agent.setup import Setup, answer_once
from agent.state import Ending, Limits, Notice
from tests.agent.conftest import Notes, Rows
from tests.testkit.scripted_gguf import write_scripted_gguf
from thaud.domain import ToolCall
from thaud.serving.embedded import EmbeddedRuntime

AFTER_TOOL, WITHOUT_TOOLS = "<|after_tool|>", "<|without_tools|>"
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
    WITHOUT_TOOLS: "{% if not tools %}" + WITHOUT_TOOLS + "{% endif %}",
}
SUM = ToolCall("calculator", {"expression": "6*7"})
CALL = ("<tool_call>", '\n{"name": "calculator", "arguments": {"expression": "6*7"}}\n', "</tool_call>")

Load = Callable[[Sequence[str], Mapping[str, Sequence[str]]], EmbeddedRuntime]


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    """Writes a scripted model and loads it into llama.cpp."""
    loaded: list[EmbeddedRuntime] = []

    def write(script: Sequence[str], after: Mapping[str, Sequence[str]]) -> EmbeddedRuntime:
        path = tmp_path / "scripted.gguf"
        template = TEMPLATE + "".join(MARKED[marker] for marker in after) + "{% endif %}"
        write_scripted_gguf(path, script, after=after, chat_template=template)
        loaded.append(EmbeddedRuntime(path, "thau-nano-v1", 2048))
        return loaded[-1]

    yield write
    for runtime in loaded:
        runtime.close()


def test_chat_answers_a_sum_by_calling_the_calculator(load: Load, setup: Setup, transcript: Rows) -> None:
    """`thau chat` on llama.cpp: the model calls, the calculator computes, the model answers with its result."""
    runtime = load(CALL, {AFTER_TOOL: ["Son 42."]})
    shown = io.StringIO()
    code = run_chat(
        runtime,
        setup,
        teach=lambda _, __: Path(),
        stdin=io.StringIO("¿Cuánto es 6*7?\n"),
        console=Console(file=shown, width=80),
    )
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


def test_a_malformed_call_is_asked_for_again(load: Load, setup: Setup, notes: Notes) -> None:
    """The problem goes back to the model as a tool's answer, and its next reply is taken."""
    runtime = load(("<tool_call>", '{"name": "calculator", "arguments"', "</tool_call>"), {AFTER_TOOL: ["Son 42."]})
    outcome = answer_once(runtime, "?", setup, listener=notes)
    assert notes.notices == [Notice.REPAIR]
    assert "no valid JSON" in notes.details[0]
    assert (outcome.text, notes.calls) == ("Son 42.", [])
