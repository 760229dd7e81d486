"""The contract's points 3, 4, 10 and the alias: names, what the lists say, loading and unloading."""

from pathlib import Path

import pytest

from tests.contract.targets import CONTEXT, HELLO, Target, text_of
from tests.serving.kit import THINKING
from thaud.errors import ServerError
from thaud.serving.ollama import full_name
from thaud.serving.reconcile import CANDIDATE_TAG, point_alias, register


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
    listed = next(row for row in target.get("tags")["models"] if row["name"] == full_name(receipt.name))
    assert "tools" not in listed.get("capabilities", [])
    assert ("capabilities" in listed) == target.native


def test_list_and_show_describe_a_model(target: Target) -> None:
    """4. The list's digest is the manifest's, its size that of all layers; show has details, tensors, and no arrays."""
    receipt = target.serve(["hola"])
    listed = next(row for row in target.get("tags")["models"] if row["name"] == full_name(receipt.name))
    assert listed["digest"] != receipt.served_sha256
    assert listed["size"] > Path(target.forge.folder / f"{target.forge.family}-v1.gguf").stat().st_size * 0.9
    shown = target.post("show", {"model": receipt.name}).json()
    assert (shown["details"]["family"], shown["details"]["quantization_level"]) == ("qwen2", "F16")
    assert shown["model_info"]["tokenizer.ggml.tokens"] is None
    assert shown["model_info"]["general.parameter_count"] > 0
    assert "token_embd.weight" in {row["name"] for row in shown["tensors"]}


def test_load_unload_and_keep_alive(target: Target) -> None:
    """10. Nothing to say loads, keep_alive 0 unloads, nonsense as a duration is 400, a deleted model stays in ps."""
    name = target.serve(["hola"]).name
    assert target.post("generate", {"model": name, "stream": False}).json()["done_reason"] == "load"
    assert target.post("chat", {"model": name, "stream": False}).json()["done_reason"] == "load"
    running = next(row for row in target.get("ps")["models"] if row["name"] == full_name(name))
    assert running["digest"] == target.server.tags()[full_name(name)]
    assert running["size"] > 0
    assert running["expires_at"] > ""
    unloaded = target.post("generate", {"model": name, "keep_alive": 0, "stream": False})
    assert unloaded.json()["done_reason"] == "unload"
    assert target.post("chat", {"model": name, "keep_alive": "abc"}).status_code == 400
    assert target.post("chat", {"model": name, "keep_alive": "-1"}).status_code == 400
    target.post("generate", {"model": name, "stream": False})
    assert target.server.delete(name)
    assert not target.server.delete(name)
    assert full_name(name) in [row["name"] for row in target.get("ps")["models"]]


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


def test_copy_and_delete_refuse_what_is_no_name(target: Target) -> None:
    """3. Each of the short routes refuses a bad name with 400 and words of its own, and an absent model with 404."""
    absent = f"{target.forge.family}-absent"
    with target.http() as client:
        bad = client.request("DELETE", "/api/delete", json={"model": "a b"})
        gone = client.request("DELETE", "/api/delete", json={"model": absent})
    assert bad.status_code == 400
    assert (gone.status_code, gone.json()["error"]) == (404, f"model '{absent}' not found")
    copied = target.post("copy", {"source": absent, "destination": target.name})
    assert (copied.status_code, copied.json()["error"]) == (404, f'model "{absent}" not found')
    assert (
        target.post("copy", {"source": "a b", "destination": target.name}).json()["error"] == 'source "a b" is invalid'
    )
    shown = target.post("show", {"model": absent})
    assert (shown.status_code, shown.json()["error"]) == (404, f"model '{absent}:latest' not found")


def test_missing_model(target: Target) -> None:
    """Asking a model that is not there is one line with its name, and showing it is None."""
    with pytest.raises(ServerError, match="model 'thau-nowhere' not found"):
        list(target.runtime("thau-nowhere").chat(HELLO))
    assert target.server.show("thau-nowhere") is None
    assert target.server.gguf_digest("thau-nowhere") is None
    with pytest.raises(ServerError, match="not found"):
        target.server.copy("thau-nowhere", target.name)


def test_tools_of_a_model_without_them(target: Target) -> None:
    """5. A model whose template knows no tools refuses them, and THAU says which model and why."""
    receipt = target.serve(["hola"], template=None)
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
    with pytest.raises(ServerError, match=f"{receipt.name}.* does not support tools"):
        list(target.runtime().chat(HELLO, tools=[tool]))
    asked = {"model": receipt.name, "messages": [{"role": "user", "content": "x"}], "think": True}
    thinking = target.post("chat", asked)
    assert thinking.status_code == 400
    assert "does not support thinking" in thinking.json()["error"]
    assert target.post("chat", {**asked, "think": "xx"}).status_code == 400


def test_thinking_is_on_where_a_model_can(target: Target) -> None:
    """5. A model whose Jinja thinks does so unless told otherwise; an old server sees it in a Go template only."""
    name = target.make(["<think>", "\nlet me see\n", "</think>", "\n\nhola"], go=not target.native, template=THINKING)
    body = {"model": name, "messages": [{"role": "user", "content": "x"}], "stream": False}
    if not target.native:
        assert target.post("chat", {**body, "think": True}).status_code == 400
        return
    assert "thinking" in target.post("show", {"model": name}).json()["capabilities"]
    said = target.post("chat", {**body, "options": {"temperature": 0}}).json()["message"]
    assert ("let me see" in said["thinking"], said["content"].strip()) == (True, "hola")
    rendered = target.post("chat", {**body, "think": False, "_debug_render_only": True}).json()
    assert rendered["_debug_info"]["rendered_template"].endswith("<think>\n\n</think>\n\n")
