"""Versions that are an adapter on a base which they share."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.contract.targets import write_adapter
from tests.serving.kit import Forge
from thaud.domain import Version
from thaud.errors import StorageError
from thaud.serving.fake_ollama import FakeOllama, Fault, parse_name
from thaud.serving.ollama import OllamaServer
from thaud.serving.reconcile import House, Wanted, recipe_for, reconcile

CONTEXT = 256
HOUSE = House("aaaaaaaaaaaaaaaa")


@pytest.fixture
def fake() -> Iterator[FakeOllama]:
    with FakeOllama() as server:
        yield server


@pytest.fixture
def versions(tmp_path: Path) -> list[Version]:
    """Two adapters on one base."""
    forge = Forge(tmp_path)
    base = forge.version(9, ["azul"])
    made = []
    for n in (1, 2):
        path = write_adapter(tmp_path / f"adapter-{n}.gguf", Path(base.gguf), rank=n)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        own = replace(base, n=n, run_id=f"run-{n}", gguf=str(path), gguf_sha256=digest, size_bytes=path.stat().st_size)
        made.append(replace(own, kind="adapter", base_gguf=base.gguf, base_sha256=base.gguf_sha256))
    return made


def uploads(fake: FakeOllama) -> list[str]:
    """What was sent, in order."""
    return [path.rpartition(":")[2] for method, path in fake.requests if method == "POST" and "/blobs/" in path]


def test_the_base_is_sent_once(fake: FakeOllama, versions: list[Version]) -> None:
    """Two versions on one base need one upload of it and one of each adapter; both are proved."""
    server, wanted = OllamaServer(fake.url), [Wanted(version, CONTEXT) for version in versions]
    outcome = reconcile(server, wanted, versions[1], house=HOUSE)
    assert outcome.complete
    first, second = versions
    assert uploads(fake) == [first.base_sha256, first.gguf_sha256, second.gguf_sha256]
    for version, receipt in zip(versions, outcome.receipts, strict=True):
        shown = server.show(version.name)
        assert shown is not None
        assert (shown.adapter, shown.gguf) == (version.gguf_sha256, receipt.served_sha256)
        assert receipt.renders["asked"] > 0
    assert reconcile(server, wanted, versions[1], house=HOUSE).kept == ("thau-nano-v1", "thau-nano-v2")


def test_another_adapter_under_the_name_is_drift(fake: FakeOllama, versions: list[Version]) -> None:
    """A name whose base is right and whose adapter is not is made again."""
    server, wanted = OllamaServer(fake.url), [Wanted(version, CONTEXT) for version in versions]
    reconcile(server, wanted, versions[1], house=HOUSE)
    name = parse_name("thau-nano-v1")
    assert name is not None
    path = fake.store.manifest(name)
    path.write_text(path.read_text().replace(versions[0].gguf_sha256, versions[1].gguf_sha256))
    outcome = reconcile(server, wanted, versions[1], house=HOUSE)
    assert ([each.model for each in outcome.receipts], outcome.kept) == (["thau-nano-v1"], ("thau-nano-v2",))


def test_a_server_that_refuses_adapters_is_told_with_the_way_out(fake: FakeOllama, versions: list[Version]) -> None:
    """The server's reason, and what to set so that versions are whole models."""
    fake.faults.append(Fault("create", "error", after_lines=1))
    outcome = reconcile(OllamaServer(fake.url), [Wanted(versions[0], CONTEXT)], None, house=HOUSE)
    assert "is an adapter: use a newer Ollama, or set export.kind" in outcome.failed["thau-nano-v1"]


def test_an_adapter_without_its_base_is_refused(versions: list[Version]) -> None:
    """A version of which nobody knows the base is named, and where to look."""
    with pytest.raises(StorageError, match="thau-nano-v1 is an adapter of: see `thau doctor`"):
        recipe_for(Wanted(replace(versions[0], base_gguf=None), CONTEXT), native=True)
