"""What a GGUF says about its model beside the weights: shape, tokenizer, chat template.

Keys and types are those of llama.cpp's converter (UINT32 and FLOAT32, never wider: Ollama refuses them), in the order
in which llama.cpp's own COPY leaves them; where we differ, docs/export.md has the reason. The vocabulary itself is
vocabulary.py's.
"""

import math
from collections.abc import Mapping
from typing import Any

from gguf import GGUFWriter, LlamaFileType, RopeScalingType, size_label

from thaud.domain import Message, ModelKind
from thaud.errors import ModelError
from thaud.steps.bases import context_of
from thaud.steps.contract import ExportSpec
from thaud.steps.export import rotary
from thaud.steps.export.architectures import dimensions_of, plan_of
from thaud.steps.export.vocabulary import read_vocabulary
from thaud.steps.tokenizer import BaseTokenizer

FILE_TYPES: Mapping[ModelKind, LlamaFileType] = {
    "f16": LlamaFileType.MOSTLY_F16,
    "bf16": LlamaFileType.MOSTLY_BF16,
    "q8_0": LlamaFileType.MOSTLY_Q8_0,
    "q6_k": LlamaFileType.MOSTLY_Q6_K,
    "q5_k_m": LlamaFileType.MOSTLY_Q5_K_M,
    "q4_k_m": LlamaFileType.MOSTLY_Q4_K_M,
}
ROLES = ("bos", "eos", "unk", "sep", "pad", "mask")  # those for whose tokens a GGUF has keys


def add_metadata(writer: GGUFWriter, spec: ExportSpec, config: Mapping[str, Any], tokenizer: BaseTokenizer) -> None:
    """Add every key. Raises ModelError where the model cannot be described completely."""
    writer.add_type("model")
    writer.add_name(spec.name)
    writer.add_size_label(size_label(sum(math.prod(row.shape) for row in plan_of(config)), 0, 0, 0))
    writer.add_uint32("thau.context_tokens", spec.context_tokens)
    add_shape(writer, config)
    add_tokenizer(writer, tokenizer, int(config["vocab_size"]))
    writer.add_quantization_version(2)
    writer.add_file_type(FILE_TYPES[spec.base_kind if spec.kind == "adapter" else spec.kind])


def add_shape(writer: GGUFWriter, config: Mapping[str, Any]) -> None:
    """Sizes, context and rotary settings. The context is the model's own, not the stage's."""
    sizes = dimensions_of(config)
    writer.add_block_count(sizes.layers)
    writer.add_context_length(context_of(dict(config)))
    writer.add_embedding_length(sizes.width)
    writer.add_feed_forward_length(sizes.inner)
    writer.add_head_count(sizes.heads)
    writer.add_head_count_kv(sizes.key_heads)
    add_rotary(writer, rotary.settings_of(config))
    writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))
    if config["model_type"] != "qwen2" or config.get("head_dim"):
        writer.add_key_length(sizes.head_dim)
        writer.add_value_length(sizes.head_dim)
    if config["model_type"] == "llama":
        writer.add_vocab_size(sizes.vocabulary)
        writer.add_rope_dimension_count(sizes.head_dim)


def add_rotary(writer: GGUFWriter, settings: rotary.Rotary) -> None:
    """The base frequency, and how far positions are drawn together. Llama 3's factors are a tensor."""
    if settings.kind == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(settings.given["factor"]))
    writer.add_rope_freq_base(settings.base)


def add_tokenizer(writer: GGUFWriter, tokenizer: BaseTokenizer, size: int) -> None:
    """Tokens with their kinds, scores or merges, special ids and the chat template."""
    vocabulary = read_vocabulary(tokenizer, size)
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    if vocabulary.scores:
        writer.add_token_scores(vocabulary.scores)
    writer.add_token_types(vocabulary.kinds)
    if vocabulary.space_prefix is not None:
        writer.add_add_space_prefix(vocabulary.space_prefix)
    else:
        writer.add_token_merges(vocabulary.merges)
    for role, number in special_ids(tokenizer).items():
        getattr(writer, f"add_{role}_token_id")(number)
    writer.add_add_bos_token(begins_with_bos(tokenizer) and added_around(tokenizer)["bos"])
    writer.add_add_eos_token(False)
    writer.add_chat_template(tokenizer.template)


def special_ids(tokenizer: BaseTokenizer) -> dict[str, int]:
    """Ids of special tokens by role. Where the base names no padding or beginning, llama.cpp would assume some, so that
    the end's, and the padding's, stand for them.

    Raises ModelError where the base names no end.
    """
    named = {role: tokenizer.special(role) for role in ROLES}
    found = {role: tokenizer.ids[text] for role, text in named.items() if text in tokenizer.ids}
    if "eos" not in found:
        raise ModelError("the tokenizer names no end-of-turn token (eos_token in tokenizer_config.json)")
    found.setdefault("pad", found["eos"])
    found.setdefault("bos", found["pad"])
    return found


def added_around(tokenizer: BaseTokenizer) -> dict[str, bool]:
    """Whether a server is told to put BOS before, or EOS behind, whatever it tokenises: by tokenizer.json's
    post-processor, else by tokenizer_config.json.
    """
    outer = tokenizer.definition.get("post_processor") or {}
    said: dict[str, bool] = {}
    for part in outer.get("processors", [outer]):
        if part.get("type") == "ByteLevel":
            said = {"bos": False, "eos": False, **said}
        elif part.get("type") == "TemplateProcessing":
            ends = {"bos": part["single"][0], "eos": part["single"][-1]} if len(part["single"]) > 1 else {}
            tokens = {role: end["SpecialToken"]["id"] for role, end in ends.items() if "SpecialToken" in end}
            said |= {role: token == tokenizer.special(role) for role, token in tokens.items()}
    return {role: said.get(role, tokenizer.settings.get(f"add_{role}_token") is True) for role in ("bos", "eos")}


def begins_with_bos(tokenizer: BaseTokenizer) -> bool:
    """Whether the chat template writes BOS itself, so that the model is trained with one before a conversation."""
    pieces = tokenizer.renderer.prompt([Message("user", "1")])
    return bool(pieces) and pieces[0].control and pieces[0].text == tokenizer.special("bos")
