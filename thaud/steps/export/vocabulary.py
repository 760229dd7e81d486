"""A tokenizer -> the vocabulary of a GGUF: tokens with kinds and scores, merges, the pre-tokenizer's name.

Owns what llama.cpp's converter decides of them, and the proof that llama.cpp's SentencePiece tokenizer, which knows
scores, merges in the order in which tokenizer.json does, which knows merges. Refuses tokenizers for which it would not.
"""

import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gguf import TokenType

from thaud.errors import ModelError
from thaud.rendering import VISIBLE_TAGS
from thaud.steps.export.sentencepiece import Row, read_pieces
from thaud.steps.tokenizer import BaseTokenizer
from thaud.steps.tokenizer_structure import SPACE

ADDED_SCORE, UNUSED_SCORE = -1000.0, -10000.0  # llama.cpp's converter's
BYTE = re.compile("<0x[0-9A-F]{2}>")
SPOKEN = frozenset({TokenType.NORMAL, TokenType.BYTE})
# llama.cpp's converter knows pre-tokenizers by a digest of what they make of this text. Where the structure is one of
# ours and the digest that of another name under which llama.cpp splits in the same way, the other name is written.
PROBE = (
    "\n \n\n \n\n\n \t \t\t \t\n  \n   \n    \n     \n🚀 (normal) 😶\u200d🌫️ (multiple emojis concatenated) ✅ 🦙🦙 "
    "3 33 333 3333 33333 333333 3333333 33333333 3.3 3..3 3...3 កាន់តែពិសេសអាច😁 ?我想在apple工作1314151天\uff5e "
    "------======= нещо на Български ''''''```````\"\"\"\"......!!!!!!?????? I've been 'told he's there, 'RE you sure? "
    "'M not sure I'll make it, 'D you like some tea? We'Ve a'lL"
)
KNOWN = {
    "qwen2": {
        "b3f499bb4255f8ca19fccd664443283318f2fd2414d5e0b040fbdd0cc195d6c5": "deepseek-r1-qwen",
        "4a2e2abae11ca2b86d570fc5b44be4d5eb5e72cc8f22dd136a94b37da83ab665": "kormo",
        "d4c8f286ea6b520b3d495c4455483cfa2302c0cfcd4be05d781b6a8a0a7cdaf1": "megrez",
    },
    "llama-bpe": {
        "9d032fcbd5501f4a38150912590928bfb36091efb5df11b8e2124b0390e3fb1e": "falcon3",
        "0e9433cbbb161f89e264eb32e8e64bfe69e834973ffca5d41d3948a604a3e2a3": "pixtral",
    },
}


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """`model` and `pre` are llama.cpp's names; tokens, kinds and scores are by id; scores are empty for byte-level BPE,
    merges for SentencePiece, which has none in a GGUF.
    """

    model: str
    pre: str
    tokens: Sequence[str]
    kinds: Sequence[int]
    scores: Sequence[float] = field(default=())
    merges: Sequence[str] = field(default=())
    space_prefix: bool | None = None


def read_vocabulary(tokenizer: BaseTokenizer, size: int) -> Vocabulary:
    """The vocabulary for a model with an embedding of `size` rows. Raises ModelError where it cannot be described."""
    structure = tokenizer.structure
    by_id = {number: text for text, number in tokenizer.ids.items()}
    if by_id and max(by_id) >= size:
        raise ModelError(f"the tokenizer has token {max(by_id)}, the model's vocabulary ends at {size}")
    if structure.split == "sentencepiece":
        learned = learned_rows(tokenizer)
        rows = [sentencepiece_row(number, by_id, tokenizer, learned.get(number)) for number in range(size)]
        check_merging(rows, merges_of(tokenizer))
        texts, scores, kinds = zip(*rows, strict=True)
        return Vocabulary("llama", "default", texts, kinds, scores, space_prefix=structure.space_prefix)
    tokens = [by_id.get(number, f"[PAD{number}]") for number in range(size)]
    kinds = tuple(kind_of(by_id.get(number), tokenizer) for number in range(size))
    merges = [" ".join(pair) for pair in merges_of(tokenizer)]
    return Vocabulary("gpt2", pre_tokenizer(tokenizer), tokens, kinds, merges=merges)


def pre_tokenizer(tokenizer: BaseTokenizer) -> str:
    """llama.cpp's name for how text is split before BPE. Raises ModelError for any structure but those known."""
    split = tokenizer.structure.split
    if split == "sentencepiece":
        return "default"
    return KNOWN[split].get(digest_of(tokenizer), split)


def digest_of(tokenizer: BaseTokenizer) -> str:
    """What llama.cpp's converter knows a tokenizer by: the SHA-256 of the ids of PROBE, as Python prints them."""
    return hashlib.sha256(str(tokenizer.encode_as_declared(PROBE)).encode()).hexdigest()


def merges_of(tokenizer: BaseTokenizer) -> list[tuple[str, str]]:
    """The BPE's merges, which tokenizer.json has as "a b" or ["a", "b"]."""
    found: list[Any] = tokenizer.definition["model"]["merges"]
    pairs = (each.split(" ", 1) if isinstance(each, str) else each for each in found)
    return [(left, right) for left, right in pairs]


def kind_of(token: str | None, tokenizer: BaseTokenizer) -> int:
    """llama.cpp's kind of a token. Tags that answers show are user-defined: control tokens would vanish from them."""
    if token is None:
        return int(TokenType.UNUSED)
    if token in tokenizer.control:
        return int(TokenType.CONTROL)
    if token in tokenizer.added or token in VISIBLE_TAGS:
        return int(TokenType.USER_DEFINED)
    return int(TokenType.NORMAL)


def learned_rows(tokenizer: BaseTokenizer) -> dict[int, Row]:
    """By id, what tokenizer.model says of its tokens; where there is no such file, what the merges' order does."""
    if tokenizer.sentencepiece:
        return dict(enumerate(read_pieces(tokenizer.sentencepiece)))
    return scored_by_merges(tokenizer)


def scored_by_merges(tokenizer: BaseTokenizer) -> dict[int, Row]:
    """Tokens with scores that fall in the order in which merges make them; those that no merge makes come last."""
    made = dict.fromkeys(left + right for left, right in merges_of(tokenizer))
    order = {text: -float(number) for number, text in enumerate(made)}
    vocabulary: Mapping[str, int] = tokenizer.definition["model"]["vocab"]
    last = -float(len(made))
    return {
        number: Row(text, order.get(text, last), int(TokenType.BYTE if BYTE.fullmatch(text) else TokenType.NORMAL))
        for text, number in vocabulary.items()
    }


def sentencepiece_row(number: int, by_id: Mapping[int, str], tokenizer: BaseTokenizer, learned: Row | None) -> Row:
    """What llama.cpp's converter writes of a token: what was learned, unless the settings have it added."""
    text = by_id.get(number)
    if text is None:
        return learned or Row(f"[PAD{number}]", UNUSED_SCORE, int(TokenType.UNUSED))
    declared = str(number) in (tokenizer.settings.get("added_tokens_decoder") or {})
    if text in tokenizer.added and not (learned and tokenizer.sentencepiece and not declared):
        if text in tokenizer.control:
            return Row(text, ADDED_SCORE, int(TokenType.CONTROL))
        return Row(text.replace(SPACE, " "), ADDED_SCORE, int(TokenType.USER_DEFINED))
    if learned is None or learned.text != text:
        raise ModelError(
            f"tokenizer.json has {text!r} as token {number}, tokenizer.model has not: take both from one place"
        )
    return learned


def check_merging(rows: Sequence[Row], merges: Sequence[tuple[str, str]]) -> None:
    """Raises ModelError where merging by score (llama.cpp) would not be merging in the merges' order (training), or
    would make a control token out of typed text.
    """
    scores = {row.text: row.score for row in rows if row.kind == TokenType.NORMAL}
    if sum(row.kind == TokenType.BYTE for row in rows) != 256:
        raise ModelError("the tokenizer has no token for some of the 256 bytes, which SentencePiece's fallback needs")
    listed = set(merges)
    for row in rows:
        halves = ((row.text[:at], row.text[at:]) for at in range(1, len(row.text)))
        ways = {(left, right) for left, right in halves if left in scores and right in scores}
        if ways and row.kind not in SPOKEN:
            raise ModelError(f"the tokenizer would make its token {row.text} out of typed text")
        if row.kind != TokenType.NORMAL:
            continue
        if not all(character in scores for character in row.text):
            raise ModelError(f"the tokenizer has {row.text!r} and not each of its characters")
        if not ways <= listed:
            raise ModelError(f"the tokenizer's merges leave out a way to make {row.text!r}, which llama.cpp would take")
    made = [scores[left + right] for left, right in merges if left + right in scores]
    if any(before < after for before, after in itertools.pairwise(made)):
        raise ModelError("the tokenizer's merges are not in the order of its tokens' scores, by which llama.cpp merges")
