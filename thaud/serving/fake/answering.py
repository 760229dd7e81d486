"""What a loaded model says to one conversation, and how the server cuts it into chunks, thoughts and calls."""

import codecs
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from thaud.serving.fake.engine import Loaded
from thaud.serving.fake.gotemplate import parse
from thaud.serving.fake.held import Presses
from thaud.serving.fake.prompts import RAW, Think, go_prompt, native_prompt
from thaud.serving.fake.protocol import Refusal
from thaud.serving.fake.runners import Runner
from thaud.serving.fake.tools import generic_calls, numbered, split_at_tag, tag_of

Line = dict[str, Any]
PIECES_ALIKE = 30
JSON = "json"
NATIVE_TAG = "<tool_call>"
THINK, THOUGHT = "<think>", "</think>"
TIMES = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")
TOO_LONG = "the prompt is longer than the context length currently available to the model; shorten it"


@dataclass(frozen=True)
class Question:
    """One conversation put to one loaded model. `native`: rendered by its Jinja, as it would be by a fresh runner."""

    loaded: Loaded
    runner: Runner
    native: bool
    template: str | None
    messages: Sequence[Line]
    tools: Sequence[Line]
    options: Mapping[str, Any]
    think: Think
    thinks: bool
    body: Mapping[str, Any] = field(repr=False)
    presses: Presses = field(repr=False)
    new: bool = True

    @cached_property
    def prompt(self) -> str:
        """The text that the model is given. Raises Refusal."""
        if self.body.get("raw"):
            return str(self.body["prompt"])
        if self.native:
            jinja = self.loaded.template if self.runner.native else ""  # A runner in the other mode knows ChatML only.
            return native_prompt(jinja, self.loaded.words, self.messages, self.tools, self.think)
        return go_prompt(self.template, self.messages, self.tools, self.think)

    @property
    def prompt_tokens(self) -> int:
        """How long the prompt is."""
        return self.loaded.words.count(self.prompt)

    @property
    def shifts(self) -> bool:
        """Whether generation may go on past the context."""
        return self.body.get("shift") is not False

    def fitted(self) -> "Question":
        """This question with as many of its oldest turns dropped as `truncate` asks for.

        Raises Refusal where it does not fit and may not be cut.
        """
        room, truncates = self.runner.context, self.body.get("truncate") is not False
        question = self
        while truncates and question.prompt_tokens >= room and (shorter := question.without_oldest()) is not None:
            question = shorter
        if (tokens := question.prompt_tokens) < room:
            return question
        if not self.new and not truncates:
            raise Refusal(400, "the input length exceeds the context length")
        if self.native or (self.new and not truncates):
            raise Refusal(400, json.dumps({"error": overflow(tokens, room)}))
        if self.new and not self.shifts:
            raise Refusal(400, TOO_LONG)
        return question

    def without_oldest(self) -> "Question | None":
        """The question less its oldest turn that is no system message; the last one stays."""
        older = [at for at, turn in enumerate(self.messages[:-1]) if turn["role"] != "system"]
        if not older:
            return None
        return replace(self, messages=[turn for at, turn in enumerate(self.messages) if at != older[0]])

    def chunks(self) -> Iterator[Line]:
        """The pieces of the answer; the last has `done`, unless the server's guard against loops ends it before."""
        reply = self.held() if self.shape and not self._asks_twice else self._free()
        thought, rest = apart(reply.texts) if self._thinks_aloud else ("", reply.texts)
        if thought:
            yield {"message": {"role": "assistant", "content": "", "thinking": thought}, "done": False}
        if thought and rest and self.shape and self._asks_twice:
            turn = {"role": "assistant", "content": "", "thinking": thought}
            second = replace(self, messages=[*self.messages, turn])
            reply = second.held()
            rest = reply.texts
        texts = self._stopped(rest)
        if not self.native and loops(texts):
            yield from map(message, texts[:PIECES_ALIKE])
            return
        last: Line = {"role": "assistant", "content": ""}
        for chunk in self._cut(texts, ended=reply.ended):
            if self.native and "tool_calls" in chunk["message"]:
                last = chunk["message"]
            else:
                yield {**chunk, **self._probabilities(chunk["message"])}
        counts = {"prompt_eval_count": self._read_tokens, "eval_count": reply.tokens}
        done = {"done": True, "done_reason": "stop" if reply.ended else "length"}
        yield {"message": last, **done, **dict.fromkeys(TIMES, 1000), **counts}

    @property
    def shape(self) -> Any:
        """What `format` holds the answer to; empty where it does not."""
        shape = self.body.get("format")
        return JSON if shape == {} else shape

    @property
    def _asks_twice(self) -> bool:
        """Behind a Go template a thought is told from the answer while it comes, and only then is the answer held."""
        return not self.native and self._thinks_aloud

    @property
    def _thinks_aloud(self) -> bool:
        return bool(self.thinks and self.think)

    @property
    def _read_tokens(self) -> int:
        return min(self.prompt_tokens, self.runner.context)

    @property
    def _limit(self) -> int:
        """How many tokens may be said."""
        room = 10 * self.runner.context if self.shifts else self.runner.context - self._read_tokens
        asked = int(self.options.get("num_predict") or -1)  # Go cuts a fraction off
        return min(room, asked) if asked > 0 else room

    def _free(self) -> "Said":
        """What the model says of itself."""
        said = list(self.loaded.say(self.prompt, self._limit))
        ended = len(said) < self._limit
        return Said(decoded(said), len(said) + ended, ended)

    def held(self) -> "Said":
        """What it says under the grammar of `format`."""
        thinks = self.native and self._thinks_aloud
        where, room = (self.loaded.path, self.runner.context), min(self._limit, self.runner.context)
        held = self.presses.say(*where, self.prompt, room, self.shape, self.options, thinks=thinks)
        return Said(list(held.texts), len(held.texts) + held.ended, held.ended)

    def _stopped(self, texts: list[str]) -> list[str]:
        """The text up to the first of the stop words."""
        whole, stops = "".join(texts), self.options.get("stop") or []
        ends = [at for stop in stops if stop and (at := whole.find(stop)) >= 0]
        left = min(ends, default=len(whole))
        kept: list[str] = []
        for text in texts:
            kept += [text[:left]] if left > 0 else []
            left -= len(text)
        return kept

    def _cut(self, texts: list[str], *, ended: bool) -> Iterator[Line]:
        """Echo, content and calls, in this order."""
        if self.native and self.messages[-1]["role"] == "assistant" and self.messages[-1]["content"]:
            yield message(self.messages[-1]["content"])
        if self.tools and not self.shape:
            yield from self._with_calls(texts, ended=ended)
        else:
            yield from map(message, texts)

    def _with_calls(self, texts: Sequence[str], *, ended: bool) -> Iterator[Line]:
        """Text up to the tag, then the calls; what comes after is lost."""
        tag = NATIVE_TAG if self.native else tag_of(parse(self.template or RAW))
        before, rest = split_at_tag("".join(texts), tag)
        if before:
            yield message(before)
        offered = [tool["function"]["name"] for tool in self.tools]
        calls = self._native_calls(rest, offered, ended=ended) if self.native else generic_calls(rest, offered)
        if calls:
            rows = [numbered(number, call, native=self.native) for number, call in enumerate(calls)]
            yield {"message": {"role": "assistant", "content": "", "tool_calls": rows}, "done": False}

    def _native_calls(self, text: str, offered: Sequence[str], *, ended: bool) -> list[tuple[str, Line]]:
        """The calls in blocks of their own. A grammar lets a real model say no others; here they are refused."""
        if not text.strip():
            return []
        calls = []
        for block in text.removesuffix("</tool_call>").split(NATIVE_TAG):
            try:
                row = json.loads(block.strip().removesuffix("</tool_call>"))
            except json.JSONDecodeError:
                row = {}
            if not ended or row.get("name") not in offered or not isinstance(row.get("arguments"), dict):
                named = next((name for name in offered if name in block), "")
                reason = f'llama-server returned invalid tool call arguments for "{named}"'
                raise Refusal(500, f"{reason}: unexpected end of JSON input")
            calls.append((row["name"], row["arguments"]))
        return calls

    def _probabilities(self, said: Line) -> Line:
        """What `logprobs` asks for: a scripted model is sure of what it says."""
        if not self.body.get("logprobs") or not said["content"]:
            return {}
        token = {"token": said["content"], "logprob": 0, "bytes": list(said["content"].encode())}
        if self.body.get("top_logprobs"):
            return {"logprobs": [{**token, "top_logprobs": [token]}]}
        return {"logprobs": [token]}


@dataclass(frozen=True, slots=True)
class Said:
    """A generation: its text in pieces, its tokens with the end's, and whether it came to its end."""

    texts: list[str]
    tokens: int
    ended: bool


def apart(texts: Sequence[str]) -> tuple[str, list[str]]:
    """The thought at the beginning of an answer, and the answer behind it."""
    whole = "".join(texts)
    if not whole.lstrip().startswith(THINK):
        return "", list(texts)
    thought, _, rest = whole.partition(THINK)[2].partition(THOUGHT)
    return thought.strip("\n"), [rest.lstrip("\n")] if rest.strip() else []


def message(text: str) -> Line:
    """One chunk of text."""
    return {"message": {"role": "assistant", "content": text}, "done": False}


def decoded(said: Sequence[bytes | None]) -> list[str]:
    """Whole characters only; control tokens have no text."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    texts = [decoder.decode(piece or b"") for piece in said]
    return [text for text in [*texts, decoder.decode(b"", final=True)] if text]


def loops(texts: Sequence[str]) -> bool:
    """Whether the guard against loops sees more than PIECES_ALIKE equal pieces in a row."""
    return any(len(list(group)) > PIECES_ALIKE for _, group in itertools.groupby(text.strip() for text in texts))


def overflow(tokens: int, room: int) -> Line:
    """llama-server's own error object."""
    return {
        "code": 400,
        "message": f"request ({tokens} tokens) exceeds the available context size ({room} tokens), try increasing it",
        "type": "exceed_context_size_error",
        "n_prompt_tokens": tokens,
        "n_ctx": room,
    }
