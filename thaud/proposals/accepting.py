"""A person has decided: the example goes into the drop-box and the proposal away, or only away.

First the one, durably, then the other: a crash between them leaves both, and what is accepted again is one example, by
its content. Owns what an accepted example carries of where it came from.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from thaud.domain import Example
from thaud.dropbox import write_examples
from thaud.errors import RejectedInputError
from thaud.formats import example_to_line
from thaud.home import Home
from thaud.proposals.folder import withdraw
from thaud.proposals.outside import Remains
from thaud.proposals.proposal import Proposal, as_the_drop_box_reads

STEM = "reviewed"


def example_of(proposal: Proposal, remains: Remains, max_bytes: int) -> Example:
    """The example as it would be taught, with its provenance. The rejected answer is in its metadata, beside what it
    was compared with alone. Raises RejectedInputError where the drop-box would not take it.
    """
    if proposal.needs_answer:
        raise RejectedInputError(f"{proposal.id} has no good answer yet: write one, with `--answer` or by editing it")
    if remains.example is None:
        raise RejectedInputError(
            f"without words from outside nothing is left of {proposal.id}: keep them (--keep-outside),"
            " choose another --lesson, or drop it"
        )
    example = as_the_drop_box_reads(with_provenance(remains.example, proposal, remains))
    size = len(example_to_line(example).encode())
    if size > max_bytes:
        raise RejectedInputError(f"{proposal.id} is a line of {size} bytes, over the limit of {max_bytes}: shorten it")
    return example


def with_provenance(example: Example, proposal: Proposal, remains: Remains) -> Example:
    """The example with what is to be found again later; none of it is learned."""
    provenance: dict[str, Any] = {
        "source": "review",
        "proposal": proposal.id,
        "kind": proposal.kind.value,
        "model": proposal.origin.model,
        "transcript": proposal.origin.transcript,
        "question": proposal.origin.question,
        "proposed_at": proposal.at,
        "lesson": remains.lesson.value,
    }
    if proposal.rejected is not None and remains.answers_the_same:
        provenance["rejected"] = proposal.rejected.to_json()
    return replace(example, metadata={**example.metadata, **provenance})


def accept(home: Home, proposal: Proposal, example: Example) -> Path:
    """Put the example into the drop-box and remove its proposal; the new file. Raises StorageError."""
    path = write_examples(home.queue, [example_to_line(example)], STEM)
    withdraw(home.proposed, proposal)
    return path


def drop(folder: Path, proposal: Proposal) -> None:
    """Remove a proposal. Raises StorageError."""
    withdraw(folder, proposal)
