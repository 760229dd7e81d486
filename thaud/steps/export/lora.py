"""An adapter as a GGUF LoRA, and the GGUF of the base it is applied to, which versions share.

The LoRA is float32, as trained: A and B are not rounded, and its alpha is such that llama.cpp's alpha / rank is our
scale, rsLoRA's too. The base is written once: beside it lies its digest (FILE.sha256, as sha256sum writes it), and
whoever needs the base takes the digest again first. What the base's file holds depends on the base, its kind and the
name of its folder alone, so that whoever writes it again writes the same bytes.
Source: llama.cpp, convert_lora_to_gguf.py and src/llama-adapter.cpp.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gguf import GGUFWriter
from gguf.constants import GGUF_DEFAULT_ALIGNMENT, GGMLQuantizationType

from thaud.durable import make_folder, put_in_place, write_durably
from thaud.errors import ModelError
from thaud.failpoints import reach
from thaud.steps.bases import context_of
from thaud.steps.contract import ExportSpec
from thaud.steps.export.adapter import Adapter
from thaud.steps.export.architectures import find_architecture
from thaud.steps.export.plan import Planned, arrange
from thaud.steps.export.room import check_room
from thaud.steps.export.sink import open_sink
from thaud.steps.export.writer import OnTensor, Source, Written, header_bytes, open_source, write_gguf
from thaud.steps.tokenizer import read_json

HALVES = {"A": "lora_a", "B": "lora_b"}  # peft's names, llama.cpp's
HEADER_ROOM = 1 << 20


@dataclass(frozen=True, slots=True)
class Half:
    """One matrix of the file, and whose it is: of `of`'s adapter, A or B."""

    of: Planned
    half: str
    row: Planned


def write_adapter(spec: ExportSpec, on_tensor: OnTensor) -> tuple[Written, str]:
    """Write `spec.out`, a LoRA, and `spec.base_out` unless it is there and whole. Returns the LoRA's facts and the
    base's SHA-256. Raises ModelError and StorageError as write_gguf.
    """
    if spec.adapter_dir is None or spec.base_out is None:
        raise ModelError("an export of kind adapter needs the adapter's folder and the base's file: give both")
    base = base_spec(spec)
    out, shared = Path(spec.out), Path(base.out)
    for each in (out, shared):
        make_folder(each.parent)
    with open_source(spec.model_copy(update={"kind": spec.base_kind})) as source, alone_in(shared.parent):
        halves, digest = halves_of(source), standing_digest(shared)
        size = HEADER_ROOM + sum(each.row.size + GGUF_DEFAULT_ALIGNMENT for each in halves)
        check_room([(out, size)] if digest else [(out, size), (shared, source.size_bytes)])
        before = 0 if digest else len(source.plan)
        total = before + len(halves)
        if digest is None:
            digest = write_gguf(base, lambda done, _: on_tensor(done, total)).sha256
            write_durably(sidecar(shared), f"{digest}  {shared.name}\n".encode(), "gguf")
        written = write_lora(spec, source, halves, digest, lambda done, _: on_tensor(before + done, total))
    return written, digest


def base_spec(spec: ExportSpec) -> ExportSpec:
    """The export of the base alone. Nothing in it tells by which run it was asked for."""
    own = context_of(read_json(Path(spec.base_dir) / "config.json"))
    out = Path(str(spec.base_out))
    alone = {"adapter_dir": None, "out": str(out), "kind": spec.base_kind, "base_out": None}
    return spec.model_copy(update={**alone, "name": out.parent.name, "context_tokens": own})


def sidecar(path: Path) -> Path:
    """Where a file's digest is kept."""
    return path.with_name(f"{path.name}.sha256")


def standing_digest(path: Path) -> str | None:
    """The SHA-256 of a file that is there and is still what it was when it was written; None where it is not."""
    try:
        kept = sidecar(path).read_text(encoding="utf-8").split()
        with path.open("rb") as source:
            found = hashlib.file_digest(source, "sha256").hexdigest()
    except (OSError, UnicodeDecodeError):
        return None
    return found if kept[:1] == [found] else None


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder, or wait for who holds it: of two that need a base one writes it."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def halves_of(source: Source) -> list[Half]:
    """What the LoRA will hold, in the order of the base's file. Raises ModelError for a scale that it cannot say."""
    adapter = source.adapter
    if not adapter.scale:
        raise ModelError("the adapter has lora_alpha = 0, which llama.cpp takes for 1 x its rank: train with another")
    return [
        Half(each, half, row_of(adapter, each, half))
        for each in source.plan
        if each.source in adapter.halves
        for half in HALVES
    ]


def row_of(adapter: Adapter, each: Planned, half: str) -> Planned:
    """One half as a tensor of the file."""
    shape = adapter.tensors.shape(adapter.halves[str(each.source)][half])
    return Planned(None, f"{each.name}.{HALVES[half]}", shape, GGMLQuantizationType.F32)


def write_lora(spec: ExportSpec, source: Source, halves: Sequence[Half], base: str, on_tensor: OnTensor) -> Written:
    """Write the LoRA by temporary name, fsync and rename. `base`: the SHA-256 of what it is applied to."""
    reach("file.gguf.before")
    out = Path(spec.out)
    temporary = out.with_name(f".{out.name}.tmp")
    header = header_bytes(header_of(spec, source, base), [each.row for each in halves])
    with open_sink(temporary) as sink:
        sink.append(header)
        for done, each in enumerate(halves, start=1):
            data = values_of(each, source.adapter)
            sink.append(data + bytes(-len(data) % GGUF_DEFAULT_ALIGNMENT))
            on_tensor(done, len(halves))
    put_in_place(temporary, out, "gguf")
    return Written(sink.digest.hexdigest(), sink.size, len(halves))


def header_of(spec: ExportSpec, source: Source, base: str) -> GGUFWriter:
    """The keys of the file."""
    writer = GGUFWriter(None, find_architecture(source.config.get("model_type")).name)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", source.adapter.scale * source.adapter.rank)
    writer.add_name(spec.name)
    writer.add_uint32("thau.context_tokens", spec.context_tokens)
    writer.add_string("thau.base_sha256", base)
    return writer


def values_of(each: Half, adapter: Adapter) -> bytes:
    """A half in float32. The rows of B are in llama.cpp's order, as those of the weight are."""
    values = adapter.tensors.read(adapter.halves[str(each.of.source)][each.half]).float()
    ordered = arrange(values, each.of.heads if each.half == "B" else None)
    data: bytes = ordered.contiguous().numpy().tobytes()
    return data
