"""Asking the person at a terminal whether a call may run, and the terminal's echo meanwhile. Owns the question's form;
refuses to know the rules (approval.py).
"""

import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from agent.approval import Decision, Request
from agent.chat_words import ChatWords
from agent.screen import Screen


@dataclass(frozen=True, slots=True)
class Consent:
    """Shows a call and reads a short answer; whatever is no yes is a no, the end of input too.

    What was typed before the question was shown is no answer to it. Ctrl-C raises KeyboardInterrupt: it ends the turn.
    """

    screen: Screen
    words: ChatWords
    read: Callable[[str], str]

    def __call__(self, request: Request) -> Decision:
        """What the person says."""
        self.screen.show_request(request)
        forget_typed()
        try:
            with echo(on=True):
                reply = self.read(self.words.allow).strip().lower()
        except EOFError:
            reply = ""
        decision = self.meant(reply)
        if decision is Decision.ALWAYS:
            self.screen.line(self.words.always_from_now, "dim")
        self.screen.go_on()
        return decision

    def confirm(self, text: str) -> bool:
        """Yes or no to a text of several lines."""
        self.screen.pause()
        for line in text.splitlines():
            self.screen.line(line, "yellow")
        forget_typed()
        try:
            with echo(on=True):
                reply = self.read(self.words.confirm).strip().lower()
        except EOFError:
            reply = ""
        self.screen.go_on()
        return reply in self.words.yes

    def meant(self, reply: str) -> Decision:
        """A reply as a decision."""
        if reply in self.words.yes:
            return Decision.YES
        return Decision.ALWAYS if reply in self.words.always else Decision.NO


@contextmanager
def echo(*, on: bool) -> Iterator[None]:
    """Whether the terminal shows what is typed and edits lines; as it was afterwards.

    Off, each key is kept as it is for whoever reads next, Ctrl-D too; Ctrl-C still interrupts.
    """
    try:
        before = termios.tcgetattr(sys.stdin.fileno())
    except (termios.error, OSError, ValueError):
        yield
        return
    flags = termios.ECHO | termios.ICANON
    changed = [*before]
    changed[3] = changed[3] | flags if on else changed[3] & ~flags
    termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, changed)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, before)


def forget_typed() -> None:
    """Throw away what was typed and not read."""
    try:
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
    except (termios.error, OSError, ValueError):
        return
