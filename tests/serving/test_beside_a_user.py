"""A person uses the server while homes reconcile with it: whatever they do, nobody loses anything."""

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.serving.kit import Forge
from thaud.domain import Version
from thaud.errors import ServerError
from thaud.serving.fake_ollama import FakeOllama, Fault
from thaud.serving.ollama import OllamaServer, Recipe, full_name
from thaud.serving.provenance import House
from thaud.serving.reconcile import Wanted, recipe_for, reconcile

CONTEXT = 256
THEIRS = ("llama3", "thau", "thau-nanotech", "thau-nano-v1:mine", "thau-nano:mine", "me/thau-nano", "thau-nano-v10")
STEPS = 25


@dataclass
class Keeper:
    """A home with its versions: what it wants of the server now."""

    house: House
    versions: list[Version]
    alias: int = 0
    given_up: set[int] = field(default_factory=set)

    def wanted(self) -> list[Wanted]:
        """All but what is given up."""
        return [Wanted(each, CONTEXT) for at, each in enumerate(self.versions) if at not in self.given_up]

    def look(self, server: OllamaServer, *, take_over: bool = False) -> bool:
        """One reconciliation; whether all is as it should be."""
        unwanted = [self.versions[at].name for at in self.given_up]
        house = replace(self.house, take_over=take_over)
        return reconcile(server, self.wanted(), self.versions[self.alias], unwanted=unwanted, house=house).complete

    def is_right(self, server: OllamaServer) -> bool:
        """Whether each name stands for its own version, made by this home, and the alias for the chosen one."""
        tags = server.tags()
        for each in self.wanted():
            shown = server.show(self.house.name(each.version.name))
            recipe = recipe_for(each, native=True, house=self.house)
            if shown is None or shown.license != recipe.license:
                return False
        chosen = self.versions[self.alias]
        names = (full_name(self.house.name(name)) for name in (chosen.name, chosen.family))
        return len({tags.get(name) for name in names}) == 1


@pytest.fixture
def fake() -> Iterator[FakeOllama]:
    with FakeOllama() as server:
        yield server


def keeper(folder: Path, house: House) -> Keeper:
    """A home with three versions of its own."""
    folder.mkdir()
    return Keeper(house, [Forge(folder).version(n, [f"{house.id} {'abc'[n - 1]}"]) for n in (1, 2, 3)])


def own_models(fake: FakeOllama, folder: Path) -> dict[str, str]:
    """What the person has: names that are nearly ours, one a copy of a base that another model shares."""
    server, version = OllamaServer(fake.url), Forge(folder, "own").version(1, ["theirs"])
    server.push_blob(Path(version.gguf), f"sha256:{version.gguf_sha256}")
    for name in THEIRS:
        server.create(Recipe(name, Path(version.gguf), version.gguf_sha256, {"num_ctx": 64}))
    return {full_name(name): server.tags()[full_name(name)] for name in THEIRS}


def harm(fake: FakeOllama, chance: random.Random, name: str) -> Callable[[], object]:
    """Something that a person, or a bad day, does to a name of ours."""
    server = OllamaServer(fake.url)
    route = chance.choice(["show", "create", "chat", "copy", "delete", "tags", "version", "generate"])
    return chance.choice(
        [
            lambda: server.delete(name),
            lambda: server.copy("llama3", name),
            lambda: fake.faults.append(Fault(route, chance.choice(["drop", "busy", "broken"]))),
            lambda: server.unload("llama3"),
        ]
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("namespace", ["", "casa"])
def test_whatever_a_person_does_their_models_stay(fake: FakeOllama, tmp_path: Path, seed: int, namespace: str) -> None:
    """After any operations the person's models are byte for byte what they were, and one calm look sets ours right."""
    chance = random.Random(seed)
    theirs, server = own_models(fake, tmp_path), OllamaServer(fake.url)
    home = keeper(tmp_path / "home", House("aaaaaaaaaaaaaaaa", namespace))
    names = [home.house.name(name) for name in ("thau-nano", *(each.name for each in home.versions))]
    for _ in range(STEPS):
        fake.faults.clear()
        chance.choice([lambda: None, harm(fake, chance, chance.choice(names))])()
        home.alias = chance.choice([at for at in range(3) if at not in home.given_up])
        if chance.random() < 0.1 and len(home.given_up) < 2:
            home.given_up.add(chance.choice([at for at in range(3) if at != home.alias]))
        with suppress(ServerError):
            home.look(server)
        tags = dict(fake_tags(fake))
        assert {name: tags.get(name) for name in theirs} == theirs
    fake.faults.clear()
    assert home.look(server)
    assert home.is_right(server)
    gone = {full_name(home.house.name(home.versions[at].name)) for at in home.given_up}
    assert not [name for name in made_by(server, home) if "candidate" in name or name in gone]


def fake_tags(fake: FakeOllama) -> Iterator[tuple[str, str]]:
    """The names on the server, without asking it."""
    return ((manifest.name, manifest.digest) for manifest in fake.store.every())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_two_homes_in_any_order_take_nothing_from_each_other(fake: FakeOllama, tmp_path: Path, seed: int) -> None:
    """Looks, prunings and take-overs of two homes under the same names: only taking over changes whose a name is."""
    chance, server = random.Random(seed), OllamaServer(fake.url)
    homes = [keeper(tmp_path / id_, House(id_ * 16)) for id_ in "ab"]
    for _ in range(STEPS):
        mover, other = chance.sample(homes, 2)
        before = made_by(server, other)
        mover.alias = chance.choice([at for at in range(3) if at not in mover.given_up])
        if chance.random() < 0.1 and len(mover.given_up) < 2:
            mover.given_up.add(chance.choice([at for at in range(3) if at != mover.alias]))
        take_over = chance.random() < 0.15
        mover.look(server, take_over=take_over)
        if take_over:
            assert mover.is_right(server)
        else:
            assert made_by(server, other) == before
    assert all(home.look(server, take_over=True) and home.is_right(server) for home in (*homes, homes[0]))


def made_by(server: OllamaServer, home: Keeper) -> dict[str, str]:
    """The names that a home has made, and what they stand for."""
    shown = ((name, digest, server.show(name)) for name, digest in server.tags().items())
    return {name: digest for name, digest, each in shown if each and f"THAU home {home.house.id}" in each.license}
