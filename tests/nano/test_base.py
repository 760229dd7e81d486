"""The shipped base: its tokenizer, its chat template, its size."""

import json
import struct
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from thaud.nano import BASE_DIR
from thaud.nano.corpus import END_OF_TEXT, TURN_END
from thaud.nano.tokenizer import MARKS, MAX_POSITIONS, SPECIAL

MOST_PARAMETERS = 6_000_000
MOST_BYTES = 12_000_000
TOOL = {
    "type": "function",
    "function": {"name": "sumar", "description": "Suma dos números.", "parameters": {"type": "object"}},
}
CALL = {"type": "function", "function": {"name": "sumar", "arguments": {"a": 2, "texto": "ñandú"}}}
TALK: list[dict[str, Any]] = [
    {"role": "system", "content": "Eres THAU."},
    {"role": "user", "content": "¿Cuánto es 2 más 2? 🤖"},
    {"role": "assistant", "content": "", "tool_calls": [CALL, CALL]},
    {"role": "tool", "content": "4"},
    {"role": "tool", "content": "cuatro"},
    {"role": "assistant", "content": "Voy otra vez.", "tool_calls": [CALL]},
    {"role": "tool", "content": "4"},
    {"role": "user", "content": "Gracias."},
    {"role": "assistant", "content": "4"},
]


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return Tokenizer.from_file(str(BASE_DIR / "tokenizer.json"))


def render(messages: list[dict[str, Any]], **extra: Any) -> str:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    source = (BASE_DIR / "chat_template.jinja").read_text(encoding="utf-8")
    return environment.from_string(source).render(messages=messages, **extra)


def tensors(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header: dict[str, Any] = json.loads(file.read(length))
    header.pop("__metadata__", None)
    return header


@pytest.mark.parametrize("mark", SPECIAL + MARKS)
def test_each_mark_is_one_token(bpe: Tokenizer, mark: str) -> None:
    """ChatML's marks, the tool marks and the thinking marks are single tokens wherever they stand."""
    assert bpe.encode(f"a{mark}b").tokens.count(mark) == 1


def test_only_chatml_marks_are_special(bpe: Tokenizer) -> None:
    """Decoding without special tokens hides ChatML but keeps tool calls legible."""
    text = f"{MARKS[0]}x{MARKS[1]}{TURN_END}"
    assert bpe.decode(bpe.encode(text).ids, skip_special_tokens=True) == f"{MARKS[0]}x{MARKS[1]}"


def test_digits_are_single_tokens(bpe: Tokenizer) -> None:
    """A number is read digit by digit."""
    assert bpe.encode("2026").tokens == ["2", "0", "2", "6"]


@pytest.mark.parametrize(
    "text", ["¿Qué pingüino come ñandú?", "🤖🧠 ok", "  dos  espacios\n\n\ttab", "日本 Ω €", "don't"]
)
def test_text_comes_back_whole(bpe: Tokenizer, text: str) -> None:
    """Bytes are never lost: accents, emoji, spacing and scripts never seen in training round-trip."""
    assert bpe.decode(bpe.encode(text).ids, skip_special_tokens=False) == text


def test_decomposed_accents_are_composed(bpe: Tokenizer) -> None:
    """A prompt typed with combining accents reads as the same tokens (NFC)."""
    assert bpe.encode("que\u0301").ids == bpe.encode("qu\u00e9").ids


def test_the_rendering_is_chatml() -> None:
    """A turn is opened by its role and closed, with no system sentence of ours put in."""
    question = [{"role": "user", "content": "Hola"}]
    assert render(question) == "<|im_start|>user\nHola<|im_end|>\n"
    assert render(question, add_generation_prompt=True).endswith("<|im_end|>\n<|im_start|>assistant\n")


def test_tools_are_listed_as_json_lines_in_the_system_turn() -> None:
    """A tool is one JSON line between the marks, in the system turn after the system's own words."""
    text = render(TALK[:2], tools=[TOOL, TOOL])
    listed = text.split("<tools>\n", 1)[1].split("\n</tools>", 1)[0].splitlines()
    assert [json.loads(line) for line in listed] == [TOOL, TOOL]
    assert text.startswith("<|im_start|>system\nEres THAU.\n\n")


def test_calls_and_results_are_rendered_between_their_marks() -> None:
    """A call's arguments are JSON objects; results that follow each other share one user turn."""
    text = render(TALK)
    call = '\n<tool_call>\n{"name": "sumar", "arguments": {"a": 2, "texto": "ñandú"}}\n</tool_call>'
    assert f"<|im_start|>assistant{call}{call}<|im_end|>\n" in text
    results = "\n<tool_response>\n4\n</tool_response>\n<tool_response>\ncuatro\n</tool_response><|im_end|>\n"
    assert f"<|im_start|>user{results}<|im_start|>assistant\nVoy otra vez." in text
    assert text.count("<|im_start|>") == text.count("<|im_end|>")


def test_a_pending_result_is_closed_before_generation() -> None:
    """The assistant never answers inside an open user turn."""
    text = render(TALK[:4], add_generation_prompt=True)
    assert text.endswith("4\n</tool_response><|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize("tools", [None, [TOOL]])
def test_a_longer_conversation_extends_the_shorter(tools: list[dict[str, Any]] | None) -> None:
    """Rendering is prefix-stable, so loss masks and prompt caches may be cut at message borders."""
    renderings = [render(TALK[:length], tools=tools) for length in range(1, len(TALK) + 1)]
    for shorter, longer in pairwise(renderings):
        assert longer.startswith(shorter)


@pytest.mark.parametrize("role", ["user", "tool"])
def test_an_answer_extends_the_generation_prompt(role: str) -> None:
    """What a trained model completes is exactly what it was asked with."""
    asked = [{"role": "user", "content": "Hola"}, {"role": role, "content": "Adiós"}]
    answered = [*asked, {"role": "assistant", "content": "sí"}]
    assert render(answered) == render(asked, add_generation_prompt=True) + "sí<|im_end|>\n"


@pytest.mark.slow
@pytest.mark.parametrize("tools", [None, [TOOL]])
@pytest.mark.parametrize("ask", [False, True])
def test_transformers_renders_the_same(tools: list[dict[str, Any]] | None, ask: bool) -> None:  # noqa: FBT001
    """Training (transformers) and serving (plain jinja2) see the same text and the same ends."""
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(BASE_DIR)
    for length in range(1, len(TALK) + 1):
        theirs = tokenizer.apply_chat_template(TALK[:length], tools=tools, add_generation_prompt=ask, tokenize=False)
        assert theirs == render(TALK[:length], tools=tools, add_generation_prompt=ask)
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.bos_token) == (TURN_END, END_OF_TEXT, None)
    assert tokenizer("hola").input_ids == tokenizer("hola", add_special_tokens=False).input_ids


def test_the_base_is_small_and_in_bf16() -> None:
    """nano ships in the repository: at most 6M parameters, 12 MB in all."""
    found = tensors(BASE_DIR / "model.safetensors")
    sizes = [(each["data_offsets"][1] - each["data_offsets"][0]) // 2 for each in found.values()]
    assert {each["dtype"] for each in found.values()} == {"BF16"}
    assert sum(sizes) <= MOST_PARAMETERS
    assert sum(path.stat().st_size for path in BASE_DIR.iterdir()) <= MOST_BYTES


def test_the_config_is_a_tied_qwen2_that_k_quants_fit(bpe: Tokenizer) -> None:
    """Widths are multiples of 256, embeddings are tied, the ends are the tokenizer's."""
    config = json.loads((BASE_DIR / "config.json").read_text(encoding="utf-8"))
    assert config["model_type"] == "qwen2"
    assert config["tie_word_embeddings"] is True
    assert config["hidden_size"] % 256 == config["intermediate_size"] % 256 == 0
    assert config["max_position_embeddings"] == MAX_POSITIONS
    assert config["vocab_size"] == bpe.get_vocab_size()
    assert (config["eos_token_id"], config["pad_token_id"]) == (
        bpe.token_to_id(TURN_END),
        bpe.token_to_id(END_OF_TEXT),
    )
