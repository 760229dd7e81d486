"""Tools that others bring: installed packages name them under the entry point group `thau.tools`. Owns what may come
in; refuses to let one break a conversation, or take the name of another tool.

An entry point is a Tool, or a sequence of them (tools/base.py). It is loaded when a conversation begins, in this
process and with the user's rights: installing a package is the approval.
"""

import re
from collections.abc import Collection, Iterable
from importlib.metadata import EntryPoint, entry_points

from tools.base import Risk, Tool

GROUP = "thau.tools"
NAME = re.compile(r"[a-z][a-z0-9_]{0,47}")


def find_plugins(
    taken: Collection[str], found: Iterable[EntryPoint] | None = None
) -> tuple[tuple[Tool, ...], tuple[str, ...]]:
    """The tools that installed packages bring, and what was wrong with the others, a sentence each.

    `taken`: the names that are not to be had any more. `found`: the entry points, else the installed ones.
    """
    tools: list[Tool] = []
    complaints: list[str] = []
    names = set(taken)
    for entry in sorted(
        entry_points(group=GROUP) if found is None else found, key=lambda each: (each.name, each.value)
    ):
        try:
            for tool in tools_of(entry):
                check(tool, names)
                names.add(tool.name)
                tools.append(tool)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - foreign code, which must not end the conversation
            why = str(error) or type(error).__name__
            complaints.append(f"the plugin {entry.name} ({entry.value}) brings no tool: {why[:300]}")
    return tuple(tools), tuple(complaints)


def tools_of(entry: EntryPoint) -> tuple[Tool, ...]:
    """What an entry point names. Raises TypeError where that is no tool, and whatever importing it raises."""
    brought = entry.load()
    tools = brought if isinstance(brought, list | tuple) else (brought,)
    for tool in tools:
        if not isinstance(tool, Tool):
            raise TypeError(f"it names a {type(tool).__name__}, not a tools.base.Tool")
    return tuple(tools)


def check(tool: Tool, taken: Collection[str]) -> None:
    """Raise ValueError for a tool that could be taken for another, or that a model could not be told of."""
    if not NAME.fullmatch(tool.name) or "__" in tool.name:
        raise ValueError(f"{tool.name!r} is no name for a tool: small letters, digits and single _, at most 48")
    if tool.name in taken:
        raise ValueError(f"there is a tool {tool.name} already")
    if not isinstance(tool.risk, Risk):
        raise TypeError(f"{tool.name} has no risk of tools.base.Risk")
    if not tool.description.strip():
        raise ValueError(f"{tool.name} has no description")
    tool.definition  # noqa: B018 - what cannot be told fails here
