"""Which versions may be talked to, and how one is opened. Owns the choice; refuses to talk (talk.py)."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from thaud.cli.door import Door
from thaud.curriculum import stage_at, stages_with
from thaud.domain import Version
from thaud.errors import NoVersionError, UsageError
from thaud.lifecycle import numbers, pruned_words
from thaud.serving.runtime import Runtime

if TYPE_CHECKING:
    from agent.conversation import Choice, Shelf


def choose_version(door: Door, n: int | None) -> Version:
    """The champion, or version N. Raises NoVersionError or UsageError."""
    family = door.settings.family
    with door.ledger() as ledger:
        found, champion = ledger.versions(family), ledger.champion(family)
    chosen = champion if n is None else next((each for each in found if each.n == n), None)
    kept = [each for each in found if each.pruned_at is None]
    if chosen is not None and chosen.pruned_at is not None:
        raise UsageError(f"{pruned_words(chosen)}: choose one of {numbers(kept)}")
    if chosen is not None:
        return chosen
    if n is None or not found:
        raise NoVersionError(f"there is no version of {family} yet: add examples and let `thau start` train one")
    raise UsageError(f"there is no {family}-v{n}: choose one of {numbers(kept)}")


def open_version(door: Door, version: Version) -> Runtime:
    """A version, loaded here or served by the Ollama server that has it."""
    from thaud.serving.door import open_runtime  # noqa: PLC0415 - loads llama.cpp

    settings = door.settings
    stage = stage_at(stages_with(settings.stages), version.age)
    serving, threads = settings.serving, settings.training.threads
    where = serving.backend, serving.ollama_host
    return open_runtime(*where, version, stage.context_tokens, threads, namespace=serving.namespace)


@contextmanager
def served(door: Door, version: Version) -> Iterator[Runtime]:
    """A version as long as the block runs."""
    runtime = open_version(door, version)
    with runtime if isinstance(runtime, AbstractContextManager) else nullcontext():
        yield runtime


def make_shelf(door: Door, first: Version) -> "Shelf":
    """The versions of this home's size that have files. `first` is opened first."""
    from agent.conversation import Shelf  # noqa: PLC0415 - the tools and the line editor

    def open_numbered(n: int | None) -> Runtime:
        return open_version(door, first if n is None else choose_version(door, n))

    return Shelf(first.name, lambda: list(choices(door)), open_numbered)


def choices(door: Door) -> "Iterator[Choice]":
    """Each version that has files, the newest first."""
    from agent.conversation import Choice  # noqa: PLC0415 - see make_shelf

    words, family = door.words, door.settings.family
    with door.ledger() as ledger:
        found, champion = ledger.versions(family), ledger.champion(family)
    for version in reversed(found):
        if version.pruned_at is None:
            stage = f"{words.age.lower()} {version.age}"
            answers = " *" if champion is not None and champion.n == version.n else ""
            yield Choice(version.n, version.name, f"{stage}{answers}", version.age)
