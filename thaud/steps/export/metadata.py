"""What a GGUF says about its model beside the weights: shape, tokenizer, chat template.

Keys and types are those of llama.cpp's converter (UINT32 and FLOAT32, never wider: Ollama refuses them), in the order
in which llama.cpp's own COPY leaves them. The pre-tokenizer is decided from the tokenizer's structure and fails closed:
a wrong one tokenises silently wrong.
"""

from collections.abc import Mapping
from typing import Any

from gguf import GGUFWriter, LlamaFileType, TokenType

from thaud.errors import ModelError
from thaud.rendering import VISIBLE_TAGS
from thaud.steps.bases import context_of
from thaud.steps.contract import ExportKind, ExportSpec
from thaud.steps.tokenizer import BaseTokenizer

FILE_TYPES: Mapping[ExportKind, LlamaFileType] = {
    "f16": LlamaFileType.MOSTLY_F16,
    "q8_0": LlamaFileType.MOSTLY_Q8_0,
}
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def add_metadata(writer: GGUFWriter, spec: ExportSpec, config: Mapping[str, Any], tokenizer: BaseTokenizer) -> None:
    """Add every key. Raises ModelError where the model cannot be described completely."""
    writer.add_type("model")
    writer.add_name(spec.name)
    writer.add_uint32("thau.context_tokens", spec.context_tokens)
    add_shape(writer, config)
    add_tokenizer(writer, tokenizer, int(config["vocab_size"]))
    writer.add_quantization_version(2)
    writer.add_file_type(FILE_TYPES[spec.kind])


def add_shape(writer: GGUFWriter, config: Mapping[str, Any]) -> None:
    """Sizes, context and rotary settings. The context is the model's own, not the stage's."""
    if config.get("use_sliding_window"):
        raise ModelError("models with a sliding window cannot be exported")
    writer.add_block_count(int(config["num_hidden_layers"]))
    writer.add_context_length(context_of(dict(config)))
    writer.add_embedding_length(int(config["hidden_size"]))
    writer.add_feed_forward_length(int(config["intermediate_size"]))
    writer.add_head_count(int(config["num_attention_heads"]))
    writer.add_head_count_kv(int(config.get("num_key_value_heads") or config["num_attention_heads"]))
    writer.add_rope_freq_base(rope_base(config))
    writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))


def rope_base(config: Mapping[str, Any]) -> float:
    """The rotary base frequency, where transformers 5 or earlier ones wrote it. Refuses scaled variants."""
    settings = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = settings.get("rope_type") or settings.get("type") or "default"
    if kind != "default":
        raise ModelError(f"rotary embeddings of type {kind!r} cannot be exported, only the default")
    return float(settings.get("rope_theta") or config.get("rope_theta") or 10000.0)


def add_tokenizer(writer: GGUFWriter, tokenizer: BaseTokenizer, vocabulary: int) -> None:
    """Tokens with their kinds, merges, special ids and the chat template."""
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer(tokenizer.definition))
    tokens, kinds = tokens_and_kinds(tokenizer, vocabulary)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([each if isinstance(each, str) else " ".join(each) for each in merges(tokenizer)])
    end = tokenizer.special("eos")
    if end is None or end not in tokenizer.ids:
        raise ModelError("the tokenizer names no end-of-turn token (eos_token in tokenizer_config.json)")
    pad = tokenizer.special("pad") or end
    begin = tokenizer.special("bos") or pad
    writer.add_eos_token_id(tokenizer.ids[end])
    writer.add_pad_token_id(tokenizer.ids[pad])
    writer.add_bos_token_id(tokenizer.ids[begin])
    writer.add_add_bos_token(False)
    writer.add_chat_template(tokenizer.template)


def merges(tokenizer: BaseTokenizer) -> list[Any]:
    """The BPE's merges, as tokenizer.json has them: "a b" or ["a", "b"]."""
    found: list[Any] = tokenizer.definition["model"]["merges"]
    return found


def tokens_and_kinds(tokenizer: BaseTokenizer, vocabulary: int) -> tuple[list[str], list[int]]:
    """Token texts and llama.cpp kinds by id; ids beyond the tokenizer's are unused padding of the embedding."""
    by_id = {number: text for text, number in tokenizer.ids.items()}
    if by_id and max(by_id) >= vocabulary:
        raise ModelError(f"the tokenizer has token {max(by_id)}, the model's vocabulary ends at {vocabulary}")
    tokens = [by_id.get(number, f"[PAD{number}]") for number in range(vocabulary)]
    kinds = [kind_of(by_id.get(number), tokenizer) for number in range(vocabulary)]
    return tokens, kinds


def kind_of(token: str | None, tokenizer: BaseTokenizer) -> int:
    """llama.cpp's kind of a token. Tags that answers show are user-defined: control tokens would vanish from them."""
    if token is None:
        return int(TokenType.UNUSED)
    if token in tokenizer.control:
        return int(TokenType.CONTROL)
    if token in tokenizer.added or token in VISIBLE_TAGS:
        return int(TokenType.USER_DEFINED)
    return int(TokenType.NORMAL)


def pre_tokenizer(definition: Mapping[str, Any]) -> str:
    """llama.cpp's name for how text is split before BPE. Raises ModelError for any structure but those known."""
    model = definition["model"]
    plain_bpe = not any(model.get(setting) for setting in ("dropout", "byte_fallback", "ignore_merges", "unk_token"))
    affixes = [model.get("continuing_subword_prefix"), model.get("end_of_word_suffix")]
    normaliser = (definition.get("normalizer") or {}).get("type")
    if plain_bpe and not any(affixes) and normaliser == "NFC" and splits_of(definition) == [QWEN2_SPLIT, "bytes"]:
        return "qwen2"
    raise ModelError("the tokenizer's way of splitting text is not one that is known to llama.cpp here: only Qwen2's")


def splits_of(definition: Mapping[str, Any]) -> list[str]:
    """The pre-tokenizer's parts: a split's pattern, `bytes` for the plain byte alphabet, `?` for anything else."""
    outer = definition.get("pre_tokenizer") or {}
    return [part_of(part) for part in outer.get("pretokenizers", [outer])]


def part_of(part: Mapping[str, Any]) -> str:
    """One part of a pre-tokenizer, see splits_of."""
    if part.get("type") == "Split" and part.get("behavior") == "Isolated" and not part.get("invert"):
        return str(part["pattern"].get("Regex", "?"))
    if part.get("type") == "ByteLevel" and not part.get("add_prefix_space") and not part.get("use_regex", True):
        return "bytes"
    return "?"
