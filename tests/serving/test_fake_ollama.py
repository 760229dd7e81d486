"""The fake itself: what the contract suite cannot see through THAU's client."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving.kit import ADD, HERMES, TOOL_CALL, Forge
from thaud.serving.fake_ollama import FakeOllama, parse_name
from thaud.serving.ollama import OllamaServer, Recipe
from thaud.serving.templates import go_template_of

ASK = {"messages": [{"role": "user", "content": "x"}], "stream": False}


@pytest.fixture
def fake() -> Iterator[FakeOllama]:
    with FakeOllama("new") as server:
        yield server


@pytest.fixture
def recipe(fake: FakeOllama, tmp_path: Path) -> Recipe:
    version = Forge(tmp_path).version(1, TOOL_CALL)
    made = Recipe("m", Path(version.gguf), version.gguf_sha256, {"num_ctx": 1024}, system="rules", license="mine")
    OllamaServer(fake.url).push_blob(made.gguf, made.digest)
    return made


def post(fake: FakeOllama, route: str, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{fake.url}/api/{route}", json=body, trust_env=False)


def statuses(answer: httpx.Response) -> list[str]:
    return [json.loads(line).get("status") or json.loads(line)["error"] for line in answer.text.splitlines()]


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"model": "a b"}, 400, "invalid model name"),
        ({}, 400, "invalid model name"),
        ({"model": "m"}, 400, "neither 'from' or 'files' was specified"),
        ({"model": "m", "files": {}}, 400, "unknown type"),
        ({"model": "m", "files": {"/a.gguf": "sha256:" + "0" * 64}}, 400, "file path must be relative"),
        ({"model": "m", "files": {"a.gguf": ""}}, 400, "invalid digest format"),
        ({"model": "m", "from": "x", "adapters": {"a": "", "b": ""}}, 400, "only one adapter is currently supported"),
        ({"model": "m", "from": "x", "adapters": {"a": ""}}, 400, "invalid digest format"),
    ],
    ids=["bad name", "no name", "no source", "no files", "absolute", "empty digest", "adapters", "adapter"],
)
def test_create_refuses_before_its_first_line(fake: FakeOllama, body: dict[str, Any], status: int, text: str) -> None:
    """What is wrong with the request itself is a status, in the server's words."""
    answer = post(fake, "create", body)
    assert (answer.status_code, answer.json()["error"]) == (status, text)


@pytest.mark.parametrize(
    ("extra", "text"),
    [
        ({"files": {"a.gguf": "sha256:" + "0" * 64}}, "no such file or directory"),
        ({"files": {"a.gguf": "sha256:zz"}}, "invalid digest format"),
        ({"from": "absent"}, "pull model manifest"),
        ({"quantize": "q4_0"}, "unsupported quantization type Q4_0"),
        ({"template": "{{ if"}, "unclosed action"),
    ],
    ids=["no blob", "bad digest", "from nowhere", "quantize", "template"],
)
def test_create_refuses_inside_its_stream(fake: FakeOllama, recipe: Recipe, extra: dict[str, Any], text: str) -> None:
    """What is wrong with a file is the last line of a stream; without a stream it is a status."""
    body = {"model": "m", "files": {"a.gguf": recipe.digest}, **extra}
    answer = post(fake, "create", body)
    assert answer.status_code == 200
    assert text in statuses(answer)[-1]
    assert post(fake, "create", {**body, "stream": False}).status_code in {400, 500}
    assert OllamaServer(fake.url).show("m") is None


def test_from_inherits_and_files_do_not(fake: FakeOllama, recipe: Recipe) -> None:
    """A model made from another has its layers; one made from files has only what was sent."""
    server = OllamaServer(fake.url)
    server.create(recipe)
    assert statuses(post(fake, "create", {"model": "n", "from": "m", "system": "others"}))[-1] == "success"
    inherited = post(fake, "show", {"model": "n"}).json()
    assert (inherited["license"], inherited["system"]) == ("mine", "others")
    post(fake, "create", {"model": "m", "files": {"a.gguf": recipe.digest}})
    bare = post(fake, "show", {"model": "m"}).json()
    assert "license" not in bare
    assert "system" not in bare


def test_rewriting_is_idempotent(fake: FakeOllama, recipe: Recipe) -> None:
    """A file that the server has rewritten keeps its digest when it is uploaded and made again."""
    server = OllamaServer(fake.url)
    server.create(recipe)
    digest = server.gguf_digest("m") or ""
    path = recipe.gguf.with_name("again.gguf")
    path.write_bytes(fake.store.blob(f"sha256:{digest}").read_bytes())
    server.push_blob(path, f"sha256:{digest}")
    server.create(Recipe("again", path, digest, {}))
    assert server.gguf_digest("again") == digest


def test_stale_runner_answers_in_the_old_mode(fake: FakeOllama, recipe: Recipe) -> None:
    """The server's own bug: a loaded file made anew without its Go template cannot call tools until it is unloaded."""
    server = OllamaServer(fake.url)
    go = Recipe("m", recipe.gguf, recipe.gguf_sha256, {"num_ctx": 1024}, go_template_of(recipe.gguf))
    server.create(go)
    body = {"model": "m", "tools": [ADD], **ASK}
    assert post(fake, "chat", body).json()["message"]["tool_calls"]
    server.create(recipe)
    stale = post(fake, "chat", body)
    assert (stale.status_code, stale.json()["error"]["message"]) == (500, "tools param requires --jinja flag")
    server.unload("m")
    assert post(fake, "chat", body).json()["message"]["tool_calls"]


def test_unused_layers_go_at_once_and_uploads_stay(fake: FakeOllama, recipe: Recipe) -> None:
    """Deleting a model deletes the layers that only it had; the raw upload is nobody's and stays."""
    server = OllamaServer(fake.url)
    server.create(recipe)
    server.copy("m", "n")
    layer = f"sha256:{server.gguf_digest('m')}"
    server.delete("m")
    assert server.has_blob(layer)
    server.delete("n")
    assert not server.has_blob(layer)
    assert server.has_blob(recipe.digest)


def test_routes_and_hosts(fake: FakeOllama) -> None:
    """Text for a browser, 404 and 405 as text, 403 without a word for a foreign Host header, 400 for no JSON."""
    with httpx.Client(base_url=fake.url, trust_env=False) as client:
        assert client.get("/").text == "Ollama is running"
        assert client.get("/api/nothing").text == "404 page not found"
        wrong = client.get("/api/chat")
        assert (wrong.status_code, wrong.headers["Allow"], wrong.text) == (405, "POST", "405 method not allowed")
        foreign = client.get("/api/version", headers={"Host": "ollama.example"})
        assert (foreign.status_code, foreign.text) == (403, "")
        assert client.post("/api/chat").json()["error"] == "missing request body"
        assert client.post("/api/chat", content=b'{"model"').json()["error"] == "unexpected EOF"


def test_short_routes_answer_head_and_refuse_other_methods(fake: FakeOllama) -> None:
    """HEAD is answered where GET is; each route allows its own methods only."""
    with httpx.Client(base_url=fake.url, trust_env=False) as client:
        for route in ("/", "/api/tags", "/api/version"):
            head = client.head(route)
            assert (head.status_code, head.content) == (200, b"")
        for route, allowed in (("/api/show", "POST"), ("/api/delete", "DELETE"), ("/api/embed", "POST")):
            assert client.get(route).headers["Allow"] == allowed
        assert client.post("/api/ps").status_code == 405


def test_models_embed_nothing(fake: FakeOllama, recipe: Recipe) -> None:
    """Embedding by a model that talks is 501; by one that is not there, 404."""
    OllamaServer(fake.url).create(recipe)
    assert post(fake, "embed", {"model": "m", "input": "x"}).status_code == 501
    assert post(fake, "embed", {"model": "n", "input": "x"}).status_code == 404


def test_nothing_is_pulled(fake: FakeOllama) -> None:
    """There is no registry: pulling fails as it does where a server cannot reach one."""
    assert "pull model manifest" in statuses(post(fake, "pull", {"model": "m"}))[-1]


def test_unknown_renderer_shows_at_the_first_question(fake: FakeOllama, recipe: Recipe) -> None:
    """A renderer is stored unread, shown in the Modelfile, and refused with 500 by the chat."""
    body = {"model": "m", "files": {"a.gguf": recipe.digest}, "renderer": "nonsense", "requires": "9.9"}
    assert statuses(post(fake, "create", body))[-1] == "success"
    shown = post(fake, "show", {"model": "m"}).json()
    assert ("RENDERER nonsense" in shown["modelfile"], shown["requires"]) == (True, "9.9")
    asked = post(fake, "chat", {"model": "m", **ASK})
    assert (asked.status_code, asked.json()["error"]) == (500, 'unknown renderer "nonsense"')


def test_peft_adapter_on_qwen_is_an_unsupported_architecture(fake: FakeOllama, recipe: Recipe) -> None:
    """Only llama and gemma2 adapters are converted; the refusal comes after the line that says so."""
    body = {"model": "m", "files": {"a.gguf": recipe.digest}, "adapters": {"adapter.safetensors": recipe.digest}}
    assert statuses(post(fake, "create", body))[-2:] == ["converting adapter", "unsupported architecture"]


def test_stale_runner_shows_the_wrong_prompt(fake: FakeOllama, recipe: Recipe) -> None:
    """14. Without tools the stale runner answers, but from ChatML and not from the file's own template."""
    server = OllamaServer(fake.url)
    server.create(Recipe("m", recipe.gguf, recipe.gguf_sha256, {"num_ctx": 1024}, go_template_of(recipe.gguf)))
    post(fake, "chat", {"model": "m", **ASK})
    server.create(Recipe("m", recipe.gguf, recipe.gguf_sha256, {"num_ctx": 1024}))
    body = {"model": "m", **ASK, "_debug_render_only": True}
    assert "helpful" not in post(fake, "chat", body).json()["_debug_info"]["rendered_template"]
    server.unload("m")
    assert "helpful" in post(fake, "chat", body).json()["_debug_info"]["rendered_template"]


def test_unread_body_of_a_refused_request_is_no_request(fake: FakeOllama) -> None:
    """A body that nobody reads does not spoil what the same client asks next."""
    with httpx.Client(base_url=fake.url, trust_env=False) as client:
        assert client.post("/api/embed", json={"model": "m"}).status_code == 404
        assert client.post("/api/show", json={"model": "m"}).status_code == 404
        assert client.get("/api/version").status_code == 200


@pytest.mark.parametrize(
    ("route", "extra", "text"),
    [
        ("chat", {"top_logprobs": 21}, "top_logprobs must be between 0 and 20"),
        ("generate", {"prompt": "a", "suffix": "b"}, "does not support insert"),
    ],
)
def test_question_that_cannot_be_answered(
    fake: FakeOllama, recipe: Recipe, route: str, extra: dict[str, Any], text: str
) -> None:
    """What the server refuses, the fake does not ignore."""
    OllamaServer(fake.url).create(recipe)
    answer = post(fake, route, {**ASK, "model": recipe.name, **extra})
    assert answer.status_code == 400
    assert text in answer.json()["error"]


def test_numbers_with_a_fraction_are_cut_as_go_does(fake: FakeOllama, recipe: Recipe) -> None:
    """A fraction where a whole number belongs is no error, there or here."""
    OllamaServer(fake.url).create(recipe)
    options = {"num_ctx": 64.5, "num_predict": 1.9}
    answer = post(fake, "chat", {**ASK, "model": recipe.name, "options": options, "stream": False})
    assert answer.json()["done_reason"] == "length"


def test_routing_tags(fake: FakeOllama, recipe: Recipe) -> None:
    """A model under the tag `cloud` is made and can never be read again."""
    server = OllamaServer(fake.url)
    server.create(Recipe("m:cloud", recipe.gguf, recipe.gguf_sha256, {}))
    assert "m:cloud" in server.tags()
    assert post(fake, "chat", {"model": "m:cloud", **ASK}).status_code == 403


def parse_key(text: str) -> str | None:
    name = parse_name(text)
    return name.key if name else None


@pytest.mark.parametrize("good", ["thau-1.5b-v1", "a..b", "A.B_c-d:T.1", "ns/m", "host:5000/ns/m:t", "_a"])
def test_names_that_are(good: str) -> None:
    """The names that the real server takes."""
    name = parse_name(good)
    assert name is not None
    assert name.shown == (good if ":" in good.rpartition("/")[2] else f"{good}:latest")
    assert name.key == parse_key(good.upper())


def test_other_models_say_a_placeholder(fake: FakeOllama, tmp_path: Path) -> None:
    """A file that is no scripted model is served all the same."""
    path = tmp_path / "wide.gguf"
    version = Forge(tmp_path).version(1, ["anything"])
    path.write_bytes(Path(version.gguf).read_bytes().replace(b"output.weight", b"outpux.weight"))
    made = Forge(tmp_path).of_file(2, path)
    server = OllamaServer(fake.url)
    server.push_blob(path, f"sha256:{made.gguf_sha256}")
    server.create(Recipe("m", path, made.gguf_sha256, {}))
    assert post(fake, "chat", {"model": "m", **ASK}).json()["message"]["content"] == "a fake answer"
    assert post(fake, "generate", {"model": "m", "prompt": "x", "stream": False}).json()["response"] == "a fake answer"
    assert post(fake, "show", {"model": "m"}).json()["template"] == HERMES


def test_door_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    """`python -m thaud.serving.fake_ollama` says where it listens, answers, breaks as ordered, and ends on SIGTERM."""
    command = [sys.executable, "-m", "thaud.serving.fake_ollama", "--port", "0", "--generation", "old"]
    command += ["--fault", "tags:busy"]
    with subprocess.Popen([*command, "--folder", str(tmp_path)], stdout=subprocess.PIPE, text=True) as served:
        assert served.stdout is not None
        url = served.stdout.readline().split()[-1]
        assert OllamaServer(url).version() == "0.24.0"
        assert httpx.get(f"{url}/api/tags", trust_env=False).status_code == 503
        assert OllamaServer(url).tags() == {}
        served.send_signal(signal.SIGTERM)
        assert served.wait(timeout=20) == 0
