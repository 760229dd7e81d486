"""The last look at an Ollama server, as the ledger remembers it: whether it answered, what it holds, what waits.

    state   in_step   all is there          behind   something failed: the names say what
            away      nobody answers        refused  it answers, and not as Ollama does
            off       serving.ollama_enabled is false, and somebody asked

Written by the registrar (or `thau sync` without a daemon), read by `thau sync` and `thau status`. Refuses to look.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from thaud.ledger import Ledger, LedgerReader

OLLAMA = "ollama"  # the ledger's meta key
ASKED_KEPT = 20


@dataclass(frozen=True, slots=True)
class Synced:
    """The last look at a server. `names`: (served, kept, failed, waiting or deleted; why) by version.

    `alias` answers as `version` where `alias_failure` is None. `asked`: the requests that this look answered. `at` is
    ISO 8601, UTC.
    """

    host: str
    state: str
    detail: str = ""
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    alias: str | None = None
    version: str | None = None
    alias_failure: str | None = None
    asked: tuple[str, ...] = ()
    at: str = ""

    @property
    def in_step(self) -> bool:
        """Whether the server holds all that it should."""
        return self.state == "in_step"

    @property
    def waiting(self) -> list[str]:
        """Versions that wait for the server."""
        return [name for name, (state, _) in self.names.items() if state == "waiting"]

    def same_as(self, other: "Synced | None") -> bool:
        """Whether nothing has changed but the time, and that what was made then is kept now."""
        return other is not None and self.settled() == other.settled()

    def settled(self) -> "Synced":
        """Without what is only of the moment."""
        names = {name: ("kept" if state == "served" else state, why) for name, (state, why) in self.names.items()}
        return replace(self, names=names, asked=(), at="")


def read_synced(ledger: LedgerReader) -> Synced | None:
    """The last look that the ledger knows of."""
    said = json.loads(ledger.meta(OLLAMA) or "null")
    return Synced(**{**said, "asked": tuple(said["asked"])}) if said else None


def put_down(ledger: Ledger, synced: Synced, asked: Sequence[str]) -> None:
    """Remember a look where it answers somebody or is news. Raises StorageError."""
    last = read_synced(ledger)
    if asked or not synced.same_as(last):
        answered = (*(last.asked if last else ()), *asked)[-ASKED_KEPT:]
        ledger.set_meta(OLLAMA, json.dumps(asdict(replace(synced, asked=answered, at=ledger.now()))))
