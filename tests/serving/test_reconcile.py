"""Making a server hold what the ledger says."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from tests.serving.kit import HERMES, Forge
from thaud.domain import Message, Version
from thaud.errors import ServerError
from thaud.serving.fake_ollama import FakeOllama, Fault, Generation
from thaud.serving.ollama import OllamaServer, Recipe, has_native_templates
from thaud.serving.ollama_runtime import OllamaRuntime
from thaud.serving.reconcile import House, Outcome, Receipt, Wanted, recipe_for, reconcile, register

CONTEXT = 256
HELLO = [Message("user", "hello")]


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    folder = tmp_path / "versions"
    folder.mkdir()
    return Forge(folder)


@pytest.fixture(params=["new", "old"])
def fake(request: pytest.FixtureRequest) -> Iterator[FakeOllama]:
    with FakeOllama(request.param) as server:
        yield server


def wanted(*versions: Version) -> list[Wanted]:
    return [Wanted(version, CONTEXT, ("<|im_end|>",)) for version in versions]


def ask(fake: FakeOllama, name: str) -> str:
    return "".join(delta.text for delta in OllamaRuntime(fake.url, name, CONTEXT).chat(HELLO))


def changes(fake: FakeOllama) -> list[tuple[str, str]]:
    """Requests that change the server."""
    asking = ("/api/version", "/api/tags", "/api/show", "/api/chat")
    return [(method, path) for method, path in fake.requests if method != "HEAD" and path not in asking]


def test_all_versions_and_the_alias_appear(fake: FakeOllama, forge: Forge) -> None:
    """A bare server ends with every version, answering, and the alias on the right one."""
    first, second = forge.version(1, ["first"]), forge.version(2, ["second"])
    outcome = reconcile(OllamaServer(fake.url), wanted(first, second), second)
    assert outcome.complete
    assert [receipt.name for receipt in outcome.receipts] == ["thau-nano-v1", "thau-nano-v2"]
    assert (outcome.alias, outcome.alias_moved) == ("thau-nano", True)
    assert [ask(fake, name) for name in ("thau-nano-v1", "thau-nano-v2", "thau-nano")] == ["first", "second", "second"]
    assert set(OllamaServer(fake.url).tags()) == {"thau-nano:latest", "thau-nano-v1:latest", "thau-nano-v2:latest"}


def test_second_time_changes_nothing(fake: FakeOllama, forge: Forge) -> None:
    """Where the server is right, reconciling asks and does not touch."""
    versions = wanted(forge.version(1, ["first"]), forge.version(2, ["second"]))
    server = OllamaServer(fake.url)
    reconcile(server, versions, versions[1].version)
    tags, before = server.tags(), len(changes(fake))
    outcome = reconcile(server, versions, versions[1].version)
    kept = ("thau-nano-v1", "thau-nano-v2")
    assert outcome == Outcome(kept=kept, server_version=fake.version, alias="thau-nano")
    assert len(changes(fake)) == before
    assert server.tags() == tags


def test_alias_moves_both_ways(fake: FakeOllama, forge: Forge) -> None:
    """The alias follows the version it is given, back as well as forth."""
    first, second = forge.version(1, ["first"]), forge.version(2, ["second"])
    server, versions = OllamaServer(fake.url), wanted(first, second)
    for version, said in ((second, "second"), (first, "first"), (first, "first")):
        assert reconcile(server, versions, version).complete
        assert ask(fake, "thau-nano") == said


def test_deleted_model_is_repaired(fake: FakeOllama, forge: Forge) -> None:
    """A version and an alias deleted by hand come back; the other version is left alone."""
    first, second = forge.version(1, ["first"]), forge.version(2, ["second"])
    server, versions = OllamaServer(fake.url), wanted(first, second)
    reconcile(server, versions, second)
    server.delete("thau-nano-v2")
    server.delete("thau-nano")
    outcome = reconcile(server, versions, second)
    assert ([receipt.name for receipt in outcome.receipts], outcome.kept) == (["thau-nano-v2"], ("thau-nano-v1",))
    assert ask(fake, "thau-nano") == "second"


def test_foreign_model_under_our_name_is_replaced(fake: FakeOllama, forge: Forge) -> None:
    """A name that stands for another file, or for other settings, is made anew."""
    ours, other = forge.version(1, ["ours"]), Forge(forge.folder, "other").version(1, ["theirs"])
    server = OllamaServer(fake.url)
    server.push_blob(Path(other.gguf), f"sha256:{other.gguf_sha256}")
    server.create(Recipe("thau-nano-v1", Path(other.gguf), other.gguf_sha256, {"num_ctx": CONTEXT}))
    assert len(reconcile(server, wanted(ours), ours).receipts) == 1
    assert ask(fake, "thau-nano") == "ours"
    assert len(reconcile(server, [Wanted(ours, 128)], ours).receipts) == 1
    assert reconcile(server, [Wanted(ours, 128)], ours).kept == ("thau-nano-v1",)


def test_other_peoples_models_are_left_alone(fake: FakeOllama, forge: Forge) -> None:
    """Models that are not wanted stay as they are."""
    theirs, ours = Forge(forge.folder, "theirs").version(1, ["theirs"]), forge.version(1, ["ours"])
    server = OllamaServer(fake.url)
    register(server, theirs, CONTEXT)
    reconcile(server, wanted(ours), ours)
    assert ask(fake, "theirs-v1") == "theirs"


def test_absent_server_is_one_line() -> None:
    """Nobody there: ServerError at once, with the remedy."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ServerError, match=f"no Ollama server answers at http://127.0.0.1:{port}: start it"):
        reconcile(OllamaServer(f"127.0.0.1:{port}"), [], None)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("blobs", "drop"),
        Fault("create", "drop", 2),
        Fault("create", "cut", 1),
        Fault("create", "error", 2),
        Fault("chat", "busy"),
        Fault("chat", "drop"),
        Fault("chat", "cut", 0),
        Fault("generate", "error"),
    ],
    ids=lambda fault: f"{fault.route}-{fault.kind}",
)
def test_what_breaks_halfway_is_whole_the_next_time(fake: FakeOllama, forge: Forge, fault: Fault) -> None:
    """Wherever the server breaks, the alias stays, the failure is told in one line, and the next time all is right."""
    first, second = forge.version(1, ["first"]), forge.version(2, ["second"])
    server = OllamaServer(fake.url)
    reconcile(server, wanted(first), first)
    fake.faults.append(fault)
    outcome = reconcile(server, wanted(first, second), second)
    assert fake.faults == []
    assert outcome.kept == ("thau-nano-v1",)
    assert list(outcome.failed) == ["thau-nano-v2"]
    assert outcome.failed["thau-nano-v2"].startswith("Ollama at http://127.0.0.1:")
    assert "\n" not in outcome.failed["thau-nano-v2"]
    assert outcome.alias_failure == "thau-nano-v2 is not on the server"
    assert server.show("thau-nano-v2") is None
    assert ask(fake, "thau-nano") == "first"
    assert reconcile(server, wanted(first, second), second).complete
    assert ask(fake, "thau-nano") == "second"


def test_candidate_left_by_a_crash_is_swept(fake: FakeOllama, forge: Forge) -> None:
    """A candidate of a client that died between create and copy goes, and the version is made."""
    version = forge.version(1, ["first"])
    server = OllamaServer(fake.url)
    recipe = recipe_for(wanted(version)[0], native=has_native_templates(server.version()))
    server.push_blob(recipe.gguf, recipe.digest)
    server.create(Recipe("thau-nano-v1:candidate", recipe.gguf, recipe.gguf_sha256, recipe.parameters))
    seen: list[str] = []

    def log(event: str, **_: Any) -> None:
        seen.append(event)

    assert reconcile(server, wanted(version), version, log).complete
    assert seen[0] == "ollama_swept"
    assert "thau-nano-v1:candidate" not in server.tags()


@pytest.mark.parametrize("route", ["show", "blobs", "create", "chat", "copy"])
def test_a_server_that_goes_says_nothing_of_its_versions(fake: FakeOllama, forge: Forge, route: str) -> None:
    """A server that dies in the middle of a look fails none of the versions that it served: the look is none."""
    first, second = forge.version(1, ["first"]), forge.version(2, ["second"])
    server = OllamaServer(fake.url)
    reconcile(server, wanted(first), first)
    answered = 1 if route == "show" else 2  # times that the version is asked for before
    fake.faults += [Fault(route, "drop"), *[Fault("version", "slow")] * answered, *[Fault("version", "drop")] * 9]
    with pytest.raises(ServerError):
        reconcile(server, wanted(first, second), second)
    assert {fault.route for fault in fake.faults} == {"version"}
    fake.faults.clear()
    assert reconcile(server, wanted(first, second), second).complete


def test_what_failed_its_proof_is_not_sent_again(fake: FakeOllama, forge: Forge) -> None:
    """A server that would refuse a model again is not asked to make it, until it is another release."""
    version = forge.version(1, ["hola"], None)
    each = replace(wanted(version)[0], promised=frozenset({"completion", "tools"}))
    server = OllamaServer(fake.url)
    outcome = reconcile(server, [each], None)
    assert outcome.refused == (version.name,)
    fake.requests.clear()
    known = replace(each, refusal=(outcome.server_version, outcome.failed[version.name]))
    again = reconcile(server, [known], None)
    assert (again.failed, again.refused) == (outcome.failed, outcome.refused)
    assert changes(fake) == []
    reconcile(server, [replace(known, refusal=("0.1", "older"))], None)
    assert ("POST", "/api/create") in fake.requests


def test_letters_case_makes_no_other_name(fake: FakeOllama, forge: Forge) -> None:
    """A namespace written otherwise than when its names were made finds them, points and deletes them."""
    version, server = forge.version(1, ["first"]), OllamaServer(fake.url)
    upper, lower = House("home", "Casa"), House("home", "casa")
    assert reconcile(server, wanted(version), version, house=upper).complete
    outcome = reconcile(server, wanted(version), version, house=lower)
    assert (outcome.kept, outcome.alias_moved) == ((version.name,), False)
    other = House("other", "casa")
    assert "another THAU home" in reconcile(server, wanted(version), version, house=other).failed[version.name]
    assert reconcile(server, [], None, house=lower, unwanted=[version.name]).deleted == (version.name,)


def test_a_list_is_whole_while_models_come_and_go(fake: FakeOllama, forge: Forge) -> None:
    """Whoever lists or shows models while others are made and deleted gets an answer each time."""
    version, server = forge.version(1, ["first"]), OllamaServer(fake.url)
    recipe = recipe_for(wanted(version)[0], native=has_native_templates(server.version()))
    server.push_blob(recipe.gguf, recipe.digest)
    ended = Event()

    def come_and_go() -> None:
        for n in range(150):
            server.push_blob(recipe.gguf, recipe.digest)
            server.create(replace(recipe, name="passing", license=f"{n}"))
            server.delete("passing")
        ended.set()

    with ThreadPoolExecutor(1) as others:
        passing = others.submit(come_and_go)
        while not (ended.is_set() or passing.done()):
            assert set(server.tags()) <= {"passing:latest"}
            server.show("passing")
        passing.result()


def test_what_has_its_name_is_served(fake: FakeOllama, forge: Forge) -> None:
    """A candidate that could not be deleted fails nothing: the next look deletes it."""
    version, server = forge.version(1, ["first"]), OllamaServer(fake.url)
    fake.faults.append(Fault("delete", "drop"))
    outcome = reconcile(server, wanted(version), version)
    assert (outcome.complete, outcome.alias) == (True, "thau-nano")
    assert reconcile(server, wanted(version), version).kept == ("thau-nano-v1",)
    assert set(server.tags()) == {"thau-nano:latest", "thau-nano-v1:latest"}


def test_damaged_file_is_refused(fake: FakeOllama, forge: Forge) -> None:
    """A file that is no longer what the ledger says never becomes a model."""
    version = forge.version(1, ["first"])
    path = Path(version.gguf)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    outcome = reconcile(OllamaServer(fake.url), wanted(version), version)
    assert "digest mismatch" in outcome.failed["thau-nano-v1"]
    assert OllamaServer(fake.url).tags() == {}


def test_broken_model_does_not_stop_the_others(fake: FakeOllama, forge: Forge) -> None:
    """A version that the server cannot load, or whose file is gone, fails alone."""
    good, broken, gone = forge.version(1, ["good"]), forge.without_tokenizer(2), forge.version(3, ["gone"])
    Path(gone.gguf).unlink()
    outcome = reconcile(OllamaServer(fake.url), wanted(good, broken, gone), good)
    assert [receipt.name for receipt in outcome.receipts] == ["thau-nano-v1"]
    assert "thau-nano-v2" in outcome.failed
    assert "thau-nano-v3.gguf" in outcome.failed["thau-nano-v3"]
    assert outcome.alias == "thau-nano"
    assert not outcome.complete


def test_server_of_the_other_generation(forge: Forge, tmp_path: Path) -> None:
    """After an upgrade the versions made with a Go template are made anew without one; upload is not repeated."""
    version = forge.version(1, ["first"], HERMES)
    generations: tuple[Generation, ...] = ("old", "new")
    receipts: list[Receipt] = []
    templates: list[str] = []
    for generation in generations:
        with FakeOllama(generation, tmp_path / "server") as fake:
            outcome = reconcile(OllamaServer(fake.url), wanted(version), version)
            receipts += outcome.receipts
            templates.append((OllamaServer(fake.url).show("thau-nano-v1") or pytest.fail("not there")).template)
    assert [receipt.uploaded for receipt in receipts] == [True, False]
    assert "{{ json . }}" in templates[0]
    assert templates[1] == HERMES


def test_restarted_server_needs_nothing(forge: Forge, tmp_path: Path) -> None:
    """A server that comes back with its models is left as it is."""
    version = forge.version(1, ["first"])
    with FakeOllama("new", tmp_path / "server") as fake:
        reconcile(OllamaServer(fake.url), wanted(version), version)
    with FakeOllama("new", tmp_path / "server") as fake:
        assert reconcile(OllamaServer(fake.url), wanted(version), version).kept == ("thau-nano-v1",)
        assert changes(fake) == []
        assert ask(fake, "thau-nano") == "first"


@pytest.mark.parametrize(
    ("version", "native"),
    [("0.24.0", False), ("0.29.9", False), ("0.30.0", True), ("0.33.0-rc2", True), ("1.0", True), ("0.0.0", True)],
)
def test_generations_by_version(version: str, native: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """From 0.30 on servers run the GGUF's own template; a development build counts as new."""
    assert has_native_templates(version) is native
