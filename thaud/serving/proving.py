"""What a model on a server must show before it gets its name: the certificate's promises, asked of the server itself.

It says what it can do, says a token, renders the certificate's conversations as the training did, and takes a tool's
call and result. Servers that run the file's own template must render the same text of EQUAL, what people and tools say;
of the odd ones a difference is told. Those that run a Go template differ by its nature (spaces and escapes in JSON,
turns of one role merged), which is told and held against nobody.
Owns the questions; refuses to make, name or delete models.
"""

import json
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thaud.domain import Example
from thaud.errors import ModelError, ServerError
from thaud.formats.tools import reduce_tool
from thaud.rendering import CHATML, Renderer
from thaud.serving.gguf_header import read_header, token_of
from thaud.serving.ollama import OllamaServer, Recipe, Shown
from thaud.serving.ollama_errors import REFUSED, overflow
from thaud.serving.ollama_runtime import message_to_ollama
from thaud.steps.certify.conversations import CONVERSATIONS

PROBE_CONTEXT = 4096  # the conversations are longer than what the youngest are trained on
TOOL_TOKENS = 48
ROUND_TRIP = "a tool's result"
PLACE, WEATHER = "A Coruña", "sol y nubes"  # in its question and call, and in its result
CALL_CUT = "invalid tool call arguments"  # what a native server says of a call that the token limit cut
TOLD = 3
# Without these a model would not see what it learned. The others hold what no two engines need agree about.
EQUAL = frozenset(
    {
        "one question",
        "system",
        "several turns",
        "system and several turns",
        "tools",
        "tools and system",
        ROUND_TRIP,
        "after a tool",
        "accents",
        "emoji",
    }
)
GO_ACTION = re.compile(r"\{\{-?\s*(?:range\s|if\s|\.)")
STOCK_REMEDY = (
    "it runs a Go template of its own in place of the file's: set OLLAMA_GO_TEMPLATE=0 where the server starts"
)


class NotProvedError(ServerError):
    """The server answered, and what it showed is not what was promised: it would say the same again."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What a server showed. `renders`: {asked, equal, differs, skipped}, where what the server refuses differs;
    `tools`: {accepted, shown, called}, None where none are promised.
    """

    served_sha256: str | None
    capabilities: tuple[str, ...]
    renders: Mapping[str, Any] = field(default_factory=dict)
    tools: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Texts:
    """How the training renders: the file's own template, and the token that a server may or may not write in front."""

    renderer: Renderer
    bos: str

    def of(self, conversation: Example) -> str:
        """The prompt as trained. Raises ModelError where the template refuses the conversation."""
        pieces = self.renderer.prompt(conversation.messages, reduced(conversation))
        return self.plain("".join(piece.text for piece in pieces))

    def plain(self, text: str) -> str:
        """A rendered text without what differs by nobody's fault."""
        return unicodedata.normalize("NFC", text.removeprefix(self.bos) if self.bos else text)


def prove(
    server: OllamaServer, recipe: Recipe, shown: Shown, context_tokens: int, promised: Collection[str], *, native: bool
) -> Proof:
    """Have the model that `recipe` names show what it is. Raises ServerError with what it lacks.

    It is unloaded before, so that what answers is what was made last, and afterwards, so that it keeps no memory.
    """
    if missing := sorted(set(promised) - shown.capabilities) if shown.capabilities else []:
        able = ", ".join(sorted(shown.capabilities))
        raise NotProvedError(
            f"Ollama at {server.url} finds {able} in {recipe.name}, not {', '.join(missing)}, which its certificate"
            " promises: update Ollama, or see `ollama show`"
        )
    server.unload(recipe.name)
    try:
        say_a_token(server, recipe.name, context_tokens)
        context = max(context_tokens, PROBE_CONTEXT)
        with_tools = "tools" in (shown.capabilities or promised)
        stock = runs_go(shown)
        texts, renders = compare(server, recipe, context, with_tools=with_tools, native=native, stock=stock)
        tools = round_trip(server, recipe.name, context, texts) if "tools" in promised else None
    finally:
        server.unload(recipe.name)
    return Proof(shown.gguf, tuple(sorted(shown.capabilities)), renders, tools)


def runs_go(shown: Shown) -> bool:
    """Whether the server runs a Go template for a model: an action of Go's engine is none of Jinja's."""
    return GO_ACTION.search(shown.template) is not None


def say_a_token(server: OllamaServer, name: str, context_tokens: int) -> None:
    """Raises ServerError where a model says nothing, or does not load: create's success proves neither."""
    options = {"num_predict": 1, "temperature": 0.0, "num_ctx": context_tokens}
    answer = server.ask(name, [{"role": "user", "content": "1"}], options=options)
    if not (answer.get("done") and answer.get("eval_count")):
        raise ServerError(f"Ollama at {server.url} made {name}, but it says nothing: see the server's log")


def compare(
    server: OllamaServer, recipe: Recipe, context: int, *, with_tools: bool, native: bool, stock: bool = False
) -> tuple[dict[str, str], dict[str, Any]]:
    """How the server renders each conversation, and how many of them as the training did.

    `stock`: it runs a Go template, though it need not.
    Raises NotProvedError where a server that runs the file's own template differs in one of EQUAL.
    """
    trained = trained_texts(recipe.gguf)
    texts, differs, skipped = {}, [], []
    for title, conversation in CONVERSATIONS.items():
        if conversation.tools and not with_tools:
            continue
        try:
            expected = trained.of(conversation)
            rendered = render_or_refuse(server, recipe.name, title, context)
        except ModelError:
            rendered = None
        if rendered is None:
            skipped.append(title)
            continue
        texts[title] = trained.plain(rendered)
        same = texts[title] == expected if native else loosely(texts[title]) == loosely(expected)
        differs += [] if same else [title]
    if native and (wrong := [title for title in differs if title in EQUAL]):
        raise NotProvedError(
            f"Ollama at {server.url} renders {len(wrong)} of {len(EQUAL & texts.keys())} conversations otherwise"
            f" than the training did ({', '.join(wrong[:TOLD])}), so that {recipe.name} would not see what it learned:"
            f" {STOCK_REMEDY if stock else 'update Ollama'}"
        )
    asked = len(texts)
    return texts, {"asked": asked, "equal": asked - len(differs), "differs": differs, "skipped": skipped}


def render_or_refuse(server: OllamaServer, name: str, title: str, context: int) -> str | None:
    """What the server makes of a conversation, nothing where it refuses one that it need not render."""
    try:
        return render(server, name, CONVERSATIONS[title], context)
    except ServerError as error:
        if title in EQUAL or REFUSED not in str(error):
            raise
        return ""


def render(server: OllamaServer, name: str, conversation: Example, context: int) -> str | None:
    """What the server makes of a conversation; None where it does not fit, or the server is too old to say."""
    messages, more = request_of(conversation)
    options = {"num_ctx": context}
    try:
        answer = server.ask(name, messages, **more, options=options, _debug_render_only=True)
    except ServerError as error:
        if overflow(str(error)):
            return None
        raise
    if (told := answer.get("_debug_info")) is not None:
        return str(told.get("rendered_template", ""))
    if answer.get("done"):
        return None
    raise ServerError(f"Ollama at {server.url} broke off while {name} was rendering a conversation")


def round_trip(server: OllamaServer, name: str, context: int, texts: Mapping[str, str]) -> dict[str, Any]:
    """Offer a tool with a call and its result. `called`: whether the model answered by a call, which it need not.

    Raises ServerError where the server refuses them, or shows the model no call or no result.
    """
    text = texts.get(ROUND_TRIP)
    shown = None if text is None else text.count(PLACE) > 1 and WEATHER in text
    if shown is False:
        raise NotProvedError(
            f"Ollama at {server.url} does not show {name} the calls and results of tools: update Ollama"
        )
    messages, more = request_of(CONVERSATIONS[ROUND_TRIP])
    options = {"num_predict": TOOL_TOKENS, "temperature": 0.0, "num_ctx": context}
    try:
        answer = server.ask(name, messages, **more, options=options)
    except ServerError as error:
        if CALL_CUT in str(error):
            return {"accepted": True, "shown": shown, "called": True}
        if overflow(str(error)):
            return {"accepted": None, "shown": shown, "called": False}
        raise
    return {"accepted": True, "shown": shown, "called": bool((answer.get("message") or {}).get("tool_calls"))}


def request_of(conversation: Example) -> tuple[Sequence[Mapping[str, Any]], dict[str, Any]]:
    """A conversation in Ollama's JSON: its messages, and its tools where it has any."""
    tools = reduced(conversation)
    return [message_to_ollama(message) for message in conversation.messages], {"tools": tools} if tools else {}


def reduced(conversation: Example) -> list[dict[str, Any]]:
    """Its tools as intake hands them to the training, which is as servers hand them to a template."""
    return [reduce_tool(tool) for tool in conversation.tools]


def trained_texts(gguf: Path) -> Texts:
    """The renderer of a file. Raises ModelError or StorageError."""
    header = read_header(gguf)
    template = header.get("tokenizer.chat_template") or CHATML
    names = {"bos_token": "", "eos_token": ""}
    if any(name in template for name in names):
        header = read_header(gguf, keep_arrays=True)
        names = {name: token_of(header, name.removesuffix("_token")) for name in names}
    return Texts(Renderer(template, (), names["bos_token"], names["eos_token"]), names["bos_token"])


def loosely(text: str) -> str:
    """A rendered text with each line of JSON written in one way, as a Go template cannot but write it in another."""
    return "\n".join(line if (value := as_json(line)) is None else f"{value}" for line in text.split("\n"))


def as_json(line: str) -> str | None:
    """An object in a line, with its keys in order and without empty descriptions; None where it is none."""
    if not line.startswith("{"):
        return None
    try:
        return json.dumps(without_blanks(json.loads(line)), sort_keys=True, ensure_ascii=False)
    except (ValueError, RecursionError):
        return None


def without_blanks(value: Any) -> Any:
    """A JSON value less the empty descriptions that Go writes of tools that have none."""
    if isinstance(value, dict):
        return {key: without_blanks(each) for key, each in value.items() if (key, each) != ("description", "")}
    return [without_blanks(each) for each in value] if isinstance(value, list) else value
