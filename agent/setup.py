"""From choices to an agent, and one question to one answer. Owns the wiring; refuses to know terminals."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from agent.approval import Approvals, Ask, Rule
from agent.fitting import fill_toolbox
from agent.loop import Agent
from agent.resume import resume
from agent.state import Limits, Listener, Outcome, Silence
from agent.transcript import Transcript
from agent.words import Language
from thaud.errors import StorageError
from thaud.serving.runtime import Runtime
from tools.base import Context, Tool
from tools.outside import Memory, Sandbox, Search, Web
from tools.registry import TOOLS
from tools.workspace import Workspace

STEP_BY_STEP_AGE = 15


def local_now() -> datetime:
    """The time now, in the user's own zone."""
    return datetime.now(UTC).astimezone()


@dataclass(frozen=True, slots=True)
class Setup:
    """What a conversation needs besides a model.

    rules:     by `tool` or `tool(pattern)`; they go before the rules by risk (agent/approval.py).
    protected: what the file tools leave alone wherever the workspace is, but for what is `spared` below it.
    age:       of the model: from 15 on it is asked to go step by step.
    resumed:   the transcript of a conversation to go on with.
    """

    transcripts: Path
    workspace: Path
    language: Language = "en"
    tools: tuple[Tool, ...] = TOOLS
    rules: Mapping[str, Rule] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    clock: Callable[[], datetime] = local_now
    protected: tuple[Path, ...] = ()
    spared: tuple[Path, ...] = ()
    sandbox: Sandbox | None = None
    web: Web | None = None
    memory: Memory | None = None
    search: Search | None = None
    age: int = 0
    think: bool = False
    temperature: float = 0.0
    resumed: Path | None = None


def make_workspace(folder: Path) -> None:
    """See that the folder is there, so that people find where to put files. Raises StorageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make the workspace {folder}: {error.strerror}") from error


def open_agent(runtime: Runtime, setup: Setup, listener: Listener, ask: Ask | None) -> Agent:
    """An agent with an empty history, or with that of the conversation to go on with. Its first line makes the
    transcript. Without `ask`, calls that need a person's word are denied.

    Raises StorageError where the workspace can neither be found nor made, or the past conversation cannot be read.
    """
    make_workspace(setup.workspace)
    workspace = Workspace(setup.workspace.absolute(), setup.protected, setup.spared)
    context = Context(
        workspace, setup.clock, sandbox=setup.sandbox, web=setup.web, memory=setup.memory, search=setup.search
    )
    agent = Agent(
        runtime,
        fill_toolbox(setup.tools, context, runtime, setup.language, setup.limits.max_new_tokens),
        Approvals(ask, setup.rules),
        Transcript(setup.transcripts, setup.clock, setup.resumed),
        listener,
        setup.limits,
        setup.language,
        think=setup.think,
        step_by_step=setup.age >= STEP_BY_STEP_AGE,
        temperature=setup.temperature,
    )
    if setup.resumed:
        resume(agent, setup.resumed)
    return agent


def answer_once(
    runtime: Runtime, question: str, setup: Setup, *, listener: Listener | None = None, ask: Ask | None = None
) -> Outcome:
    """Answer one question with tools. Without `ask`, calls that need a person's word are denied."""
    return open_agent(runtime, setup, listener or Silence(), ask).answer(question)
