"""POST /api/create: uploaded files or another model -> a manifest, with the real server's lines and refusals."""

import json
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from thaud.errors import ModelError
from thaud.serving.fake.protocol import Refusal, parse_name
from thaud.serving.fake.store import MEDIA, Store
from thaud.serving.gguf_header import ALIGNMENT, FLOAT32, UINT32, Header, is_gguf, read_header

Line = dict[str, Any]
Layers = list[tuple[str, str, int]]
ARCHITECTURES = {"llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "phi3", "smollm3", "mistral3"}
QUANTIZATIONS = ("F32", "F16", "Q4_K_S", "Q4_K_M", "Q8_0")
QUANTIZE_FAILED = (
    "failed to validate GGUF with llama-quantize without compatibility patches: llama-quantize failed: exit status 1"
)


def create(store: Store, body: Line, *, new: bool) -> Iterator[Line]:
    """The status lines of a create; the name stands for the new model just before `success`. Raises Refusal."""
    name = parse_name(body.get("model") or body.get("name") or "")
    if name is None:
        raise Refusal(400, "invalid model name")
    if adapters := body.get("adapters"):
        several = len(adapters) > 1
        raise Refusal(400, "only one adapter is currently supported" if several else "the fake applies no adapters")
    if body.get("from"):
        layers = yield from inherited(store, body["from"])
    else:
        layers = yield from layers_of_files(store, body, new=new)
    for kind, text in sent_texts(body):
        digest, existed = store.keep(text.encode())
        layers = [layer for layer in layers if layer[0] != MEDIA + kind]
        layers.append((MEDIA + kind, digest, len(text.encode())))
        yield {"status": f"{'using existing' if existed else 'creating new'} layer {digest}"}
    yield {"status": "writing manifest"}
    store.put(name, tuple(layers))
    yield {"status": "success"}


def inherited(store: Store, source: str) -> Generator[Line, None, Layers]:
    """The layers of the model named by `from`; one that is not here would be pulled from the registry, which fails."""
    name = parse_name(source)
    if name is None:
        raise Refusal(400, "invalid model name")
    manifest = store.find(name)
    if manifest is None:
        yield {"status": "pulling manifest"}
        raise Refusal(500, "pull model manifest: file does not exist")
    for _, digest, _ in manifest.layers:
        yield {"status": f"using existing layer {digest}"}
    return list(manifest.layers)


def layers_of_files(store: Store, body: Line, *, new: bool) -> Generator[Line, None, Layers]:
    """The model layer of uploaded GGUFs."""
    files = checked_files(store, body)
    layers: Layers = []
    for digest in files.values():
        yield {"status": "parsing GGUF"}
        path = stored(store, digest)
        header = parsed(path)
        refuse_quantize(body.get("quantize") or body.get("quantization"))
        if new:
            yield {"status": "verifying conversion"}
            digest, existed = rewritten(store, path, header)  # noqa: PLW2901 - the layer is the rewritten file
        else:
            existed = True
        layers.append((MEDIA + "model", digest, store.blob(digest).stat().st_size))
        yield {"status": f"{'using existing' if existed else 'creating new'} layer {digest}"}
    return layers


def checked_files(store: Store, body: Line) -> dict[str, str]:
    """The request's `files`, where they can be what a model is made of."""
    files = body.get("files")
    if files is None:
        raise Refusal(400, "neither 'from' or 'files' was specified")
    if any(file.startswith("/") for file in files):
        raise Refusal(400, "file path must be relative")
    if any(not digest for digest in files.values()):
        raise Refusal(400, "invalid digest format")
    known = [file for file, digest in files.items() if file.endswith(".gguf") or sniffed(store, digest)]
    if not files or len(known) < len(files):
        raise Refusal(400, "unknown type")
    return {file: digest.replace("sha256-", "sha256:") for file, digest in files.items()}


def sniffed(store: Store, digest: str) -> bool:
    """Whether an uploaded file whose name says nothing is a GGUF."""
    path = store.blob(digest)
    return path.exists() and is_gguf(path)


def stored(store: Store, digest: str) -> Path:
    """An uploaded blob. Raises Refusal (inside the stream) where there is none."""
    try:
        path = store.blob(digest)
    except Refusal:
        raise Refusal(500, "invalid digest format") from None
    if not path.exists():
        raise Refusal(500, f"open {path}: no such file or directory")
    return path


def parsed(path: Path) -> Header:
    """A GGUF's header. Raises Refusal in the server's words."""
    if not is_gguf(path):
        raise Refusal(400, "supplied file was not in GGUF format")
    try:
        return read_header(path)
    except ModelError as error:
        raise Refusal(500, str(error)) from error


def refuse_quantize(kind: str | None) -> None:
    """The fake quantizes nothing; what the real one refuses has its words."""
    if not kind:
        return
    if kind.upper() not in {*QUANTIZATIONS, "BF16", "Q4_K"}:
        raise Refusal(
            500, f"unsupported quantization type {kind.upper()} - supported types are {', '.join(QUANTIZATIONS)}"
        )
    raise Refusal(500, "the fake server does not quantize: send a file of the type you want")


def rewritten(store: Store, path: Path, header: Header) -> tuple[str, bool]:
    """What `llama-quantize COPY` makes of a file: checked, two keys moved to the end. Twice is the same as once."""
    check_for_quantizer(header)
    data = path.read_bytes()
    moved = ("general.quantization_version", "general.file_type")
    kept = b"".join(data[entry.start : entry.end] for key, entry in header.entries.items() if key not in moved)
    quantization = key_value("general.quantization_version", 2)
    file_type = key_value("general.file_type", header.get("general.file_type", 1025))
    count = len([key for key in header.entries if key not in moved]) + len(moved)
    head = data[:16] + count.to_bytes(8, "little") + kept + quantization + file_type
    head += data[header.info_start : header.info_end]
    head += b"\0" * (-len(head) % 32)
    weights = max((tensor.offset + tensor.nbytes for tensor in header.tensors), default=0)
    return store.keep(head + data[header.data_start : header.data_start + weights])


def key_value(key: str, value: int) -> bytes:
    """A UINT32 metadata entry."""
    return len(key).to_bytes(8, "little") + key.encode() + UINT32.to_bytes(4, "little") + value.to_bytes(4, "little")


def check_for_quantizer(header: Header) -> None:
    """Raises Refusal on what makes llama-quantize give up."""
    if header.alignment != ALIGNMENT:
        end = header.data_start + header.alignment + sum(tensor.nbytes for tensor in header.tensors)
        last = header.tensors[-1].name
        raise Refusal(500, f'tensor "{last}" offset+size ({end}) exceeds file size ({header.file_size})')
    architecture = header.get("general.architecture")
    required = {
        f"{architecture}.context_length": UINT32,
        f"{architecture}.embedding_length": UINT32,
        f"{architecture}.block_count": UINT32,
        f"{architecture}.feed_forward_length": UINT32,
        f"{architecture}.attention.head_count": UINT32,
        f"{architecture}.attention.layer_norm_rms_epsilon": FLOAT32,
    }
    wrong = [key for key, kind in required.items() if key not in header.entries or header.entries[key].kind != kind]
    if architecture not in ARCHITECTURES or wrong:
        raise Refusal(500, QUANTIZE_FAILED)


def sent_texts(body: Line) -> Iterator[tuple[str, str]]:
    """The text layers of a request, in the server's order. Parameters are stored as they are, right or wrong."""
    if template := body.get("template"):
        if template.count("{{") > template.count("}}"):
            raise Refusal(400, "template error: template: :1: unclosed action")
        yield "template", template
    if body.get("system"):
        yield "system", body["system"]
    if licenses := body.get("license"):
        yield "license", licenses if isinstance(licenses, str) else "\n".join(licenses)
    if body.get("parameters"):
        yield "params", json.dumps(body["parameters"])
    if body.get("messages"):
        yield "messages", json.dumps(body["messages"])
