"""Two homes on one server: who made a name, who may touch it, and what it takes to claim one."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.serving.kit import Forge
from thaud.domain import Message, Version
from thaud.errors import ServerError
from thaud.serving.fake_ollama import FakeOllama
from thaud.serving.ollama import OllamaServer, Recipe
from thaud.serving.ollama_runtime import OllamaRuntime
from thaud.serving.provenance import HOME, House, served_name
from thaud.serving.reconcile import Outcome, Wanted, point_alias, recipe_for, reconcile, register

CONTEXT = 256
OURS, THEIRS = House("aaaaaaaaaaaaaaaa"), House("bbbbbbbbbbbbbbbb")


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    return Forge(tmp_path)


@pytest.fixture
def fake() -> Iterator[FakeOllama]:
    with FakeOllama() as server:
        yield server


def other_version(forge: Forge, n: int, script: list[str]) -> Version:
    """A version of another home: the same name, another file."""
    folder = forge.folder / "elsewhere"
    folder.mkdir(exist_ok=True)
    return Forge(folder, forge.family).version(n, script)


def serve(
    fake: FakeOllama, house: House, version: Version, *, alias: bool = True, unwanted: tuple[str, ...] = ()
) -> Outcome:
    """One reconciliation of a home with one version."""
    wanted = [Wanted(version, CONTEXT, ("<|im_end|>",))]
    server = OllamaServer(fake.url)
    return reconcile(server, wanted, version, house=house, unwanted=unwanted)


def said(fake: FakeOllama, name: str) -> str:
    return "".join(delta.text for delta in OllamaRuntime(fake.url, name, CONTEXT).chat([Message("user", "hello")]))


def home_of(fake: FakeOllama, name: str) -> str | None:
    """The home that a name's licence names."""
    shown = OllamaServer(fake.url).show(name)
    found = HOME.search(shown.license) if shown else None
    return found[1] if found else None


def test_another_homes_names_are_left_alone(fake: FakeOllama, forge: Forge) -> None:
    """Version and alias of the first home stay; the second is told whose they are and what to set."""
    first, second = forge.version(1, ["first"]), other_version(forge, 1, ["second"])
    assert serve(fake, THEIRS, first).complete
    before = OllamaServer(fake.url).tags()
    fake.requests.clear()
    outcome = serve(fake, OURS, second)
    assert "made by another THAU home (bbbbbbbbbbbbbbbb)" in outcome.failed["thau-nano-v1"]
    assert "serving.namespace" in outcome.failed["thau-nano-v1"]
    assert "--take-over" in outcome.failed["thau-nano-v1"]
    assert not [path for method, path in fake.requests if path.startswith("/api/blobs") or path == "/api/create"]
    assert OllamaServer(fake.url).tags() == before
    assert said(fake, "thau-nano") == "first"


def test_namespaces_keep_homes_apart(fake: FakeOllama, forge: Forge) -> None:
    """With a namespace each home has its names, and its alias is a copy of its own version."""
    first, second = forge.version(1, ["first"]), other_version(forge, 1, ["second"])
    assert serve(fake, THEIRS, first).complete
    assert serve(fake, replace(OURS, namespace="mine"), second).complete
    assert (said(fake, "thau-nano"), said(fake, "mine/thau-nano")) == ("first", "second")
    assert home_of(fake, "mine/thau-nano") == OURS.id
    assert served_name("", "thau-nano") == "thau-nano"


def test_taking_over_claims_a_name(fake: FakeOllama, forge: Forge) -> None:
    """Who takes over has the names from then on, and the home that had them is refused in its turn."""
    first, second = forge.version(1, ["first"]), other_version(forge, 1, ["second"])
    serve(fake, THEIRS, first)
    assert serve(fake, replace(OURS, take_over=True), second).complete
    assert said(fake, "thau-nano") == "second"
    assert {home_of(fake, name) for name in ("thau-nano", "thau-nano-v1")} == {OURS.id}
    assert OURS.id in serve(fake, THEIRS, first).failed["thau-nano-v1"]


def test_a_foreign_alias_stays_where_it_is(fake: FakeOllama, forge: Forge) -> None:
    """A version of ours gets its name; the alias that another home made is told, and not moved."""
    serve(fake, THEIRS, forge.version(1, ["first"]))
    outcome = serve(fake, OURS, other_version(forge, 2, ["second"]))
    assert [receipt.model for receipt in outcome.receipts] == ["thau-nano-v2"]
    assert THEIRS.id in (outcome.alias_failure or "")
    assert (said(fake, "thau-nano"), said(fake, "thau-nano-v2")) == ("first", "second")


def test_models_of_an_earlier_release_are_ours(fake: FakeOllama, forge: Forge) -> None:
    """What was made before homes were named is kept as it is, and its alias with it."""
    version = forge.version(1, ["first"])
    serve(fake, House(), version)
    assert home_of(fake, "thau-nano-v1") is None
    outcome = serve(fake, OURS, version)
    assert (outcome.kept, outcome.receipts, outcome.alias_moved) == (("thau-nano-v1",), (), False)


def test_a_name_without_our_text_is_drift(fake: FakeOllama, forge: Forge) -> None:
    """A model that somebody made by hand under one of our names is replaced: the names are THAU's."""
    version, other = forge.version(1, ["ours"]), other_version(forge, 1, ["by hand"])
    server = OllamaServer(fake.url)
    server.push_blob(Path(other.gguf), f"sha256:{other.gguf_sha256}")
    server.create(Recipe("thau-nano-v1", Path(other.gguf), other.gguf_sha256, {}, license="MIT"))
    assert serve(fake, OURS, version).complete
    assert said(fake, "thau-nano-v1") == "ours"


def test_pruned_versions_go_where_this_home_made_them(fake: FakeOllama, forge: Forge) -> None:
    """Of what is given up, our own names are deleted; another home's, and a stranger's, stay, also when taking over."""
    old, new = forge.version(1, ["old"]), forge.version(2, ["new"])
    server = OllamaServer(fake.url)
    serve(fake, OURS, old)
    register(server, forge.version(3, ["theirs"]), CONTEXT, house=THEIRS)
    stranger = forge.version(4, ["stranger"])
    server.push_blob(Path(stranger.gguf), f"sha256:{stranger.gguf_sha256}")
    server.create(Recipe("thau-nano-v4", Path(stranger.gguf), stranger.gguf_sha256, {}))
    unwanted = ("thau-nano-v1", "thau-nano-v3", "thau-nano-v4", "thau-nano-v5")
    outcome = serve(fake, replace(OURS, take_over=True), new, unwanted=unwanted)
    assert outcome.deleted == ("thau-nano-v1",)
    assert server.tags().keys() == {f"thau-nano{n}:latest" for n in ("", "-v2", "-v3", "-v4")}
    assert said(fake, "thau-nano") == "new"
    assert serve(fake, OURS, new, unwanted=unwanted).deleted == ()


def test_a_home_that_comes_while_a_version_is_tried_keeps_the_name(fake: FakeOllama, forge: Forge) -> None:
    """Whose a name is is asked again right before it is given: the other home's stays, and our candidate goes."""
    server, theirs = OllamaServer(fake.url), other_version(forge, 1, ["second"])

    def meanwhile(event: str, **_: object) -> None:
        if event == "ollama_created":
            register(server, theirs, CONTEXT, house=THEIRS)

    with pytest.raises(ServerError, match=THEIRS.id):
        register(server, forge.version(1, ["first"]), CONTEXT, house=OURS, log=meanwhile)
    assert server.tags().keys() == {"thau-nano-v1:latest"}
    assert said(fake, "thau-nano-v1") == "second"


def test_only_our_own_candidates_are_swept(fake: FakeOllama, forge: Forge) -> None:
    """A candidate that another home is just trying is not touched, whatever name it has; ours and an old one go."""
    version, server = forge.version(1, ["first"]), OllamaServer(fake.url)
    for house in (OURS, THEIRS, House()):
        recipe = recipe_for(Wanted(version, CONTEXT), native=True, house=house)
        server.push_blob(recipe.gguf, recipe.digest)
        server.create(replace(recipe, name=house.candidate("thau-nano-v1")))
    assert serve(fake, OURS, version).complete
    assert server.tags().keys() == {"thau-nano:latest", "thau-nano-v1:latest", f"{THEIRS.candidate('thau-nano-v1')}"}


def test_an_old_candidates_name_with_another_homes_model_is_left_alone(fake: FakeOllama, forge: Forge) -> None:
    """The tag that earlier releases used says nothing of whose a candidate is; its licence text does."""
    version, server = forge.version(1, ["first"]), OllamaServer(fake.url)
    recipe = recipe_for(Wanted(version, CONTEXT), native=True, house=THEIRS)
    server.push_blob(recipe.gguf, recipe.digest)
    server.create(replace(recipe, name=House().candidate("thau-nano-v1")))
    assert serve(fake, OURS, version).complete
    assert House().candidate("thau-nano-v1") in server.tags()


def test_an_alias_is_pointed_once(fake: FakeOllama, forge: Forge) -> None:
    """Pointing where it points already changes nothing; a foreign alias is an error that names its home."""
    version, server = forge.version(1, ["first"]), OllamaServer(fake.url)
    register(server, version, CONTEXT, house=THEIRS)
    assert point_alias(server, "thau-nano", version, THEIRS)
    assert not point_alias(server, "thau-nano", version, THEIRS)
    register(server, other_version(forge, 2, ["second"]), CONTEXT, house=OURS)
    with pytest.raises(ServerError, match=THEIRS.id):
        point_alias(server, "thau-nano", other_version(forge, 2, ["second"]), OURS)


def test_no_tag_is_one_that_servers_read_otherwise() -> None:
    """`cloud`, `local` and `...-cloud` are taken for routing: no candidate's tag is one of them."""
    for house in (House(), OURS):
        tag = house.candidate("thau-nano-v1").rpartition(":")[2]
        assert tag not in {"cloud", "local"}
        assert not tag.endswith("-cloud")
