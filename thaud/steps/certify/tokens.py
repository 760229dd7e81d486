"""Whether the file's vocabulary is the base's: each token's text and kind, what ends a turn, what ends the text.

Prompts use some hundred tokens of it; this looks at all of them. A token that the base calls special must be one that
no typed text can make (control), and the tags that answers show must be visible (user-defined).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from thaud.domain import Message
from thaud.errors import ModelError
from thaud.rendering import VISIBLE_TAGS
from thaud.steps.llama import LlamaModel, TokenKind
from thaud.steps.tokenizer import BaseTokenizer

SHOWN = 5
EOS_KEY = "tokenizer.ggml.eos_token_id"
METASPACE = "\u2581"  # SentencePiece's space


@dataclass(frozen=True, slots=True)
class Tokens:
    """What was found. `end_of_turn` is the token with which training ends a turn, None where it cannot be told."""

    checked: int
    end_of_turn: str | None
    differences: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether the vocabularies are one."""
        return not self.differences

    def to_json(self) -> dict[str, Any]:
        """The certificate's section."""
        return {
            "ok": self.ok,
            "checked": self.checked,
            "end_of_turn": self.end_of_turn,
            "differences": list(self.differences[:SHOWN]),
        }


def compare_tokens(tokenizer: BaseTokenizer, model: LlamaModel) -> Tokens:
    """Compare all of the base's tokens with the file's, and the ends."""
    end = end_of_turn(tokenizer)
    found = [*wrong_tokens(tokenizer, list(model.tokens())), *wrong_ends(tokenizer, model, end)]
    return Tokens(len(tokenizer.ids), end, tuple(found))


def wrong_tokens(tokenizer: BaseTokenizer, served: list[tuple[str, TokenKind]]) -> Iterator[str]:
    """Each of the base's tokens that the file lacks, spells otherwise, or takes for another kind."""
    unknown = tokenizer.definition["model"].get("unk_token")
    for text, number in tokenizer.ids.items():
        if number >= len(served):
            yield f"token {number} {text!r} is not in the file, which has {len(served)}"
            continue
        spelled, kind = served[number]
        wanted = wanted_kind(tokenizer, text)
        if METASPACE in text:
            spelled, text = spelled.replace(METASPACE, " "), text.replace(METASPACE, " ")  # noqa: PLW2901 - one spelling
        if spelled != text:
            yield f"token {number} is {spelled!r} in the file, {text!r} in training"
        elif kind != wanted and not (text == unknown and kind == "unknown"):
            yield f"token {number} {text!r} is {kind} in the file, {wanted} in training"


def wanted_kind(tokenizer: BaseTokenizer, text: str) -> TokenKind:
    """What the base takes a token for."""
    if text in tokenizer.control:
        return "control"
    return "user-defined" if text in tokenizer.added or text in VISIBLE_TAGS else "normal"


def wrong_ends(tokenizer: BaseTokenizer, model: LlamaModel, end: str | None) -> Iterator[str]:
    """Where generation would go on after the answer, or the file names another end of text than the base."""
    eos, named = tokenizer.special("eos"), model.metadata(EOS_KEY)
    if eos is not None and named is None:
        yield f"the file names no end-of-text token ({EOS_KEY}), the base has {eos!r}"
    elif eos is not None and named != str(tokenizer.ids.get(eos)):
        yield f"the file's end-of-text token is {named}, the base's {tokenizer.ids.get(eos)} {eos!r}"
    if end is not None and not model.is_end(tokenizer.ids[end]):
        yield f"generation would not end at {end!r}, with which training ends a turn"


def end_of_turn(tokenizer: BaseTokenizer) -> str | None:
    """The token that a trained answer ends with; None where the template refuses the simplest conversation."""
    try:
        *_, turn = tokenizer.renderer.turns([Message("user", "hola"), Message("assistant", "hola")])
    except ModelError:
        return None
    return turn.pieces[-1].text
