"""What no longer is as it was proved is made again; what a server refuses is told with the remedy."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gguf
import pytest

from tests.serving.kit import Forge
from thaud.domain import Message, Version
from thaud.serving.fake_ollama import FakeOllama, Fault, parse_name
from thaud.serving.ollama import OllamaServer
from thaud.serving.ollama_runtime import OllamaRuntime
from thaud.serving.reconcile import House, Outcome, Receipt, Wanted, recipe_for, reconcile

CONTEXT = 256
HOUSE = House("aaaaaaaaaaaaaaaa")


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    return Forge(tmp_path)


@pytest.fixture(params=["new", "old"])
def fake(request: pytest.FixtureRequest) -> Iterator[FakeOllama]:
    with FakeOllama(request.param) as server:
        yield server


def manifest(fake: FakeOllama, name: str) -> Path:
    """Where the server keeps what a name stands for."""
    known = parse_name(name)
    assert known is not None
    return fake.store.manifest(known)


def wanted(version: Version, served: str | None = None) -> Wanted:
    return Wanted(version, CONTEXT, ("<|im_end|>",), served_sha256=served)


def serve(fake: FakeOllama, *each: Wanted) -> Outcome:
    """One reconciliation; the alias is the last version."""
    return reconcile(OllamaServer(fake.url), each, each[-1].version, house=HOUSE)


def made(fake: FakeOllama, version: Version) -> Receipt:
    """The receipt of a version that was made."""
    (receipt,) = serve(fake, wanted(version)).receipts
    return receipt


def said(fake: FakeOllama, name: str) -> str:
    return "".join(delta.text for delta in OllamaRuntime(fake.url, name, CONTEXT).chat([Message("user", "hello")]))


def test_another_file_under_the_name_is_noticed(fake: FakeOllama, forge: Forge) -> None:
    """A name whose licence is right and whose file is not the one that was proved is made again, once."""
    version, other = forge.version(1, ["right"]), forge.version(2, ["wrong"])
    receipt, wrong = made(fake, version), made(fake, other)
    path = manifest(fake, "thau-nano-v1")
    path.write_text(path.read_text().replace(f"{receipt.served_sha256}", f"{wrong.served_sha256}"))
    assert said(fake, "thau-nano-v1") == "wrong"
    blind = serve(fake, wanted(version))
    assert blind.kept == ("thau-nano-v1",)
    assert [each.model for each in serve(fake, wanted(version, receipt.served_sha256)).receipts] == ["thau-nano-v1"]
    assert said(fake, "thau-nano-v1") == "right"
    assert serve(fake, wanted(version, receipt.served_sha256)).kept == ("thau-nano-v1",)


@pytest.mark.parametrize("name", ["thau-nano-v1", "thau-nano"])
def test_an_empty_manifest_is_no_model(fake: FakeOllama, forge: Forge, name: str) -> None:
    """What a crash of the server left of a name, version or alias, is replaced; until then nobody is misled."""
    version = forge.version(1, ["right"])
    receipt = made(fake, version)
    manifest(fake, name).write_bytes(b"")
    assert OllamaServer(fake.url).show(name) is None
    assert serve(fake, wanted(version, receipt.served_sha256)).complete
    assert {said(fake, "thau-nano-v1"), said(fake, "thau-nano")} == {"right"}


def test_other_settings_are_drift(fake: FakeOllama, forge: Forge) -> None:
    """A stage whose context has changed, or whose stops have, has its version made again."""
    version = forge.version(1, ["right"])
    made(fake, version)
    assert len(serve(fake, replace(wanted(version), context_tokens=128)).receipts) == 1
    assert len(serve(fake, replace(wanted(version), context_tokens=128, stop=())).receipts) == 1
    assert serve(fake, replace(wanted(version), context_tokens=128, stop=())).kept == ("thau-nano-v1",)


@pytest.mark.parametrize("kinds", [("eos",), ("eos", "eot")])
def test_a_turn_ends_as_the_file_says(forge: Forge, kinds: tuple[str, ...]) -> None:
    """What ends an answer on the server is what the file's header names, whatever the base."""
    ends = {"eos": "</s>", "eot": "<|eot_id|>"}
    path = forge.folder / "llama.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_token_list(["a", *ends.values()])
    for at, kind in enumerate(kinds, 1):
        writer.add_uint32(f"tokenizer.ggml.{kind}_token_id", at)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    recipe = recipe_for(Wanted(forge.of_file(1, path), CONTEXT), native=True)
    assert recipe.parameters == {"num_ctx": CONTEXT, "stop": [ends[kind] for kind in kinds]}


def test_an_alias_moved_by_hand_is_moved_back(fake: FakeOllama, forge: Forge) -> None:
    """The alias is what the ledger says, whoever copied something else over it."""
    first, second = wanted(forge.version(1, ["first"])), wanted(forge.version(2, ["second"]))
    serve(fake, first, second)
    OllamaServer(fake.url).copy("thau-nano-v1", "thau-nano")
    assert said(fake, "thau-nano") == "first"
    outcome = serve(fake, first, second)
    assert (outcome.alias_moved, outcome.receipts) == (True, ())
    assert said(fake, "thau-nano") == "second"


def test_what_nobody_proved_is_proved_where_it_stands(fake: FakeOllama, forge: Forge) -> None:
    """A model that came before its proof was remembered is asked again, and neither sent nor made again."""
    version = forge.version(1, ["right"])
    receipt = made(fake, version)
    fake.requests.clear()
    outcome = serve(fake, replace(wanted(version), unproved=True))
    assert [(each.served_sha256, each.uploaded) for each in outcome.receipts] == [(receipt.served_sha256, False)]
    assert not [path for _, path in fake.requests if path.startswith("/api/blobs") or path == "/api/create"]


def test_the_same_file_is_sent_once(fake: FakeOllama, forge: Forge) -> None:
    """A name that has to be made again while the alias keeps its file needs no second upload."""
    version = forge.version(1, ["right"])
    assert made(fake, version).uploaded
    OllamaServer(fake.url).delete("thau-nano-v1")
    assert not made(fake, version).uploaded


@pytest.mark.parametrize("route", ["blobs", "create"])
def test_a_full_disk_is_told_with_the_figure(fake: FakeOllama, forge: Forge, route: str) -> None:
    """Where the server has no room, the line says how much making a version takes and what frees some."""
    version = forge.version(1, ["right"])
    fake.faults.append(Fault(route, "full", after_lines=1))
    reason = serve(fake, wanted(version)).failed["thau-nano-v1"]
    assert "no space left on device" in reason
    assert f"takes up to {3 * version.size_bytes / 1e6:,.1f} MB" in reason
    assert "thau prune" in reason
    assert OllamaServer(fake.url).tags() == {}
    assert serve(fake, wanted(version)).complete


def test_a_server_that_hangs_for_a_moment_is_waited_for(fake: FakeOllama, forge: Forge) -> None:
    """Slowness is no failure."""
    version = forge.version(1, ["right"])
    fake.faults += [Fault("version", "hang", seconds=0.2), Fault("create", "slow", seconds=0.02)]
    assert serve(fake, wanted(version)).complete
