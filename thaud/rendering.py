"""Conversation and chat template -> prompt text and token pieces.

The one renderer of training, exam and embedded serving. Owns the template environment (the one transformers uses, so
that the text is the same byte for byte), which part of a conversation is learned, and the promise that control tokens
typed by a person stay text. Refuses to know tokenizers: whoever has one encodes the pieces in order and joins the ids.
"""

import itertools
import json
import re
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from thaud.domain import Message, ToolCall, canonical_json
from thaud.errors import ModelError

if TYPE_CHECKING:
    from jinja2 import Template, nodes
    from jinja2.parser import Parser

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Hermes' and Qwen's tags: tokens of their own, but visible text; as control tokens they would vanish from answers.
VISIBLE_TAGS = frozenset(
    f"<{slash}{name}>" for name in ("tool_call", "tool_response", "tools", "think") for slash in ("", "/")
)
MARKERS = range(0x100000, 0x10FFFE)


class Piece(NamedTuple):
    """A stretch of a rendered conversation, NFC.

    control: the text is exactly one control token, written by the template. Otherwise it is plain text, to be encoded
    with control tokens not recognised. supervised: the model learns to say it.
    """

    text: str
    control: bool
    supervised: bool


class Turn(NamedTuple):
    """What an assistant turn adds to the lesson of the turn before it, or to none where it is `fresh`: there the
    template writes the conversation so far otherwise than in that lesson (Qwen3 drops the thoughts of earlier turns).

    messages: how many of the conversation's messages there are up to and with this turn. Its last piece is the control
    token that ends it.
    """

    messages: int
    fresh: bool
    pieces: list[Piece]


class Renderer:
    """One chat template. `control_tokens` are the tokenizer's special tokens, less VISIBLE_TAGS; `clock` is what a
    template that tells the date asks, with a format as strftime has it.
    """

    def __init__(
        self,
        template: str,
        control_tokens: Iterable[str],
        bos: str = "",
        eos: str = "",
        clock: Callable[[str], str] = time.strftime,
    ) -> None:
        self.template = template
        longest_first = sorted(set(control_tokens) - VISIBLE_TAGS, key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._given = {"bos_token": bos, "eos_token": eos, "strftime_now": clock}

    @cached_property
    def _compiled(self) -> "Template":
        return compile_template(self.template)

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        add_generation_prompt: bool = False,
        **switches: bool,
    ) -> str:
        """The text that transformers' apply_chat_template(tokenize=False) gives; `switches` are the template's own, as
        enable_thinking is.

        Raises ModelError where the template refuses the conversation.
        """
        rows, tool_rows = _plain(messages, tools)
        return self._fill(rows, tool_rows, generation=add_generation_prompt, **switches)

    def at(self, clock: Callable[[str], str]) -> "Renderer":
        """This renderer with another clock: two can be compared only on the same day."""
        other = copy(self)
        other._given = {**self._given, "strftime_now": clock}  # noqa: SLF001 - another of its own kind
        return other

    def prompt(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = (), *, think: bool = False
    ) -> list[Piece]:
        """The conversation so far and the assistant's header: what generation goes on from.

        think: what a template that can have thinking switched (`enable_thinking`: Qwen3) has it switched to, as with
        Ollama's `think`. What the assistant thought before is given to the template, which keeps it or not.
        """
        rows, tool_rows, marker = self._guard(messages, tools, thoughts=True)
        text = self._fill(rows, tool_rows, generation=True, enable_thinking=think)
        return list(self._pieces(text, marker, supervised=False))

    @cached_property
    def thinks(self) -> bool:
        """Whether thinking can be switched on and off: the prompt is another one."""
        asked = [Message("user", "x")]
        try:
            return self.prompt(asked, think=True) != self.prompt(asked)
        except ModelError:
            return False

    @cached_property
    def has_system(self) -> bool:
        """Whether there may be a system turn: Gemma's template refuses it."""
        try:
            self.render([Message("system", "x"), Message("user", "y")], add_generation_prompt=True)
        except ModelError:
            return False
        return True

    @cached_property
    def tags_calls(self) -> bool:
        """Whether the template shows tools, and writes calls as `<tool_call>{"name": ...` (Hermes, Qwen)."""
        asked, name = Message("user", "x"), "f7c1"
        tool = {"type": "function", "function": {"name": name, "description": "", "parameters": {"type": "object"}}}
        called = [asked, Message("assistant", "", (ToolCall(name, {}),)), Message("tool", "y", tool_name=name)]
        try:
            shown, said = self.render([asked], [tool]), self.render(called, [tool], add_generation_prompt=True)
        except ModelError:
            return False
        return name in shown and re.search(r"<tool_call>\s*\{[^<]*" + name, said) is not None

    def lesson(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> list[Piece]:
        """The whole conversation; supervised is what each assistant turn says, its end-of-turn token included.

        Raises ModelError where the template refuses the conversation, or rewrites earlier turns, or ends a turn without
        a control token.
        """
        rows, tool_rows, marker = self._guard(messages, tools)
        text = self._fill(rows, tool_rows, generation=False, enable_thinking=False)
        pieces: list[Piece] = []
        at = 0
        for turn, whole in self._turns(rows, tool_rows, marker):
            if not text.startswith(whole):
                raise ModelError(f"the chat template rewrites message {turn.messages} when others follow")
            pieces += turn.pieces
            at = len(whole)
        return [*pieces, *self._pieces(text[at:], marker, supervised=False)]

    def turns(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> Iterator[Turn]:
        """The assistant's turns in order, each after what a server would show before it was said; supervised is what it
        says, its end-of-turn token included. What follows the last one is left out.

        A supervised stretch is encoded apart from the header before it, as in generation. Raises ModelError, perhaps
        after some turns, where the template refuses the conversation or a turn cannot be told from its header.
        """
        return (turn for turn, _ in self._turns(*self._guard(messages, tools)))

    def _turns(self, rows: list[Any], tools: list[Any], marker: str) -> Iterator[tuple[Turn, str]]:
        """Each turn, and its lesson's text up to its end."""
        before = ""
        for number in (number for number, row in enumerate(rows) if row["role"] == "assistant"):
            start, whole = self._said(rows, tools, number)
            fresh = not before or len(before) > start or not whole.startswith(before)
            at = 0 if fresh else len(before)
            shown = self._pieces(whole[at:start], marker, supervised=False)
            said = self._pieces(whole[start:], marker, supervised=True)
            yield Turn(number + 1, fresh, [*shown, *said]), whole
            before = whole

    def _said(self, rows: list[Any], tools: list[Any], number: int) -> tuple[int, str]:
        """Where an assistant's message begins after its header, and the text up to the control token that ends it.

        Its header is that of a served prompt; where it says its thoughts, that of a prompt with thinking switched on.
        Refused are templates that show no calls (TinyLlama's, plain ChatML), for silence would be learned in their
        place, and those that write no header before a first message, for it would be.
        """
        for thinking in (False, True):
            header = self._fill(rows[:number], tools, generation=True, enable_thinking=thinking)
            whole = self._fill(rows[: number + 1], tools, generation=False, enable_thinking=thinking)
            if whole.startswith(header):
                break
        else:
            raise ModelError(
                f"the chat template rewrites what stands before message {number + 1} once that is said, "
                "so that no server would show it like that"
            )
        without = {key: value for key, value in rows[number].items() if key != "tool_calls"}
        if "tool_calls" in rows[number] and whole == self._fill(
            [*rows[:number], without], tools, generation=False, enable_thinking=thinking
        ):
            raise ModelError(f"the chat template leaves out the tool calls of message {number + 1}")
        if not number and header == self._fill([], tools, generation=False):
            raise ModelError("the chat template writes no header before message 1")
        ends = [found.end() for found in self._control.finditer(whole, len(header))]
        if not ends:
            raise ModelError("the chat template ends the assistant's turn without a control token")
        return len(header), whole[: ends[-1]]

    def _guard(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], *, thoughts: bool = False
    ) -> tuple[list[Any], list[Any], str]:
        """Break each control token typed in a message or a tool by a character that occurs nowhere else."""
        rows, tool_rows = _plain(messages, tools)
        if thoughts:
            rows = [
                row | ({"reasoning_content": message.thinking} if message.thinking else {})
                for row, message in zip(rows, messages, strict=True)
            ]
        said = canonical_json([rows, tool_rows])
        marker = next(character for character in map(chr, MARKERS) if character not in said)
        return self._break(rows, marker), self._break(tool_rows, marker), marker

    def _break(self, value: Any, marker: str) -> Any:
        if isinstance(value, str):
            return self._control.sub(lambda found: found[0][0] + marker + found[0][1:], value)
        if isinstance(value, dict):
            return {self._break(key, marker): self._break(item, marker) for key, item in value.items()}
        return [self._break(item, marker) for item in value] if isinstance(value, list) else value

    def _pieces(self, text: str, marker: str, *, supervised: bool) -> Iterator[Piece]:
        at = 0
        for found in itertools.chain(self._control.finditer(text), (None,)):
            plain = text[at : found.start() if found else len(text)].replace(marker, "")
            if plain:
                yield Piece(unicodedata.normalize("NFC", plain), control=False, supervised=supervised)
            if found:
                yield Piece(found[0], control=True, supervised=supervised)
                at = found.end()

    def _fill(self, rows: list[Any], tools: list[Any], *, generation: bool, **switches: bool) -> str:
        from jinja2 import TemplateError  # noqa: PLC0415 - keeps this module light

        try:
            return self._compiled.render(
                messages=rows,
                tools=tools or None,
                documents=None,
                add_generation_prompt=generation,
                **self._given,
                **switches,
            )
        except (TemplateError, TypeError, ValueError, KeyError) as error:
            raise ModelError(f"the chat template refuses this conversation: {error}") from error


def _plain(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> tuple[list[Any], list[Any]]:
    """Plain JSON values, which is all a template may see."""
    return [message.to_json() for message in messages], [dict(tool) for tool in tools]


def compile_template(template: str) -> "Template":
    """Compile with transformers' settings (utils/chat_template_utils.py, 5.x). Raises ModelError on bad syntax.

    Templates come with downloaded models and are untrusted: the environment is jinja2's immutable sandbox.
    """
    from jinja2 import TemplateError  # noqa: PLC0415 - keeps this module light
    from jinja2.ext import Extension, loopcontrols  # noqa: PLC0415
    from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: PLC0415

    class Generation(Extension):
        """`{% generation %}` marks the assistant's text for transformers; here it is transparent."""

        tags = {"generation"}  # noqa: RUF012 - jinja2's interface

        def parse(self, parser: "Parser") -> "list[nodes.Node]":
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = time.strftime
    try:
        return environment.from_string(template)
    except TemplateError as error:
        raise ModelError(f"the chat template is no valid Jinja: {error}") from error


def _raise_exception(message: str) -> NoReturn:
    from jinja2 import TemplateError  # noqa: PLC0415 - keeps this module light

    raise TemplateError(message)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002 - the filter's interface, as templates call it
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002
) -> str:
    """Jinja's own filter would escape <, > and &."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
