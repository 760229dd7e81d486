"""The short routes: show, tags, ps, copy, delete, embed."""

import json
from datetime import UTC, datetime
from math import prod
from typing import Any

from thaud.errors import ModelError
from thaud.serving.fake.checks import go_abilities
from thaud.serving.fake.prompts import RAW
from thaud.serving.fake.protocol import Name, Refusal, parse_name
from thaud.serving.fake.runners import moment, row_of
from thaud.serving.fake.speaking import Speaker
from thaud.serving.fake.store import Manifest, Store
from thaud.serving.gguf_header import Header, read_header

Line = dict[str, Any]
TENSOR_TYPES = {0: "F32", 1: "F16", 8: "Q8_0", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 30: "BF16"}
HIDDEN_KEYS = {"general.name", "tokenizer.chat_template"}


def shown(speaker: Speaker, body: Line) -> Line:
    """POST /api/show."""
    _, manifest = speaker.find(body, tagged=True)
    store, header = speaker.store, header_of(speaker.store, manifest)
    config = store.config(manifest)
    jinja = "" if header is None else header.get("tokenizer.chat_template", "")
    answer = {
        "license": store.text(manifest, "license"),
        "modelfile": modelfile(store, manifest),
        "parameters": "\n".join(parameter_lines(store.parameters(manifest))),
        "template": jinja if speaker.native(manifest) else store.text(manifest, "template") or RAW,
        "system": store.text(manifest, "system"),
        "details": details(config),
        "messages": json.loads(store.text(manifest, "messages") or "[]"),
        "model_info": {} if header is None else model_info(header, verbose=body.get("verbose") is True),
        "tensors": [] if header is None else tensors(header),
        "capabilities": capabilities(speaker, manifest),
        "modified_at": modified(manifest),
        "requires": config.get("requires"),
    }
    return {key: value for key, value in answer.items() if value or key == "model_info"}


def model_info(header: Header, *, verbose: bool) -> Line:
    """A file's metadata; arrays only where they are asked for."""
    info = {key: entry.value for key, entry in header.entries.items() if key not in HIDDEN_KEYS}
    if not verbose:
        info = {key: None if isinstance(value, list) else value for key, value in info.items()}
    return info | {"general.parameter_count": sum(prod(tensor.dims) for tensor in header.tensors)}


def tensors(header: Header) -> list[Line]:
    """Names, types and shapes."""
    return [{"name": t.name, "type": TENSOR_TYPES.get(t.kind, "?"), "shape": list(t.dims)} for t in header.tensors]


def capabilities(speaker: Speaker, manifest: Manifest) -> list[str]:
    """What a model can do, as show says it."""
    if manifest.layer("model") is None:
        return []
    able = speaker.abilities(manifest)
    return ["completion", *(["tools"] if able.tools else []), *(["thinking"] if able.thinking else [])]


def listed(speaker: Speaker) -> Line:
    """GET /api/tags. Its capabilities know nothing of a Jinja template; the old generation gives none."""
    return {"models": [listed_row(speaker, manifest) for manifest in speaker.store.every()]}


def listed_row(speaker: Speaker, manifest: Manifest) -> Line:
    """One model of the list."""
    row: Line = {
        "name": manifest.name,
        "model": manifest.name,
        "modified_at": modified(manifest),
        "size": manifest.size,
        "digest": manifest.digest,
        "details": details(speaker.store.config(manifest)),
    }
    if not speaker.new:
        return row
    go = go_abilities(speaker.store.text(manifest, "template") or "")
    able = ["completion", *(["tools"] if go.tools else []), *(["thinking"] if go.thinking else [])]
    return row | {"details": {**row["details"], **sizes(speaker.store, manifest)}, "capabilities": able}


def sizes(store: Store, manifest: Manifest) -> Line:
    """Two figures of a model file that only the new generation lists."""
    header = header_of(store, manifest)
    if header is None:
        return {}
    family = header.get("general.architecture")
    return {key: header.get(f"{family}.{key}") for key in ("context_length", "embedding_length")}


def running(speaker: Speaker) -> Line:
    """GET /api/ps. A deleted model stays until its runner ends."""
    return {"models": [row_of(runner, details(runner.config)) for runner in speaker.runners.live()]}


def embedded(speaker: Speaker, body: Line) -> None:
    """POST /api/embed: the fake's models talk, and embed nothing. Raises Refusal, always."""
    speaker.find(body)
    raise Refusal(501, "This server does not support embeddings. Start it with `--embeddings`")


def copied(store: Store, body: Line) -> None:
    """POST /api/copy: the manifest gets a second name; whatever had it is overwritten."""
    names: dict[str, Name] = {}
    for side in ("source", "destination"):
        name = parse_name(body.get(side))
        if name is None:
            raise Refusal(400, f'{side} "{body.get(side) or ""}" is invalid')
        names[side] = name
    if not store.copy(names["source"], names["destination"]):
        raise Refusal(404, f'model "{body["source"]}" not found')


def deleted(store: Store, body: Line) -> None:
    """DELETE /api/delete."""
    typed = body.get("model") or body.get("name")
    if not typed:
        raise Refusal(400, "model is required")
    name = parse_name(typed)
    if name is None:
        raise Refusal(400, f'name "{typed}" is invalid')
    if store.find(name) is None:
        raise Refusal(404, f"model '{typed}' not found")
    store.remove(name)


def header_of(store: Store, manifest: Manifest) -> Header | None:
    """The model file's header, None where the file is gone or broken, or there is none."""
    try:
        return read_header(store.blob(manifest.layer("model") or ""))
    except (OSError, ModelError, Refusal):
        return None


def modelfile(store: Store, manifest: Manifest) -> str:
    """What `ollama show --modelfile` prints; its FROM and ADAPTER lines are the only places that name the files."""
    lines = [
        '# Modelfile generated by "ollama show"',
        "# To build a new Modelfile based on this, replace FROM with:",
        f"# FROM {manifest.name}\n",
        *(f"FROM {store.blob(digest)}" for digest in manifest.all("model")),
        *(f"ADAPTER {store.blob(digest)}" for digest in manifest.all("adapter")),
    ]
    if template := store.text(manifest, "template"):
        lines.append(f'TEMPLATE """{template}"""')
    if system := store.text(manifest, "system"):
        lines.append(f'SYSTEM """{system}"""')
    lines += [f"PARAMETER {line}" for line in parameter_lines(store.parameters(manifest), width=0)]
    if renderer := store.config(manifest).get("renderer"):
        lines.append(f"RENDERER {renderer}")
    lines += [f'LICENSE """{store.blob(digest).read_text()}"""' for digest in manifest.all("license")]
    return "\n".join(lines) + "\n"


def parameter_lines(parameters: Line, width: int = 30) -> list[str]:
    """Padded names and values, one line for each item of a list."""
    return [
        f"{key:<{width}} {json.dumps(item, ensure_ascii=False)}"
        for key, value in parameters.items()
        for item in (value if isinstance(value, list) else [value])
    ]


def details(config: Line) -> Line:
    """The short description of a model, from its config."""
    return {
        "parent_model": "",
        "format": config.get("model_format", ""),
        "family": config.get("model_family", ""),
        "families": config.get("model_families"),
        "parameter_size": config.get("model_type", ""),
        "quantization_level": config.get("file_type", ""),
    }


def modified(manifest: Manifest) -> str:
    """When a model was made, RFC 3339."""
    return moment(datetime.fromtimestamp(manifest.modified_ns / 1e9, UTC))
