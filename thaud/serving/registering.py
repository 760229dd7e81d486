"""Bringing one version to an Ollama server: upload, candidate, proof, name; each step safe to die in.

A version is made under a candidate name, proved there (proving.py), and only then copied to its own name: the name
exists when the model has shown what it is, whatever died on the way. Whatever fails leaves the name as it was. Owns the
order of these exchanges; refuses to know which versions a server should hold (reconcile.py).
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from thaud.domain import Version
from thaud.errors import ServerError, StorageError, ThauError
from thaud.serving.gguf_header import ends_of_turn, read_header
from thaud.serving.ollama import OllamaServer, Progress, Recipe, Shown, has_native_templates
from thaud.serving.ollama_errors import REFUSED
from thaud.serving.provenance import House, stamp
from thaud.serving.proving import Proof, prove, runs_go
from thaud.serving.templates import go_template_of

COMPLETION = frozenset({"completion"})
TOLD_EVERY_S = 1.0
MAKING_TAKES = 3  # times a file's size: the upload, what the server makes of it, and what it replaces
NO_SPACE = re.compile(r"no space left|not enough (disk )?space|disk (is )?full|quota exceeded", re.IGNORECASE)
NOBODY = House()

Log = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A version as it is to be served. Its paths must open from here.

    `stop`: what ends an answer, None for the tokens with which the file itself says that a turn ends.
    `promised`: the capabilities of its certificate. `served_sha256`: the file that the server ran when the version was
    proved there, None where nobody saw. `unproved`: nothing is known of a proof, so that standing there is not enough.
    `refusal`: the release of the server that would not be proved, and why: it is not sent there again.
    """

    version: Version
    context_tokens: int
    stop: tuple[str, ...] | None = None
    promised: frozenset[str] = COMPLETION
    served_sha256: str | None = None
    unproved: bool = False
    refusal: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """A version that the server holds and that was proved. `name` is the server's, `model` the version's own.

    `served_sha256` is the file that the server runs (of an adapter: the base under it).
    """

    name: str
    model: str
    gguf_sha256: str
    served_sha256: str | None
    capabilities: tuple[str, ...]
    server_version: str
    uploaded: bool
    renders: Mapping[str, Any] = field(default_factory=dict)
    tools: Mapping[str, Any] | None = None

    def report(self, now: datetime | None = None) -> dict[str, Any]:
        """What is remembered of it in the ledger (registrations.report)."""
        checked_at = (now or datetime.now(UTC)).isoformat(timespec="seconds")
        return {
            "name": self.name,
            "server_version": self.server_version,
            "gguf_sha256": self.gguf_sha256,
            "served_sha256": self.served_sha256,
            "capabilities": list(self.capabilities),
            "renders": dict(self.renders),
            "tools": None if self.tools is None else dict(self.tools),
            "uploaded": self.uploaded,
            "checked_at": checked_at,
        }


def ignore_log(event: str, **fields: Any) -> None:
    """A log for those who want none."""


def recipe_for(wanted: Wanted, *, native: bool, house: House = NOBODY) -> Recipe:
    """How a version is made on a server. `native`: the server runs the template inside the GGUF, so none is sent."""
    version = wanted.version
    gguf, sha256, adapter = Path(version.gguf), version.gguf_sha256, None
    if version.kind == "adapter":
        if version.base_gguf is None or version.base_sha256 is None:
            raise StorageError(f"the ledger does not say which base {version.name} is an adapter of: see `thau doctor`")
        gguf, sha256, adapter = Path(version.base_gguf), version.base_sha256, Path(version.gguf)
    stop = _ends_of(gguf, sha256) if wanted.stop is None else wanted.stop
    parameters = {"num_ctx": wanted.context_tokens} | ({"stop": list(stop)} if stop else {})
    template = None if native else _go_template(gguf, sha256)
    bare = Recipe(house.name(version.name), gguf, sha256, parameters, template)
    own = version.gguf_sha256 if adapter else None
    text = stamp(version.name, f"sha256:{version.gguf_sha256}", settings_of(bare, own), house)
    return replace(bare, license=text, adapter=adapter, adapter_sha256=own)


@lru_cache(maxsize=64)
def _go_template(gguf: Path, _sha256: str) -> str:
    """Read once for each file: reconciling runs on a timer, and a vocabulary is long."""
    return go_template_of(gguf)


@lru_cache(maxsize=64)
def _ends_of(gguf: Path, _sha256: str) -> tuple[str, ...]:
    try:
        return ends_of_turn(read_header(gguf, keep_arrays=True))
    except OSError as error:
        raise StorageError(f"cannot read {gguf}: {error.strerror}") from error


def settings_of(recipe: Recipe, adapter_sha256: str | None) -> dict[str, Any]:
    """All that a model is made of besides the version's own file."""
    settings = {"parameters": recipe.parameters, "template": recipe.template, "system": recipe.system}
    return settings | ({"base": recipe.gguf_sha256} if adapter_sha256 else {})


def register(
    server: OllamaServer,
    version: Version,
    context_tokens: int,
    stop: Sequence[str] | None = None,
    *,
    promised: frozenset[str] = COMPLETION,
    house: House = NOBODY,
    log: Log = ignore_log,
) -> Receipt:
    """Bring one version to the server, prove it there and give it its name. Whoever had the name loses it.

    Raises ServerError; then the name is as it was before, and no candidate is left where the server still answers.
    """
    server_version = server.version()
    native = has_native_templates(server_version)
    recipe = recipe_for(
        Wanted(version, context_tokens, None if stop is None else tuple(stop)), native=native, house=house
    )
    refuse_foreign(server, recipe.name, house)
    candidate = replace(recipe, name=house.candidate(version.name))
    uploaded = upload(server, recipe, version, log)
    try:
        create(server, candidate, version, log)
        shown = seen(server, candidate)
        if native and (template := instead_of(shown, recipe)):
            create(server, replace(candidate, template=template), version, log)
            shown = seen(server, candidate)
        proof = prove(server, candidate, shown, context_tokens, promised, native=native)
        refuse_foreign(server, recipe.name, house)  # another home may have come meanwhile
        server.copy(candidate.name, recipe.name)
    except ThauError:
        with suppress(ServerError):  # The first failure is the one to tell.
            server.delete(candidate.name)
        raise
    with suppress(ServerError):  # The version has its name; the next look sweeps.
        server.delete(candidate.name)
    log("ollama_registered", name=recipe.name, served_sha256=proof.served_sha256)
    return receipt_of(recipe, version, proof, server_version, uploaded=uploaded)


def receipt_of(recipe: Recipe, version: Version, proof: Proof, server_version: str, *, uploaded: bool) -> Receipt:
    """What is told of a version that was proved."""
    return Receipt(
        recipe.name,
        version.name,
        version.gguf_sha256,
        proof.served_sha256,
        proof.capabilities,
        server_version,
        uploaded,
        proof.renders,
        proof.tools,
    )


def upload(server: OllamaServer, recipe: Recipe, version: Version, log: Log) -> bool:
    """Send the files that the server lacks; whether there were any."""
    sent = []
    for path, digest in recipe.blobs:
        with remedies(recipe, version):
            sent.append(server.push_blob(path, digest, now_and_then(log, version.name)))
    log("ollama_pushed", name=recipe.name, uploaded=any(sent))
    return any(sent)


def now_and_then(log: Log, name: str) -> Progress:
    """An upload's progress in the log, at most once in TOLD_EVERY_S."""
    said_at = time.monotonic()

    def progress(sent: int, size: int) -> None:
        nonlocal said_at
        if (now := time.monotonic()) - said_at >= TOLD_EVERY_S:
            said_at = now
            log("ollama_uploading", name=name, sent=sent, size=size)

    return progress


def create(server: OllamaServer, candidate: Recipe, version: Version, log: Log) -> None:
    """Make the candidate. Raises ServerError with the remedy where there is one."""
    with remedies(candidate, version):
        server.create(candidate)
    log("ollama_created", name=candidate.name)


@contextmanager
def remedies(recipe: Recipe, version: Version) -> Iterator[None]:
    """Add to a server's refusal what can be done about it here."""
    try:
        yield
    except ServerError as error:
        if NO_SPACE.search(str(error)):
            size = MAKING_TAKES * sum(path.stat().st_size for path, _ in recipe.blobs)
            remedy = (
                f"making {version.name} takes up to {size / 1e6:,.1f} MB on the server's disk: free some, or give up"
                " old versions with `thau prune`"
            )
        elif version.kind == "adapter" and REFUSED in str(error):
            remedy = f"{version.name} is an adapter: use a newer Ollama, or set export.kind to a merged model's type"
        else:
            raise
        raise ServerError(f"{error}; {remedy}") from error


def seen(server: OllamaServer, recipe: Recipe) -> Shown:
    """What the server shows of a model that it said it made. Raises ServerError where that is another one."""
    shown = server.show(recipe.name)
    if shown is None or not stamped(shown, recipe):
        raise ServerError(f"Ollama at {server.url} said that it made {recipe.name}, but does not show it")
    return shown


def instead_of(shown: Shown, recipe: Recipe) -> str | None:
    """The Go template to be sent to a server that took one of its own stock for the file's, where one can be made.

    New servers do so with templates that look like a known one; theirs lacks what the file's may say by itself.
    """
    if not runs_go(shown):
        return None
    with suppress(ServerError):
        return _go_template(recipe.gguf, recipe.gguf_sha256)
    return None


def stamped(shown: Shown, recipe: Recipe) -> bool:
    """Whether a model was made by this recipe, whoever made it."""
    lines = (recipe.license or "").splitlines()
    return all(line in shown.license for line in lines if line.startswith("THAU file "))


def refuse_foreign(server: OllamaServer, name: str, house: House) -> Shown | None:
    """What stands under a name. Raises ServerError where another home made it."""
    shown = server.show(name)
    if shown is not None and (owner := house.owner_of(shown.license)):
        raise ServerError(
            f"{name} at {server.url} was made by another THAU home ({owner}): set serving.namespace to have names of"
            " your own there, or claim it with `thau sync --take-over`"
        )
    return shown
