"""`thau review` killed: a proposal is whole, and what was accepted is an example once, however often it is tried.

Refuses to judge the ledger: that is the oracle's, which is told what was accepted.
"""

from dataclasses import replace

from tests.crash.arena import Arena, ViolationError
from thaud.domain import Example, Message
from thaud.formats import example_to_line
from thaud.proposals import Kind, Origin, Proposal, keep, name_for, read_all

AT = "2026-03-01T12:30:00+00:00"


def propose(arena: Arena) -> Proposal:
    """A bad answer that waits for a good one, as a chat leaves it."""
    arena.writer.count += 1
    asked = Example((Message("user", f"¿Revisas {arena.writer.count}?"),))
    origin = Origin("thau-nano-v1", "chat.jsonl", arena.writer.count)
    proposal = Proposal("", AT, Kind.BAD, asked, origin, Message("assistant", "mal"))
    proposal = replace(proposal, id=name_for(AT, proposal))
    keep(arena.home.proposed, proposal)
    return proposal


def review(arena: Arena, armed: str) -> int:
    """Answer and accept a proposal with a point armed, and again without until it is gone; the first exit status."""
    proposal = propose(arena)
    arguments = "review", proposal.id, "--answer", "bien", "--accept"
    status = arena.command(*arguments, points=armed)
    said = arena.said
    waiting, damaged = read_all(arena.home.proposed)
    if damaged:
        raise ViolationError(f"after {armed} {damaged[0].name} is damaged: {damaged[0].reason}")
    still = proposal.id in {each.id for each in waiting}
    if not still and not armed.startswith("remove.proposal.after"):
        raise ViolationError(f"after {armed} the proposal is gone, and was not removed")
    if still and arena.command(*arguments) != 0:
        raise ViolationError(f"after {armed} the review was refused: {arena.said}")
    if read_all(arena.home.proposed)[0]:
        raise ViolationError(f"after {armed} an accepted proposal waits on")
    good = replace(proposal.example, messages=(*proposal.example.messages, Message("assistant", "bien")))
    arena.writer.finish([example_to_line(good)])
    arena.said = said
    return status
