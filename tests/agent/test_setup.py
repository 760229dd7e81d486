"""What is chosen for a conversation is what the agent has."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from agent.approval import Rule
from agent.scripted import ScriptedRuntime, says
from agent.setup import Setup, answer_once, open_agent
from agent.state import Ending, Limits
from tests.agent.conftest import Notes
from thaud.errors import ConfigError, StorageError
from tools.outside import Page, Remembered


class Memory:
    def search(self, query: str, limit: int) -> Sequence[Remembered]:
        return ()


class Web:
    def get(self, url: str, *, timeout_s: float | None = None) -> Page:
        return Page(url, 200, "text/plain", b"")


def test_the_outside_world_reaches_the_tools(setup: Setup, notes: Notes, tmp_path: Path) -> None:
    """Web and memory as given, walls where there are any, the workspace with what it protects."""
    web, memory, kept = Web(), Memory(), tmp_path / "home"
    chosen = replace(setup, web=web, memory=memory, protected=(kept,), spared=(kept / "workspace",))
    context = open_agent(ScriptedRuntime([]), chosen, notes, None).toolbox.context
    assert (context.web, context.memory, context.sandbox) == (web, memory, None)
    assert (context.workspace.root, context.workspace.protected) == (setup.workspace, (kept,))
    assert context.workspace.spared == (kept / "workspace",)
    assert context.clock() == setup.clock()


def test_choices_reach_the_model(setup: Setup, notes: Notes) -> None:
    """Limits, temperature and thinking; grown models go step by step, younger ones are told nothing."""
    chosen = replace(setup, limits=Limits(max_new_tokens=7), temperature=0.5, think=True, age=13)
    runtime = ScriptedRuntime([says("a")])
    agent = open_agent(runtime, chosen, notes, None)
    agent.answer("?")
    assert (runtime.requests[0].max_new_tokens, runtime.requests[0].temperature, agent.think) == (7, 0.5, True)
    assert runtime.requests[0].messages[0].role == "user"
    assert not agent.step_by_step
    assert open_agent(runtime, replace(chosen, age=15), notes, None).step_by_step


def test_thinking_may_take_half_of_the_context(setup: Setup, notes: Notes) -> None:
    """A limit made for answers would end most thoughts before them."""
    runtime = ScriptedRuntime([says("a")], thinks=True)
    open_agent(runtime, replace(setup, think=True), notes, None).answer("?")
    assert runtime.requests[0].max_new_tokens == 2048


def test_a_workspace_that_cannot_be_made_is_named(setup: Setup, notes: Notes, tmp_path: Path) -> None:
    """The error says which folder."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot make the workspace"):
        open_agent(ScriptedRuntime([]), replace(setup, workspace=tmp_path / "file" / "x"), notes, None)


def test_a_rule_that_is_none_is_an_error(setup: Setup, notes: Notes) -> None:
    """A misspelt rule does not go unnoticed until it was needed."""
    with pytest.raises(ConfigError, match="approvals"):
        open_agent(ScriptedRuntime([]), replace(setup, rules={"run_shell(": Rule.DENY}), notes, None)


def test_nobody_needs_to_look_on(setup: Setup) -> None:
    """One question needs neither a listener nor a person."""
    assert answer_once(ScriptedRuntime([says("a")]), "?", setup).ending is Ending.ANSWERED
