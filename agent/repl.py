"""`thau chat`: read, answer, repeat. Owns input and the slash commands; refuses to know how answers come about.

On a terminal lines are edited with prompt_toolkit and calls can be approved; from a pipe each line is a question and
calls that would have to be approved are denied.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import IO, TextIO

from rich.console import Console

from agent.approval import Ask
from agent.screen import Screen
from agent.setup import Setup, open_agent
from agent.state import Ending
from agent.words import COMMANDS, words_in
from thaud.errors import ThauError
from thaud.serving.runtime import Runtime

Teach = Callable[[str, str], Path]

PROMPT = "> "
INTERRUPTED = 130


def run_chat(
    runtime: Runtime,
    setup: Setup,
    *,
    teach: Teach,
    ask: Ask | None = None,
    stdin: TextIO | None = None,
    console: Console | None = None,
) -> int:
    """Converse until /exit or the end of input.

    `teach` gets the last question and the corrected answer, writes an example into the drop-box and returns its file.
    `ask` approves calls; left out, the terminal does, and where there is none they are denied. Returns the exit code:
    0, the last failed answer's where input is no terminal, or 130 after Ctrl-C there.
    """
    screen = Screen(console or Console(highlight=False), words_in(setup.language))
    tolerate(screen.console.file)
    chat = Chat(runtime, setup, teach, ask, screen, open_door(stdin or sys.stdin, screen.console))
    try:
        return chat.run()
    finally:
        chat.agent.transcript.save()


def tolerate(stream: IO[str]) -> None:
    """Let a stream replace what it cannot decode or encode: one character must not end the conversation."""
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="replace")


@dataclass(frozen=True, slots=True)
class Door:
    """Where lines come from. `read` shows a prompt and gives a line; it raises EOFError at the end."""

    read: Callable[[str], str]
    interactive: bool


def open_door(source: TextIO, console: Console) -> Door:
    """A line editor where a person sits at both ends, plain lines otherwise."""
    if not (source.isatty() and console.is_terminal):
        tolerate(source)
        return Door(partial(read_line, source), interactive=False)
    from prompt_toolkit import PromptSession  # noqa: PLC0415 - a pipe does not pay for it

    session: PromptSession[str] = PromptSession()
    return Door(session.prompt, interactive=True)


def read_line(source: TextIO, _: str) -> str:
    """A line without its end; the prompt is for people."""
    line = source.readline()
    if not line:
        raise EOFError
    return line.rstrip("\r\n")


class Chat:
    """A conversation's state between lines: the agent, the last question, the last failure's exit code."""

    def __init__(
        self, runtime: Runtime, setup: Setup, teach: Teach, ask: Ask | None, screen: Screen, door: Door
    ) -> None:
        self.screen = screen
        self.words = screen.words
        self.door = door
        self.agent = open_agent(runtime, setup, screen, ask or (self.ask if door.interactive else None))
        self._teach = teach
        self._question: str | None = None
        self._exit_code = 0

    def run(self) -> int:
        """Handle lines until there are no more."""
        if self.door.interactive:
            self._welcome()
        while True:
            try:
                line = self.door.read(PROMPT).strip()
                if line and not self._handle(line):
                    break
            except EOFError:
                break
            except KeyboardInterrupt:
                if not self.door.interactive:
                    return INTERRUPTED
        return 0 if self.door.interactive else self._exit_code

    def ask(self, call: str) -> bool:
        """Let the person at the terminal decide; the end of input means no."""
        try:
            return self.door.read(self.words.allow.format(call=call)).strip().lower() in self.words.yes
        except EOFError:
            return False

    def _welcome(self) -> None:
        runtime = self.agent.runtime
        self.screen.line(self.words.welcome.format(model=runtime.name), "dim")
        if not self.agent.toolbox.tools:
            self.screen.line(self.words.no_tools.format(tokens=runtime.context_tokens), "dim")

    def _handle(self, line: str) -> bool:
        """Do what a line says; False ends the conversation. Our own errors are shown as one line."""
        try:
            if line.startswith("/"):
                return self._command(line)
            self._answer(line)
        except ThauError as error:
            self._exit_code = error.exit_code
            self.screen.line(self.words.error.format(message=error), "red")
        return True

    def _answer(self, question: str) -> None:
        self._question = question
        outcome = self.agent.answer(question)
        self._exit_code = 0 if outcome.ending in (Ending.ANSWERED, Ending.CUT) else ThauError.exit_code
        self.screen.end(outcome)
        if outcome.ending is Ending.STOPPED and not self.door.interactive:
            raise KeyboardInterrupt

    def _command(self, line: str) -> bool:
        name, _, rest = line.partition(" ")
        match COMMANDS.get(name.lower()):
            case "exit":
                return False
            case "help":
                self.screen.line(self.words.help)
            case "tools":
                self._list_tools()
            case "clear":
                self._clear()
            case "teach":
                self._correct(rest.strip())
            case _:
                self.screen.line(self.words.unknown_command.format(command=name), "yellow")
        return True

    def _list_tools(self) -> None:
        for tool in self.agent.toolbox.tools:
            self.screen.line(f"{tool.name:14} {tool.description}")
        if self.agent.toolbox.tools:
            self.screen.line(self.words.workspace.format(path=self.agent.toolbox.context.workspace.root), "dim")
        else:
            self.screen.line(self.words.no_tools.format(tokens=self.agent.runtime.context_tokens))

    def _clear(self) -> None:
        self.agent.clear()
        self._question = None
        self.screen.line(self.words.cleared)

    def _correct(self, answer: str) -> None:
        """Hand the last question and its right answer to the drop-box."""
        if self._question is None:
            self.screen.line(self.words.nothing_to_teach, "yellow")
        elif not answer:
            self.screen.line(self.words.teach_what, "yellow")
        else:
            path = self._teach(self._question, answer)
            self.agent.transcript.add("teach", question=self._question, answer=answer, path=str(path))
            self.screen.line(self.words.taught.format(path=path), "green")
