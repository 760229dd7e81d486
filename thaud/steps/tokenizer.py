"""A base model's tokenizer as its files tell it: tokens and their kinds, chat template, pieces -> ids.

Training encodes with it and the export writes it into the GGUF, so both have one idea of what a control token is.
Owns the reading of tokenizer.json, tokenizer_config.json and chat_template.jinja; refuses tokenizers without the first.
"""

import json
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thaud.errors import ModelError
from thaud.rendering import CHATML, VISIBLE_TAGS, Piece, Renderer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LOOKS_LIKE_CONTROL = re.compile(r"<\|.*\|>")  # llama.cpp's converter takes these for control tokens, declared or not


@dataclass(frozen=True)
class BaseTokenizer:
    """What a base's tokenizer files say. `definition` is tokenizer.json, `settings` tokenizer_config.json, `config` the
    model's own config.json, which names a BOS where the tokenizer does not.
    """

    definition: Mapping[str, Any]
    settings: Mapping[str, Any]
    config: Mapping[str, Any]
    template: str

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
        """The text of the `eos`, `bos` or `pad` token; None where the base names none."""
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
    def _native(self) -> "Tokenizer":
        from tokenizers import Tokenizer  # noqa: PLC0415 - native code, only where something is encoded

        added = [
            {**token, "special": token["content"] in self.control} for token in self.definition.get("added_tokens", ())
        ]
        native = Tokenizer.from_str(json.dumps({**self.definition, "added_tokens": added}))
        native.no_truncation()
        native.no_padding()
        native.encode_special_tokens = True
        return native

    def encode(self, piece: Piece) -> list[int]:
        """Token ids of one piece; in plain text, control tokens are characters like any other."""
        if piece.control:
            return [self.ids[piece.text]]
        ids: list[int] = self._native.encode(piece.text, add_special_tokens=False).ids
        return ids

    def encode_all(self, pieces: Iterable[Piece]) -> list[int]:
        """Token ids of pieces in order."""
        return [number for piece in pieces for number in self.encode(piece)]


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
    return BaseTokenizer(definition, settings, config, read_template(folder, settings))


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
