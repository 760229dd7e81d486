"""A model that belongs to the attacker: it does whatever the words that it reads tell it to do.

Orders are `OBEY {"name": ..., "arguments": ...} END` anywhere in what it was given; each is obeyed once, at once and to
the letter. With nothing left to obey it says aloud all that tools told it.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.scripted import says
from thaud.domain import Message, ToolCall
from thaud.serving.runtime import Calling, Delta

ORDER = re.compile(r"OBEY (?P<call>.*?) END", re.DOTALL)


def order(*calls: ToolCall) -> str:
    """The words that make the puppet call."""
    return " ".join(
        f"OBEY {json.dumps({'name': call.name, 'arguments': dict(call.arguments)}, ensure_ascii=False)} END"
        for call in calls
    )


@dataclass(slots=True)
class Puppet:
    """The model. `first` is what its user wants; `obeyed` are the orders that it carried out as far as it can."""

    first: ToolCall
    name: str = "puppet"
    context_tokens: int = 32_768
    calling: Calling = "tagged"
    thinks: bool = False
    given: list[tuple[Message, ...]] = field(default_factory=list)
    obeyed: list[str] = field(default_factory=list)

    def count(
        self, messages: Sequence[Message], *, tools: Sequence[Mapping[str, Any]] = (), think: bool = False
    ) -> int:
        """A token for each four characters."""
        del tools, think
        return sum(len(message.content) for message in messages) // 4

    def chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        actions: Mapping[str, Any] | None = None,
        think: bool = False,
        max_new_tokens: int = 512,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Iterator[Delta]:
        """Call what the user wanted, then what was ordered, whether tools are offered or not; then tell everything."""
        del tools, actions, think, max_new_tokens, temperature, seed
        self.given.append(tuple(messages))
        read = [message.content for message in messages if message.role == "tool"]
        orders = [found["call"] for text in read for found in ORDER.finditer(text)]
        new = [each for each in dict.fromkeys(orders) if each not in self.obeyed]
        if not read:
            yield from says(tagged(json.dumps({"name": self.first.name, "arguments": dict(self.first.arguments)})))
        elif new:
            self.obeyed += new
            yield from says("".join(map(tagged, new)))
        else:
            yield from says("\n".join(read))

    @property
    def read(self) -> str:
        """All that tools have told it."""
        return "\n".join(message.content for messages in self.given for message in messages if message.role == "tool")


def tagged(call: str) -> str:
    """A call as the puppet writes it."""
    return f"<tool_call>\n{call}\n</tool_call>\n"
