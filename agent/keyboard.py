"""The line editor of a conversation, on prompt_toolkit: the one module that knows it. Owns keys, history, the toolbar.

Enter sends. Alt-Enter, Escape then Enter, or a backslash before Enter begin another line; what is pasted stays whole.
Ctrl-O unfolds what was folded last. Refuses to know what lines mean.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition, is_done
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.styles import Style
from prompt_toolkit.utils import get_cwidth

from agent.completion import Guesser

MOST_REMEMBERED = 2000
TOOLBAR_S = 0.5
STYLE = Style.from_dict(
    {
        "bottom-toolbar": "noreverse",
        "bottom-toolbar.text": "noreverse fg:ansibrightblack",
        "prompt": "bold fg:ansicyan",
        "more": "fg:ansibrightblack",
    }
)


class KeptHistory(History):
    """Lines typed before, in a file that its owner alone can read: an entry is lines that begin with a plus.

    Lines that begin with a space are not kept. A file that cannot be read or written costs the memory, not the
    conversation.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def load_history_strings(self) -> Iterable[str]:
        """The entries, newest first."""
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return []
        return list(reversed(entries(text)))[:MOST_REMEMBERED]

    def store_string(self, string: str) -> None:
        """Append an entry."""
        if string.startswith(" "):
            return
        entry = "".join(f"+{line}\n" for line in string.split("\n")) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as sink:
                os.fchmod(sink.fileno(), 0o600)
                sink.write(entry)
        except OSError:
            return


def entries(text: str) -> list[str]:
    """The entries of a history file, oldest first; what is no entry is passed over."""
    found: list[list[str]] = [[]]
    for line in text.split("\n"):
        if line.startswith("+"):
            found[-1].append(line[1:])
        elif found[-1]:
            found.append([])
    return ["\n".join(lines) for lines in found if lines]


class Suggesting(Completer):
    """Our candidates in prompt_toolkit's form."""

    def __init__(self, guesser: Guesser) -> None:
        self._guesser = guesser

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        """What could be typed next."""
        del complete_event
        for candidate in self._guesser.guess(document.text_before_cursor):
            yield Completion(candidate.text, -candidate.replaces, display_meta=candidate.meaning)


class Keyboard:
    """Reads what a person types. `parts` gives the toolbar's words, most important first; `unfold` is what Ctrl-O does,
    `shown` what is done each time that the prompt has been drawn.

    Reading raises EOFError on Ctrl-D and KeyboardInterrupt on Ctrl-C.
    """

    def __init__(
        self,
        guesser: Guesser,
        history: Path | None,
        parts: Callable[[], Sequence[str]],
        unfold: Callable[[], None],
        shown: Callable[[], None],
        prompt: str = "> ",
    ) -> None:
        self._parts = parts
        self._prompt = prompt
        self._asking: PromptSession[str] = PromptSession(style=STYLE)
        self._session: PromptSession[str] = PromptSession(
            history=KeptHistory(history) if history else InMemoryHistory(),
            completer=Suggesting(guesser),
            complete_while_typing=Condition(lambda: self._session.default_buffer.text.startswith(("/", "@"))),
            complete_in_thread=True,
            multiline=True,
            prompt_continuation=[("class:more", "  ")],
            key_bindings=bindings(unfold),
            bottom_toolbar=self._toolbar,
            refresh_interval=TOOLBAR_S,
            reserve_space_for_menu=4,
            style=STYLE,
        )
        self._session.app.after_render += lambda _: shown()

    def read(self, typed: str = "") -> str:
        """A question or a command, of one line or several. `typed` stands there already."""
        line = self._session.prompt([("class:prompt", self._prompt)], default=typed)
        return line.encode("utf-8", "surrogateescape").decode("utf-8", "replace")  # halves stand for bytes

    def ask(self, question: str) -> str:
        """A short answer, without history or completion."""
        return self._asking.prompt(question)

    def redraw(self) -> None:
        """Show the toolbar anew; safe from any thread."""
        if self._session.app.is_running:
            self._session.app.invalidate()

    def _toolbar(self) -> StyleAndTextTuples:
        width = self._session.app.output.get_size().columns
        return [("class:bottom-toolbar.text", fitting(self._parts(), width))]


def fitting(parts: Sequence[str], width: int) -> str:
    """As many of the parts, joined, as a line of so many columns has room for."""
    line = ""
    for part in parts:
        longer = f"{line}  {part}" if line else part
        if get_cwidth(longer) < width:
            line = longer
    return line


def bindings(unfold: Callable[[], None]) -> KeyBindings:
    """The keys of ours."""
    keys = KeyBindings()

    @keys.add("enter", filter=~is_done)
    def send(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.document.current_line_before_cursor.endswith("\\") and buffer.document.is_cursor_at_the_end:
            buffer.delete_before_cursor()
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def break_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("c-o")
    def show(event: KeyPressEvent) -> None:
        del event
        run_in_terminal(unfold)

    return keys
