"""Examples that conversations propose and nobody has decided on: one JSON file each in `data/proposed/`.

Owns their form, the folder, what is left of one without words from outside, what looks like a secret in it, and the way
into the drop-box. Refuses to decide: `thau review` does, and nothing is trained on that a person has not accepted.

    proposal.py   what a proposal is
    folder.py     one file each, written durably, read leniently
    editing.py    another answer, another conversation
    outside.py    a proposal without the words of tools and pages
    suspects.py   what looks like a secret, and text with it masked
    accepting.py  out of the folder, into the drop-box
"""

from thaud.proposals.accepting import accept, drop, example_of
from thaud.proposals.editing import answered, editable, edited
from thaud.proposals.folder import Damaged, check_waits, count_waiting, find, keep, name_for, read_all, waiting_like
from thaud.proposals.outside import Lesson, Remains, remains_of, usual_lesson
from thaud.proposals.proposal import Kind, Origin, Proposal, Suspect, as_the_drop_box_reads, outside_of
from thaud.proposals.suspects import look_for_suspects, masked, masked_json, suspects_of

__all__ = [
    "Damaged",
    "Kind",
    "Lesson",
    "Origin",
    "Proposal",
    "Remains",
    "Suspect",
    "accept",
    "answered",
    "as_the_drop_box_reads",
    "check_waits",
    "count_waiting",
    "drop",
    "editable",
    "edited",
    "example_of",
    "find",
    "keep",
    "look_for_suspects",
    "masked",
    "masked_json",
    "name_for",
    "outside_of",
    "read_all",
    "remains_of",
    "suspects_of",
    "usual_lesson",
    "waiting_like",
]
