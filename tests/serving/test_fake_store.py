"""What the fake keeps on disk: what others do to it by hand, what a restart finds, what a full disk does."""

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving.kit import Forge
from thaud.errors import ServerError
from thaud.serving.fake.runners import Runners
from thaud.serving.fake.store import PRUNE_S, Store
from thaud.serving.fake_ollama import FakeOllama, Fault, parse_name
from thaud.serving.ollama import OllamaServer, Recipe

ASK = {"messages": [{"role": "user", "content": "x"}], "stream": False}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "server"


@pytest.fixture
def fake(folder: Path) -> Iterator[FakeOllama]:
    with FakeOllama("new", folder) as server:
        yield server


@pytest.fixture
def recipe(fake: FakeOllama, tmp_path: Path) -> Recipe:
    version = Forge(tmp_path).version(1, ["hola"])
    made = Recipe("m", Path(version.gguf), version.gguf_sha256, {"num_ctx": 256})
    server = OllamaServer(fake.url)
    server.push_blob(made.gguf, made.digest)
    server.create(made)
    return made


def post(fake: FakeOllama, route: str, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{fake.url}/api/{route}", json=body, trust_env=False)


def manifest(fake: FakeOllama, name: str) -> Path:
    parsed = parse_name(name)
    assert parsed is not None
    return fake.store.manifest(parsed)


def test_folder_is_laid_out_as_the_real_one(fake: FakeOllama, recipe: Recipe, folder: Path) -> None:
    """Manifests and blobs lie where a real server has them, so that a test may damage them by hand."""
    assert manifest(fake, recipe.name) == folder / "manifests/registry.ollama.ai/library/m/latest"
    assert (folder / "blobs" / recipe.digest.replace(":", "-")).exists()


@pytest.mark.parametrize(("content", "text"), [(b"", "EOF"), (b'{"layers": [', "unexpected EOF")])
def test_manifest_that_cannot_be_read(fake: FakeOllama, recipe: Recipe, content: bytes, text: str) -> None:
    """Show, chat and delete answer 500, the list passes over it, and making the name anew mends it."""
    manifest(fake, recipe.name).write_bytes(content)
    for route, body in (("show", {"model": "m"}), ("chat", {"model": "m", **ASK})):
        answer = post(fake, route, body)
        assert (answer.status_code, answer.json()["error"]) == (500, text)
    with pytest.raises(ServerError, match="EOF"):
        OllamaServer(fake.url).delete("m")
    assert OllamaServer(fake.url).tags() == {}
    OllamaServer(fake.url).create(recipe)
    assert post(fake, "chat", {"model": "m", **ASK}).json()["message"]["content"] == "hola"


def test_model_deleted_by_hand_while_loaded(fake: FakeOllama, recipe: Recipe) -> None:
    """It is gone from list and show, and stays in ps until its runner ends."""
    post(fake, "chat", {"model": "m", **ASK})
    manifest(fake, recipe.name).unlink()
    assert post(fake, "show", {"model": "m"}).status_code == 404
    running = httpx.get(f"{fake.url}/api/ps", trust_env=False).json()["models"]
    assert [row["name"] for row in running] == ["m:latest"]


def test_runner_ends_when_its_time_is_up(fake: FakeOllama, recipe: Recipe) -> None:
    """keep_alive counts from the last answer: five minutes by default, for ever where it is negative."""
    clock = {"now": datetime(2026, 1, 1, tzinfo=UTC)}
    fake.speaker.runners = Runners(lambda: clock["now"])
    post(fake, "chat", {"model": recipe.name, **ASK})
    clock["now"] += timedelta(seconds=299)
    assert len(fake.speaker.runners.live()) == 1
    clock["now"] += timedelta(seconds=2)
    assert fake.speaker.runners.live() == []
    post(fake, "chat", {"model": recipe.name, **ASK, "keep_alive": -1})
    clock["now"] += timedelta(days=400)
    assert len(fake.speaker.runners.live()) == 1
    post(fake, "chat", {"model": recipe.name, **ASK, "keep_alive": "1.5h"})
    assert fake.speaker.runners.live()[0].expires == clock["now"] + timedelta(hours=1.5)


def test_name_made_anew_by_somebody_has_another_digest(fake: FakeOllama, recipe: Recipe) -> None:
    """The list's digest is that of the manifest: equal for copies, another after any change, the same for the same."""
    server = OllamaServer(fake.url)
    server.copy("m", "copy")
    first = server.tags()
    assert first["m:latest"] == first["copy:latest"]
    post(fake, "create", {"model": "m", "from": "copy", "system": "other rules"})
    assert server.tags()["m:latest"] != first["m:latest"]
    server.create(recipe)
    assert server.tags()["m:latest"] == first["m:latest"]


def test_restart_finds_the_models_and_prunes_old_orphans(fake: FakeOllama, recipe: Recipe, folder: Path) -> None:
    """A new server on the folder has its models; files that no model needs and that are an hour old are gone."""
    assert fake.store.blob(recipe.digest).exists()
    fresh, stale = folder / "blobs/sha256-fresh", folder / "blobs/sha256-stale"
    for path in (fresh, stale, fake.store.blob(recipe.digest)):
        path.touch()
    for path in (stale, fake.store.blob(recipe.digest)):
        os.utime(path, (0, time.time() - PRUNE_S - 60))
    fake.stop()
    with FakeOllama("new", folder) as again:
        assert list(OllamaServer(again.url).tags()) == ["m:latest"]
        assert post(again, "chat", {"model": "m", **ASK}).json()["message"]["content"] == "hola"
    assert (fresh.exists(), stale.exists(), (folder / "blobs" / recipe.digest.replace(":", "-")).exists()) == (
        True,
        False,
        False,
    )


def test_unreadable_manifest_keeps_everything(folder: Path) -> None:
    """Where a manifest cannot be read, nobody knows what is needed: nothing is pruned."""
    store = Store(folder)
    orphan = store.blobs / "sha256-orphan"
    orphan.touch()
    os.utime(orphan, (0, 0))
    broken = folder / "manifests/registry.ollama.ai/library/m/latest"
    broken.parent.mkdir(parents=True)
    broken.touch()
    Store(folder)
    assert orphan.exists()
    broken.unlink()
    Store(folder)
    assert not orphan.exists()


def test_full_disk(fake: FakeOllama, recipe: Recipe, tmp_path: Path) -> None:
    """While the disk is full, uploads and creates fail in the system's words, and what was there stays."""
    other = Forge(tmp_path).version(2, ["otro"])
    server = OllamaServer(fake.url)
    fake.store.full = True
    with pytest.raises(ServerError, match="no space left on device"):
        server.push_blob(Path(other.gguf), f"sha256:{other.gguf_sha256}")
    with pytest.raises(ServerError, match="no space left on device"):
        server.create(Recipe("n", recipe.gguf, recipe.gguf_sha256, {"num_ctx": 64}))
    assert list(server.tags()) == ["m:latest"]
    fake.store.full = False
    assert server.push_blob(Path(other.gguf), f"sha256:{other.gguf_sha256}")


def test_disk_that_was_full_once(fake: FakeOllama, recipe: Recipe, tmp_path: Path) -> None:
    """The fault `full` is one request's: the next try goes through."""
    other = Forge(tmp_path).version(2, ["otro"])
    server = OllamaServer(fake.url)
    fake.faults += [Fault("blobs", "full", after_bytes=1000), Fault("create", "full", 1)]
    with pytest.raises(ServerError, match="no space left on device"):
        server.push_blob(Path(other.gguf), f"sha256:{other.gguf_sha256}")
    with pytest.raises(ServerError, match="no space left on device"):
        server.create(recipe)
    assert server.push_blob(Path(other.gguf), f"sha256:{other.gguf_sha256}")
    server.create(recipe)
