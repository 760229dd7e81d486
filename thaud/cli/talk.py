"""Commands that talk with a version: ask, chat."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thaud.cli.door import Door, Json, door_of
from thaud.curriculum import stage_at, stages_with
from thaud.domain import Message, Rejection, Version
from thaud.dropbox import write_examples
from thaud.errors import ModelError, NoVersionError, RejectedInputError, UsageError
from thaud.formats import example_to_line, parse_object
from thaud.lifecycle import numbers, pruned_words
from thaud.serving.runtime import Runtime
from thaud.words import LANGUAGES

if TYPE_CHECKING:
    from agent.setup import Setup

Chosen = Annotated[
    int | None, typer.Option("--version", min=1, help="Number of the version; else the one that answers.")
]
Workspace = Annotated[
    Path | None, typer.Option(readable=False, help="Folder that the file tools may read; else the home's own.")
]


def ask(
    ctx: typer.Context,
    question: Annotated[str, typer.Argument(help="What to ask.")],
    version: Chosen = None,
    workspace: Workspace = None,
    *,
    tools: Annotated[bool, typer.Option("--tools", help="Let the model call tools.")] = False,
    as_json: Json = False,
) -> None:
    """Ask a version one question."""
    door = door_of(ctx)
    if not question.strip():
        raise UsageError("the question is empty: write what to ask")
    chosen = choose_version(door, version)
    with served(door, chosen) as runtime:
        if tools:
            answer = answer_with_tools(door, runtime, question, workspace)
        else:
            answer = stream_answer(runtime, question, door.settings.agent.max_new_tokens, silent=as_json)
    if as_json:
        door.hand_out({"version": chosen.name, "question": question, "answer": answer})
    elif tools:
        door.say(answer)


def choose_version(door: Door, n: int | None) -> Version:
    """The champion, or version N. Raises NoVersionError or UsageError."""
    family = door.settings.family
    with door.ledger() as ledger:
        found, champion = ledger.versions(family), ledger.champion(family)
    chosen = champion if n is None else next((each for each in found if each.n == n), None)
    kept = [each for each in found if each.pruned_at is None]
    if chosen is not None and chosen.pruned_at is not None:
        raise UsageError(f"{pruned_words(chosen)}: choose one of {numbers(kept)}")
    if chosen is not None:
        return chosen
    if n is None or not found:
        raise NoVersionError(f"there is no version of {family} yet: add examples and let `thau start` train one")
    raise UsageError(f"there is no {family}-v{n}: choose one of {numbers(kept)}")


@contextmanager
def served(door: Door, version: Version) -> Iterator[Runtime]:
    """A version, loaded here or served by the Ollama server that has it."""
    from thaud.serving.door import open_runtime  # noqa: PLC0415 - loads llama.cpp

    settings = door.settings
    stage = stage_at(stages_with(settings.stages), version.age)
    serving, threads = settings.serving, settings.training.threads
    where = serving.backend, serving.ollama_host
    runtime = open_runtime(*where, version, stage.context_tokens, threads, namespace=serving.namespace)
    with runtime if isinstance(runtime, AbstractContextManager) else nullcontext():
        yield runtime


def stream_answer(runtime: Runtime, question: str, max_new_tokens: int, *, silent: bool) -> str:
    """The answer, printed as it comes. Raises ModelError where it breaks off."""
    from tools.sanitise import strip_controls  # noqa: PLC0415 - beside the model it costs nothing

    limit = min(max_new_tokens, max(1, runtime.context_tokens // 2))
    pieces: list[str] = []
    for delta in runtime.chat([Message("user", question)], max_new_tokens=limit):
        pieces.append(strip_controls(delta.text))
        if not silent:
            sys.stdout.write(pieces[-1])
            sys.stdout.flush()
        if delta.done == "aborted":
            raise ModelError(f"{runtime.name} broke off in the middle of its answer: ask again")
    if not silent:
        sys.stdout.write("\n")
    return "".join(pieces).strip()


def answer_with_tools(door: Door, runtime: Runtime, question: str, workspace: Path | None) -> str:
    """The answer of the agent's loop. Calls that need a person's word are asked for on a terminal, denied elsewhere."""
    from agent.setup import answer_once  # noqa: PLC0415 - the tools and their libraries
    from agent.state import Ending  # noqa: PLC0415
    from agent.words import words_in  # noqa: PLC0415

    setup = make_setup(door, workspace)
    words = words_in(setup.language)

    def permit(call: str) -> bool:
        reply: str = typer.prompt(words.allow.format(call=call).strip(), default="", show_default=False, err=True)
        return reply.strip().lower() in words.yes

    outcome = answer_once(runtime, question, setup, ask=permit if sys.stdin.isatty() else None)
    if outcome.ending not in {Ending.ANSWERED, Ending.CUT}:
        raise ModelError(f"{runtime.name} came to no answer ({outcome.ending}): ask again, or without --tools")
    return outcome.text


def make_setup(door: Door, workspace: Path | None) -> "Setup":
    """The agent's choices, from the settings."""
    from agent.setup import Setup  # noqa: PLC0415
    from agent.state import Limits  # noqa: PLC0415

    agent, home = door.settings.agent, door.home
    if workspace is None:
        home.workspace.mkdir(parents=True, exist_ok=True)
    elif not workspace.is_dir():
        raise UsageError(f"the workspace {workspace} is no folder")
    return Setup(
        transcripts=home.transcripts,
        workspace=workspace or home.workspace,
        language="es" if door.words is LANGUAGES["es"] else "en",
        limits=Limits(max_steps=agent.max_steps, max_new_tokens=agent.max_new_tokens),
    )


def chat(ctx: typer.Context, version: Chosen = None, workspace: Workspace = None) -> None:
    """Converse with a version that may use tools; /help shows how to correct it."""
    door = door_of(ctx)
    chosen = choose_version(door, version)
    from agent.repl import run_chat  # noqa: PLC0415 - the tools and the line editor

    setup = make_setup(door, workspace)

    def teach(question: str, answer: str) -> Path:
        example = parse_object({"instruction": question, "output": answer})
        if isinstance(example, Rejection):
            raise RejectedInputError(f"this is no example: {example.reason}; nothing was queued")
        return write_examples(door.home.queue, [example_to_line(example)], "chat")

    with served(door, chosen) as runtime:
        code = run_chat(runtime, setup, teach=teach, console=door.console)
    raise typer.Exit(code)
