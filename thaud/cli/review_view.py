"""A proposal as a reviewer sees it, on a terminal and as JSON, with what looks like a secret masked. Pure."""

import difflib
import json
from collections.abc import Iterator
from typing import Any

from thaud.cli.review_words import ReviewWords
from thaud.domain import Message
from thaud.proposals import Proposal, Remains, Suspect, masked, masked_json

Line = tuple[str, str]
FOLDED_LINES = 12  # of a turn that is not of the last exchange, or that a tool wrote
EXCERPT_CHARS = 60
STYLES = {"system": "dim", "user": "bold", "assistant": "", "tool": "dim"}


def proposal_lines(proposal: Proposal, remains: Remains, words: ReviewWords) -> Iterator[Line]:
    """Where it comes from, the conversation, the difference, what is taught of it, and what to beware of."""
    origin = proposal.origin
    when = f"{proposal.at[:16].replace('T', ' ')} UTC"
    place = {"model": origin.model, "question": origin.question, "transcript": origin.transcript, "at": when}
    yield words.from_where.format(**place) if origin.transcript else f"{origin.model}, {when}", "dim"
    yield from conversation_lines(proposal, words)
    yield from difference_lines(proposal, words)
    yield from lesson_lines(proposal, remains, words)
    for each in proposal.suspects:
        yield suspect_line(each, words), "bold red"


def conversation_lines(proposal: Proposal, words: ReviewWords) -> Iterator[Line]:
    """Every turn; long ones of earlier exchanges and of tools are folded."""
    turns = proposal.example.messages
    asked = max((index for index, turn in enumerate(turns) if turn.role == "user"), default=0)
    if proposal.example.tools:
        names = ", ".join(str(tool["function"]["name"]) for tool in proposal.example.tools)
        yield words.tools_offered.format(names=names), "dim"
    for index, turn in enumerate(turns):
        lines = list(turn_lines(turn, words))
        folded = FOLDED_LINES if index < asked or turn.role == "tool" else len(lines)
        head = f"{index}. {words.roles[turn.role]}"
        if turn.role == "tool":
            head = f"{head} {turn.tool_name}"
        if index == len(turns) - 1 and turn.role == "assistant":
            head = f"{head} {words.learned}"
        yield head, "cyan"
        yield from ((f"   {line}", STYLES[turn.role]) for line in lines[:folded])
        if len(lines) > folded:
            yield f"   {words.more_lines.format(n=len(lines) - folded, id=proposal.id)}", "dim"


def turn_lines(turn: Message, words: ReviewWords) -> Iterator[str]:
    """What a turn says and calls."""
    if turn.content:
        yield from masked(turn.content).split("\n")
    for call in turn.tool_calls:
        arguments = json.dumps(masked_json(dict(call.arguments)), ensure_ascii=False)
        yield words.call.format(name=call.name, arguments=arguments)


def difference_lines(proposal: Proposal, words: ReviewWords) -> Iterator[Line]:
    """The rejected answer beside the good one, line by line; the rejected one alone where there is no good one."""
    if proposal.problem:
        yield words.problem.format(problem=masked(proposal.problem)), "yellow"
    if proposal.rejected is not None:
        bad = list(turn_lines(proposal.rejected, words))
        good = [] if proposal.needs_answer else list(turn_lines(proposal.example.messages[-1], words))
        yield words.difference, "bold"
        for line in difflib.ndiff(bad, good):
            if not line.startswith("?"):
                yield f"   {line}", {"-": "red", "+": "green"}.get(line[0], "dim")
    if proposal.needs_answer:
        yield words.no_answer, "yellow"


def lesson_lines(proposal: Proposal, remains: Remains, words: ReviewWords) -> Iterator[Line]:
    """What is from outside, and what is taught when it is accepted now."""
    if proposal.outside:
        turns = ", ".join(f"{turn} ({tool})" for turn, tool in sorted(proposal.outside.items()))
        yield words.outside.format(turns=turns), "yellow"
    if (proposal.outside or remains.exchanges_left_out) and not proposal.needs_answer:
        yield from remains_lines(remains, words)
    shown = remains.example or proposal.example
    answers = [turn for turn in shown.messages[:-1] if turn.role == "assistant"]
    if answers and not proposal.needs_answer:
        yield words.earlier_learned, "dim"


def remains_lines(remains: Remains, words: ReviewWords) -> Iterator[Line]:
    """What would be taught, in a sentence each."""
    if remains.example is None:
        yield words.nothing_left, "bold yellow"
        return
    yield words.lessons[remains.lesson], "bold"
    if remains.exchanges_left_out:
        yield words.exchanges_gone.format(n=remains.exchanges_left_out), "yellow"
    if remains.on_left_out:
        yield words.on_left_out, "bold yellow"


def suspect_line(suspect: Suspect, words: ReviewWords) -> str:
    """Kind and place, never what it is."""
    return words.suspect.format(kind=suspect.kind, place=suspect.place, line=suspect.line)


def list_line(proposal: Proposal, words: ReviewWords) -> Line:
    """One line of a list: identity, kind, question, and what is to be looked at."""
    asked = " ".join(masked(proposal.question).split())
    excerpt = asked if len(asked) <= EXCERPT_CHARS else f"{asked[: EXCERPT_CHARS - 1]}…"
    marks = [each.kind for each in proposal.suspects[:1]]
    marks += sorted({tool for tool in proposal.outside.values() if tool})
    marks += ["…?"] if proposal.needs_answer else []
    told = f"  [{', '.join(marks)}]" if marks else ""
    return f"{proposal.id}  {words.kinds[proposal.kind]}: {excerpt}{told}", "yellow" if proposal.suspects else ""


def report(proposal: Proposal, remains: Remains) -> dict[str, Any]:
    """A proposal for programs: its file's contents with secrets masked, and what would be taught of it."""
    shown: dict[str, Any] = masked_json(proposal.to_json())
    return {
        **shown,
        "id": proposal.id,
        "needs_answer": proposal.needs_answer,
        "remains": {
            "lesson": remains.lesson.value if remains.example is not None else None,
            "messages": masked_json(remains.example.content["messages"]) if remains.example is not None else [],
            "exchanges_left_out": remains.exchanges_left_out,
            "turns_left_out": remains.turns_left_out,
            "answer_stands_on_left_out": remains.on_left_out,
        },
    }
