"""The desk over MCP, the protocol that coding assistants speak with their tools, on the standard streams.

Owns names, schemas and the streams: what anybody else prints to standard output goes to standard error instead, since a
single stray line would end the conversation. Refuses to know what the answers are made of (desk.py).
"""

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import structlog

from thaud import __version__
from thaud.cli.desk import Desk
from thaud.cli.door import TRANSLATED, translate
from thaud.errors import UsageError
from thaud.proposals import masked

if TYPE_CHECKING:
    from mcp import types
    from mcp.server.lowlevel import Server

log = structlog.get_logger()
INSTRUCTIONS = (
    "THAU trains a small local model on examples. When the user corrects you, states a fact about their project worth "
    "keeping, or asks to teach THAU something, call `teach` with one self-contained example. Never send secrets."
)
TEXT = {"type": "string", "minLength": 1}
# Without anyOf at the top, which some assistants refuse: the drop-box's own rules say what is missing.
TEACH = {
    "type": "object",
    "properties": {
        "instruction": {**TEXT, "description": "What is asked. With `output`; or use `messages`."},
        "output": {**TEXT, "description": "The right answer."},
        "messages": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "object"},
            "description": "A whole conversation in OpenAI's form, tool calls included; its last turn is learned.",
        },
        "tools": {"type": "array", "items": {"type": "object"}, "description": "Definitions of the tools it calls."},
        "system": {"type": "string", "description": "System prompt, with `instruction`."},
        "age": {"type": "integer", "minimum": 0, "description": "Cognitive age; else the current one."},
        "group": {"type": "string", "description": "Name of the fact, shared by its paraphrases."},
    },
}
ASK = {
    "type": "object",
    "properties": {
        "question": {**TEXT, "description": "What to ask the newest version."},
        "max_tokens": {"type": "integer", "minimum": 1, "description": "Longest answer, in tokens."},
    },
    "required": ["question"],
    "additionalProperties": False,
}
STATUS = {"type": "object", "properties": {}, "additionalProperties": False}


def serve(desk: Desk) -> None:
    """Serve until standard input ends or nobody reads the answers. Ctrl-C ends it at once: what is written is written
    whole or not at all.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with own_streams() as (source, sink):
        try:
            anyio.run(converse, desk, source, sink)
        except* BrokenPipeError:
            log.warning("mcp_client_gone")  # in the middle of an answer: an end like another


@contextmanager
def own_streams() -> Iterator[tuple[TextIOWrapper, TextIOWrapper]]:
    """Standard input and output for the protocol alone; 1 is standard error for everybody else, llama.cpp included."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    source = TextIOWrapper(os.fdopen(os.dup(0), "rb"), encoding="utf-8", errors="replace")
    sink = TextIOWrapper(os.fdopen(kept, "wb"), encoding="utf-8")
    try:
        yield source, sink
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)


async def converse(desk: Desk, source: TextIOWrapper, sink: TextIOWrapper) -> None:
    """The whole conversation with one client."""
    from mcp.server.stdio import stdio_server  # noqa: PLC0415 - half a second

    server = make_server(desk)
    async with stdio_server(anyio.wrap_file(source), anyio.wrap_file(sink)) as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


def make_server(desk: Desk) -> "Server[Any, Any]":
    """The tools, and who performs them."""
    from mcp.server.lowlevel import Server  # noqa: PLC0415

    server: Server[Any, Any] = Server("thau", version=__version__, instructions=INSTRUCTIONS)

    async def list_tools() -> list["types.Tool"]:
        return offered()

    async def call_tool(name: str, arguments: dict[str, Any]) -> tuple[list["types.TextContent"], dict[str, Any]]:
        from mcp import types  # noqa: PLC0415

        info = getattr(server.request_context.session.client_params, "clientInfo", None)
        try:
            said = await perform(desk, name, arguments, getattr(info, "name", "unknown"))
            return [types.TextContent(type="text", text=json.dumps(said, ensure_ascii=False))], said
        except Exception as error:
            log.warning(
                "mcp_call_failed", tool=name, reason=masked(str(error)), exc_info=not isinstance(error, TRANSLATED)
            )
            raise

    server.list_tools()(list_tools)  # type: ignore[no-untyped-call]
    server.call_tool()(call_tool)
    return server


def offered() -> list["types.Tool"]:
    """The three tools."""
    from mcp import types  # noqa: PLC0415

    return [
        types.Tool(
            name="teach",
            description="Teach THAU one example: it goes into the drop-box and is learned. Tells its id, or why not.",
            inputSchema=TEACH,
            annotations=types.ToolAnnotations(readOnlyHint=False, destructiveHint=False, idempotentHint=True),
        ),
        types.Tool(
            name="ask",
            description="Ask the newest version of THAU one question. The first answer takes longer: it loads.",
            inputSchema=ASK,
            annotations=types.ToolAnnotations(readOnlyHint=True),
        ),
        types.Tool(
            name="status",
            description="How THAU is: its version and age, what it waits for, whether its service runs.",
            inputSchema=STATUS,
            annotations=types.ToolAnnotations(readOnlyHint=True),
        ),
    ]


async def perform(desk: Desk, name: str, arguments: Mapping[str, Any], client: str) -> dict[str, Any]:
    """One call, in a thread of its own. What THAU or the system refuses is one of our errors."""
    stop = threading.Event()
    try:
        match name:
            case "teach":
                return await anyio.to_thread.run_sync(desk.teach, dict(arguments), client)
            case "ask":
                asked = partial(desk.ask, str(arguments["question"]), arguments.get("max_tokens"), stop)
                return await anyio.to_thread.run_sync(asked, abandon_on_cancel=True)
            case "status":
                return await anyio.to_thread.run_sync(desk.status)
    except TRANSLATED as error:
        raise translate(error) from error
    finally:
        stop.set()
    raise UsageError(f"there is no tool {name!r}: use teach, ask or status")
