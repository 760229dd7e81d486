"""A fault that is put into a copy of the sources, to see whether the harness finds it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """A fault in one file, and the cycles that must find it."""

    name: str
    path: str
    old: str
    new: str
    points: str
    by: str  # what the oracle says of it
    cycles: int = 0
    errors: bool = False
