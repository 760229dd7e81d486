"""Tiny tokenizers of each structure that can be exported: Qwen2's, Llama 3's, SentencePiece's."""

import io
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from tests.testkit.chat_templates import HEADERS, PLAIN_HEADERS
from tests.testkit.tiny_models import TAGS, TEXT, tiny_tokenizer

LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3_TOKENS = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
SPACE = "\u2581"


@cache
def llama3_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with Llama 3's split, whose words that are tokens are not merged, and BOS before a text."""
    bpe = Tokenizer(models.BPE(ignore_merges=True))
    split = pre_tokenizers.Split(Regex(LLAMA3_SPLIT), "isolated")
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([split, plain])
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator([TEXT], trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False))
    bpe.add_special_tokens(LLAMA3_TOKENS)
    begin = ("<|begin_of_text|>", bpe.token_to_id("<|begin_of_text|>"))
    around = processors.TemplateProcessing(single="<|begin_of_text|> $A", special_tokens=[begin])
    bpe.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), around])
    return wrapped(bpe, HEADERS, bos_token="<|begin_of_text|>", eos_token="<|eot_id|>")


@cache
def sentencepiece_model() -> bytes:
    """tokenizer.model of a SentencePiece BPE of some hundred tokens, from TEXT."""
    import sentencepiece  # noqa: PLC0415 - a dependency of these tests alone

    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT.splitlines() * 2),
        model_writer=written,
        model_type="bpe",
        vocab_size=520,
        byte_fallback=True,
        character_coverage=1.0,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    return written.getvalue()


@cache
def sentencepiece_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer.json that transformers makes of `sentencepiece_model`: its merges are all ways to make a token, by
    score, with the older normalisers.
    """
    import sentencepiece  # noqa: PLC0415

    read = sentencepiece.SentencePieceProcessor()
    read.LoadFromSerializedProto(sentencepiece_model())
    scores = {read.IdToPiece(number): read.GetScore(number) for number in range(read.GetPieceSize())}
    vocabulary = {text: number for number, text in enumerate(scores)}
    ways = [
        (text[:at], text[at:])
        for text in sorted(scores, key=lambda text: -scores[text])
        for at in range(1, len(text))
        if text[:at] in scores and text[at:] in scores
    ]
    bpe = Tokenizer(models.BPE(vocabulary, ways, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    bpe.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    back = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    bpe.decoder = decoders.Sequence(back)
    bpe.add_special_tokens(["<unk>", "<s>", "</s>"])
    bpe.add_tokens([AddedToken(tag, normalized=False) for tag in TAGS])
    begin = ("<s>", bpe.token_to_id("<s>"))
    bpe.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[begin])
    return wrapped(bpe, PLAIN_HEADERS, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def wrapped(bpe: Tokenizer, template: str, **named: str) -> PreTrainedTokenizerFast:
    """With its settings and chat template."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, **named)
    tokenizer.chat_template = template
    return tokenizer


TOKENIZERS: Mapping[str, Callable[[], Any]] = {
    "qwen2": tiny_tokenizer,
    "llama 3": llama3_tokenizer,
    "sentencepiece": sentencepiece_tokenizer,
    "sentencepiece without its file": sentencepiece_tokenizer,
}


def declare_added(folder: Path) -> None:
    """Name the added tokens in tokenizer_config.json too, as models that come with tokenizer.model do."""
    file = folder / "tokenizer_config.json"
    added = json.loads((folder / "tokenizer.json").read_bytes())["added_tokens"]
    declared = {str(token["id"]): {name: token[name] for name in ("content", "special")} for token in added}
    file.write_text(json.dumps(json.loads(file.read_bytes()) | {"added_tokens_decoder": declared}))


def write_tokenizer(folder: Path, words: str) -> Any:
    """One of TOKENIZERS in `folder`, and itself."""
    tokenizer = TOKENIZERS[words]()
    tokenizer.save_pretrained(folder)
    if words == "sentencepiece":
        (folder / "tokenizer.model").write_bytes(sentencepiece_model())
        declare_added(folder)
    return tokenizer
