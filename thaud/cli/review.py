"""`thau review`: what conversations proposed is shown, edited, accepted into the drop-box or dropped.

On a terminal one after another; with options, and where there is no terminal, by identity. Owns the command and its
scripted form: everything that was asked for is checked first, and done only if all of it may be.
"""

import sys
from typing import Annotated

import typer

from thaud.cli.deciding import Decided, Wish, carry_out, prepare, wish_of
from thaud.cli.door import Door, Json, door_of
from thaud.cli.feed import say_when
from thaud.cli.review_view import list_line, proposal_lines, report
from thaud.cli.review_words import REVIEW, ReviewWords
from thaud.config import preferred_language
from thaud.errors import UsageError
from thaud.proposals import Damaged, Lesson, Proposal, find, read_all, remains_of


def review(  # noqa: PLR0913 - each is an option that people type
    ctx: typer.Context,
    named: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Which ones; the end of an identity will do.")
    ] = None,
    answer: Annotated[str | None, typer.Option(help="The good answer, in place of the one it has or lacks.")] = None,
    lesson: Annotated[
        Lesson | None, typer.Option(help="What to teach: all of it, the first call, or the answer without calls.")
    ] = None,
    *,
    listed: Annotated[bool, typer.Option("--list", help="List what waits.")] = False,
    accepted: Annotated[bool, typer.Option("--accept", help="Put it into the drop-box.")] = False,
    keep_outside: Annotated[
        bool, typer.Option("--keep-outside", help="Teach the words of tools and pages too; else they are left out.")
    ] = False,
    with_secrets: Annotated[
        bool, typer.Option("--with-secrets", help="Accept it although something in it looks like a secret.")
    ] = False,
    dropped: Annotated[bool, typer.Option("--drop", help="Remove it.")] = False,
    as_json: Json = False,
) -> None:
    """Review what conversations proposed: nothing is trained on that was not accepted here."""
    door = door_of(ctx)
    words = REVIEW[preferred_language(door.settings.language)]
    wish = wish_of(lesson, answer, accepted=accepted, keep_outside=keep_outside, secrets=with_secrets, dropped=dropped)
    refuse_contradiction(named or [], wish, listed=listed)
    found = [find(door.home.proposed, each) for each in dict.fromkeys(named or ())]
    if wish.decides:
        decide(door, words, found, wish, as_json=as_json)
        return
    proposals, damaged = read_all(door.home.proposed)
    chosen = found or proposals
    if as_json:
        door.hand_out(
            {
                "proposals": [report(each, remains_of(each, wish.lesson_of(each))) for each in chosen],
                "damaged": [{"file": each.name, "reason": each.reason} for each in damaged],
            }
        )
    elif listed or not (sys.stdin.isatty() and sys.stdout.isatty()):
        show(door, words, chosen, damaged, wish=wish if found else None)
    else:
        from thaud.cli.reviewing import Reviewing  # noqa: PLC0415 - asks the editor of the chat

        say_damaged(door, words, damaged)
        Reviewing(door, words, chosen).run()


def refuse_contradiction(named: list[str], wish: Wish, *, listed: bool) -> None:
    """Raise UsageError for options that ask for two things at once, or for a decision about nothing."""
    if wish.decides and not named:
        raise UsageError("name the proposals to decide on: `thau review --list` shows them")
    if wish.dropped and (wish.accepted or wish.answer is not None):
        raise UsageError("either --accept or --drop: choose one")
    if wish.decides and listed:
        raise UsageError("--list decides nothing: leave it out")
    if wish.answer is not None and len(named) > 1:
        raise UsageError("--answer is the answer of one proposal: name one")


def decide(door: Door, words: ReviewWords, found: list[Proposal], wish: Wish, *, as_json: bool) -> None:
    """Check everything, then do it. Raises RejectedInputError or UsageError before anything is done."""
    ready = [prepare(each, wish, door.settings.queue.max_line_bytes) for each in found]
    done: list[Decided] = []
    for each in ready:
        done.append(carry_out(door.home, each, wish))
        if not as_json:
            say_decided(door, words, done[-1])
    if as_json:
        door.hand_out([each.to_json() for each in done])
    elif wish.accepted:
        say_when(door)


def say_decided(door: Door, words: ReviewWords, decided: Decided) -> None:
    """What became of one."""
    if decided.file is not None:
        door.say(words.accepted.format(file=decided.file))
    else:
        door.say(words.dropped.format(id=decided.id) if decided.dropped else words.kept_edit)


def show(door: Door, words: ReviewWords, found: list[Proposal], damaged: list[Damaged], *, wish: Wish | None) -> None:
    """A list; or, in full and as a wish would have them, those that were named."""
    for number, each in enumerate(found, 1):
        if wish is not None:
            say_whole(door, words, each, number, len(found), wish.lesson_of(each))
        else:
            door.say(*list_line(each, words))
    if not found and not damaged:
        door.say(words.nothing_waits)
    say_damaged(door, words, damaged)


def say_whole(door: Door, words: ReviewWords, each: Proposal, number: int, of: int, lesson: Lesson) -> None:
    """One proposal in full."""
    heading = words.heading.format(number=number, of=of, id=each.id, kind=words.kinds[each.kind])
    door.say(heading, "bold")
    for line, style in proposal_lines(each, remains_of(each, lesson), words):
        door.say(line, style)


def say_damaged(door: Door, words: ReviewWords, damaged: list[Damaged]) -> None:
    """Files that are none."""
    for each in damaged:
        door.say(words.damaged.format(name=each.name, reason=each.reason, folder=door.home.proposed), "yellow")
