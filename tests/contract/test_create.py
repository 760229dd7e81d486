"""The contract's points 2, 9, 12 and 13: what create says, what it refuses, and what it lets pass."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.contract.targets import CONTEXT, HELLO, Target, text_of
from thaud.errors import ServerError
from thaud.serving.ollama import Recipe
from thaud.serving.reconcile import register


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
    target.push(path)
    body = {"model": target.name, "files": {"note.gguf": f"sha256:{digest}"}}
    late = target.post("create", body)
    rows = [json.loads(line) for line in late.text.splitlines()]
    assert late.status_code == 200
    assert rows[0] == {"status": "parsing GGUF"}
    assert "error" in rows[-1]
    assert target.post("create", {**body, "stream": False}).status_code == 400
    with pytest.raises(ServerError, match="not in GGUF format") as caught:
        target.server.create(Recipe(target.name, path, digest, {}))
    assert "\n" not in str(caught.value)
    assert target.server.show(target.name) is None


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"model": "a b"}, "invalid model name"),
        ({"files": {}}, "unknown type"),
        ({"files": {"/a.gguf": "sha256:" + "0" * 64}}, "file path must be relative"),
        ({"files": {"a.gguf": ""}}, "invalid digest format"),
    ],
    ids=["name", "no files", "absolute", "empty digest"],
)
def test_create_refuses_a_bad_request_by_a_status(target: Target, body: dict[str, Any], text: str) -> None:
    """2. What is wrong with the request itself is 400, before the first line."""
    answer = target.post("create", {"model": target.name, **body})
    assert (answer.status_code, answer.json()["error"]) == (400, text)


def test_file_never_uploaded_is_an_error_line(target: Target) -> None:
    """2. Only the stream says that a digest is unknown."""
    body = {"model": target.name, "files": {"a.gguf": f"sha256:{'1' * 64}"}}
    assert "no such file or directory" in target.rows("create", body)[-1]["error"]


def test_template_that_is_none_is_refused(target: Target) -> None:
    """2. A template that does not parse is found out at create, and leaves no model."""
    digest = target.push(Path(target.forge.version(1, ["hola"]).gguf))
    body = {"model": target.name, "files": {"a.gguf": digest}, "template": "{{ if"}
    assert "template error" in target.rows("create", body)[-1]["error"]
    assert target.server.show(target.name) is None


def test_texts_come_back_in_show(target: Target) -> None:
    """What create was given is what show says: parameters, licences joined, system, messages, the file's line."""
    version = target.forge.version(1, ["hola"])
    digest = target.push(Path(version.gguf))
    turns = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]
    sent = {"system": "rules", "license": ["one", "two"], "messages": turns}
    body = {"model": target.name, "files": {"a.gguf": digest}, "parameters": {"stop": ["<a>", "<b>"], "top_k": 3}}
    assert target.rows("create", {**body, **sent})[-1] == {"status": "success"}
    shown = target.post("show", {"model": target.name}).json()
    assert (shown["license"], shown["system"]) == ("one\ntwo", "rules")
    assert [(turn["role"], turn["content"]) for turn in shown["messages"]] == [("user", "2+2?"), ("assistant", "4")]
    assert sorted(line.split() for line in shown["parameters"].splitlines()) == [
        ["stop", '"<a>"'],
        ["stop", '"<b>"'],
        ["top_k", "3"],
    ]
    assert "general.name" not in shown["model_info"]
    assert "\nFROM " in shown["modelfile"]


def test_remade_model_inherits_nothing_but_from_does(target: Target) -> None:
    """A name made again from files is new in every part; one made `from` a model has its parts, parameters merged."""
    version = target.forge.version(1, ["hola"])
    digest = target.push(Path(version.gguf))
    files = {"model": target.name, "files": {"a.gguf": digest}}
    target.rows("create", {**files, "system": "rules", "parameters": {"top_k": 3, "num_ctx": 64}})
    child = f"{target.forge.family}-child"
    target.rows("create", {"model": child, "from": target.name, "parameters": {"num_ctx": 128}})
    shown = target.post("show", {"model": child}).json()
    assert shown["system"] == "rules"
    assert {tuple(line.split()) for line in shown["parameters"].splitlines()} == {("top_k", "3"), ("num_ctx", "128")}
    before = target.server.tags()[f"{target.name}:latest"]
    target.rows("create", files)
    assert "system" not in target.post("show", {"model": target.name}).json()
    assert target.server.tags()[f"{target.name}:latest"] != before


def test_badly_typed_parameter_shows_at_the_first_question(target: Target) -> None:
    """9. Create accepts a number as text; the chat answers 500 and THAU tells which option."""
    name = target.make(["hola"], go=not target.native, parameters={"num_ctx": CONTEXT, "top_k": "forty"})
    with pytest.raises(ServerError, match='option "top_k" must be of type integer'):
        list(target.runtime(name).chat(HELLO))


@pytest.mark.parametrize(
    ("option", "value", "kind"),
    [("stop", "x", "array"), ("num_ctx", "many", "integer"), ("temperature", "hot", "float32")],
)
def test_badly_typed_option_is_a_500(target: Target, option: str, value: str, kind: str) -> None:
    """9. A request's option of the wrong type is 500 in one wording; an unknown one is no error."""
    name = target.make(["hola"], go=not target.native)
    body = {"model": name, "messages": [{"role": "user", "content": "x"}], "options": {option: value}}
    answer = target.post("chat", body)
    assert (answer.status_code, answer.json()["error"]) == (500, f'option "{option}" must be of type {kind}')
    assert target.post("chat", {**body, "options": {"nonsense": value}}).status_code == 200


def test_model_that_is_created_but_does_not_load(target: Target) -> None:
    """13. Create's success proves nothing: a file that cannot be loaded is found out, told, and leaves no name."""
    version = target.forge.without_tokenizer(1)
    digest = target.push(Path(version.gguf))
    made = target.rows("create", {"model": target.name, "files": {"a.gguf": digest}})
    assert made[-1] == {"status": "success"}
    assert (
        target.post("chat", {"model": target.name, "messages": [{"role": "user", "content": "x"}]}).status_code == 500
    )
    with pytest.raises(ServerError, match=r"trying|error loading model|unable to load"):
        register(target.server, version, 64)
    left = [name for name in target.server.tags() if name.startswith(version.name)]
    assert left == []


def test_quantize_to_what_it_is_changes_nothing(target: Target) -> None:
    """2. A type that the server does not know is refused inside the stream; the type that a file has is no change."""
    digest = target.push(Path(target.forge.version(1, ["hola"]).gguf))
    body = {"model": target.name, "files": {"a.gguf": digest}}
    assert "unsupported quantization type" in target.rows("create", {**body, "quantize": "q4_0"})[-1]["error"]
    assert target.rows("create", {**body, "quantize": "f16"})[-1] == {"status": "success"}
    assert text_of(list(target.runtime(target.name).chat(HELLO))) in {"hola", ""}  # An old server has no template here.
