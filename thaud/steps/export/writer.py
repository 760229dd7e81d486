"""Base and adapter -> one GGUF file, streamed.

Header first, then each tensor merged, rounded and written, hashed on the way. Neither a merged checkpoint nor a second
copy of the weights ever exists.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from gguf import GGUFWriter
from gguf.constants import GGUF_DEFAULT_ALIGNMENT, GGMLQuantizationType
from torch import Tensor

from thaud.durable import put_in_place
from thaud.errors import ModelError, StorageError
from thaud.failpoints import reach
from thaud.steps.contract import ExportSpec
from thaud.steps.export.adapter import NO_ADAPTER, Adapter, read_adapter
from thaud.steps.export.architectures import HEAD, find_architecture
from thaud.steps.export.convert import convert, size_of, type_of
from thaud.steps.export.metadata import add_metadata
from thaud.steps.export.weights import BaseWeights, open_weights
from thaud.steps.tokenizer import read_json, read_tokenizer

CHUNK_VALUES = 1 << 24  # 64 MiB of float32 at a time
HEADER_ROOM = 32 << 20  # no tokenizer's tokens and merges take more


@dataclass(frozen=True, slots=True)
class Written:
    """A finished file."""

    sha256: str
    size_bytes: int
    tensors: int


@dataclass(frozen=True, slots=True)
class Planned:
    """One tensor to be written: its names on both sides, its shape (rows first) and type."""

    source: str
    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType


class HashingSink:
    """A file that hashes what is written to it. gguf's writer sees a file; it never seeks."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, data: Any) -> int:
        """Write bytes, or anything that has a buffer."""
        view = memoryview(data).cast("B")
        self.digest.update(view)
        self.size += len(view)
        return self._file.write(view)

    def pad(self) -> None:
        """Fill up to the next tensor's place."""
        self.write(bytes(-self.size % GGUF_DEFAULT_ALIGNMENT))

    def flush(self) -> None:
        """As of a file."""
        self._file.flush()

    def close(self) -> None:
        """Make the file durable, and close it."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def write_gguf(spec: ExportSpec, on_tensor: Callable[[int, int], None]) -> Written:
    """Write `spec.out` by temporary name, fsync and rename. `on_tensor(done, total)` is called after each tensor.

    Raises ModelError where base or adapter cannot be exported, StorageError where the disk has no room.
    """
    reach("file.gguf.before")
    base, out = Path(spec.base_dir), Path(spec.out)
    adapter = read_adapter(Path(spec.adapter_dir)) if spec.adapter_dir else NO_ADAPTER
    config = read_json(base / "config.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    with open_weights(base) as weights:
        plan = plan_tensors(spec, config, weights, adapter)
        needed = HEADER_ROOM + sum(size_of(each.shape, each.kind) for each in plan)
        check_room(out, needed, shutil.disk_usage(out.parent).free)
        writer = GGUFWriter(None, find_architecture(config.get("model_type")).name)
        add_metadata(writer, spec, config, read_tokenizer(base))
        temporary = out.with_name(f".{out.name}.tmp")
        try:
            written = stream(writer, plan, weights, adapter, temporary, on_tensor)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    put_in_place(temporary, out, "gguf")
    return written


def plan_tensors(spec: ExportSpec, config: dict[str, Any], weights: BaseWeights, adapter: Adapter) -> list[Planned]:
    """Every tensor of the file, in order. Raises ModelError where base, architecture and adapter do not agree."""
    architecture = find_architecture(config.get("model_type"))
    names = architecture.tensors(int(config["num_hidden_layers"]), tied=bool(config.get("tie_word_embeddings")))
    extra = [name for name in weights.owners if name not in names and name != HEAD and "rotary_emb" not in name]
    if extra:
        raise ModelError(f"the base has {len(extra)} tensors that {architecture.name} does not know: {extra[0]}")
    if lost := sorted(set(adapter.pairs) - set(names)):
        raise ModelError(f"the adapter changes {lost[0]}, which the base does not have: it was trained on another base")
    shapes = {source: weights.shape(source) for source in names}
    return [Planned(source, name, shapes[source], type_of(shapes[source], spec.kind)) for source, name in names.items()]


def check_room(out: Path, needed: int, free: int) -> None:
    """Raises StorageError, with the figures, where a file of `needed` bytes would not fit."""
    if needed > free:
        raise StorageError(
            f"no room for {out}: it needs {needed / 1e6:,.0f} MB and {free / 1e6:,.0f} MB are free there; "
            f"free {(needed - free) / 1e6:,.0f} MB and start the training again"
        )


def stream(
    writer: GGUFWriter,
    plan: list[Planned],
    weights: BaseWeights,
    adapter: Adapter,
    path: Path,
    on_tensor: Callable[[int, int], None],
) -> Written:
    """Write header and tensors into `path`."""
    for each in plan:
        # The shape is given in items, so the element type that gguf sees must not be bytes.
        writer.add_tensor_info(each.name, each.shape, "float32", size_of(each.shape, each.kind), each.kind)
    writer.open_output_file(path)
    sink = HashingSink(writer.fout[0])
    writer.fout[0] = sink
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for done, each in enumerate(plan, start=1):
            sink.pad()
            for part in merged_parts(each, weights, adapter):
                sink.write(convert(each.name, part.numpy(), each.kind))
            on_tensor(done, len(plan))
        sink.pad()
    finally:
        sink.close()
    return Written(sink.digest.hexdigest(), sink.size, len(plan))


def merged_parts(planned: Planned, weights: BaseWeights, adapter: Adapter) -> Iterator[Tensor]:
    """A tensor's rows in float32. Adapted ones come whole, so that the product is the one a merge in memory makes."""
    if planned.source in adapter.pairs or len(planned.shape) == 1:
        yield adapter.merge(planned.source, weights.read(planned.source))
        return
    rows, width = planned.shape
    step = max(1, CHUNK_VALUES // width)
    for start in range(0, rows, step):
        yield weights.read(planned.source, start, min(rows, start + step)).float()
