"""The review on a terminal: one proposal after another, a key for each decision.

Owns the conversation with the reviewer. An edit that is no example is told, and may be edited again; what is left
undecided waits.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from agent.outer_editor import edit
from thaud.cli.deciding import Wish, carry_out, prepare
from thaud.cli.door import Door
from thaud.cli.feed import say_when
from thaud.cli.review import say_decided, say_whole
from thaud.cli.review_view import remains_lines, suspect_line
from thaud.cli.review_words import Key, ReviewWords
from thaud.domain import Example
from thaud.errors import RejectedInputError, ThauError
from thaud.proposals import (
    Lesson,
    Proposal,
    answered,
    check_waits,
    editable,
    edited,
    keep,
    masked,
    remains_of,
    suspects_of,
    usual_lesson,
)

PROMPT = "> "


@dataclass
class Reviewing:
    """A review. `read` asks for a line, and raises EOFError or KeyboardInterrupt where there is no more; `change` gives
    a text to a person and returns it changed, None where it is as it was.
    """

    door: Door
    words: ReviewWords
    proposals: list[Proposal]
    read: Callable[[str], str] = input
    change: Callable[[str], str | None] = edit
    _counted: dict[Key, int] = field(default_factory=dict)

    def run(self) -> None:
        """All of them, until there are no more or the reviewer has had enough."""
        if not self.proposals:
            self.door.say(self.words.nothing_waits)
            return
        for number, proposal in enumerate(self.proposals, 1):
            if not self._one(proposal, number):
                break
        accepted, dropped = (self._counted.get(key, 0) for key in (Key.ACCEPT, Key.DROP))
        left = len(self.proposals) - accepted - dropped
        self.door.say(self.words.done.format(accepted=accepted, dropped=dropped, left=left), "bold")
        if accepted:
            say_when(self.door)

    def _one(self, proposal: Proposal, number: int) -> bool:
        """One proposal until it is decided on or skipped; False to end."""
        now, lesson, shown = proposal, usual_lesson(proposal), False
        try:
            check_waits(self.door.home.proposed, proposal)
        except ThauError as error:
            self.door.say(str(error), "yellow")
            return True
        while True:
            if not shown:
                say_whole(self.door, self.words, now, number, len(self.proposals), lesson)
            shown = True
            match self._key():
                case Key.QUIT:
                    return False
                case Key.SKIP:
                    self.door.say(self.words.skipped.format(id=now.id), "dim")
                    return True
                case Key.OTHER_LESSON:
                    lesson = self._other(now, lesson)
                case Key.EDIT | Key.EDIT_ALL as key:
                    now, shown = self._edited(now, whole=key is Key.EDIT_ALL)
                    lesson = lesson if shown else usual_lesson(now)
                case Key.ACCEPT | Key.KEEP_OUTSIDE | Key.DROP as key:
                    if self._decided(now, key, lesson):
                        return True

    def _key(self) -> Key:
        """The reviewer's next wish; the end of input is the end."""
        self.door.say(self.words.question, "bold")
        while True:
            try:
                typed = self.read(PROMPT).strip().lower()
            except (EOFError, KeyboardInterrupt):
                self.door.say("")
                return Key.QUIT
            if key := self.words.keys.get(typed):
                return key
            self.door.say(self.words.unknown_key.format(keys=", ".join(self.words.keys)), "yellow")

    def _agrees(self, question: str) -> bool:
        return self._answered(question) in self.words.yes

    def _answered(self, question: str) -> str:
        """What is said to a question in small letters; no, where nothing is."""
        try:
            return self.read(question).strip().lower()
        except (EOFError, KeyboardInterrupt):
            self.door.say("")
            return "n"

    def _other(self, proposal: Proposal, lesson: Lesson) -> Lesson:
        """The next of the lessons without words from outside."""
        if not proposal.outside:
            self.door.say(self.words.one_lesson, "yellow")
            return lesson
        other = Lesson.CALLS if lesson is Lesson.ANSWER else Lesson.ANSWER
        for line, style in remains_lines(remains_of(proposal, other), self.words):
            self.door.say(line, style)
        return other

    def _decided(self, proposal: Proposal, key: Key, lesson: Lesson) -> bool:
        """Accept or drop; False where it may not be, or the reviewer thinks better of it."""
        if key is Key.DROP:
            if not self._agrees(self.words.drop_doubt):
                return False
            wish = Wish(dropped=True)
        else:
            wish = Wish(Lesson.WHOLE if key is Key.KEEP_OUTSIDE else lesson, accepted=True, with_secrets=True)
        try:
            ready = prepare(proposal, wish, self.door.settings.queue.max_line_bytes)
            if ready.example is not None and not self._risks(ready.example):
                return False
            check_waits(self.door.home.proposed, proposal)
            decided = carry_out(self.door.home, ready, wish)
        except ThauError as error:
            self.door.say(self.words.refused.format(reason=masked(str(error))), "red")
            return False
        say_decided(self.door, self.words, decided)
        counted = Key.DROP if decided.dropped else Key.ACCEPT
        self._counted[counted] = self._counted.get(counted, 0) + 1
        return True

    def _risks(self, example: Example) -> bool:
        """Whether there is no suspect in what would be taught, or the reviewer accepts it twice."""
        suspects = suspects_of(example)
        for each in suspects:
            self.door.say(suspect_line(each, self.words), "bold red")
        return not suspects or self._agrees(self.words.doubt)

    def _edited(self, proposal: Proposal, *, whole: bool) -> tuple[Proposal, bool]:
        """The proposal after an edit, kept; and whether what is shown is still so."""
        last = proposal.example.messages[-1]
        whole = whole or bool(last.tool_calls)
        text = editable(proposal) if whole else "" if proposal.needs_answer else last.content
        try:
            while (changed := self.change(text)) is not None:
                try:
                    after = edited(proposal, changed) if whole else answered(proposal, changed)
                except RejectedInputError as error:
                    self.door.say(self.words.refused.format(reason=masked(str(error))), "red")
                    text = changed
                    if not self._again():
                        return proposal, True
                else:
                    check_waits(self.door.home.proposed, proposal)
                    keep(self.door.home.proposed, after)
                    self.door.say(self.words.kept_edit, "green")
                    return after, False
        except KeyboardInterrupt:  # meant for the editor: it ends that alone
            self.door.say(self.words.not_edited, "dim")
        except ThauError as error:
            self.door.say(self.words.refused.format(reason=masked(str(error))), "red")
        else:
            self.door.say(self.words.not_edited, "dim")
        return proposal, True

    def _again(self) -> bool:
        """Whether to edit again: yes where nothing is said against it."""
        return self._answered(self.words.edit_again) not in {"n", "no"}
