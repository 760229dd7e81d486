"""What may be called, for tests of reading alone."""

from thaud.domain import ToolCall
from thaud.errors import ToolError


class Anything:
    """Every call may run."""

    def check(self, call: ToolCall) -> object:
        """Let it through."""
        return call


class Nothing:
    """No tool is offered."""

    def check(self, call: ToolCall) -> object:
        """Refuse it."""
        raise ToolError(f"no tool {call.name!r}")


class Only:
    """One call may run."""

    def __init__(self, call: ToolCall) -> None:
        self.call = call

    def check(self, call: ToolCall) -> object:
        """Refuse all others."""
        if call != self.call:
            raise ToolError(f"not {call.name!r}")
        return call
