"""A base model's tokenizer as its files tell it: tokens and their kinds, chat template, pieces -> ids.

Training encodes with it and the export writes it into the GGUF, so both have one idea of what a control token is.
Owns the reading of tokenizer.json, tokenizer_config.json and chat_template.jinja; refuses tokenizers without the first.
SentencePiece puts a space before a text: which of the pieces of a conversation it does so for is decided here, so that
the pieces together are what llama.cpp makes of the whole text, and so that no answer begins with a space of its own.
"""

import itertools
import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thaud.errors import ModelError
from thaud.rendering import CHATML, VISIBLE_TAGS, Piece, Renderer
from thaud.steps.tokenizer_structure import REPLACED, SPACE, Structure, is_sentencepiece, structure_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# llama.cpp's converter takes these for control tokens, declared or not.
LOOKS_LIKE_CONTROL = re.compile(r"<\|.*\|>|<\uff5c.*\uff5c>|<unused.*>|<pad>|<mask>|<2mass>|\[@BOS@\]")


@dataclass(frozen=True)
class BaseTokenizer:
    """What a base's tokenizer files say. `definition` is tokenizer.json, `settings` tokenizer_config.json, `config` the
    model's own config.json, which names a BOS where the tokenizer does not; `sentencepiece` are the bytes of
    tokenizer.model, of which the export takes the scores, and empty where there is none.
    """

    definition: Mapping[str, Any]
    settings: Mapping[str, Any]
    config: Mapping[str, Any]
    template: str
    sentencepiece: bytes = b""

    @cached_property
    def added(self) -> dict[str, int]:
        """Tokens beside the learned vocabulary: text -> id."""
        return {token["content"]: token["id"] for token in self.definition.get("added_tokens", ())}

    @cached_property
    def control(self) -> frozenset[str]:
        """Special tokens, and those that look it; never the tags that answers show (VISIBLE_TAGS)."""
        declared = {token["content"] for token in self.definition.get("added_tokens", ()) if token.get("special")}
        looking = {text for text in self.added if LOOKS_LIKE_CONTROL.fullmatch(text)}
        return frozenset((declared | looking) - VISIBLE_TAGS)

    @cached_property
    def ids(self) -> dict[str, int]:
        """Every token's text, as tokenizer.json spells it -> id."""
        return {**self.definition["model"]["vocab"], **self.added}

    def special(self, role: str) -> str | None:
        """The text of the `eos`, `bos`, `pad` or `unk` token; None where the base names none."""
        named = self.settings.get(f"{role}_token")
        if named is not None:
            return str(named["content"] if isinstance(named, Mapping) else named)
        number = self.config.get(f"{role}_token_id")
        return next((text for text, each in self.added.items() if each == number), None)

    @cached_property
    def renderer(self) -> Renderer:
        """The renderer of this base's template. Where the template tells the date (Llama 3's), it is always the same:
        what is trained must not depend on the day on which it is.
        """
        return Renderer(self.template, self.control, self.special("bos") or "", self.special("eos") or "", one_day)

    @cached_property
    def structure(self) -> Structure:
        """How text is taken apart. Raises ModelError where llama.cpp would do it otherwise."""
        return structure_of(self.definition, self.settings)

    @cached_property
    def _native(self) -> "Tokenizer":
        added = [
            {**token, "special": token["content"] in self.control} for token in self.definition.get("added_tokens", ())
        ]
        return native({**self.definition, "added_tokens": added})

    @cached_property
    def _bare(self) -> "Tokenizer":
        """SentencePiece's merging alone, without added tokens and without a space before the text."""
        nothing: dict[str, Any] = {"pre_tokenizer": None, "post_processor": None, "added_tokens": []}
        return native({**self.definition, **nothing, "normalizer": REPLACED})

    @cached_property
    def _visible(self) -> "re.Pattern[str]":
        """Added tokens that are text to people: they are found in plain text too."""
        spelled = {text.replace(SPACE, " ") for text in self.added.keys() - self.control}
        return re.compile("|".join(map(re.escape, sorted(spelled, key=len, reverse=True))) or "(?!)")

    def encode(self, piece: Piece, *, continues: bool = False) -> list[int]:
        """Token ids of one piece; in plain text, control tokens are characters like any other. `continues`: whether it
        goes on after plain text, so that SentencePiece puts no space before it.
        """
        if piece.control:
            return [self.ids[piece.text]]
        if is_sentencepiece(self.definition):
            return list(self._spell(piece.text, continues=continues))
        ids: list[int] = self._native.encode(piece.text, add_special_tokens=False).ids
        return ids

    def _spell(self, text: str, *, continues: bool) -> Iterator[int]:
        """Ids of SentencePiece, as llama.cpp has them: a space before what stands first or after an added token."""
        at = 0
        for found in itertools.chain(self._visible.finditer(text), (None,)):
            if plain := text[at : found.start() if found else len(text)]:
                prefix = " " if self.structure.space_prefix and not continues else ""
                yield from self._bare.encode(prefix + plain, add_special_tokens=False).ids
            if found:
                yield self._added_ids[found[0]]
                at, continues = found.end(), False

    @cached_property
    def _added_ids(self) -> dict[str, int]:
        return {text.replace(SPACE, " "): number for text, number in self.added.items()}

    def encode_all(self, pieces: Iterable[Piece], *, continues: bool = False) -> list[int]:
        """Token ids of pieces in order. `continues`: whether they go on after plain text."""
        ids: list[int] = []
        for piece in pieces:
            ids += self.encode(piece, continues=continues)
            continues = not piece.control
        return ids

    def encode_as_declared(self, text: str) -> list[int]:
        """Ids of a text as tokenizer.json would have them by itself, with what it puts around: no way to train by."""
        ids: list[int] = native(self.definition, plain=False).encode(text).ids
        return ids


def native(definition: Mapping[str, Any], *, plain: bool = True) -> "Tokenizer":
    """The library's tokenizer; `plain`: special tokens in a text are characters like any other."""
    from tokenizers import Tokenizer  # noqa: PLC0415 - native code, only where something is encoded

    made = Tokenizer.from_str(json.dumps(definition))
    made.no_truncation()
    made.no_padding()
    made.encode_special_tokens = plain
    return made


def one_day(layout: str) -> str:
    """The day that Llama 3's own template falls back on, as strftime writes it: 26 Jul 2024."""
    return time.strftime(layout, time.strptime("2024-07-26", "%Y-%m-%d"))


def read_tokenizer(folder: Path) -> BaseTokenizer:
    """Read a base's tokenizer. Raises ModelError naming the file that cannot be used."""
    settings = read_json(folder / "tokenizer_config.json", required=False)
    definition = read_json(folder / "tokenizer.json")
    if definition.get("model", {}).get("type") != "BPE":
        raise ModelError(f"{folder / 'tokenizer.json'}: only BPE tokenizers can be trained and exported")
    config = read_json(folder / "config.json", required=False)
    learned = folder / "tokenizer.model"
    spelled = learned.read_bytes() if is_sentencepiece(definition) and learned.is_file() else b""
    return BaseTokenizer(definition, settings, config, read_template(folder, settings), spelled)


def read_template(folder: Path, settings: Mapping[str, Any]) -> str:
    """The base's chat template: chat_template.jinja, else the one in tokenizer_config.json, else plain ChatML."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    found = settings.get("chat_template") or CHATML
    if isinstance(found, str):
        return found
    return next((str(each["template"]) for each in found if each.get("name") == "default"), CHATML)


def read_json(path: Path, *, required: bool = True) -> dict[str, Any]:
    """A JSON object; {} where the file is not required and absent. Raises ModelError."""
    if not required and not path.is_file():
        return {}
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds no JSON object")
    return value
