"""From choices to an agent, and one question to one answer. Owns the wiring; refuses to know terminals."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.approval import Approvals, Ask, Rule
from agent.loop import Agent
from agent.state import Limits, Listener, Outcome, Silence
from agent.toolbox import fill_toolbox
from agent.transcript import Transcript
from agent.words import Language
from thaud.errors import StorageError
from thaud.serving.runtime import Runtime
from tools.base import Context, Tool
from tools.registry import TOOLS
from tools.workspace import Workspace


def local_now() -> datetime:
    """The time now, in the user's own zone."""
    return datetime.now(UTC).astimezone()


@dataclass(frozen=True, slots=True)
class Setup:
    """What a conversation needs besides a model. `rules` by tool name go before the rules by risk."""

    transcripts: Path
    workspace: Path
    language: Language = "en"
    tools: tuple[Tool[Any], ...] = TOOLS
    rules: Mapping[str, Rule] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    clock: Callable[[], datetime] = local_now


def make_workspace(folder: Path) -> None:
    """See that the folder is there, so that people find where to put files. Raises StorageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make the workspace {folder}: {error.strerror}") from error


def open_agent(runtime: Runtime, setup: Setup, listener: Listener, ask: Ask | None) -> Agent:
    """An agent with an empty history. A reply may take half of the context; the first line makes the transcript.

    Raises StorageError where the workspace can neither be found nor made.
    """
    make_workspace(setup.workspace)
    context = Context(Workspace(setup.workspace.absolute()), setup.clock)
    limits = replace(setup.limits, max_new_tokens=min(setup.limits.max_new_tokens, max(1, runtime.context_tokens // 2)))
    return Agent(
        runtime,
        fill_toolbox(setup.tools, context, runtime.context_tokens),
        Approvals(ask, setup.rules),
        Transcript(setup.transcripts, setup.clock),
        listener,
        limits,
    )


def answer_once(
    runtime: Runtime, question: str, setup: Setup, *, listener: Listener | None = None, ask: Ask | None = None
) -> Outcome:
    """Answer one question with tools. Without `ask`, calls that need a person's word are denied."""
    return open_agent(runtime, setup, listener or Silence(), ask).answer(question)
