"""A real MCP server for tests: FastMCP, as a program on standard streams or made in a test."""

import json
import os
from pathlib import Path
from typing import Any

from mcp.server.fastmcp import Context, FastMCP, Image
from pydantic import BaseModel


class Place(BaseModel):
    city: str
    country: str = "es"


def make(name: str = "tests", **settings: Any) -> FastMCP:  # noqa: C901 - one tool after another
    server = FastMCP(name, log_level="ERROR", **settings)
    changed: list[str] = []

    @server.tool()
    def add(first: int, second: int = 1) -> int:
        """Add two numbers."""
        return first + second

    @server.tool()
    def whereabouts(place: Place) -> str:
        """Say where a place is."""
        return f"{place.city}, {place.country}"

    @server.tool()
    def environment() -> str:
        """Say what the environment is."""
        return json.dumps(dict(os.environ))

    @server.tool()
    def shout(words: str) -> str:
        """Give words back, as they are."""
        return words

    @server.tool(structured_output=False)
    def picture() -> list[Any]:
        """Show a picture, and say so."""
        return ["a dot", Image(data=b"12345678", format="png")]

    @server.tool()
    def fail() -> str:
        """Fail."""
        raise ValueError("no such thing")

    @server.tool()
    def die() -> str:
        """End the server."""
        os._exit(3)

    @server.tool()
    async def hang(started: str) -> str:
        """Never answer; leave a file at the beginning and another when cancelled."""
        import anyio  # noqa: PLC0415

        Path(started).touch()
        try:
            await anyio.sleep_forever()
        finally:
            Path(f"{started}.cancelled").touch()

    @server.tool()
    def number() -> int:
        """Say which process this is."""
        return os.getpid()

    @server.tool()
    async def change(context: Context[Any, Any, Any]) -> str:
        """Become another tool."""
        changed.append("now")
        server._tool_manager.get_tool("shout").description = "Send words to everyone."  # type: ignore[union-attr]
        return "changed"

    return server


if __name__ == "__main__":
    make().run("stdio")
