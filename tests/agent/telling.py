"""A transcript's rows spelled out in full, so that a new field of a row is a failed test and not a blind spot.

Only the time of a row is left out. And a tool that notes what it ran on.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field

from tools.base import Context, Risk, Tool, tool


@dataclass
class Machine:
    """A tool that notes what it ran on."""

    ran: list[int] = field(default_factory=list)

    def tool(self) -> Tool:
        """The tool: a number from 0 to 100 is doubled, nothing else is."""

        def double(_: Context, number: Annotated[int, Field(ge=0, le=100)]) -> str:
            """Double a number.

            Args:
                number: what to double
            """
            self.ran.append(number)
            return str(2 * number)

        return tool(double, Risk.COMPUTES)


def spell(row: Mapping[str, Any]) -> str:
    """A call, as `name(arguments)`."""
    function = row["function"]
    return f"{function['name']}({json.dumps(function['arguments'], ensure_ascii=False, separators=(',', ':'))})"


def spell_message(row: Mapping[str, Any]) -> str:
    """A turn in one line."""
    rest = dict(row)
    said = [rest.pop("role"), json.dumps(rest.pop("content"), ensure_ascii=False)]
    said += [spell(each) for each in rest.pop("tool_calls", ())]
    said += [f"of {name}" for name in [rest.pop("name", None)] if name]
    assert not rest
    return " ".join(said)


def told_reply(rest: dict[str, Any]) -> str:
    """A reply's row; what it holds is taken out of it."""
    usage = rest.pop("usage")
    spent = f"{usage['prompt_tokens']}+{usage['completion_tokens']}" if usage else "no figures"
    called = f"[{' '.join(spell(each) for each in rest.pop('calls'))}]"
    said = f"reply {quoted(rest.pop('text'))} thought {quoted(rest.pop('thinking'))} {called}"
    return f"{said} {rest.pop('done')} {rest.pop('looping')} offered {' '.join(rest.pop('tools'))} {spent}"


def told_deed(event: str, rest: dict[str, Any]) -> str:
    """The row of a call, its result, or what went wrong."""
    match event:
        case "call":
            return f"call {spell(rest.pop('call'))} {rest.pop('permitted')} by {rest.pop('why')}"
        case "result":
            said = f"result {rest.pop('tool')} {'ok' if rest.pop('ok') else 'failed'} {quoted(rest.pop('text'))}"
            return f"{said} fault={rest.pop('fault')} foreign={rest.pop('foreign')}"
        case "notice":
            return f"notice {rest.pop('notice')} {quoted(rest.pop('detail'))}"
        case "failed":
            return f"failed {' | '.join(spell_message(each) for each in rest.pop('messages'))}"
        case _:
            prompt = " | ".join(spell_message(each) for each in rest.pop("prompt"))
            said = f"{event} of {rest.pop('failed')!r} for {rest.pop('problem')!r}"
            return f"{said} by {spell_message(rest.pop('fixed'))} after {prompt}"


def told(row: Mapping[str, Any]) -> str:
    """A row of a transcript in one line, all of it but the time."""
    rest = {key: value for key, value in row.items() if key != "at"}
    event = rest.pop("event")
    match event:
        case "message":
            line = spell_message(rest.pop("message"))
        case "tools":
            line = f"tools {' '.join(each['function']['name'] for each in rest.pop('tools'))}"
        case "begin":
            line = f"begin {rest.pop('model')} {rest.pop('system')!r} think={rest.pop('think')}"
        case "reply":
            line = told_reply(rest)
        case "end":
            line = f"end {rest.pop('ending')} {quoted(rest.pop('text'))}"
        case _:
            line = told_deed(event, rest)
    assert not rest, f"{event}: {rest}"
    return line


def quoted(text: str) -> str:
    """A text between quotation marks, its accents as they are."""
    return json.dumps(text, ensure_ascii=False)
