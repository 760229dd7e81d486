"""Checks of what was done: runs and versions against their artefacts, and what Ollama is known to hold."""

import hashlib
import json
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

from thaud.artefacts import passed_certificate
from thaud.doctor.finding import Case, Finding, OnDigest, note, problem, warning
from thaud.domain import RunState, Version
from thaud.freezing import read_spec
from thaud.ledger import RunRow, soundness
from thaud.pipeline import CERTIFICATE
from thaud.serving.address import reachable

CHUNK_BYTES = 4 << 20
SAME_FAILURES = 3
CONNECT_S = 0.5
SHOWN_HEX = 12
RECEIPTS = {
    RunState.FROZEN: (),
    RunState.TRAINED: (("train", RunState.FROZEN),),
    RunState.EXPORTED: (("train", RunState.FROZEN), ("export", RunState.TRAINED)),
    RunState.EXAMINED: (("train", RunState.FROZEN), ("export", RunState.TRAINED)),
    RunState.ACCEPTED: (("train", RunState.FROZEN), ("export", RunState.TRAINED)),
}  # what a state stands on, and the state from which that can be made again


def check_runs(case: Case) -> Iterator[Finding]:
    """A run under way can go on; runs do not fail again and again for one reason."""
    if (run := case.ledger.unfinished_run()) is not None:
        yield from stops(case, run)
    last = case.ledger.runs(limit=20)
    same = list(takewhile(lambda run: run.state is RunState.FAILED and run.reasons == last[0].reasons, last))
    if len(same) >= SAME_FAILURES:
        yield warning("runs_fail", same[0].id, "; ".join(same[0].reasons), n=len(same))


def stops(case: Case, run: RunRow) -> Iterator[Finding]:
    """What keeps a run from going on for ever: what it was frozen with is gone, or a receipt that its state needs."""
    try:
        read_spec(case.ledger, run)
    except (ValueError, LookupError, TypeError):
        yield problem("run_unreadable", run.id)
        return
    if missing := soundness.unknown_examples(case.ledger, run.id):
        yield problem("run_examples_gone", run.id, n=missing)
        return
    for step, _ in RECEIPTS[run.state]:
        if case.ledger.receipt(run.id, step) is None:
            yield problem("run_receipt_gone", run.id, step)
            return


def check_versions(case: Case) -> Iterator[Finding]:
    """Each promoted version's file is there and is the one that was examined, unless it was given up; what made it and
    its certificate are there too.
    """
    bases: set[str] = set()
    for family in sorted({version.family for version in case.ledger.versions()}):
        champion = case.ledger.champion(family)
        for version in case.ledger.promoted_versions(family):
            if version.pruned_at is None:
                yield from file_of(case, version, champion=champion == version)
                yield from base_of(case, version, bases)
            elif champion == version:
                yield problem("champion_pruned", version.name, version.pruned_at[:10])
            yield from made_of(case, version)
            yield from certificate_of(case, version)


def base_of(case: Case, version: Version, seen: set[str]) -> Iterator[Finding]:
    """The base that an adapter is applied to, against its digest; each is read once."""
    if version.base_gguf is None or version.base_gguf in seen:
        return
    seen.add(version.base_gguf)
    base, digest = Path(version.base_gguf), str(version.base_sha256)
    if not base.is_file():
        yield problem("base_file_gone", version.name, version.base_gguf)
    elif not case.quick and (found := sha256(base, version.name, case.on_digest)) != digest:
        yield problem(
            "version_changed", version.name, f"{base}: SHA-256 {found[:SHOWN_HEX]}... != {digest[:SHOWN_HEX]}..."
        )


def certificate_of(case: Case, version: Version) -> Iterator[Finding]:
    """The certificate beside a version says what the ledger says; one from before there were any has none."""
    wanted = passed_certificate(case.ledger.receipt(version.run_id, "certify"), version.gguf_sha256)
    path = Path(version.gguf).with_name(CERTIFICATE)
    if wanted is not None and not says(path, wanted):
        yield problem("certificate_differs", version.name, path=path)


def says(path: Path, wanted: object) -> bool:
    """Whether a JSON file holds this value."""
    try:
        return bool(json.loads(path.read_bytes()) == wanted)
    except (OSError, ValueError, RecursionError):
        return False


def file_of(case: Case, version: Version, *, champion: bool) -> Iterator[Finding]:
    """The version's GGUF against its size and digest."""
    gguf = Path(version.gguf)
    if not gguf.is_file():
        yield (
            problem("champion_gone", version.name, version.gguf)
            if champion
            else warning("version_gone", version.name, version.gguf)
        )
    elif (size := gguf.stat().st_size) != version.size_bytes:
        yield problem("version_changed", version.name, f"{size} != {version.size_bytes} bytes")
    elif not case.quick and (found := sha256(gguf, version.name, case.on_digest)) != version.gguf_sha256:
        yield problem(
            "version_changed", version.name, f"SHA-256 {found[:SHOWN_HEX]}... != {version.gguf_sha256[:SHOWN_HEX]}..."
        )


def sha256(path: Path, name: str, on_digest: OnDigest) -> str:
    """A file's digest, telling how far it is. Raises OSError."""
    digest, size, done = hashlib.sha256(), path.stat().st_size, 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            done += len(chunk)
            on_digest(name, done, size)
    return digest.hexdigest()


def made_of(case: Case, version: Version) -> Iterator[Finding]:
    """The receipts and the adapter of the run that made a version."""
    for step in ("train", "export"):
        receipt = case.ledger.receipt(version.run_id, step)
        if receipt is None:
            yield warning("receipt_gone", version.name, f"{version.run_id}: {step}")
            continue
        adapter = case.home.runs / version.run_id / "train" / "adapter"
        if step == "train" and not (adapter / "adapter_model.safetensors").is_file():
            yield warning("adapter_gone", version.name, str(adapter))


def check_ollama(case: Case) -> Iterator[Finding]:
    """Whether the server answers, and what it is known to hold against what was promoted."""
    serving = case.settings.serving
    versions = {version.name for version in case.ledger.versions()}
    families = {version.family for version in case.ledger.versions()}
    rows = case.ledger.registrations()
    for row in rows:
        if row["name"] not in versions | families:
            yield warning("registration_astray", row["name"], row["host"])
    if not serving.ollama_enabled:
        yield note("ollama_off")
        return
    if not reachable(serving.ollama_host, CONNECT_S):
        yield note("ollama_away", serving.ollama_host)
        return
    here = {row["name"]: row for row in rows if row["host"] == serving.ollama_host}
    for row in here.values():
        if row["state"] == "failed":
            yield warning("ollama_refused", row["name"], row["detail"])
    promoted = [each.name for each in case.ledger.promoted_versions(case.settings.family) if Path(each.gguf).is_file()]
    if missing := [name for name in promoted if name not in here]:
        yield warning("ollama_behind", ", ".join(missing), serving.ollama_host)
