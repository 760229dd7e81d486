"""What a certificate says of a right file, of each kind and of each home, and of its own figures."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.steps.certified import HELD_OUT, TAUGHT, certified, certify_spec, export, train_adapter, write_items
from tests.steps.doors import through_door
from tests.testkit.scripted_gguf import write_scripted_gguf
from tests.testkit.tiny_models import write_tiny_adapter, write_tiny_base
from thaud.domain import ModelKind
from thaud.nano import BASE_DIR
from thaud.rendering import CHATML
from thaud.steps.certify.conversations import CONVERSATIONS
from thaud.steps.certify.fidelity import (
    TOP1_BARS,
    Measured,
    agree,
    allowed_differences,
    change_section,
    fidelity_section,
)
from thaud.steps.certify.sequences import Questions, choose_sequences, most_positions
from thaud.steps.certify.speaking import stops_section, tools_section
from thaud.steps.llama import LlamaModel
from thaud.steps.tokenizer import read_tokenizer
from thaud.steps.train.model import WEIGHTS


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_adapter(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def file(adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(adapter, tmp_path_factory.mktemp("file") / "model.gguf")


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_items(tmp_path_factory.mktemp("items") / "items.jsonl")


def silent(event: str, **fields: object) -> None:
    """No progress."""


def test_a_right_file_has_a_whole_certificate(file: Path, adapter: Path, items: Path, tmp_path: Path) -> None:
    """Through the door: it passes, names file, base and adapter by digest, says every figure and its progress."""
    code, result, events = through_door("certify", certify_spec(file, adapter, items), tmp_path)
    assert code == 0, result
    found = result["certificate"]
    assert result["passed"] is found["passed"] is True
    assert result["reasons"] == found["reasons"] == []
    assert result["gguf_sha256"] == found["gguf_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert found["adapter_sha256"] == hashlib.sha256((adapter / WEIGHTS).read_bytes()).hexdigest()
    assert (found["format"], found["kind"], found["base_digest"]) == (1, "f16", "digest")
    assert found["prompts"] == {
        "ok": True,
        "conversations": len(CONVERSATIONS),
        "equal": len(CONVERSATIONS),
        "refused": 0,
        "held_out": len(HELD_OUT),
        "as_one_text": len(CONVERSATIONS) - 3,  # control tokens typed in two of them, accents apart in a third
        "by_transformers": len(CONVERSATIONS) - 2,
        "differences": [],
    }
    assert found["tokens"] == {"ok": True, "checked": 3072, "end_of_turn": "<|im_end|>", "differences": []}
    assert (found["fidelity"]["source"], found["fidelity"]["items"]) == ("held-out", len(HELD_OUT))
    assert found["fidelity"]["top1"] >= found["fidelity"]["bar"] == 0.995
    assert 0 <= found["fidelity"]["kl"] < 1e-4
    assert found["change"]["kl_from_base"] > 0.01
    assert found["change"]["share"] == pytest.approx(1, abs=0.02)
    assert found["change"]["share_of_weights"] == pytest.approx(1, abs=0.02)
    assert found["stops"] == {"ok": True, "asked": len(HELD_OUT), "stopped": len(HELD_OUT), "bar": 0.5}
    assert found["tools"]["promised"] is True
    assert found["capabilities"] == ["completion", "tools"]
    assert {event["what"] for event in events} >= {"prompts", "reference", "logits", "answers"}
    assert {event["event"] for event in events} == {"check"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m"])
def test_every_kind_meets_its_bar(adapter: Path, items: Path, tmp_path: Path, kind: ModelKind) -> None:
    """A right file of each kind passes, and one of that kind without the adapter does not."""
    right = certified(export(adapter, tmp_path / "right.gguf", kind=kind), adapter, items, kind=kind)
    assert right.reasons == []
    assert right.certificate["fidelity"]["bar"] == TOP1_BARS[kind]
    assert right.certificate["change"]["share"] == pytest.approx(1, abs=0.2)
    wrong = certified(export(None, tmp_path / "wrong.gguf", kind=kind), adapter, items, kind=kind)
    assert any(reason.startswith("change: the file has ") for reason in wrong.reasons)
    assert wrong.certificate["change"]["share"] == pytest.approx(0, abs=0.2)


def test_an_adapter_on_a_shared_base(file: Path, adapter: Path, items: Path, tmp_path: Path) -> None:
    """A GGUF LoRA is certified on the base that it is applied to, by that base's bar; one of another run is not."""
    lora, shared = tmp_path / "lora.gguf", tmp_path / "base.gguf"
    export(adapter, lora, kind="adapter", base_out=str(shared), base_kind="q8_0")
    right = certified(lora, adapter, items, kind="adapter", base_gguf=str(shared)).certificate
    assert right["reasons"] == []
    assert (right["kind"], right["base_kind"], right["fidelity"]["bar"]) == ("adapter", "q8_0", 0.985)
    assert right["gguf_sha256"] == hashlib.sha256(lora.read_bytes()).hexdigest()
    assert right["base_gguf_sha256"] == hashlib.sha256(shared.read_bytes()).hexdigest()
    assert right["change"]["share_of_weights"] == pytest.approx(1, abs=0.02)
    other = write_tiny_adapter(tmp_path / "other", BASE_DIR, std=0.03)
    export(other, tmp_path / "other.gguf", kind="adapter", base_out=str(shared), base_kind="q8_0")
    wrong = certified(tmp_path / "other.gguf", adapter, items, kind="adapter", base_gguf=str(shared))
    assert {"fidelity", "change"} <= {reason.split(":")[0] for reason in wrong.reasons}


def test_a_home_without_held_out_items_uses_what_was_taught(file: Path, adapter: Path, tmp_path: Path) -> None:
    """Tiny homes have certificates too, which say what they are taken from."""
    found = certified(file, adapter, write_items(tmp_path / "none.jsonl", [])).certificate
    assert found["passed"], found["reasons"]
    assert (found["fidelity"]["source"], found["fidelity"]["items"]) == ("taught", 1)
    assert found["stops"] == {"ok": True, "asked": 1, "stopped": 1, "bar": 0.5}


def test_without_any_question_the_fixed_conversations_stand_in(file: Path, adapter: Path, tmp_path: Path) -> None:
    """Nobody is asked, and the certificate says so."""
    items = tmp_path / "none.jsonl"
    items.touch()
    found = certified(file, adapter, items).certificate
    assert found["passed"], found["reasons"]
    assert found["fidelity"]["source"] == "fixed"
    assert found["fidelity"]["positions"] > 500
    assert found["stops"] == {"ok": True, "asked": 0, "stopped": 0, "bar": 0.5}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("qwen2", "qwen2"),
        ("qwen3", "qwen2"),
        ("llama", "qwen2"),
        ("llama 3", "llama 3"),
        ("llama", "sentencepiece"),
    ],
)
def test_other_bases_have_certificates(tmp_path: Path, kind: str, words: str) -> None:
    """Each architecture and kind of tokenizer, untied and sharded, has all sections that no training decides."""
    base = write_tiny_base(tmp_path / "base", kind=kind, words=words, tied=False, init_std=0.2, shard="60KB")
    adapter = write_tiny_adapter(tmp_path / "adapter", base)
    file = export(adapter, tmp_path / "model.gguf", base)
    found = certified(file, adapter, write_items(tmp_path / "items.jsonl"), base=base).certificate
    assert [reason for reason in found["reasons"] if not reason.startswith("stops: ")] == []
    assert found["prompts"]["equal"] - found["prompts"]["refused"] > len(CONVERSATIONS) / 2
    assert found["change"]["share"] == pytest.approx(1, abs=0.02)


def test_ties_are_no_differences() -> None:
    """Where the reference's best two are nearer than float noise, either counts; any third choice does not."""
    wanted = torch.tensor([[1.0, 0.9995, 0.0], [1.0, 0.9995, 0.0], [1.0, 0.99, 0.0], [1.0, 0.0, 0.5]])
    found = torch.tensor([[0.9, 1.0, 0.0], [0.0, 0.0, 1.0], [0.9, 1.0, 0.0], [1.0, 0.0, 0.0]])
    assert agree(wanted, found).tolist() == [True, False, False, True]


@pytest.mark.parametrize(("differing", "ok"), [(0, True), (1, True), (2, False)])
def test_few_positions_may_differ_in_one(differing: int, *, ok: bool) -> None:
    """Of 50 positions the bar of 99.5% leaves a quarter of one, and chance one: one may differ, two may not."""
    section = fidelity_section(Measured(positions=50, agreeing=50 - differing, texts=[(50, differing)]), "f16")
    assert section["ok"] is ok


@pytest.mark.parametrize(
    ("sums", "of_weights", "ok"),
    [
        ({"kl_from_base": 1.0, "along": 1.0, "change": 1.0}, 1.0, True),
        ({"kl_from_base": 1.0, "along": 0.4, "change": 1.0}, 1.0, False),
        ({"kl_from_base": 1.0, "along": 2.0, "change": 1.0}, 1.0, False),
        ({"kl_from_base": 1.0, "along": 1.0, "change": 1.0}, 2.0, False),
        ({"kl_from_base": 0.01, "kl": 0.1, "along": 1.6, "change": 1.0}, None, False),
        ({"kl_from_base": 0.01, "kl": 0.1, "along": 1.6, "change": 1.0}, 1.0, True),
        ({"kl_from_base": 0.01, "kl": 0.1, "along": 0.9, "change": 1.0}, 0.0, False),
        ({"kl_from_base": 0.0, "along": 1.0, "change": 1.0}, 1.0, False),
    ],
)
def test_the_weights_decide_where_logits_cannot(sums: dict[str, float], of_weights: float | None, *, ok: bool) -> None:
    """Half to one and a half of the change pass; where rounding moves the logits further, the weights' share decides;
    an adapter that changes nothing never passes.
    """
    assert change_section(Measured(positions=100, **sums), of_weights)["ok"] is ok  # type: ignore[arg-type]


def test_positions_are_bounded_and_in_order() -> None:
    """At most 32 items, 512 tokens each, the context, and fewer positions of larger models."""
    tokenizer = read_tokenizer(BASE_DIR)
    chosen = choose_sequences(tokenizer, Questions("held-out", tuple(TAUGHT * 10)), {}, 100_000, 8)
    assert len(chosen.rows) == 32
    assert {len(row) for row in chosen.rows} == {8}
    assert chosen.rows[0] == tuple(tokenizer.encode_all(tokenizer.renderer.lesson(TAUGHT[0].messages))[:8])
    assert choose_sequences(tokenizer, Questions("held-out", tuple(TAUGHT)), {}, 20, 256).positions == 20
    assert [most_positions(size) for size in (10**6, 5 * 10**8, 7 * 10**9, 10**12)] == [2048, 2048, 285, 256]


def test_chance_is_that_of_texts_where_their_positions_are_alike() -> None:
    """One repetitive text is one accident, not forty; a file that differs everywhere is not excused by it."""
    even, accident, wrong = [(100, 8)] * 20, [(100, 6)] * 19 + [(100, 90)], [(100, 40)] * 20
    assert allowed_differences(even, 0.92) == 160 + 24
    assert sum(found for _, found in accident) <= allowed_differences(accident, 0.92)
    assert sum(found for _, found in wrong) > allowed_differences(wrong, 0.92)


@pytest.mark.parametrize(("repeat", "stopped"), [(False, 4), (True, 0)])
def test_answers_that_never_end_are_counted(tmp_path: Path, *, repeat: bool, stopped: int) -> None:
    """A model that goes round in circles does not stop; expected answers that do not fit are not asked for."""
    write_scripted_gguf(tmp_path / "m.gguf", ["uno ", "dos "], chat_template=CHATML, repeat=repeat)
    long = [HELD_OUT[0], *TAUGHT[:3], long_answer()]
    with LlamaModel(tmp_path / "m.gguf", 256, 1) as model:
        found = stops_section(model, read_tokenizer(BASE_DIR), long, 16, silent)
        few = stops_section(model, read_tokenizer(BASE_DIR), long[2:], 16, silent)
    assert found == {"ok": not repeat, "asked": 4, "stopped": stopped, "bar": 0.5}
    assert (few["ok"], few["asked"]) == (True, 2)  # too few to say anything about the file


def long_answer() -> Any:
    from tests.testkit.training import fact  # noqa: PLC0415 - used once

    return fact("¿?", "palabra " * 40)


def test_a_template_without_tools_promises_none(tmp_path: Path) -> None:
    """Plain ChatML shows neither tools nor calls: that is said, and is no fault."""
    write_scripted_gguf(tmp_path / "m.gguf", ["sí"], chat_template=CHATML)
    with LlamaModel(tmp_path / "m.gguf", 256, 1) as model:
        found = tools_section(model, read_tokenizer(BASE_DIR))
    assert found == {"ok": True, "promised": False, "detail": "the template shows no tools"}


def test_conversations_are_examples_that_json_can_hold() -> None:
    """The fixed set is data: plain values, with what it is named after in it."""
    said = json.dumps({name: example.content for name, example in CONVERSATIONS.items()}, ensure_ascii=False)
    for token in ("<|im_start|>", "</s>", "<tool_call>", "\u200d", "\ufe0f", "ñ", "世界", "n\u0303", "\t"):
        assert json.dumps(token, ensure_ascii=False)[1:-1] in said
