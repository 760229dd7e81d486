"""The configured servers -> tools for a conversation. Owns their common life: all are started together, and all end
where the conversation ends. A server that cannot be had is a warning, and the conversation goes on without it.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from agent.mcp.definitions import Definition, UnfitError, accepted, names_for
from agent.mcp.pins import Pins
from agent.mcp.server import Outside, Server
from agent.mcp.words import Sighting, words_in
from agent.words import Language
from thaud.config import McpServer
from thaud.errors import ToolError
from tools.base import Context, Risk, Tool, Values
from tools.sanitise import spelled_out
from tools.web.background import Background
from tools.web.transport import Door

LONGEST_LOG = 1 << 20
MOST_WORDS = 600  # characters of a server's that a warning holds
INHERITED = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "TERM"),
    *("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"),
)

Approve = Callable[[Sighting], bool]
"""Shows a person what a server offers; whether it may be used."""


@dataclass(frozen=True, slots=True)
class Connected:
    """What a conversation gets: tools that may be offered, and what people should know."""

    tools: tuple[Tool, ...]
    warnings: tuple[str, ...]


@contextmanager
def connect(
    servers: Mapping[str, McpServer],
    *,
    approve: Approve | None,
    pins: Path,
    logs: Path,
    environment: Mapping[str, str],
    language: Language = "en",
    taken: Collection[str] = (),
    door: Door | None = None,
) -> Iterator[Connected]:
    """Start the enabled servers and offer their approved tools; end them afterwards.

    approve: asks a person about definitions that were not seen before, or changed; None where nobody is there, and
        then they are not used.
    pins, logs: data/mcp_pins.json and the folder for what servers say on their standard error.
    environment: this process's; commands inherit the names in INHERITED and no others.
    taken: names that other tools have. door: how the web is reached.

    A server that does not start, or says what is no protocol, is a warning. Raises StorageError where what a person
    approved cannot be written.
    """
    enabled = {name: config for name, config in servers.items() if config.enabled}
    if not enabled:
        yield Connected((), ())
        return
    logs.mkdir(parents=True, exist_ok=True)
    outside = Outside({name: environment[name] for name in INHERITED if name in environment}, logs, door or Door())
    with logged(logs / "mcp.log"), Background() as background:
        clients = background.run(make(enabled, outside))
        try:
            found = background.run(open_all(clients))
            offer = Offer(background, Pins(pins), approve, language, frozenset(taken))
            yield offer.all(clients, found)
        finally:
            background.finish(close_all(clients))


async def make(configured: Mapping[str, McpServer], outside: Outside) -> list[Server]:
    """The servers, made in the loop that they will live in."""
    return [Server(name, config, outside) for name, config in configured.items()]


async def open_all(clients: Sequence[Server]) -> list[tuple[Definition, ...] | BaseException]:
    """What each server offers, or why nothing. They start at the same time."""
    return await asyncio.gather(*(client.open() for client in clients), return_exceptions=True)


async def close_all(clients: Sequence[Server]) -> None:
    """End every server."""
    await asyncio.gather(*(client.close() for client in clients))


@dataclass(slots=True)
class Offer:
    """From definitions to tools: what is fit, what is approved, and under which names."""

    background: Background
    pins: Pins
    approve: Approve | None
    language: Language
    taken: frozenset[str]
    warnings: list[str] = field(default_factory=list)

    def all(self, clients: Sequence[Server], found: Sequence[tuple[Definition, ...] | BaseException]) -> Connected:
        """The tools of all servers, in the order of the configuration. Raises StorageError."""
        usable: list[tuple[Server, Definition, dict[str, Any]]] = []
        for client, offered in zip(clients, found, strict=True):
            if isinstance(offered, ToolError):
                self.warn("unavailable", client, reason=str(offered))
            elif isinstance(offered, BaseException):
                raise offered
            else:
                fit = self.fit(client, offered)
                approved = self.approved(client, [definition for definition, _ in fit])
                usable += [(client, each, schema) for each, schema in fit if each.name in approved]
        names = names_for([definition for _, definition, _ in usable], self.taken)
        tools = tuple(self.tool(name, *each) for name, each in zip(names, usable, strict=True))
        return Connected(tools, tuple(self.warnings))

    def fit(self, client: Server, offered: Sequence[Definition]) -> list[tuple[Definition, dict[str, Any]]]:
        """The tools that can be offered, with their schemas; a warning for each other one."""
        fit = []
        for each in offered:
            try:
                fit.append((each, each.schema()))
            except UnfitError as error:
                self.warn("left_out", client, tool=each.name, reason=str(error))
        return fit

    def approved(self, client: Server, offered: Sequence[Definition]) -> set[str]:
        """Names of those that a person has approved as they are, or approves when asked. Raises StorageError."""
        pinned = self.pins.read().get(client.name, {})
        good = {each.name for each in offered if pinned.get(each.name, {}).get("digest") == each.digest}
        sighting = Sighting(
            client.name,
            client.where,
            tuple(each for each in offered if each.name not in pinned),
            tuple((pinned[each.name]["definition"], each) for each in offered if each.name in pinned.keys() - good),
        )
        if not sighting.definitions:
            return good
        if self.approve is not None and self.approve(sighting):
            self.pins.add(client.name, sighting.definitions)
            return {each.name for each in offered}
        names = [each.name for each in sighting.definitions]
        why = "nobody" if self.approve is None else "not_approved"
        self.warn(why, client, count=len(names), tools=", ".join(names))
        return good

    def warn(self, what: str, client: Server, **facts: object) -> None:
        """Note what people should know."""
        words: str = getattr(words_in(self.language), what)
        said = {name: shown(str(fact)) for name, fact in facts.items()}
        self.warnings.append(words.format(server=client.name, **said))

    def tool(self, name: str, client: Server, definition: Definition, schema: dict[str, Any]) -> Tool:
        """The tool that a definition is."""

        def accept(values: Values) -> dict[str, Any]:
            return accepted(name, schema, values)

        def perform(values: Values, context: Context) -> str:  # noqa: ARG001 - servers have their own outside
            return self.background.run(client.call(definition.name, definition.digest, values))

        return Tool(name, definition.description, Risk.SENDS, schema, accept, perform, foreign=True)


def shown(words: str) -> str:
    """What a server said, for a terminal: short, and with nothing in it that drives or hides."""
    return spelled_out(words if len(words) <= MOST_WORDS else f"{words[:MOST_WORDS]}…")


@contextmanager
def logged(path: Path) -> Iterator[None]:
    """What libraries log meanwhile goes to a file: it holds servers' words, and a terminal is no place for them."""
    handler = RotatingFileHandler(path, maxBytes=LONGEST_LOG, backupCount=1, delay=True, encoding="utf-8")
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
