"""What a server's tool returned -> text. Owns which parts are text and how much of them is kept; shows nothing else."""

import json

from mcp import types

from thaud.errors import ToolError
from tools.sanitise import clean

MOST_CHARACTERS = 64_000


def text_of(result: types.CallToolResult) -> str:
    """The text parts, cleaned; the others named. Raises ToolError with them where the tool says that it failed."""
    parts = [part_text(part) for part in result.content]
    if not parts and result.structuredContent is not None:
        parts = [json.dumps(result.structuredContent, ensure_ascii=False)]
    whole = clean("\n".join(parts))
    if len(whole) > MOST_CHARACTERS:
        whole = f"{whole[:MOST_CHARACTERS]}\n[cut: {len(whole) - MOST_CHARACTERS} more characters]"
    if result.isError:
        raise ToolError(whole or "the tool says that it failed, and not why")
    return whole or "[nothing]"


def part_text(part: types.ContentBlock) -> str:
    """One part of a result."""
    if isinstance(part, types.TextContent):
        return part.text
    if isinstance(part, types.EmbeddedResource) and isinstance(part.resource, types.TextResourceContents):
        return f"[{part.resource.uri}]\n{part.resource.text}"
    if isinstance(part, types.EmbeddedResource):
        return f"[{part.resource.uri}: {part.resource.mimeType or 'bytes'}, not shown]"
    if isinstance(part, types.ResourceLink):
        return f"[link: {part.name} {part.uri}]"
    return f"[{part.mimeType}: {len(part.data) * 3 // 4} bytes, not shown]"
