"""`thau chat`: read, answer, repeat. Owns where lines come from and what becomes of each; refuses to know how answers
come about.

On a terminal lines are edited (keyboard.py) and calls can be approved; from a pipe each line is a question and calls
that would have to be approved are denied. As JSON the output is events (events.py) and the input is still lines.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from typing import IO, Protocol, TextIO

from rich.console import Console

from agent.chat_words import ChatWords, chat_words_in, counted
from agent.commands import find, resemble
from agent.completion import Guesser
from agent.consent import Consent, echo
from agent.conversation import Conversation, Equipment, Person
from agent.deeds import DEEDS
from agent.events import Events
from agent.front import Front
from agent.screen import Screen
from agent.state import Ending
from agent.words import words_in
from thaud.errors import ThauError

INTERRUPTED = 130
COMMAND = re.compile(r"/[^\s/]*")


class Lines(Protocol):
    """Where lines come from. `read` raises EOFError at the end."""

    def read(self, typed: str = "") -> str:
        """A question or a command; `typed` stands there already."""
        ...


def run_chat(
    kit: Equipment, *, stdin: TextIO | None = None, console: Console | None = None, as_json: bool = False
) -> int:
    """Converse until /exit or the end of input, while the model loads.

    Returns the exit code: 0, the last failed answer's where input is no terminal, or 130 after Ctrl-C there.
    """
    console = console or Console(highlight=False)
    words = chat_words_in(kit.setup.language)
    tolerate(console.file)
    screen = Screen(console, words_in(kit.setup.language), words)
    source = stdin or sys.stdin
    if not as_json and source.isatty() and console.is_terminal:
        return Sitting(kit, screen, words).run()
    tolerate(source)
    return Reading(kit, Events(console.file) if as_json else screen, words, Pipe(source)).run()


def tolerate(stream: IO[str]) -> None:
    """Let a stream replace what it cannot decode or encode: one character must not end the conversation."""
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="replace")


@dataclass(frozen=True, slots=True)
class Pipe:
    """Lines of a stream."""

    source: TextIO

    def read(self, typed: str = "") -> str:
        """A line without its end."""
        del typed
        line = self.source.readline()
        if not line:
            raise EOFError
        return line.rstrip("\r\n")


class Reading:
    """A conversation from a pipe: each line is a question or a command, and Ctrl-C ends the program."""

    interactive = False

    def __init__(
        self, kit: Equipment, front: Front, words: ChatWords, lines: Lines, person: Person | None = None
    ) -> None:
        self.front, self.words, self.lines = front, words, lines
        self.typed = ""
        self.exit_code = 0
        self.chat = Conversation(kit, front, words, person, self.loaded)

    def run(self) -> int:
        """Handle lines until there are no more."""
        try:
            self.welcome()
            while self.step():
                pass
        except KeyboardInterrupt:
            self.exit_code = INTERRUPTED
        finally:
            self.chat.close()
        return self.exit_code

    def welcome(self) -> None:
        """A pipe wants answers."""
        self.chat.start()

    def loaded(self) -> None:
        """The model is there; called in another thread."""

    def step(self) -> bool:
        """Read a line and do it; False at the end."""
        try:
            line = self.lines.read().strip()
        except EOFError:
            return False
        return self.handle(line) if line else True

    def handle(self, line: str) -> bool:
        """Do what a line says; False ends the conversation. Our own errors are shown as one line."""
        try:
            if COMMAND.fullmatch(line.split(maxsplit=1)[0]):
                return self.command(line)
            self.answer(line)
        except ThauError as error:
            self.exit_code = error.exit_code
            self.front.failed(str(error), error.exit_code)
        return True

    def answer(self, question: str) -> None:
        """Ask the model."""
        outcome = self.chat.answer(question)
        self.exit_code = 0 if outcome.ending in {Ending.ANSWERED, Ending.CUT} else ThauError.exit_code
        if outcome.ending is Ending.STOPPED and not self.interactive:
            raise KeyboardInterrupt

    def command(self, line: str) -> bool:
        """Do a slash command; False for the one that ends."""
        word, *behind = line.split(maxsplit=1)
        command = find(word)
        if command is None:
            meant = resemble(word, self.chat.setup.language)
            told = self.words.did_you_mean if meant else self.words.unknown_command
            self.front.line(told.format(command=word, meant=meant), "yellow")
        elif command.name == "exit":
            return False
        else:
            DEEDS[command.name](self.chat, "".join(behind))
        return True


class Sitting(Reading):
    """A conversation with a person at a terminal: Ctrl-C ends an answer and never the program."""

    interactive = True

    def __init__(self, kit: Equipment, screen: Screen, words: ChatWords) -> None:
        from agent.keyboard import Keyboard  # noqa: PLC0415 - a pipe does not pay for it

        self.screen = screen
        guesser = Guesser(kit.setup.language, kit.setup.workspace, lambda: versions(kit))
        self.keyboard: Keyboard = Keyboard(guesser, kit.history, self.parts, screen.unfold, self.shown)
        super().__init__(kit, screen, words, self.keyboard, Consent(screen, words, self.keyboard.ask))

    def run(self) -> int:
        """As from a pipe; but a person has seen what failed."""
        with echo(on=False):  # throughout: between two modes a Ctrl-D would be lost
            code = super().run()
        return code if code == INTERRUPTED else 0

    def welcome(self) -> None:
        """Who answers, how it ends, and what was said before."""
        self.screen.line(self.words.welcome.format(model=self.chat.model), "dim")
        if (past := self.chat.kit.past) is not None:
            told = counted(self.words, len(past.exchanges))
            self.screen.line(self.words.resumed.format(when=past.when, title=past.title, questions=told), "dim")
            for exchange in past.exchanges[-1:]:
                self.screen.line(f"> {exchange.question}", "dim")
                self.screen.prose(exchange.answer)

    def shown(self) -> None:
        """Load once the prompt is there: loading takes time from it."""
        self.chat.start()

    def loaded(self) -> None:
        """Let the toolbar say so."""
        self.keyboard.redraw()

    def step(self) -> bool:
        """Read and do. Ctrl-C empties the line or ends what is done; while a model loads the question is given back."""
        typed, self.typed = self.typed, ""
        try:
            line = self.keyboard.read(typed).strip()
        except EOFError:
            return False
        except KeyboardInterrupt:
            return True
        try:
            return self.handle(line) if line else True
        except KeyboardInterrupt:
            self.typed = line if self.chat.begun is None else ""
            return True

    def parts(self) -> Sequence[str]:
        """The toolbar's words, most important first."""
        return list(toolbar(self.chat, self.screen))


def versions(kit: Equipment) -> list[tuple[int, str]]:
    """Their numbers and names."""
    return [(choice.n, choice.name) for choice in kit.shelf.choices()]


def toolbar(chat: Conversation, screen: Screen) -> Iterator[str]:
    """Who answers, how full the context is, how quick it was."""
    words, agent = chat.words, chat.begun
    if chat.loading:
        yield words.loading.format(model=chat.model)
        return
    if chat.failure is not None:
        yield words.not_loaded.format(message=chat.failure)
        return
    yield chat.model
    if (usage := screen.usage) is not None:
        yield f"{usage.prompt_tokens + usage.completion_tokens:,}/{usage.context_tokens:,}"
    if (speed := screen.speed()) is not None:
        yield words.speed.format(speed=speed)
    if agent is not None and agent.think and agent.runtime.thinks:
        yield words.thinks
