"""Which calls may run. Owns the rules and the question; refuses to run anything.

A call is shown whole and normalised before it is approved, with every character that could hide something spelled out.
Where nobody can be asked, ask means deny.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from thaud.domain import ToolCall, canonical_json
from tools.base import Risk

Ask = Callable[[str], bool]


class Rule(StrEnum):
    """What to do with calls of a tool."""

    ALLOW = "allow"
    ASK = "ask"
    DENY = "deny"


BY_RISK: Mapping[Risk, Rule] = MappingProxyType(
    {Risk.COMPUTES: Rule.ALLOW, Risk.READS: Rule.ALLOW, Risk.SENDS: Rule.ASK}
)


@dataclass(frozen=True, slots=True)
class Approvals:
    """The rules: `rules` by tool name, else by risk. `ask` shows a call to a person; None where nobody is there."""

    ask: Ask | None = None
    rules: Mapping[str, Rule] = field(default_factory=dict)

    def permit(self, call: ToolCall, risk: Risk) -> bool:
        """Whether a validated call may run; asks where the rule says so."""
        rule = self.rules.get(call.name, BY_RISK.get(risk, Rule.ASK))
        if rule is Rule.ASK:
            return self.ask is not None and self.ask(spell(call))
        return rule is Rule.ALLOW


def spell(call: ToolCall) -> str:
    """A call in one line, nothing hidden: `web_search({"query":"..."})`; unprintable characters as escapes."""
    text = f"{call.name}({canonical_json(dict(call.arguments))})"
    return "".join(character if character.isprintable() else escape(character) for character in text)


def escape(character: str) -> str:
    """A character as JSON would escape it, so that the line stays readable."""
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
