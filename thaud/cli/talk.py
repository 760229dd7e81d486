"""Commands that talk with a version: ask, chat."""

import json
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thaud.cli.door import Door, as_typed, door_of
from thaud.cli.shelf import choose_version, make_shelf, served
from thaud.domain import Message, Version
from thaud.errors import ModelError, UsageError
from thaud.serving.runtime import Runtime
from thaud.words import LANGUAGES

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.approval import Ask
    from agent.chat_words import ChatWords
    from agent.conversation import Equipment, Past
    from agent.setup import Setup
    from agent.state import Listener, Outcome

INTERRUPTED = 130
NO_QUESTION = "the question is empty: write what to ask"

Chosen = Annotated[
    int | None, typer.Option("--version", min=1, help="Number of the version; else the one that answers.")
]
Workspace = Annotated[
    Path | None, typer.Option(readable=False, help="Folder that the tools may work in; else the home's own.")
]
Unsafe = Annotated[bool, typer.Option("--unsafe", help="Run programs WITHOUT walls, as you. Each result says so.")]
Events = Annotated[bool, typer.Option("--json", help="Print JSON: with tools one event a line, see docs/agent.md.")]


def ask(
    ctx: typer.Context,
    question: Annotated[str, typer.Argument(help="What to ask; else what is piped in is the question.")] = "",
    version: Chosen = None,
    workspace: Workspace = None,
    *,
    tools: Annotated[bool, typer.Option("--tools", help="Let the model call tools.")] = False,
    stdin: Annotated[
        bool | None,
        typer.Option(
            "--stdin/--no-stdin",
            help="Whether piped text goes with the question; else where some comes within two seconds.",
        ),
    ] = None,
    unsafe: Unsafe = False,
    as_json: Events = False,
) -> None:
    """Ask a version one question. Text that is piped in is put behind it, as data: cat FILE | thau ask "..."."""
    door = door_of(ctx)
    if question.isspace():
        raise UsageError(NO_QUESTION)
    chosen = choose_version(door, version)
    asked, data = what_was_asked(door, as_typed(question), stdin)
    setup = prepared(door, chosen, workspace) if tools else None
    try:
        with served(door, chosen) as runtime:
            whole = put_together(door, runtime, asked, data)
            if setup is None:
                answer = stream_answer(runtime, whole, door.settings.agent.max_new_tokens, silent=as_json)
            else:
                answer = answer_with_tools(door, runtime, whole, setup, as_json=as_json, unsafe=unsafe)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    promised = {"version": chosen.name, "question": asked, "answer": answer}
    if as_json and tools:
        sys.stdout.write(json.dumps(promised) + "\n")
    elif as_json:
        door.hand_out(promised)


def what_was_asked(door: Door, question: str, wanted: bool | None) -> tuple[str, str]:  # noqa: FBT001 - three-valued
    """(the question, the data that goes with it). Raises UsageError where there is no question."""
    from thaud.cli.piped import MOST_BYTES, read_piped  # noqa: PLC0415 - beside the model it costs nothing
    from tools.sanitise import clean  # noqa: PLC0415

    piped = read_piped(sys.stdin, MOST_BYTES, wanted=wanted)
    words = chat_words(door)
    if piped.more:
        warn(words.piped_too_much.format(bytes=MOST_BYTES))
    if piped.idle:
        warn(words.piped_idle)
    if question.strip():
        return question, clean(piped.text)
    if not piped.text:
        raise UsageError(NO_QUESTION)
    return piped.text, ""


def put_together(door: Door, runtime: Runtime, question: str, data: str) -> str:
    """The question with its data, as much of it as there is room for. Raises ModelError."""
    if not data:
        return question
    from thaud.cli.piped import fitting, with_data  # noqa: PLC0415 - only where something was piped in

    whole, left_out = with_data(question, data, fitting(runtime, answer_tokens(door, runtime)))
    if left_out:
        warn(chat_words(door).piped_cut.format(n=left_out, tokens=runtime.context_tokens))
    return whole


def chat_words(door: Door) -> "ChatWords":
    """What the conversation says, in the person's language."""
    from agent.chat_words import chat_words_in  # noqa: PLC0415 - see chat

    return chat_words_in("es" if door.words is LANGUAGES["es"] else "en")


def warn(text: str) -> None:
    """A word to the person, beside the answer."""
    sys.stderr.write(f"{text}\n")


def answer_tokens(door: Door, runtime: Runtime) -> int:
    """How many tokens an answer may have: at most half of the context."""
    return min(door.settings.agent.max_new_tokens, max(1, runtime.context_tokens // 2))


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


def prepared(door: Door, version: Version, workspace: Path | None, resumed: Path | None = None) -> "Setup":
    """The agent's choices."""
    from thaud.cli.agent_kit import make_setup  # noqa: PLC0415 - the tools and their libraries

    return make_setup(door, version, workspace, resumed)


def answer_with_tools(
    door: Door, runtime: Runtime, question: str, setup: "Setup", *, as_json: bool, unsafe: bool
) -> str:
    """The answer of the agent's loop. Calls that need a person's word are asked for on a terminal, denied elsewhere."""
    from agent.setup import answer_once  # noqa: PLC0415 - the tools and their libraries
    from agent.state import Ending  # noqa: PLC0415
    from thaud.cli.agent_kit import furnish  # noqa: PLC0415

    if unsafe:
        warn(chat_words(door).unsafe)
    with ExitStack() as stack:
        listener, ask_person, finish = onlooker(door, setup, stack, as_json=as_json)
        furnished = furnish(door, setup, stack, None, unsafe=unsafe)
        for warning in furnished.warnings:
            warn(warning)
        outcome = answer_once(runtime, question, furnished.setup, listener=listener, ask=ask_person)
        finish(outcome)
    if outcome.ending is Ending.STOPPED:
        raise KeyboardInterrupt
    if outcome.ending not in {Ending.ANSWERED, Ending.CUT}:
        raise ModelError(f"{runtime.name} came to no answer ({outcome.ending}): ask again, or without --tools")
    return outcome.text


def onlooker(
    door: Door, setup: "Setup", stack: ExitStack, *, as_json: bool
) -> "tuple[Listener, Ask | None, Callable[[Outcome], None]]":
    """Who listens, who is asked, and what becomes of the end: events, a screen, or the bare answer for a pipe."""
    from rich.console import Console  # noqa: PLC0415 - the tools and their libraries

    from agent.consent import Consent  # noqa: PLC0415
    from agent.events import Events as EventStream  # noqa: PLC0415
    from agent.screen import Screen  # noqa: PLC0415
    from agent.state import Silence  # noqa: PLC0415
    from agent.words import words_in  # noqa: PLC0415

    if as_json:
        events = EventStream(sys.stdout)
        return events, None, events.end
    words = chat_words(door)
    shown = door.console.is_terminal
    screen = Screen(door.console if shown else Console(stderr=True, highlight=False), words_in(setup.language), words)
    person = Consent(screen, words, input) if sys.stdin.isatty() else None
    if shown:
        return stack.enter_context(screen), person, screen.end
    return Silence(), person, lambda outcome: write(outcome.text)


def write(answer: str) -> None:
    """An answer for a pipe: what drives terminals is not let through, lines stay lines."""
    from tools.sanitise import strip_controls  # noqa: PLC0415 - beside the model it costs nothing

    sys.stdout.write(f"{strip_controls(answer)}\n")


def chat(
    ctx: typer.Context,
    conversation: Annotated[str, typer.Argument(help="With --resume: which conversation; else the last.")] = "",
    version: Chosen = None,
    workspace: Workspace = None,
    *,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a conversation: the last one, or ID.")] = False,
    list_them: Annotated[bool, typer.Option("--list", help="List the conversations and end.")] = False,
    unsafe: Unsafe = False,
    as_json: Events = False,
) -> None:
    """Converse with a version that may use tools; /help shows how to correct it.

    --resume [ID] goes on with a conversation, --list lists them. From a pipe each line is a question; with --json the
    answers are events, one JSON object a line. Exit codes: 130 after Ctrl-C in a pipe, else as of any command.
    """
    door = door_of(ctx)
    if list_them:
        list_conversations(door, as_json=as_json)
        return
    if conversation and not resume:
        raise UsageError(f"to go on with a conversation, write --resume {conversation}")
    chosen = choose_version(door, version)
    from agent.repl import run_chat  # noqa: PLC0415 - the tools and the line editor

    kit = make_kit(door, chosen, workspace, (conversation or "last") if resume else None, unsafe=unsafe)
    if unsafe:
        warn(chat_words(door).unsafe)
    raise typer.Exit(run_chat(kit, console=door.console, as_json=as_json))


def make_kit(door: Door, version: Version, workspace: Path | None, resumed: str | None, *, unsafe: bool) -> "Equipment":
    """What a chat is made of. Raises UsageError where there is no such conversation."""
    from agent.conversation import Equipment  # noqa: PLC0415 - see chat
    from agent.resume import find_chat  # noqa: PLC0415
    from agent.teaching import Teacher  # noqa: PLC0415
    from thaud.cli.agent_kit import furnish  # noqa: PLC0415

    path = find_chat(door.home.transcripts, resumed) if resumed else None
    setup = prepared(door, version, workspace, path)
    return Equipment(
        make_shelf(door, version),
        setup,
        Teacher(door.home.proposed, lambda: datetime.now(UTC)),
        lambda plain, stack, confirm: furnish(door, plain, stack, confirm, unsafe=unsafe),
        past_of(door, path),
        door.home.typed,
    )


def past_of(door: Door, path: Path | None) -> "Past | None":
    """What was said in a conversation, for the eye."""
    if path is None:
        return None
    from agent.conversation import Past  # noqa: PLC0415 - see chat
    from agent.resume import list_chats, read  # noqa: PLC0415

    found = next((each for each in list_chats(door.home.transcripts) if each.path == path), None)
    when = f"{found.started.astimezone():%Y-%m-%d %H:%M}" if found else path.stem
    return Past(read(path), found.title if found else "", when)


def list_conversations(door: Door, *, as_json: bool) -> None:
    """The conversations of the home, the newest first."""
    from agent.chat_words import counted  # noqa: PLC0415 - see chat
    from agent.resume import list_chats  # noqa: PLC0415

    chats = list_chats(door.home.transcripts)
    if as_json:
        fields = ("id", "model", "title", "questions")
        rows = [
            {name: getattr(each, name) for name in fields} | {"started": each.started.isoformat()} for each in chats
        ]
        door.hand_out(rows)
        return
    words = chat_words(door)
    if not chats:
        door.say(words.no_chats)
    for each in chats:
        when = f"{each.started.astimezone():%Y-%m-%d %H:%M}"
        door.say(f"{each.id}  {when}  {each.model}  {counted(words, each.questions)}  {each.title}")
