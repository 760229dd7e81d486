"""How a tokenizer takes text apart, told from tokenizer.json itself: which of the structures that llama.cpp has too.

Owns the decision, by which training encodes and the export names the pre-tokenizer. Fails closed: whatever is not one
of them in every part is refused, for a wrong one would tokenise silently wrong.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from thaud.errors import ModelError

WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2_SPLIT = rf"{WORDS}|\p{{N}}|{REST}"
LLAMA3_SPLIT = rf"{WORDS}|\p{{N}}{{1,3}}|{REST}"
SPACE = "\u2581"  # SentencePiece's
REPLACED = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
PREPENDED = {"type": "Prepend", "prepend": SPACE}


class Structure(NamedTuple):
    """`split`: Qwen2's or Llama 3's (byte-level BPE), or SentencePiece's, which splits nothing. `space_prefix`: whether
    text is begun with a space at its start and after each token that is no text (SentencePiece alone).
    """

    split: Literal["qwen2", "llama-bpe", "sentencepiece"]
    space_prefix: bool = False


def is_sentencepiece(definition: Mapping[str, Any]) -> bool:
    """Whether characters that no token has are spelled in byte tokens, as SentencePiece's are."""
    return bool(definition["model"].get("byte_fallback"))


def structure_of(definition: Mapping[str, Any], settings: Mapping[str, Any]) -> Structure:
    """The structure of a tokenizer.json; `settings` is tokenizer_config.json. Raises ModelError for any but those."""
    model = definition["model"]
    odd = ("dropout", "continuing_subword_prefix", "end_of_word_suffix")
    if model.get("type") != "BPE" or any(model.get(setting) for setting in odd):
        raise unknown("its BPE has settings that llama.cpp has not")
    if is_sentencepiece(definition):
        return Structure("sentencepiece", space_prefix=prefix_of(definition, settings))
    normaliser = (definition.get("normalizer") or {}).get("type")
    split, merged = splits_of(definition), not model.get("ignore_merges")
    if split == [QWEN2_SPLIT, "bytes"] and merged and normaliser == "NFC" and not model.get("unk_token"):
        return Structure("qwen2")
    if split == [LLAMA3_SPLIT, "bytes"] and not merged and normaliser is None and not model.get("unk_token"):
        return Structure("llama-bpe")
    raise unknown("only Qwen2's split, Llama 3's, and SentencePiece's BPE with byte fallback are")


def unknown(why: str) -> ModelError:
    """The refusal, with its reason."""
    return ModelError(f"the tokenizer's way of splitting text is not one that is known to llama.cpp here: {why}")


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


def prefix_of(definition: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Whether text is begun with a space: by the older normalisers (Prepend, Replace) or by Metaspace. A Metaspace that
    does so at the very beginning alone ("first") counts as one that does: llama.cpp has no such difference, and
    training goes by llama.cpp. Raises ModelError where it is neither, or tokenizer_config.json says otherwise.
    """
    if definition["model"].get("ignore_merges"):
        raise unknown("it ignores merges, which SentencePiece's does not")
    prefix = by_normaliser(definition) if definition.get("normalizer") else by_metaspace(definition)
    said = settings.get("add_prefix_space")
    if said is not None and bool(said) is not prefix:
        raise unknown(f"tokenizer_config.json has add_prefix_space {said}, tokenizer.json does otherwise")
    return prefix


def by_normaliser(definition: Mapping[str, Any]) -> bool:
    """See prefix_of: spaces become SPACE, after one was put before the text, or without."""
    normaliser = definition["normalizer"]
    steps = normaliser.get("normalizers", [normaliser])
    if not definition.get("pre_tokenizer"):
        if steps == [PREPENDED, REPLACED]:
            return True
        if steps == [REPLACED]:
            return False
    raise unknown("its normaliser is not SentencePiece's (Prepend and Replace), or more than that splits text")


def by_metaspace(definition: Mapping[str, Any]) -> bool:
    """See prefix_of: Metaspace does the same, and must not split words as well."""
    space = definition.get("pre_tokenizer") or {}
    if space.get("type") != "Metaspace" or space.get("replacement") != SPACE or space.get("split", True):
        raise unknown("it has neither SentencePiece's normalisers nor a Metaspace that splits nothing")
    scheme = space.get("prepend_scheme")
    if scheme not in {"always", "first", "never"}:
        raise unknown(f"its Metaspace has prepend_scheme {scheme!r}")
    return bool(scheme != "never")
