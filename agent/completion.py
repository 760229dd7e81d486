"""What could be typed next: slash commands, their arguments, and files behind an @. Owns the candidates as values.

Refuses to know the line editor (keyboard.py puts them there) and to list files outside of what it is given.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.commands import COMMANDS, Language, find

MOST_FILES = 200


@dataclass(frozen=True, slots=True)
class Candidate:
    """A word that could stand in the place of the last `replaces` characters. `meaning` is shown beside it."""

    text: str
    replaces: int
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class Guesser:
    """Guesses from the text before the cursor. `workspace`: where an @ begins. `versions`: their numbers and names."""

    language: Language
    workspace: Path
    versions: Callable[[], Sequence[tuple[int, str]]]

    def guess(self, before: str) -> Iterator[Candidate]:
        """The candidates, best first; none for plain words."""
        if before.startswith("/") and "\n" not in before:
            word, space, rest = before.partition(" ")
            yield from self._arguments(word, rest) if space else self._names(word)
        elif (mention := mentioned(before)) is not None:
            for candidate in files(self.workspace, mention):
                yield Candidate(f"@{candidate.text}", candidate.replaces + 1, candidate.meaning)

    def _names(self, word: str) -> Iterator[Candidate]:
        """Names of the person's language; of the other one where it alone has what was typed."""
        typed = word.lower()
        mine = [command.described(self.language) for command in COMMANDS]
        others = [command.described("en" if self.language == "es" else "es") for command in COMMANDS]
        for described in (mine, others):
            found = [(name, each.purpose) for each in described for name in each.names if name.startswith(typed)]
            if found:
                yield from (Candidate(name, len(word), purpose) for name, purpose in found)
                return

    def _arguments(self, word: str, rest: str) -> Iterator[Candidate]:
        command = find(word)
        if command is None:
            return
        if command.follows == "switch":
            yield from (Candidate(each, len(rest)) for each in ("on", "off") if each.startswith(rest))
        elif command.follows == "version":
            for n, name in self.versions():
                if str(n).startswith(rest):
                    yield Candidate(str(n), len(rest), name)
        elif command.follows == "file":
            yield from files(Path.cwd(), rest)


def mentioned(before: str) -> str | None:
    """What follows the last @ that begins a word, where the cursor is still in it."""
    words = before.split()
    if not words or before[-1].isspace() or not words[-1].startswith("@"):
        return None
    return words[-1][1:]


def files(folder: Path, typed: str) -> Iterator[Candidate]:
    """Files and folders whose path from `folder` begins with what was typed; hidden ones where a dot was typed."""
    begun, _, name = typed.rpartition("/")
    start = Path(typed).anchor or "."
    try:
        place = (folder / (begun or start) if not typed.startswith("~") else Path(typed).expanduser().parent).absolute()
        with os.scandir(place) as entries:
            found = sorted((entry.name, is_folder(entry)) for entry in entries if entry.name.startswith(name))
    except (OSError, ValueError, RuntimeError):  # not there; a NUL; an unknown user
        return
    shown = [(each, folded) for each, folded in found if each.isprintable() and (name or not each.startswith("."))]
    for each, folded in shown[:MOST_FILES]:
        yield Candidate(f"{each}/" if folded else each, len(name))


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, without an error where it is gone meanwhile."""
    try:
        return entry.is_dir()
    except OSError:
        return False
