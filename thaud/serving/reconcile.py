"""Making an Ollama server hold the versions that the ledger says it should. Idempotent: what is right is left alone.

What a model was made from, and by which home, is written into its licence text (provenance.py): another home's models
are never touched, and a model under our names without that text is drift, which is repaired. What the server was seen
to run when a version was proved comes back in `Wanted.served_sha256`, so that a file exchanged since is noticed.

Owns what is looked at and in which order; refuses to know when to run (the registrar), what is accepted (the ledger),
and how a version gets there (registering.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from thaud.domain import Version
from thaud.errors import ServerError, ThauError
from thaud.serving.ollama import OllamaServer, Recipe, Shown, full_name, has_native_templates
from thaud.serving.provenance import CANDIDATE_TAG, House
from thaud.serving.proving import NotProvedError, prove
from thaud.serving.registering import (
    NOBODY,
    Log,
    Receipt,
    Wanted,
    ignore_log,
    receipt_of,
    recipe_for,
    refuse_foreign,
    register,
    stamped,
)

__all__ = [
    "CANDIDATE_TAG",
    "House",
    "Outcome",
    "Receipt",
    "Wanted",
    "point_alias",
    "recipe_for",
    "reconcile",
    "register",
]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a reconciliation found and did, by the versions' own names. `failed` and the failures say why.

    `refused`: those that failed their proof, which this release of the server would refuse again.
    """

    receipts: tuple[Receipt, ...] = ()
    kept: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    server_version: str = ""
    deleted: tuple[str, ...] = ()
    alias: str | None = None
    alias_moved: bool = False
    alias_failure: str | None = None
    deletion_failure: str | None = None

    @property
    def complete(self) -> bool:
        """Whether the server now holds all that was wanted, and nothing that was given up."""
        return not self.failed and self.alias_failure is None and self.deletion_failure is None


def point_alias(server: OllamaServer, family: str, version: Version, house: House = NOBODY) -> bool:
    """Let the family's name answer as `version`; True where it had to be moved. Raises ServerError."""
    tags, name, alias = server.tags(), house.name(version.name), house.name(family)
    wanted = tags.get(full_name(name))
    if wanted is not None and tags.get(full_name(alias)) == wanted:
        return False
    refuse_foreign(server, alias, house)
    server.copy(name, alias)
    return True


def reconcile(
    server: OllamaServer,
    desired: Sequence[Wanted],
    alias: Version | None,
    log: Log = ignore_log,
    *,
    unwanted: Sequence[str] = (),
    house: House = NOBODY,
) -> Outcome:
    """Make the server hold every desired version, let the alias (the version's family) answer as `alias`, and delete
    what this home made of `unwanted` versions.

    One version's failure does not stop the others. Raises ServerError where the server does not answer, or stops to.
    Models that are neither are left alone: they may be other people's.
    """
    server_version = server.version()
    _sweep(server, [*(each.version.name for each in desired), *unwanted], house, log)
    receipts, kept, failed, refused = [], [], {}, []
    for wanted in desired:
        name = wanted.version.name
        try:
            if (receipt := bring(server, wanted, server_version, house, log)) is None:
                kept.append(name)
            else:
                receipts.append(receipt)
        except ThauError as error:
            server.version()  # A server that has gone says nothing about its versions.
            failed[name] = str(error)
            if isinstance(error, NotProvedError):
                refused.append(name)
            log("ollama_failed", name=name, reason=str(error))
    outcome = Outcome(tuple(receipts), tuple(kept), failed, tuple(refused), server_version)
    if alias is not None:
        outcome = _with_alias(server, alias, outcome, house, log)
    try:
        deleted = _delete(server, unwanted, house, log)
    except ServerError as error:
        log("ollama_not_deleted", reason=str(error))
        return replace(outcome, deletion_failure=str(error))
    return replace(outcome, deleted=tuple(deleted))


def bring(server: OllamaServer, wanted: Wanted, server_version: str, house: House, log: Log) -> Receipt | None:
    """See to one version; None where it stood there as it should. Raises ServerError or StorageError."""
    native = has_native_templates(server_version)
    recipe, version = recipe_for(wanted, native=native, house=house), wanted.version
    shown = refuse_foreign(server, recipe.name, house)
    if shown is not None and (drift := drift_of(shown, recipe, wanted)) is None:
        if not wanted.unproved:
            return None
        try:
            proof = prove(server, recipe, shown, wanted.context_tokens, wanted.promised, native=native)
        except ServerError as error:
            drift = str(error)
        else:
            return receipt_of(recipe, version, proof, server_version, uploaded=False)
    if wanted.refusal is not None and wanted.refusal[0] == server_version:
        raise NotProvedError(wanted.refusal[1])
    log("ollama_making", name=recipe.name, why=drift if shown is not None else "it is not there")
    return register(server, version, wanted.context_tokens, wanted.stop, promised=wanted.promised, house=house, log=log)


def drift_of(shown: Shown, recipe: Recipe, wanted: Wanted) -> str | None:
    """Why a model is not the one that was proved; None where it is."""
    if not stamped(shown, recipe):
        return "it is made of something else, or with other settings"
    if wanted.served_sha256 not in {None, shown.gguf}:
        return f"it runs the file {shown.gguf} instead of {wanted.served_sha256}"
    if recipe.adapter_sha256 not in {None, shown.adapter}:
        return f"it applies the adapter {shown.adapter} instead of {recipe.adapter_sha256}"
    return None


def _sweep(server: OllamaServer, names: Sequence[str], house: House, log: Log) -> None:
    """Delete candidates that a crash left behind; another home's are not ours."""
    ours = {full_name(candidate) for name in names for candidate in house.candidates(name)}
    for name in sorted(ours & server.tags().keys()):
        shown = server.show(name)
        if shown is None or house.owner_of(shown.license) is None:
            server.delete(name)
            log("ollama_swept", name=name)


def _delete(server: OllamaServer, unwanted: Sequence[str], house: House, log: Log) -> list[str]:
    """Delete the versions that are given up and that this home made."""
    tags = server.tags() if unwanted else {}
    gone = []
    for bare in unwanted:
        name = house.name(bare)
        shown = server.show(name) if full_name(name) in tags else None
        if shown is not None and house.made(shown.license) and server.delete(name):
            gone.append(bare)
            log("ollama_deleted", name=name)
    return gone


def _with_alias(server: OllamaServer, alias: Version, outcome: Outcome, house: House, log: Log) -> Outcome:
    """Move the alias where its version is there; otherwise it stays on what it answered as before."""
    if alias.name not in {*outcome.kept, *(receipt.model for receipt in outcome.receipts)}:
        return replace(outcome, alias_failure=f"{alias.name} is not on the server")
    try:
        moved = point_alias(server, alias.family, alias, house)
    except ServerError as error:
        server.version()
        return replace(outcome, alias_failure=str(error))
    if moved:
        log("ollama_alias_moved", alias=house.name(alias.family), version=alias.name)
    return replace(outcome, alias=alias.family, alias_moved=moved)
