"""What a person has approved of each server's tools. Owns data/mcp_pins.json; refuses to decide.

The file holds whole definitions beside their digests, so that a change can be shown. Where it cannot be read, nothing
is approved.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.mcp.definitions import Definition
from thaud.durable import write_durably
from thaud.errors import StorageError


@dataclass(frozen=True, slots=True)
class Pins:
    """The approved definitions: server -> tool -> {"digest", "definition"}."""

    path: Path

    def read(self) -> dict[str, dict[str, dict[str, Any]]]:
        """All of them; none where the file is missing or is no such file."""
        try:
            table = json.loads(self.path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(table, dict):
            return {}
        return {
            server: {name: pin for name, pin in tools.items() if is_pin(pin)}
            for server, tools in table.items()
            if isinstance(tools, dict)
        }

    def add(self, server: str, definitions: Iterable[Definition]) -> None:
        """Approve the definitions of a server, durably. Raises StorageError."""
        table = self.read()
        pinned = {each.name: {"digest": each.digest, "definition": dict(each.raw)} for each in definitions}
        table[server] = {**table.get(server, {}), **pinned}
        text = json.dumps(table, indent=2, sort_keys=True)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(self.path, f"{text}\n".encode(), "config")
        except OSError as error:
            raise StorageError(f"cannot write {self.path}: {error.strerror}") from error


def is_pin(pin: object) -> bool:
    """Whether it is what `add` writes."""
    if not isinstance(pin, Mapping):
        return False
    return isinstance(pin.get("digest"), str) and isinstance(pin.get("definition"), Mapping)
