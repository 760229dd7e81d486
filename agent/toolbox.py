"""The tools offered in one conversation. Owns which calls are calls, and what a model gets to read of their results.

Only a name that was offered, with arguments that its model of arguments accepts, becomes a CheckedCall, and only a
CheckedCall runs. Results are cleaned (tools/sanitise.py) and cut to a share of the model's context.
"""

import traceback
from dataclasses import dataclass
from typing import Any

from thaud.domain import ToolCall, canonical_json
from thaud.errors import ToolError
from tools.base import Context, Tool
from tools.sanitise import clean


@dataclass(frozen=True, slots=True)
class CheckedCall:
    """A call that may run: `call` is the normalised form, which people approve and transcripts keep."""

    tool: Tool
    call: ToolCall

    @property
    def canonical(self) -> str:
        """Equal for calls that do the same."""
        return canonical_json(self.call.to_json())


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a call: cleaned text for the model. `fault` is the traceback of a tool's own mistake."""

    text: str
    ok: bool
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Toolbox:
    """The offered tools and their outside world. `max_characters` bounds a result.

    `known`: all the tools there are, of which more are offered where a model has more context.
    """

    tools: tuple[Tool, ...]
    context: Context
    max_characters: int = 8000
    known: tuple[Tool, ...] = ()

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
        try:
            arguments = dict(tool.accept(call.arguments))
            canonical_json(arguments)  # an infinite number is no JSON
        except ToolError:
            raise
        except Exception as error:
            raise ToolError(f"{tool.name} failed to read its arguments ({type(error).__name__})") from error
        return CheckedCall(tool, ToolCall(tool.name, arguments))

    def run(self, checked: CheckedCall) -> Result:
        """Run a call; whatever goes wrong in the tool is a result that says so."""
        try:
            return Result(self.fit(checked.tool.perform(checked.call.arguments, self.context)), ok=True)
        except ToolError as error:
            return Result(self.fit(f"error: {error}"), ok=False)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a tool's mistake must not end the conversation
            return Result(f"error: the tool failed ({type(error).__name__})", ok=False, fault=traceback.format_exc())

    def fit(self, text: str) -> str:
        """Cleaned, and cut with a word about it where it is too long."""
        cleaned = clean(text)
        if len(cleaned) <= self.max_characters:
            return cleaned
        return f"{cleaned[: self.max_characters]}\n[cut: {len(cleaned) - self.max_characters} more characters]"
