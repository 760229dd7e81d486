"""POST /api/create: uploaded files, an adapter, another model -> a manifest, with the server's lines and refusals."""

import json
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

from thaud.errors import ModelError
from thaud.serving.fake.autodetect import autodetected
from thaud.serving.fake.gguf_checks import parsed, refuse_quantize, rewritten, stored
from thaud.serving.fake.gotemplate import TemplateError, parse
from thaud.serving.fake.protocol import Name, Refusal, parse_name
from thaud.serving.fake.store import MEDIA, Layer, Store
from thaud.serving.gguf_header import Header, is_gguf, read_header

Line = dict[str, Any]
FILE_TYPES = {1: "F16", 7: "Q8_0", 14: "Q4_K_S", 15: "Q4_K_M", 32: "BF16"}
CONVERTED = ("llama", "gemma2")
ONE_ADAPTER = "only one adapter is currently supported"


@dataclass
class Draft:
    """A model being made: its layers so far, the parameters it has without being told, and its config."""

    layers: list[Layer] = field(default_factory=list)
    parameters: Line = field(default_factory=dict)
    config: Line = field(default_factory=dict)

    def has(self, kind: str) -> bool:
        """Whether there is a layer of a kind."""
        return any(media == MEDIA + kind for media, _, _ in self.layers)

    def drop(self, kind: str) -> None:
        """Forget the layers of a kind."""
        self.layers = [layer for layer in self.layers if layer[0] != MEDIA + kind]

    def add(self, store: Store, kind: str, digest: str, *, existed: bool) -> Line:
        """A layer more, and the line that says so."""
        self.layers.append((MEDIA + kind, digest, store.blob(digest).stat().st_size))
        return {"status": f"{'using existing' if existed else 'creating new'} layer {digest}"}

    def add_text(self, store: Store, kind: str, text: str) -> Line:
        """A layer of text."""
        digest, existed = store.keep(text.encode())
        return self.add(store, kind, digest, existed=existed)


def create(store: Store, body: Line, *, new: bool) -> Iterator[Line]:
    """The status lines of a create; the name stands for the new model just before `success`. Raises Refusal."""
    name = parse_name(body.get("model") or body.get("name") or "")
    if name is None:
        raise Refusal(400, "invalid model name")
    adapters = checked_adapters(store, body.get("adapters") or {})
    draft = Draft()
    if body.get("from"):
        yield from inherited(store, draft, body["from"])
    else:
        if body.get("files") is None:
            raise Refusal(400, "neither 'from' or 'files' was specified")
        files = checked_files(store, body["files"])
        yield from layers_of_files(store, draft, files, body, new=new)
        yield from detected(store, draft, body)
    yield from layers_of_adapters(store, draft, adapters)
    yield from texts(store, draft, body)
    yield {"status": "writing manifest"}
    finish(store, name, draft, body)
    yield {"status": "success"}


def finish(store: Store, name: Name, draft: Draft, body: Line) -> None:
    """Write config and manifest."""
    extra = {key: body[key] for key in ("renderer", "requires") if body.get(key)}
    if body.get("parser"):
        raise Refusal(500, "the fake server has no parsers: leave `parser` out")
    store.put(name, tuple(draft.layers), json.dumps({**draft.config, **extra}).encode())


def inherited(store: Store, draft: Draft, source: str) -> Generator[Line, None, None]:
    """The layers of the model named by `from`; one that is not here would be pulled from the registry, which fails."""
    name = parse_name(source)
    if name is None:
        raise Refusal(400, "invalid model name")
    manifest = store.find(name)
    if manifest is None:
        yield {"status": "pulling manifest"}
        raise Refusal(500, "pull model manifest: file does not exist")
    draft.config, draft.parameters = store.config(manifest), store.parameters(manifest)
    for media, digest, size in manifest.layers:
        draft.layers.append((media, digest, size))
        if media != MEDIA + "params":
            yield {"status": f"using existing layer {digest}"}
    draft.drop("params")


def layers_of_files(
    store: Store, draft: Draft, files: dict[str, str], body: Line, *, new: bool
) -> Generator[Line, None, None]:
    """The layers of uploaded GGUFs; one that says it is an adapter is one, wherever it is listed."""
    for file, digest in files.items():
        if file.endswith(".safetensors"):
            raise Refusal(500, "the fake server does not convert models: send a GGUF")
        yield {"status": "parsing GGUF"}
        header = parsed(stored(store, digest))
        if header.get("general.type") == "adapter":
            yield add_adapter(store, draft, digest)
            continue
        refuse_quantize(body.get("quantize") or body.get("quantization"), header)
        if new:
            yield {"status": "verifying conversion"}
            digest, existed = rewritten(store, store.blob(digest), header)  # noqa: PLW2901 - the rewritten file's
        else:
            existed = True
        draft.config = described(header)
        yield draft.add(store, "model", digest, existed=existed)


def layers_of_adapters(store: Store, draft: Draft, adapters: dict[str, str]) -> Generator[Line, None, None]:
    """The layer of the request's `adapters`: the uploaded file, as it is."""
    for file, digest in adapters.items():
        if file.endswith(".safetensors"):
            yield {"status": "converting adapter"}
            family = draft.config.get("model_family")
            if family not in CONVERTED:
                raise Refusal(500, "unsupported architecture")
            raise Refusal(500, "the fake server does not convert adapters: send a GGUF")
        yield {"status": "parsing GGUF"}
        if parsed(stored(store, digest)).get("general.type") != "adapter":
            raise Refusal(500, f"the fake server takes no model for an adapter: {file}")
        yield add_adapter(store, draft, digest)


def add_adapter(store: Store, draft: Draft, digest: str) -> Line:
    """An adapter's layer, of which a model has one. Raises Refusal on a second."""
    if draft.has("adapter"):
        raise Refusal(400, ONE_ADAPTER)
    return draft.add(store, "adapter", digest, existed=True)


def checked_files(store: Store, files: dict[str, str]) -> dict[str, str]:
    """The request's `files` or `adapters`, where they can be what a model is made of. Raises Refusal."""
    if any(file.startswith("/") for file in files):
        raise Refusal(400, "file path must be relative")
    if any(not digest for digest in files.values()):
        raise Refusal(400, "invalid digest format")
    known = [f for f, digest in files.items() if f.endswith((".gguf", ".safetensors")) or sniffed(store, digest)]
    if not files or len(known) < len(files):
        raise Refusal(400, "unknown type")
    found = {file: digest.replace("sha256-", "sha256:") for file, digest in files.items()}
    if sum(is_adapter(store, digest) for digest in found.values()) > 1:
        raise Refusal(400, ONE_ADAPTER)
    return found


def checked_adapters(store: Store, adapters: dict[str, str]) -> dict[str, str]:
    """The request's `adapters`. Raises Refusal."""
    if len(adapters) > 1 and not any(file.endswith(".safetensors") for file in adapters):
        raise Refusal(400, ONE_ADAPTER)
    return checked_files(store, adapters) if adapters else {}


def is_adapter(store: Store, digest: str) -> bool:
    """Whether an uploaded file says that it is an adapter."""
    try:
        return bool(read_header(store.blob(digest)).get("general.type") == "adapter")
    except (OSError, ModelError, Refusal):
        return False


def sniffed(store: Store, digest: str) -> bool:
    """Whether an uploaded file whose name says nothing is a GGUF."""
    path = store.blob(digest)
    return path.exists() and is_gguf(path)


def detected(store: Store, draft: Draft, body: Line) -> Generator[Line, None, None]:
    """The Go template and stops of a Jinja text that the server knows; a template that was sent replaces its own."""
    model = next((digest for media, digest, _ in draft.layers if media == MEDIA + "model"), None)
    jinja = read_header(store.blob(model)).get("tokenizer.chat_template") if model else None
    found = autodetected(jinja or "")
    if found is None:
        return
    draft.parameters = {"stop": list(found.stop)}
    if not body.get("template"):
        draft.add_text(store, "template", found.go)
    yield {"status": f"using autodetected template {found.name}"}


def texts(store: Store, draft: Draft, body: Line) -> Iterator[Line]:
    """The layers of text, in the server's order. Parameters are stored as they are, right or wrong."""
    if template := body.get("template"):
        try:
            parse(template)
        except TemplateError as error:
            raise Refusal(400, f"template error: {error}") from error
    licenses = body.get("license") or []
    parameters = {**draft.parameters, **(body.get("parameters") or {})}
    sent: list[tuple[str, list[str]]] = [
        ("template", [template] if template else []),
        ("system", [body["system"]] if body.get("system") else []),
        ("license", [licenses] if isinstance(licenses, str) else licenses),
        ("params", [json.dumps(parameters)] if parameters else []),
        ("messages", [json.dumps(body["messages"])] if body.get("messages") else []),
    ]
    for kind, layers in sent:
        if layers and kind != "license":
            draft.drop(kind)
        for text in layers:
            yield draft.add_text(store, kind, text)


def described(header: Header) -> Line:
    """The config of a model file. File type 0 is taken for unknown."""
    family = header.get("general.architecture", "")
    return {
        "model_format": "gguf",
        "model_family": family,
        "model_families": [family],
        "model_type": f"{sum(tensor.nbytes for tensor in header.tensors) / 2e6:.2f}M",
        "file_type": FILE_TYPES.get(header.get("general.file_type", 0), "unknown"),
        "architecture": "amd64",
        "os": "linux",
    }
