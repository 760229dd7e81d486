"""Tool calls as Hermes and Qwen models write them: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`.

Owns the reading of the text; refuses to know which tools exist (see toolbox.py). Lenient where the meaning is plain, as
Ollama is: several calls in one block, `parameters` for `arguments`, arguments as a JSON string or absent, a missing
closing tag at the end. Anything else inside a block is a problem, told to the model; outside of blocks it is text.
"""

from agent.dialects.reading import Offered, Parsed, UnreadableCallError, as_call, decode
from thaud.domain import ToolCall

OPEN = "<tool_call>"
CLOSE = "</tool_call>"


def parse(text: str, offered: Offered) -> Parsed:
    """Take a whole reply apart. Never raises: what cannot be read is in `problems`."""
    del offered  # what stands in tags was meant as a call, whoever knows of it
    said: list[str] = []
    calls: list[ToolCall] = []
    problems: list[str] = []
    rest = text
    while OPEN in rest:
        before, _, block = rest.partition(OPEN)
        said.append(before)
        try:
            found, rest = read_block(block)
            calls += found
            rest = rest.removeprefix(CLOSE)
        except UnreadableCallError as error:
            problems.append(str(error))
            rest = block.partition(CLOSE)[2]
    return Parsed("".join([*said, rest]).strip(), tuple(calls), tuple(problems))


def read_block(block: str) -> tuple[list[ToolCall], str]:
    """The calls after an opening tag, and the text from the tag after them on. Raises UnreadableCallError."""
    calls: list[ToolCall] = []
    rest = block.lstrip()
    while rest and not rest.startswith((CLOSE, OPEN)):
        value, end = decode(rest)
        calls.append(as_call(value))
        rest = rest[end:].lstrip()
    if not calls:
        raise UnreadableCallError("the tool call is empty")
    return calls, rest
