"""Whether the file sees the prompts that training showed: token ids of the same conversations, by both sides.

Ours: the base's own tokenizer and template. The file's: its template under the same renderer, llama.cpp's tokenizer.
The day is the same on both sides, for templates that tell it. What a template refuses on both sides alike agrees,
and is counted as refused.

Two further opinions are counted and decide nothing: `as_one_text`, llama.cpp's tokens of the whole rendered text, as
servers take it (what is typed like a control token is one there), and `by_transformers`, the ids of the base's own
apply_chat_template where nobody typed a control token.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from thaud.domain import Example, canonical_json
from thaud.errors import ModelError
from thaud.steps.llama import LlamaModel
from thaud.steps.tokenizer import BaseTokenizer, one_day

SHOWN = 5  # differences that are written down


@dataclass
class Prompts:
    """What was compared so far. `held_out`: prompts of the person's own, beside the fixed conversations."""

    conversations: int = 0
    equal: int = 0
    refused: int = 0
    held_out: int = 0
    as_one_text: int = 0
    by_transformers: int = 0
    differences: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether all are equal, and at least one that was not refused."""
        return not self.differences and self.equal > self.refused

    def to_json(self) -> dict[str, Any]:
        """The certificate's section."""
        return {"ok": self.ok, **asdict(self), "differences": self.differences[:SHOWN]}


class Sides:
    """One conversation, rendered and encoded by each side; None where the template refuses it."""

    def __init__(self, base_dir: Path, tokenizer: BaseTokenizer, model: LlamaModel) -> None:
        self.tokenizer = tokenizer
        self.model = model
        self._served = model.renderer.at(one_day)
        self._third = third_opinion(base_dir)
        self.spelling = {number: text for text, number in tokenizer.ids.items()}

    def trained(self, example: Example) -> list[int] | None:
        """As training does."""
        try:
            return self.tokenizer.encode_all(self.tokenizer.renderer.prompt(example.messages, example.tools))
        except ModelError:
            return None

    def served(self, example: Example) -> list[int] | None:
        """As the file's template and llama.cpp do."""
        try:
            pieces = self._served.prompt(example.messages, example.tools)
        except ModelError:
            return None
        return self.model.encode(pieces)

    def as_one_text(self, example: Example) -> list[int]:
        """As a server does: the whole text at once. Raises ModelError where the template refuses."""
        text = self._served.render(example.messages, example.tools, add_generation_prompt=True, enable_thinking=False)
        return self.model.encode_whole(text)

    def by_transformers(self, example: Example) -> list[int] | None:
        """As transformers does; None where it cannot say, or where a control token is typed in the conversation."""
        typed = canonical_json(example.content)
        if self._third is None or any(token in typed for token in self.tokenizer.added):
            return None
        ids: list[int] | None = self._third(example)
        return ids


def third_opinion(base_dir: Path) -> Any:
    """Example -> ids by transformers' own tokenizer and template; None where it has no tokenizer for this base."""
    from jinja2 import TemplateError  # noqa: PLC0415 - only where transformers is
    from transformers import AutoTokenizer  # noqa: PLC0415 - seconds to import

    try:
        native = AutoTokenizer.from_pretrained(base_dir, local_files_only=True)
    except (OSError, ValueError, KeyError, AttributeError, ImportError):
        return None
    if not native.chat_template:
        return None

    def ids(example: Example) -> list[int] | None:
        rows = [message.to_json() for message in example.messages]
        tools: Sequence[Mapping[str, Any]] | None = [dict(tool) for tool in example.tools] or None
        try:
            text = native.apply_chat_template(
                rows, tools=tools, add_generation_prompt=True, tokenize=False, enable_thinking=False,
                date_string=one_day("%d %b %Y"),
            )  # fmt: skip
        except (TemplateError, TypeError, ValueError, KeyError):
            return None
        found: list[int] = native(text, add_special_tokens=False)["input_ids"]
        return found

    return ids


def compare_prompts(sides: Sides, fixed: Mapping[str, Example], held_out: Iterable[Example]) -> Prompts:
    """Compare the fixed conversations, and prompts of the person's own."""
    found = Prompts()
    for name, example in fixed.items():
        found.conversations += 1
        trained, served = sides.trained(example), sides.served(example)
        if trained != served:
            found.differences.append(difference(sides, name, trained, served))
            continue
        found.equal += 1
        if trained is None:
            found.refused += 1
            continue
        found.as_one_text += sides.as_one_text(example) == trained
        found.by_transformers += sides.by_transformers(example) == trained
    for number, example in enumerate(held_out, start=1):
        trained, served = sides.trained(example), sides.served(example)
        found.held_out += 1
        if trained != served:
            found.differences.append(difference(sides, f"held-out prompt {number}", trained, served))
    return found


def difference(sides: Sides, name: str, trained: list[int] | None, served: list[int] | None) -> str:
    """The first token that differs, in words."""
    if trained is None or served is None:
        who = "the file's template refuses it, the base's does not" if served is None else "only the base's refuses it"
        return f"{name}: {who}"
    pairs = enumerate(zip_longest(trained, served))
    at, (ours, theirs) = next((at, pair) for at, pair in pairs if pair[0] != pair[1])
    return f"{name}: token {at} is {shown(sides, theirs)} in the file, {shown(sides, ours)} in training"


def shown(sides: Sides, token: int | None) -> str:
    """A token's number and the base's spelling of it."""
    if token is None:
        return "none"
    return f"{token} {sides.spelling.get(token, '?')!r}"
