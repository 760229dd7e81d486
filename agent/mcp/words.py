"""What people read about MCP servers, in Spanish and in English. Owns words; refuses to print or to decide."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.mcp.definitions import Definition
from agent.words import Language
from tools.sanitise import spelled_out


@dataclass(frozen=True, slots=True)
class Words:
    """One language. Fields in braces are filled by `str.format`."""

    sighting: str
    new: str
    changed: str
    unavailable: str
    left_out: str
    not_approved: str
    nobody: str


ENGLISH = Words(
    sighting="The MCP server {server} ({where}) offers tools that you have not approved:",
    new="+ {tool}: {description}",
    changed="~ {tool} has changed since you approved it:",
    unavailable="MCP server {server}: not used: {reason}",
    left_out="MCP server {server}: the tool {tool} is left out: {reason}",
    not_approved="MCP server {server}: {count} tools are not used: you did not approve them ({tools})",
    nobody="MCP server {server}: {count} tools are not used: approve them in `thau chat`, on a terminal ({tools})",
)
SPANISH = Words(
    sighting="El servidor MCP {server} ({where}) ofrece herramientas que no has aprobado:",
    new="+ {tool}: {description}",
    changed="~ {tool} ha cambiado desde que la aprobaste:",
    unavailable="Servidor MCP {server}: no se usa: {reason}",
    left_out="Servidor MCP {server}: la herramienta {tool} queda fuera: {reason}",
    not_approved="Servidor MCP {server}: {count} herramientas no se usan: no las aprobaste ({tools})",
    nobody="Servidor MCP {server}: {count} herramientas no se usan: apruébalas en `thau chat`, en terminal ({tools})",
)


def words_in(language: Language) -> Words:
    """The words of a language."""
    return SPANISH if language == "es" else ENGLISH


@dataclass(frozen=True, slots=True)
class Sighting:
    """Tools of one server that a person is to approve: seen for the first time, or changed (before, now)."""

    server: str
    where: str
    new: tuple[Definition, ...]
    changed: tuple[tuple[Mapping[str, Any], Definition], ...]

    @property
    def definitions(self) -> tuple[Definition, ...]:
        """All that would be approved."""
        return (*self.new, *(now for _, now in self.changed))

    def text(self, language: Language) -> str:
        """Everything that the model would read of them, and nothing that a terminal would obey."""
        words = words_in(language)
        lines = [words.sighting.format(server=self.server, where=self.where)]
        for each in self.new:
            lines.append(words.new.format(tool=each.name, description=each.description))
            lines += [f"    {line}" for line in pretty({"inputSchema": each.raw.get("inputSchema", {})})]
        for before, now in self.changed:
            lines.append(words.changed.format(tool=now.name))
            difference = difflib.unified_diff(pretty(before), pretty(now.raw), lineterm="", n=1)
            lines += [f"    {line}" for line in list(difference)[2:]]
        return "\n".join(spelled_out(line) for line in lines)


def pretty(value: Mapping[str, Any]) -> list[str]:
    """JSON on several lines."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False).splitlines()
