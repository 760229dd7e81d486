"""Making an Ollama server hold the versions that the ledger says it should. Idempotent: what is right is left alone.

A version is made under a candidate tag, asked for one token, and only then copied to its own name: the name exists when
the model has answered, whatever died on the way. What a model was made from is written into its licence text, because
newer servers rewrite the file and its digest says nothing any more; so nothing needs to be remembered on our side.

Owns the order of the exchanges; refuses to know when to run (the daemon) and what is accepted (the ledger).
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from thaud.domain import Version, canonical_json
from thaud.errors import ServerError, ThauError
from thaud.serving.ollama import OllamaServer, Progress, Recipe, Shown, full_name, has_native_templates
from thaud.serving.templates import go_template_of

CANDIDATE_TAG = "candidate"

Log = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A version as it is to be served. `version.gguf` must be a path that opens from here."""

    version: Version
    context_tokens: int
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Receipt:
    """A version that the server holds and that has answered. `served_sha256` is the file the server runs."""

    name: str
    gguf_sha256: str
    served_sha256: str | None
    capabilities: tuple[str, ...]
    server_version: str
    uploaded: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a reconciliation found and did, by names. `failed` and `alias_failure` say why."""

    receipts: tuple[Receipt, ...] = ()
    kept: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    alias: str | None = None
    alias_moved: bool = False
    alias_failure: str | None = None

    @property
    def complete(self) -> bool:
        """Whether the server now holds all that was wanted."""
        return not self.failed and self.alias_failure is None


def ignore_log(event: str, **fields: Any) -> None:
    """A log for those who want none."""


def recipe_for(wanted: Wanted, *, native: bool) -> Recipe:
    """How a version is made on a server. `native`: the server runs the template inside the GGUF, so none is sent."""
    version = wanted.version
    parameters: dict[str, Any] = {"num_ctx": wanted.context_tokens}
    if wanted.stop:
        parameters["stop"] = list(wanted.stop)
    template = None if native else _go_template(Path(version.gguf), version.gguf_sha256)
    bare = Recipe(version.name, Path(version.gguf), version.gguf_sha256, parameters, template)
    return replace(bare, license=provenance(bare))


@lru_cache(maxsize=64)
def _go_template(gguf: Path, _sha256: str) -> str:
    """Read once for each file: reconciling runs on a timer, and a vocabulary is long."""
    return go_template_of(gguf)


def provenance(recipe: Recipe) -> str:
    """The text that ties a model on the server to what it was made from."""
    content = {"parameters": recipe.parameters, "template": recipe.template, "system": recipe.system}
    settings = hashlib.sha256(canonical_json(content).encode()).hexdigest()[:16]
    return (
        f"{recipe.name}, trained by THAU on this machine. Its base model's licence applies.\n"
        f"THAU file {recipe.digest} settings {settings}"
    )


def register(
    server: OllamaServer,
    version: Version,
    context_tokens: int,
    stop: Sequence[str] = (),
    *,
    log: Log = ignore_log,
    progress: Progress | None = None,
) -> Receipt:
    """Bring one version to the server and have it answer. Raises ServerError; then the name is as it was before."""
    server_version = server.version()
    recipe = recipe_for(Wanted(version, context_tokens, tuple(stop)), native=has_native_templates(server_version))
    return _make(server, recipe, server_version, log, progress)


def _make(server: OllamaServer, recipe: Recipe, server_version: str, log: Log, progress: Progress | None) -> Receipt:
    candidate = replace(recipe, name=f"{recipe.name}:{CANDIDATE_TAG}")
    uploaded = server.push_blob(recipe.gguf, recipe.digest, progress)
    log("ollama_pushed", name=recipe.name, uploaded=uploaded)
    server.create(candidate)
    log("ollama_created", name=candidate.name)
    try:
        receipt = _prove(server, candidate, server_version)
        server.copy(candidate.name, recipe.name)
    except ServerError:
        with suppress(ServerError):  # The first failure is the one to tell.
            server.delete(candidate.name)
        raise
    server.delete(candidate.name)
    log("ollama_registered", name=recipe.name, served_sha256=receipt.served_sha256)
    return replace(receipt, name=recipe.name, uploaded=uploaded)


def _prove(server: OllamaServer, recipe: Recipe, server_version: str) -> Receipt:
    shown = server.show(recipe.name)
    if shown is None or not _stamped(shown, recipe):
        raise ServerError(f"Ollama at {server.url} said that it made {recipe.name}, but does not show it")
    if shown.capabilities and "completion" not in shown.capabilities:
        raise ServerError(f"Ollama at {server.url} takes {recipe.name} for a model that cannot talk")
    server.smoke(recipe.name, recipe.parameters["num_ctx"])
    capabilities = tuple(sorted(shown.capabilities))
    return Receipt(recipe.name, recipe.gguf_sha256, shown.gguf, capabilities, server_version, uploaded=False)


def point_alias(server: OllamaServer, family: str, version: Version) -> bool:
    """Let the family's name answer as `version`; True where it had to be moved. Raises ServerError."""
    tags = server.tags()
    wanted = tags.get(full_name(version.name))
    if wanted is not None and tags.get(full_name(family)) == wanted:
        return False
    server.copy(version.name, family)
    return True


def reconcile(server: OllamaServer, desired: Sequence[Wanted], alias: Version | None, log: Log = ignore_log) -> Outcome:
    """Make the server hold every desired version and let the alias (the version's family) answer as `alias`.

    One version's failure does not stop the others. Raises ServerError only where the server does not answer at all.
    Models that are not desired are left alone: they may be other people's.
    """
    server_version = server.version()
    native = has_native_templates(server_version)
    _sweep(server, desired, log)
    receipts, kept, failed = [], [], {}
    for wanted in desired:
        name = wanted.version.name
        try:
            recipe = recipe_for(wanted, native=native)
            if _holds(server, recipe):
                kept.append(name)
            else:
                receipts.append(_make(server, recipe, server_version, log, None))
        except ThauError as error:
            failed[name] = str(error)
            log("ollama_failed", name=name, reason=str(error))
    outcome = Outcome(tuple(receipts), tuple(kept), failed)
    return outcome if alias is None else _with_alias(server, alias, outcome, log)


def _holds(server: OllamaServer, recipe: Recipe) -> bool:
    shown = server.show(recipe.name)
    return shown is not None and _stamped(shown, recipe)


def _stamped(shown: Shown, recipe: Recipe) -> bool:
    """Whether a model carries this recipe's provenance."""
    return (recipe.license or "") in shown.license


def _sweep(server: OllamaServer, desired: Sequence[Wanted], log: Log) -> None:
    """Delete candidates that a crash left behind."""
    candidates = {f"{wanted.version.name}:{CANDIDATE_TAG}" for wanted in desired}
    for name in sorted(candidates & server.tags().keys()):
        server.delete(name)
        log("ollama_swept", name=name)


def _with_alias(server: OllamaServer, alias: Version, outcome: Outcome, log: Log) -> Outcome:
    """Move the alias where its version is there; otherwise it stays on what it answered as before."""
    if alias.name not in {*outcome.kept, *(receipt.name for receipt in outcome.receipts)}:
        return replace(outcome, alias_failure=f"{alias.name} is not on the server")
    try:
        moved = point_alias(server, alias.family, alias)
    except ServerError as error:
        return replace(outcome, alias_failure=str(error))
    if moved:
        log("ollama_alias_moved", alias=alias.family, version=alias.name)
    return replace(outcome, alias=alias.family, alias_moved=moved)
