"""A proposal after a person's hand: another answer, or another conversation. What is from outside and what looks like a
secret is looked for again. Pure; refuses what the drop-box would not take.
"""

import json
from dataclasses import replace

from thaud.domain import Message
from thaud.errors import RejectedInputError
from thaud.proposals.proposal import Proposal, as_the_drop_box_reads, outside_of, read_conversation
from thaud.proposals.suspects import look_for_suspects


def answered(proposal: Proposal, answer: str) -> Proposal:
    """With this good answer. Raises RejectedInputError where it is none."""
    written = proposal.with_answer(Message("assistant", answer.strip()))
    example = as_the_drop_box_reads(written.example)
    return looked_at(replace(written, example=example))


def edited(proposal: Proposal, text: str) -> Proposal:
    """With this conversation, JSON of an example's messages and tools; it may still lack its answer.

    Raises RejectedInputError with the reason.
    """
    try:
        row = json.loads(text)
        if not isinstance(row, dict):
            raise RejectedInputError("this is no example: use one JSON object with messages")
        example = read_conversation(row)
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise RejectedInputError(f"this is no example: {error}") from error
    metadata = {**proposal.example.metadata, **example.metadata}
    changed = replace(proposal, example=replace(example, metadata=metadata))
    return looked_at(rejecting(proposal, changed))


def rejecting(before: Proposal, after: Proposal) -> Proposal:
    """An answer that was replaced is the bad side of the pair, where there was none."""
    if before.needs_answer or after.needs_answer or before.rejected is not None:
        return after
    was = before.example.messages[-1]
    return after if after.example.messages[-1] == was else replace(after, rejected=was)


def editable(proposal: Proposal) -> str:
    """What `edited` reads back."""
    return json.dumps(proposal.example.content, ensure_ascii=False, indent=2)


def looked_at(proposal: Proposal) -> Proposal:
    """With the turns from outside and the suspects that it has now."""
    seen = replace(proposal, outside=outside_of(proposal.example))
    return replace(seen, suspects=look_for_suspects(seen))
