"""All checks in order, each a section of the certificate, and why it did not pass. See the package's docstring."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from thaud.domain import ModelKind
from thaud.steps.certify.conversations import CONVERSATIONS
from thaud.steps.certify.fidelity import LEAST_CHANGE, change_section, fidelity_section, measure
from thaud.steps.certify.header import wrong_settings, wrong_words
from thaud.steps.certify.inside import Compared, File, Inside, look_inside
from thaud.steps.certify.lora import Lora, read_lora
from thaud.steps.certify.prompts import SHOWN, Sides, compare_prompts
from thaud.steps.certify.reference import Skeleton, open_reference
from thaud.steps.certify.sequences import MAX_ITEMS, choose_sequences, most_positions, read_questions
from thaud.steps.certify.speaking import stops_section, tools_section
from thaud.steps.certify.tokens import compare_tokens
from thaud.steps.contract import CertifySpec, emit, throttle, usable_cores
from thaud.steps.llama import LlamaModel, open_version
from thaud.steps.tokenizer import BaseTokenizer, read_tokenizer

FORMAT = 1
CONTEXT_KEY = "thau.context_tokens"
FILE_TYPES: Mapping[str, ModelKind] = {
    "1": "f16",
    "7": "q8_0",
    "15": "q4_k_m",
    "17": "q5_k_m",
    "18": "q6_k",
    "32": "bf16",
}  # general.file_type, llama.cpp's enum llama_ftype
Sections = dict[str, dict[str, Any]]


def certify(spec: CertifySpec) -> dict[str, Any]:
    """The certificate of one file. Raises ModelError where base, adapter or file cannot be read at all."""
    torch.set_num_threads(usable_cores(spec.threads))
    gguf, base_gguf = Path(spec.gguf), Path(spec.base_gguf) if spec.base_gguf else None
    lora = read_lora(Path(spec.adapter_dir))
    with open_version(gguf, base_gguf, spec.context_tokens, spec.threads) as model:
        kind = FILE_TYPES.get(model.metadata("general.file_type") or "")
        sections = examine(spec, lora, model, kind)
    reasons = [*wrong_kind(spec, kind), *reasons_of(sections)]
    head = {"format": FORMAT, "gguf_sha256": digest_of(gguf), "kind": spec.kind, "base_digest": spec.base_digest}
    if base_gguf is not None:
        head |= {"base_gguf_sha256": digest_of(base_gguf), "base_kind": kind}
    outcome = {"adapter_sha256": lora.sha256, "passed": not reasons, "reasons": reasons}
    tools = ["tools"] if sections["tools"]["promised"] else []
    return {**head, **outcome, **sections, "capabilities": ["completion", *tools]}


def examine(spec: CertifySpec, lora: Lora, model: LlamaModel, kind: ModelKind | None) -> Sections:
    """All sections."""
    say, base_dir = throttle(emit), Path(spec.base_dir)
    tokenizer, questions = read_tokenizer(base_dir), read_questions(Path(spec.items))
    sections: Sections = {}
    say("check", last=True, what="prompts")
    sides = Sides(base_dir, tokenizer, model)
    sections["prompts"] = compare_prompts(sides, CONVERSATIONS, questions.examples[:MAX_ITEMS]).to_json()
    sections["tokens"] = compare_tokens(tokenizer, model).to_json()
    skeleton = Skeleton(base_dir)
    limit = most_positions(skeleton.parameters)
    chosen = choose_sequences(tokenizer, questions, CONVERSATIONS, limit, model.context_tokens)
    with open_reference(skeleton, base_dir, lora, chosen.rows, say) as reference:
        measured = measure(reference, model, chosen.rows, say)
        files = [File(Path(each)) for each in (spec.gguf, spec.base_gguf) if each is not None]
        inside = look_inside(
            files[0], files[1] if files[1:] else None, Compared(reference.weights, skeleton.config, lora)
        )
    sections["contents"] = contents_section(spec, inside, files, tokenizer, skeleton)
    sections["fidelity"] = {**fidelity_section(measured, kind or "f16"), **chosen.to_json()}
    sections["change"] = change_section(measured, inside.share)
    sections["stops"] = stops_section(model, tokenizer, questions.examples, spec.max_new_tokens, say)
    sections["tools"] = tools_section(model, tokenizer)
    return sections


def contents_section(
    spec: CertifySpec, inside: Inside, files: Sequence[File], tokenizer: BaseTokenizer, skeleton: Skeleton
) -> dict[str, Any]:
    """What is in the file, or files, tensor by tensor and key by key."""
    whole, differences = files[-1], list(inside.differences)
    differences += wrong_settings(whole, skeleton.config, skeleton.rotary.inv_freq)
    differences += wrong_words(whole, tokenizer)
    if (said := files[0].value(CONTEXT_KEY)) != spec.context_tokens:
        differences.append(f"{CONTEXT_KEY} is {said}, it was trained for {spec.context_tokens}")
    return {"ok": not differences and inside.tensors > 0, "tensors": inside.tensors, "differences": differences[:SHOWN]}


def digest_of(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def wrong_kind(spec: CertifySpec, kind: ModelKind | None) -> Iterator[str]:
    """Where the file is labelled as another kind than was asked for, or as none that is known."""
    if kind is None:
        yield "kind: the file does not say what type its weights are (general.file_type)"
    elif spec.kind not in {"adapter", kind}:
        yield f"kind: the file says that its weights are {kind}, {spec.kind} was asked for"


def reasons_of(sections: Sections) -> Iterator[str]:
    """Why a certificate did not pass, in sentences for people."""
    for name in ("prompts", "tokens", "contents"):
        if not sections[name]["ok"]:
            yield from (f"{name}: {each}" for each in sections[name]["differences"] or ["nothing could be compared"])
    if not sections["fidelity"]["ok"]:
        yield f"fidelity: {words_of_fidelity(sections['fidelity'])}"
    if not sections["change"]["ok"]:
        yield f"change: {words_of_change(sections['change'])}"
    if not (stops := sections["stops"])["ok"]:
        yield f"stops: {stops['stopped']} of {stops['asked']} answers came to an end, {stops['bar']:.0%} are wanted"
    if not sections["tools"]["ok"]:
        yield f"tools: {sections['tools']['detail']}"


def words_of_fidelity(section: dict[str, Any]) -> str:
    """How far the file is from what was trained."""
    if section["kl"] is None:
        return str(section["detail"])
    return (
        f"the file's first choice is that of base plus adapter at {section['top1']:.1%} of {section['positions']} "
        f"positions, {section['bar']:.1%} are wanted (KL {section['kl']:.2g} nats): its weights are not those trained"
    )


def words_of_change(section: dict[str, Any]) -> str:
    """What is wrong with the change."""
    if section["share"] is None:
        return "it could not be measured"
    if section["kl_from_base"] <= LEAST_CHANGE:
        return f"the adapter changes nothing: the base is the same without it (KL {section['kl_from_base']:.2g} nats)"
    inside = section["share_of_weights"]
    return (
        f"the file has {round(100 * section['share'])}% of the change that the adapter makes to the logits"
        + (f" and {round(100 * inside)}% of that to the weights" if inside is not None else "")
        + f", {section['bar']:.0%} to {2 - section['bar']:.0%} are wanted: the adapter is not in it as it was trained"
    )
