"""From a home's settings to what the agent may use: rules, tools, walls, the web, the memory, servers of tools.

Owns the wiring; refuses to talk (talk.py). What takes time, or a library, is put together by `furnish`, while the
person types.
"""

import math
import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from thaud.cli.door import Door
from thaud.config import Agent
from thaud.curriculum import stage_at, stages_with
from thaud.domain import Version
from thaud.errors import UsageError
from thaud.words import LANGUAGES

if TYPE_CHECKING:
    from agent.conversation import Confirm, Furnished
    from agent.setup import Setup
    from tools.base import Tool
    from tools.outside import Bounds, Sandbox


def make_setup(door: Door, version: Version, workspace: Path | None, resumed: Path | None = None) -> "Setup":
    """The agent's choices, from the settings. Raises UsageError for a workspace that is no folder."""
    from agent.approval import Rule  # noqa: PLC0415 - what only an agent needs
    from agent.setup import Setup  # noqa: PLC0415
    from agent.state import Limits  # noqa: PLC0415

    agent, home = door.settings.agent, door.home
    if workspace is None:
        home.workspace.mkdir(parents=True, exist_ok=True)
    elif not workspace.is_dir():
        raise UsageError(f"the workspace {workspace} is no folder")
    return Setup(
        transcripts=home.transcripts,
        workspace=(workspace or home.workspace).absolute(),
        language="es" if door.words is LANGUAGES["es"] else "en",
        rules={key: Rule(rule) for key, rule in agent.approvals.items()},
        limits=Limits(max_steps=agent.max_steps, max_new_tokens=agent.max_new_tokens),
        protected=(home.config, home.data),
        spared=(home.workspace,),
        age=stage_at(stages_with(door.settings.stages), version.age).age,
        think=agent.think,
        temperature=agent.temperature,
        resumed=resumed,
    )


def furnish(
    door: Door, setup: "Setup", stack: ExitStack, confirm: "Confirm | None", *, unsafe: bool = False
) -> "Furnished":
    """The setup with all that tools reach the world through. `stack` ends what was started."""
    from agent.actions import FINAL  # noqa: PLC0415 - what only an agent needs
    from agent.conversation import Furnished  # noqa: PLC0415
    from thaud.recall import Recall  # noqa: PLC0415
    from tools.plugins import find_plugins  # noqa: PLC0415
    from tools.web.client import GuardedWeb  # noqa: PLC0415
    from tools.web.searching import make_chain  # noqa: PLC0415

    home, agent = door.home, door.settings.agent
    brought, complaints = find_plugins({FINAL, *(tool.name for tool in setup.tools)})
    tools = (*setup.tools, *brought)
    served, warnings = connect_servers(door, setup, stack, confirm, tools)
    web = GuardedWeb()
    whole = replace(
        setup,
        sandbox=make_sandbox(agent, setup, unsafe=unsafe),
        tools=(*tools, *served),
        web=web,
        search=make_chain(agent.search, web=web, searxng_url=agent.searxng_url, language=setup.language),
        memory=Recall(home.recall, home.ledger, home.transcripts),
    )
    return Furnished(whole, (*complaints, *warnings))


def make_sandbox(agent: Agent, setup: "Setup", *, unsafe: bool) -> "Sandbox":
    """The walls that the settings name, which are tried before the first program runs. `unsafe`: none at all."""
    from tools.sandbox import Policy, Unsafe, Walls  # noqa: PLC0415 - what only an agent needs
    from tools.workspace import Workspace  # noqa: PLC0415

    policy = Policy(Workspace(setup.workspace, setup.protected, setup.spared), bounds_of(agent))
    return Unsafe(policy) if unsafe else Walls(agent.sandbox, policy)


def bounds_of(agent: Agent) -> "Bounds":
    """What the settings allow a program."""
    from tools.outside import Bounds  # noqa: PLC0415 - what only an agent needs

    return Bounds(
        wall_s=agent.run_wall_s,
        cpu_s=max(1, math.ceil(agent.run_wall_s)),
        memory_bytes=agent.run_memory_mib << 20,
        processes=agent.run_processes,
        disk_bytes=agent.run_disk_mib << 20,
    )


def connect_servers(
    door: Door, setup: "Setup", stack: ExitStack, confirm: "Confirm | None", tools: "tuple[Tool, ...]"
) -> "tuple[tuple[Tool, ...], tuple[str, ...]]":
    """The tools of the configured MCP servers, and what people should know of them."""
    if not door.settings.mcp:
        return (), ()
    from agent.mcp.client import connect  # noqa: PLC0415 - the protocol's library

    connected = stack.enter_context(
        connect(
            door.settings.mcp,
            approve=None if confirm is None else lambda seen: confirm(seen.text(setup.language)),
            pins=door.home.data / "mcp_pins.json",
            logs=door.home.logs,
            environment=os.environ,
            language=setup.language,
            taken={tool.name for tool in tools},
        )
    )
    return connected.tools, connected.warnings
