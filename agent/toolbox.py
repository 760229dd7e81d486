"""The tools offered in one conversation. Owns which calls are calls, and what a model gets to read of their results.

Only a name that was offered, with arguments that its model of arguments accepts, becomes a CheckedCall, and only a
CheckedCall runs. Results are cleaned (tools/sanitise.py) and cut to a share of the model's context.
"""

import json
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from thaud.domain import ToolCall
from thaud.errors import ToolError
from tools.base import Arguments, Context, Tool
from tools.sanitise import clean

FEWEST_RESULT_CHARACTERS = 200
# Definitions are JSON, which tokenizers cut small (2 characters a token with nano's, 4 with Qwen's), and templates
# wrap them in instructions of their own (300 characters with Qwen's).
CHARACTERS_PER_TOKEN = 2.5
WRAPPING_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class CheckedCall:
    """A call that may run: `call` is the normalised form, which people approve and transcripts keep."""

    tool: Tool[Any]
    arguments: Arguments
    call: ToolCall


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a call: cleaned text for the model. `fault` is the traceback of a tool's own mistake."""

    text: str
    ok: bool
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Toolbox:
    """The offered tools and their outside world. `max_characters` bounds a result."""

    tools: tuple[Tool[Any], ...]
    context: Context
    max_characters: int = 8000

    @property
    def definitions(self) -> list[dict[str, Any]]:
        """What the model is told of them."""
        return [tool.definition for tool in self.tools]

    def check(self, call: ToolCall) -> CheckedCall:
        """Resolve and validate. Raises ToolError, in words for the model, where the call may not run."""
        tool = next((tool for tool in self.tools if tool.name == call.name), None)
        if tool is None:
            offered = ", ".join(tool.name for tool in self.tools) or "none"
            raise ToolError(f"there is no tool {call.name!r}; the tools are: {offered}")
        arguments = tool.validate(call.arguments)
        normalised = arguments.model_dump(mode="json", exclude_unset=True)
        return CheckedCall(tool, arguments, ToolCall(tool.name, normalised))

    def run(self, checked: CheckedCall) -> Result:
        """Run a call; whatever goes wrong in the tool is a result that says so."""
        try:
            text = checked.tool.run(checked.arguments, self.context)
        except ToolError as error:
            return Result(self.fit(f"error: {error}"), ok=False)
        except Exception as error:  # noqa: BLE001 - a tool's mistake must not end the conversation
            return Result(f"error: the tool failed ({type(error).__name__})", ok=False, fault=traceback.format_exc())
        return Result(self.fit(text), ok=True)

    def fit(self, text: str) -> str:
        """Cleaned, and cut with a word about it where it is too long."""
        cleaned = clean(text)
        if len(cleaned) <= self.max_characters:
            return cleaned
        return f"{cleaned[: self.max_characters]}\n[cut: {len(cleaned) - self.max_characters} more characters]"


def fill_toolbox(tools: Sequence[Tool[Any]], context: Context, context_tokens: int) -> Toolbox:
    """A toolbox for a model with so much context: the first tools whose definitions fill no more than half of it.

    An estimate, since only the server counts tokens; where it is wrong the loop puts the tools away.
    """
    offered: list[Tool[Any]] = []
    left = context_tokens / 2 * CHARACTERS_PER_TOKEN - WRAPPING_CHARACTERS
    for tool in tools:
        left -= len(json.dumps(tool.definition, ensure_ascii=False))
        if left < 0:
            break
        offered.append(tool)
    return Toolbox(tuple(offered), context, max(FEWEST_RESULT_CHARACTERS, context_tokens))
