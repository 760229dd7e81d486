"""A LoRA on a server, without merging."""

from pathlib import Path

from tests.contract.targets import ASK, HELLO, Target, text_of, write_adapter
from thaud.serving.ollama import Recipe
from thaud.serving.templates import go_template_of


def uploaded(target: Target) -> tuple[Path, Path]:
    """A base and an adapter on it, both on the server."""
    base = Path(target.forge.version(1, ["hola"]).gguf)
    adapter = write_adapter(target.forge.folder / "lora.gguf", base)
    target.push(base)
    target.push(adapter)
    return base, adapter


def template_for(target: Target, base: Path) -> dict[str, str]:
    return {} if target.native else {"template": go_template_of(base)}


def test_adapter_beside_files(target: Target) -> None:
    """A model of base and adapter keeps the adapter's digest, shows it in its Modelfile, and talks."""
    base, adapter = uploaded(target)
    sha256 = target.push(adapter).removeprefix("sha256:")
    recipe = Recipe(
        target.name,
        base,
        target.push(base).removeprefix("sha256:"),
        {"num_ctx": 256},
        template_for(target, base).get("template"),
        adapter=adapter,
        adapter_sha256=sha256,
    )
    lines: list[str] = []
    target.server.create(recipe, lines.append)
    assert f"using existing layer sha256:{sha256}" in lines
    shown = target.post("show", {"model": target.name}).json()["modelfile"]
    assert [line for line in shown.splitlines() if line.startswith("ADAPTER") and sha256 in line]
    assert text_of(list(target.runtime(target.name).chat(HELLO))) == "hola"


def test_adapter_on_an_existing_model(target: Target) -> None:
    """`from` a model, its template and parameters are inherited and the adapter is added."""
    base, adapter = uploaded(target)
    files = {"a.gguf": target.push(base)}
    target.rows("create", {"model": target.name, "files": files, **template_for(target, base)})
    child = f"{target.forge.family}-child"
    lines = target.rows("create", {"model": child, "from": target.name, "adapters": {"l.gguf": target.push(adapter)}})
    assert lines[-1] == {"status": "success"}
    assert "\nADAPTER " in target.post("show", {"model": child}).json()["modelfile"]
    assert text_of(list(target.runtime(child).chat(HELLO))) == "hola"


def test_adapter_among_files(target: Target) -> None:
    """A GGUF that says it is an adapter is one, even where models are listed."""
    base, adapter = uploaded(target)
    files = {"a.gguf": target.push(base), "b.gguf": target.push(adapter)}
    target.rows("create", {"model": target.name, "files": files, **template_for(target, base)})
    assert "\nADAPTER " in target.post("show", {"model": target.name}).json()["modelfile"]


def test_two_adapters_are_refused(target: Target) -> None:
    """One adapter is what a model can have."""
    base, adapter = uploaded(target)
    second = write_adapter(target.forge.folder / "other.gguf", base, rank=4)
    adapters = {"a.gguf": target.push(adapter), "b.gguf": target.push(second)}
    answer = target.post("create", {"model": target.name, "files": {"m.gguf": target.push(base)}, "adapters": adapters})
    assert "only one adapter is currently supported" in answer.text
    assert target.server.show(target.name) is None


def test_adapter_alone_does_not_chat(target: Target) -> None:
    """A model of an adapter alone can be made and says no word."""
    _, adapter = uploaded(target)
    lines = target.rows("create", {"model": target.name, "files": {"l.gguf": target.push(adapter)}})
    assert lines[-1] == {"status": "success"}
    answer = target.post("chat", {"model": target.name, **ASK})
    assert answer.status_code == 400
    assert "does not support chat" in answer.json()["error"]


def test_peft_files_are_not_converted_for_qwen(target: Target) -> None:
    """An adapter in PEFT's own format is refused on a qwen2 base: it must be made into a GGUF before."""
    base, _ = uploaded(target)
    path = target.forge.folder / "adapter_model.safetensors"
    path.write_bytes((2).to_bytes(8, "little") + b"{}")
    config = target.forge.folder / "adapter_config.json"
    config.write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": 4}')
    adapters = {"adapter_model.safetensors": target.push(path), "adapter_config.json": target.push(config)}
    body = {"model": target.name, "files": {"m.gguf": target.push(base)}, "adapters": adapters}
    assert "error" in target.post("create", body).text
    assert target.server.show(target.name) is None


def test_adapter_of_another_base_is_found_out_at_the_first_question(target: Target) -> None:
    """13. Create takes an adapter whose tensors the base lacks; the first chat answers 500."""
    base = Path(target.forge.version(1, ["hola"]).gguf)
    wrong = write_adapter(target.forge.folder / "wrong.gguf", base, tensor="blk.7.attn_q.weight")
    files, adapters = {"m.gguf": target.push(base)}, {"l.gguf": target.push(wrong)}
    body = {"model": target.name, "files": files, "adapters": adapters, **template_for(target, base)}
    assert target.rows("create", body)[-1] == {"status": "success"}
    assert target.post("chat", {"model": target.name, **ASK}).status_code == 500
