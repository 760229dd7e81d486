"""The contract between THAU's client and an Ollama server, on the strict fake in both generations and on a real server.

A real one is named by THAU_TEST_OLLAMA_HOST. Its models are made under names of this process, and deleted.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving.kit import ADD, HERMES, TOOL_CALL, Forge
from thaud.domain import Message, ToolCall
from thaud.errors import ModelError, ServerError
from thaud.rendering import Renderer
from thaud.serving.fake_ollama import FakeOllama
from thaud.serving.ollama import OllamaServer, Recipe, full_name, has_native_templates
from thaud.serving.ollama_runtime import OllamaRuntime
from thaud.serving.reconcile import CANDIDATE_TAG, Receipt, point_alias, register
from thaud.serving.runtime import Delta
from thaud.serving.templates import go_template_of

VARIABLE = "THAU_TEST_OLLAMA_HOST"
CONTEXT = 256
HELLO = [Message("user", "hello")]
NO_SERVER = pytest.mark.skipif(VARIABLE not in os.environ, reason=f"{VARIABLE} names no Ollama server")


@dataclass(frozen=True)
class Target:
    """A server under test, with models of its own."""

    server: OllamaServer
    native: bool
    forge: Forge

    @property
    def name(self) -> str:
        """The name that single models are made under."""
        return f"{self.forge.family}-single"

    def http(self) -> httpx.Client:
        """For requests that THAU itself never makes."""
        return httpx.Client(base_url=self.server.url, timeout=60, trust_env=False)

    def post(self, route: str, body: dict[str, Any]) -> httpx.Response:
        """One raw request."""
        with self.http() as client:
            return client.post(f"/api/{route}", json=body)

    def serve(
        self, script: list[str] | tuple[str, ...], template: str | None = HERMES, *, repeat: bool = False
    ) -> Receipt:
        """Register version 1, which says `script`."""
        return register(self.server, self.forge.version(1, script, template, repeat=repeat), CONTEXT, ["<|im_end|>"])

    def make(self, script: list[str] | tuple[str, ...], *, go: bool, parameters: dict[str, Any] | None = None) -> str:
        """A model with or without a Go template, whatever the server's generation would want."""
        version = self.forge.version(9, script)
        path = Path(version.gguf)
        template = go_template_of(path) if go else None
        recipe = Recipe(self.name, path, version.gguf_sha256, parameters or {"num_ctx": CONTEXT}, template)
        self.server.push_blob(path, recipe.digest)
        self.server.create(recipe)
        self.server.unload(self.name)
        return self.name

    def runtime(self, name: str | None = None) -> OllamaRuntime:
        """The served model (version 1, where no name is given)."""
        return OllamaRuntime(self.server.url, name or f"{self.forge.family}-v1", CONTEXT)


@pytest.fixture(
    params=["fake-new", "fake-old", pytest.param("real", marks=[pytest.mark.ollama, NO_SERVER])],
)
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Target]:
    forge = Forge(tmp_path, f"thau-contract-{os.getpid()}")
    if request.param == "real":
        server = OllamaServer(os.environ[VARIABLE])
        yield Target(server, has_native_templates(server.version()), forge)
        for name in server.tags():
            if name.startswith(forge.family):
                server.delete(name)
        return
    with FakeOllama(request.param.removeprefix("fake-")) as fake:
        yield Target(OllamaServer(fake.url), request.param == "fake-new", forge)


def text_of(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


def test_blob_is_uploaded_once(target: Target) -> None:
    """1. A file is sent where HEAD says 404 and not again where it says 200; its progress ends at its size."""
    version = target.forge.version(1, [f"unique to {target.forge.family} {os.urandom(8).hex()}"])
    digest, path = f"sha256:{version.gguf_sha256}", Path(version.gguf)
    seen: list[tuple[int, int]] = []
    assert not target.server.has_blob(digest)
    assert target.server.push_blob(path, digest, lambda sent, size: seen.append((sent, size)))
    assert target.server.has_blob(digest)
    assert not target.server.push_blob(path, digest)
    assert seen[-1] == (version.size_bytes, version.size_bytes)


def test_blob_statuses(target: Target) -> None:
    """1. A second upload is 200 unread, a bad digest 400, a wrong one 400 naming both, another method 405."""
    data = os.urandom(64)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    wrong = f"sha256:{'0' * 64}"
    with target.http() as client:
        assert client.post(f"/api/blobs/{digest}", content=data).status_code == 201
        assert client.post(f"/api/blobs/{digest}", content=b"not even the same bytes").status_code == 200
        assert client.post("/api/blobs/sha256:zz", content=data).status_code == 400
        assert client.head("/api/blobs/sha256:zz").status_code == 400
        mismatch = client.post(f"/api/blobs/{wrong}", content=os.urandom(64))
        assert mismatch.status_code == 400
        assert mismatch.json()["error"].startswith(f'digest mismatch, expected "{wrong}", got "sha256:')
        refused = client.put(f"/api/blobs/{digest}", content=data)
        assert (refused.status_code, refused.text) == (405, "405 method not allowed")
        assert (client.get("/api/nowhere").status_code, client.get("/api/nowhere").text) == (404, "404 page not found")


def test_served_file_may_differ_from_the_uploaded_one(target: Target) -> None:
    """1. A new server rewrites the file and an old one does not; the receipt names both digests."""
    receipt = target.serve(["hola"])
    assert receipt.served_sha256 == target.server.gguf_digest(receipt.name)
    assert (receipt.served_sha256 != receipt.gguf_sha256) == target.native


def test_create_tells_its_steps_in_order(target: Target) -> None:
    """2. Parsing comes first, then layers, the manifest, and `success` last of all."""
    version = target.forge.version(1, ["hola"])
    recipe = Recipe(target.name, Path(version.gguf), version.gguf_sha256, {"num_ctx": 64}, license="mine")
    target.server.push_blob(recipe.gguf, recipe.digest)
    lines: list[str] = []
    target.server.create(recipe, lines.append)
    assert lines[0] == "parsing GGUF"
    assert lines[-2:] == ["writing manifest", "success"]
    assert ("verifying conversion" in lines) == target.native
    assert sum(" layer sha256:" in line for line in lines) == 3


def test_errors_before_and_inside_a_stream(target: Target) -> None:
    """2. and 12. A refusal before the first line is a status, one after it an error line; both reach us as one line."""
    early = target.post("create", {"model": target.name})
    assert (early.status_code, early.json()["error"]) == (400, "neither 'from' or 'files' was specified")
    data = b"not a model"
    digest = hashlib.sha256(data).hexdigest()
    path = target.forge.folder / "note.gguf"
    path.write_bytes(data)
    target.server.push_blob(path, f"sha256:{digest}")
    late = target.post("create", {"model": target.name, "files": {"note.gguf": f"sha256:{digest}"}})
    rows = [json.loads(line) for line in late.text.splitlines()]
    assert late.status_code == 200
    assert rows[0] == {"status": "parsing GGUF"}
    with pytest.raises(ServerError, match="not in GGUF format") as caught:
        target.server.create(Recipe(target.name, path, digest, {}))
    assert "\n" not in str(caught.value)
    assert target.server.show(target.name) is None


def test_names(target: Target) -> None:
    """3. Names are read without regard to case, `latest` is the default tag, nonsense is refused with 400."""
    target.serve(["hola"])
    name = f"{target.forge.family}-v1"
    assert full_name(name) in target.server.tags()
    assert target.server.show(name.upper()) is not None
    assert target.server.show(f"{name}:latest") is not None
    for bad in ("-a", ".a", "a b", "a:", "a:b:c", "a@b", "ü", "ns.x/m", "a" * 81, "a/b/c/d/e"):
        assert target.post("chat", {"model": bad, "messages": []}).status_code == 400, bad


def test_tags_with_a_meaning_are_not_ours(target: Target) -> None:
    """3. `cloud` and `local` are taken for routing by every read: the candidate's tag is neither."""
    target.serve(["hola"])
    name = f"{target.forge.family}-v1"
    assert target.post("show", {"model": f"{name}:local"}).status_code == 404
    assert CANDIDATE_TAG not in {"cloud", "local"}
    assert not CANDIDATE_TAG.endswith("-cloud")
    assert not [tag for tag in target.server.tags() if tag.startswith(name) and tag.endswith(CANDIDATE_TAG)]


def test_capabilities_come_from_show(target: Target) -> None:
    """4. Show knows that a model with tools in its template has tools; tags of a new server do not."""
    receipt = target.serve(["hola"])
    assert {"completion", "tools"} <= set(receipt.capabilities)
    with target.http() as client:
        rows = client.get("/api/tags").json()["models"]
    listed = next(row for row in rows if row["name"] == full_name(receipt.name))
    assert "tools" not in listed.get("capabilities", []) or not target.native


def test_tools_of_a_model_without_them(target: Target) -> None:
    """5. A model whose template knows no tools refuses them, and THAU says which model and why."""
    receipt = target.serve(["hola"], template=None)
    with pytest.raises(ServerError, match=f"{receipt.name}.* does not support tools"):
        list(target.runtime().chat(HELLO, tools=[ADD]))
    thinking = target.post(
        "chat", {"model": receipt.name, "messages": [{"role": "user", "content": "x"}], "think": True}
    )
    assert thinking.status_code == 400
    assert "does not support thinking" in thinking.json()["error"]


def test_answer_is_streamed_whole(target: Target) -> None:
    """The text arrives unbroken whatever the server's cuts; the last delta has the reason and the counts."""
    target.serve(["¿Qué tal? ", "ñandú 🙂 ", "adiós"])
    deltas = list(target.runtime().chat(HELLO))
    assert text_of(deltas) == "¿Qué tal? ñandú 🙂 adiós"
    assert [delta.done for delta in deltas if delta.done] == ["stop"]
    assert deltas[-1].prompt_tokens > 0
    assert deltas[-1].completion_tokens > 3


def test_tool_call_makes_the_round_trip(target: Target) -> None:
    """6. A Hermes call comes back as a ToolCall with an object as arguments, and its result may follow."""
    target.serve(TOOL_CALL)
    deltas = list(target.runtime().chat(HELLO, tools=[ADD]))
    calls = [call for delta in deltas for call in delta.tool_calls]
    assert calls == [ToolCall("add", {"a": 2, "b": 3})]
    assert deltas[-1].done == "stop"
    turns = [*HELLO, Message("assistant", "", tuple(calls)), Message("tool", "5", tool_name="add")]
    assert list(target.runtime().chat(turns, tools=[ADD]))[-1].done == "stop"


def test_calls_without_tools_stay_text(target: Target) -> None:
    """6. Where no tools are offered, a call's tags and JSON arrive as text, for whoever reads it."""
    target.serve(TOOL_CALL)
    assert text_of(list(target.runtime().chat(HELLO))) == "".join(TOOL_CALL)


@pytest.mark.parametrize(
    "body",
    ['{"name": "add", "arguments": {"a": 2', '{"name": "sing", "arguments": {}}'],
    ids=["malformed", "unknown"],
)
def test_lost_calls_with_a_go_template(target: Target, body: str) -> None:
    """6. Behind a Go template a malformed or unknown call vanishes: no text, no call, a plain stop."""
    name = target.make(["<tool_call>", f"\n{body}\n", "</tool_call>"], go=True)
    deltas = list(target.runtime(name).chat(HELLO, tools=[ADD]))
    assert text_of(deltas) == ""
    assert not [call for delta in deltas for call in delta.tool_calls]
    assert deltas[-1].done == "stop"


def test_native_calls_come_with_the_last_chunk(target: Target) -> None:
    """6. A new server puts calls into the chunk that says done, an old one into a chunk of its own; ids differ too."""
    target.serve(TOOL_CALL)
    body = {"model": f"{target.forge.family}-v1", "messages": [{"role": "user", "content": "x"}], "tools": [ADD]}
    rows = [json.loads(line) for line in target.post("chat", body).text.splitlines()]
    row = next(row for row in rows if row["message"].get("tool_calls"))
    call = row["message"]["tool_calls"][0]
    assert row["done"] is target.native
    assert len(call["id"]) == 32 if target.native else call["id"].startswith("call_")


def test_stream_without_an_end_is_an_aborted_answer(target: Target) -> None:
    """7. The guard against loops ends the stream without a last chunk: the last delta says `aborted`."""
    name = target.make(["again "], go=True)
    version = target.forge.version(8, ["again "], repeat=True)
    recipe = Recipe(
        name, Path(version.gguf), version.gguf_sha256, {"num_ctx": CONTEXT}, go_template_of(Path(version.gguf))
    )
    target.server.push_blob(recipe.gguf, recipe.digest)
    target.server.create(recipe)
    deltas = list(target.runtime(name).chat(HELLO, max_new_tokens=200))
    assert text_of(deltas).startswith("again again")
    assert deltas[-1] == Delta(done="aborted")


def test_long_answer_ends_with_length(target: Target) -> None:
    """An answer of `max_new_tokens` ends with `length`."""
    target.serve(["one ", "two ", "three ", "four "], repeat=True)
    deltas = list(target.runtime().chat(HELLO, max_new_tokens=5))
    assert deltas[-1].done == "length"
    assert deltas[-1].completion_tokens == 5


def test_conversation_that_does_not_fit(target: Target) -> None:
    """8. A prompt longer than the context is a ModelError that says so, never an answer to half of it."""
    target.serve(["hola"])
    with pytest.raises(ModelError, match="does not fit") as caught:
        list(target.runtime().chat([Message("user", "one two three " * 200)]))
    assert str(CONTEXT) in str(caught.value) or not target.native


def test_old_turns_are_not_dropped_silently(target: Target) -> None:
    """8. A conversation whose early turns would have to go is a ModelError too."""
    target.serve(["hola"])
    turns = [Message("user", "a b c " * 30), Message("assistant", "d e f " * 30)] * 4
    with pytest.raises(ModelError, match="does not fit"):
        list(target.runtime().chat([*turns, *HELLO]))


def test_badly_typed_parameter_shows_at_the_first_question(target: Target) -> None:
    """9. Create accepts a number as text; the chat answers 500 and THAU tells which option."""
    name = target.make(["hola"], go=not target.native, parameters={"num_ctx": CONTEXT, "top_k": "forty"})
    with pytest.raises(ServerError, match='option "top_k" must be of type integer'):
        list(target.runtime(name).chat(HELLO))


def test_load_unload_and_keep_alive(target: Target) -> None:
    """10. Nothing to say loads, keep_alive 0 unloads, nonsense as a duration is 400, a deleted model stays in ps."""
    name = target.serve(["hola"]).name
    assert target.post("generate", {"model": name, "stream": False}).json()["done_reason"] == "load"
    assert target.post("chat", {"model": name, "stream": False}).json()["done_reason"] == "load"
    unloaded = target.post("generate", {"model": name, "keep_alive": 0, "stream": False})
    assert unloaded.json()["done_reason"] == "unload"
    assert target.post("chat", {"model": name, "keep_alive": "abc"}).status_code == 400
    assert target.post("chat", {"model": name, "keep_alive": "-1"}).status_code == 400
    target.post("generate", {"model": name, "stream": False})
    assert target.server.delete(name)
    assert not target.server.delete(name)
    with target.http() as client:
        assert full_name(name) in [row["name"] for row in client.get("/api/ps").json()["models"]]


def test_model_that_is_created_but_does_not_load(target: Target) -> None:
    """13. Create's success proves nothing: a file that cannot be loaded is found out, told, and leaves no name."""
    version = target.forge.without_tokenizer(1)
    with pytest.raises(ServerError, match=r"trying|error loading model|unable to load"):
        register(target.server, version, 64)
    left = [name for name in target.server.tags() if name.startswith(version.name)]
    assert left == []


def test_stale_runner_is_unloaded(target: Target) -> None:
    """14. The same file made anew in the other template mode answers in that mode after registration's unload."""
    name = target.make(TOOL_CALL, go=True)
    assert [d for d in target.runtime(name).chat(HELLO, tools=[ADD]) if d.tool_calls]
    name = target.make(TOOL_CALL, go=not target.native)
    target.server.smoke(name, CONTEXT)
    assert [d for d in target.runtime(name).chat(HELLO, tools=[ADD]) if d.tool_calls]


def test_served_prompt_is_the_trained_prompt(target: Target) -> None:
    """15. What a new server renders is, byte for byte, what training rendered."""
    if not target.native:
        assert "{{ json . }}" in go_template_of(Path(target.forge.version(1, ["hola"]).gguf))
        return
    target.serve(["hola"])
    conversations: list[list[dict[str, Any]]] = [
        [{"role": "user", "content": "hola, ¿qué tal? 🙂"}],
        [{"role": "system", "content": "Sé <breve> & claro."}, {"role": "user", "content": '"comillas" y\nsaltos'}],
        [
            {"role": "user", "content": "2+3?"},
            {"role": "assistant", "content": "5"},
            {"role": "user", "content": "y 4?"},
        ],
    ]
    for turns in conversations:
        body = {"model": f"{target.forge.family}-v1", "messages": turns, "stream": False, "_debug_render_only": True}
        served = target.post("chat", body).json()["_debug_info"]["rendered_template"]
        messages = [Message(turn["role"], turn["content"]) for turn in turns]
        assert served == Renderer(HERMES, ()).render(messages, add_generation_prompt=True)


def test_alias_answers_as_its_version(target: Target) -> None:
    """Copying moves a name at once: the alias says what the version says, and moving it back is the same again."""
    first, second = target.forge.version(1, ["first"]), target.forge.version(2, ["second"])
    register(target.server, first, CONTEXT)
    register(target.server, second, CONTEXT)
    family = target.forge.family
    assert point_alias(target.server, family, first)
    assert text_of(list(target.runtime(family).chat(HELLO))) == "first"
    assert point_alias(target.server, family, second)
    assert not point_alias(target.server, family, second)
    assert text_of(list(target.runtime(family).chat(HELLO))) == "second"
    assert target.server.tags()[full_name(family)] == target.server.tags()[full_name(second.name)]


def test_missing_model(target: Target) -> None:
    """Asking a model that is not there is one line with its name, and showing it is None."""
    with pytest.raises(ServerError, match="model 'thau-nowhere' not found"):
        list(target.runtime("thau-nowhere").chat(HELLO))
    assert target.server.show("thau-nowhere") is None
    assert target.server.gguf_digest("thau-nowhere") is None
    with pytest.raises(ServerError, match="not found"):
        target.server.copy("thau-nowhere", target.name)
