"""How models write tool calls, one dialect a file: `parse(text) -> Parsed`, and a `Curtain` for streaming."""
