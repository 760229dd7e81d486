"""What of a conversation the model is shown, so that its prompt fits the context. Owns what is left out, and in which
order; refuses to count tokens and to ask models.

First the oldest results of tools are shortened, down to three quarters of the room, so that what stays the same at
the beginning of the prompt stays the same for a while. Then the older half of the exchanges gives way to a summary.
Then the summary goes too, and at last the newest results are shortened. The exchanges themselves are never changed.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from agent.prompts import Prompts
from agent.state import Notice
from thaud.domain import Message

Past = Sequence[Sequence[Message]]
CHARACTERS_OF_A_RESULT = 16  # of a context of so many tokens, one of 16 is how many characters are left of a result
FEWEST_CHARACTERS = 60
DIGEST_FROM_TOKENS = 256  # below it a summary would take the place of what matters
DIGEST_TURN = 60
DIALOGUE_TURN = 600


@dataclass(frozen=True, slots=True)
class Window:
    """How much is left out: so many of the oldest exchanges, of which `summary` is left, and of so many of the
    conversation's results of tools, counted from its beginning, all but their first words.
    """

    summary: str = ""
    left_out: int = 0
    shortened: int = 0

    def within(self, past: Past) -> "Window":
        """The window of what is left of a past: nothing later counts as left out or shortened."""
        if self.left_out > len(past):
            return Window()  # a summary of what was taken back says too much
        return replace(self, shortened=min(self.shortened, results_in(past)))


@dataclass(frozen=True, slots=True)
class Scene:
    """A conversation to be shown: the past exchanges, and the turns of this one."""

    past: Past
    turn: Sequence[Message]
    prompts: Prompts
    context_tokens: int

    def view(self, window: Window) -> list[Message]:
        """The messages that a window shows."""
        seen = 0
        shown: list[Message] = []
        for number, messages in enumerate([*self.past, self.turn]):
            for message in messages:
                seen += message.role == "tool"
                if number >= window.left_out:
                    short = message.role == "tool" and seen <= window.shortened
                    shown.append(self.shorten(message) if short else message)
        return self.remind(shown, window.summary)

    def shorten(self, result: Message) -> Message:
        """A tool's turn with its first words alone."""
        characters = max(FEWEST_CHARACTERS, self.context_tokens // CHARACTERS_OF_A_RESULT)
        return replace(result, content=self.prompts.shorten(result.content, characters))

    def remind(self, shown: list[Message], summary: str) -> list[Message]:
        """The messages with a summary before them, as the model's own answer: what it took from a page must not become
        the user's words.
        """
        if not summary or not shown:
            return shown
        return [Message("user", self.prompts.earlier), Message("assistant", summary), *shown]

    @property
    def results(self) -> int:
        """How many results of tools there are."""
        return results_in([*self.past, self.turn])

    @property
    def fresh(self) -> int:
        """How many results the model has not read yet: those at the end."""
        return next((at for at, message in enumerate(reversed(self.turn)) if message.role != "tool"), len(self.turn))


def results_in(past: Past) -> int:
    """How many results of tools there are in a past."""
    return sum(message.role == "tool" for messages in past for message in messages)


Size = Callable[[Window], int]
Summarise = Callable[[str, Past], str]
Tell = Callable[[Notice], None]


def narrowed(window: Window, scene: Scene, room: int, size: Size, summarise: Summarise, tell: Tell) -> Window:
    """A window whose prompt, of `size` tokens, has room; where none has, the narrowest.

    `summarise` makes the summary before and the exchanges that go into a new one; it is empty where none is worth it.
    """
    if size(window) <= room:
        return window
    window = with_short_results(window, scene.results - scene.fresh, room * 3 // 4, size, tell)
    if size(window) > room and window.left_out < len(scene.past):
        tell(Notice.SUMMARISED if scene.context_tokens >= DIGEST_FROM_TOKENS else Notice.FORGOT)
    while size(window) > room and window.left_out < len(scene.past):
        window = without_the_older_half(window, scene, summarise)
    if size(window) > room and window.summary:
        tell(Notice.FORGOT)
        window = replace(window, summary="")
    if size(window) > room:
        window = with_short_results(window, scene.results, room, size, tell)
    return window


def with_short_results(window: Window, most: int, goal: int, size: Size, tell: Tell) -> Window:
    """The oldest results shortened, one after the other, until the goal is met."""
    before, tokens = window, size(window)
    first = tokens
    while tokens > goal and window.shortened < most:
        window = replace(window, shortened=window.shortened + 1)
        tokens = size(window)
    if tokens == first:
        return before
    tell(Notice.SHORTENED)
    return window


def without_the_older_half(window: Window, scene: Scene, summarise: Summarise) -> Window:
    """The older half of the exchanges that are shown left out, for a summary where one is worth it."""
    there = len(scene.past) - window.left_out
    until = window.left_out + (there + 1) // 2
    return replace(window, summary=summarise(window.summary, scene.past[window.left_out : until]), left_out=until)


def spoken(past: Past) -> Iterator[tuple[str, str]]:
    """Question and answer of each exchange that was answered; what tools said is left out, so that words from outside
    do not become the conversation's own.
    """
    for messages in past:
        if len(messages) > 1:
            yield messages[0].content, messages[-1].content


def digest(before: str, past: Past, context_tokens: int) -> str:
    """A summary without a model: the beginnings of questions and answers, of which the newest are kept."""
    if context_tokens < DIGEST_FROM_TOKENS:
        return ""
    lines = before.split("\n") if before else []
    lines += [f"{beginning(asked, DIGEST_TURN)} → {beginning(said, DIGEST_TURN)}" for asked, said in spoken(past)]
    left = context_tokens // 2
    kept: list[str] = []
    for line in reversed(lines):
        left -= len(line) + 1
        if left < 0:
            break
        kept.insert(0, line)
    return "\n".join(kept)


def dialogue(before: str, past: Past, prompts: Prompts, characters: int) -> str:
    """What a model is to summarise, in at most so many characters; of long conversations the end of it."""
    head = f"{beginning(before, characters // 2)}\n" if before else ""
    turns: list[str] = []
    for asked, said in spoken(past):
        turns.append(f"{prompts.user}: {beginning(asked, DIALOGUE_TURN)}")
        turns.append(f"{prompts.assistant}: {beginning(said, DIALOGUE_TURN)}")
    return head + "\n".join(turns)[len(head) - characters :]


def beginning(text: str, characters: int) -> str:
    """A text in one line, cut with an ellipsis where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= characters else f"{line[: characters - 1].rstrip()}…"
