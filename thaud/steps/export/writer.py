"""Base and adapter -> one GGUF file, streamed.

Header first, then each tensor merged, rounded and written, hashed on the way. Neither a merged checkpoint nor a second
copy of the weights ever exists.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from gguf import GGUFWriter
from gguf.constants import GGUF_DEFAULT_ALIGNMENT

from thaud.durable import put_in_place
from thaud.failpoints import reach
from thaud.steps.contract import ExportSpec, usable_cores
from thaud.steps.export.adapter import NO_ADAPTER, Adapter, open_adapter
from thaud.steps.export.architectures import find_architecture
from thaud.steps.export.metadata import add_metadata
from thaud.steps.export.pipeline import Pipeline
from thaud.steps.export.plan import Planned, plan_tensors
from thaud.steps.export.room import check_memory, check_room
from thaud.steps.export.sink import open_sink
from thaud.steps.export.weights import Weights, open_weights
from thaud.steps.tokenizer import read_json, read_tokenizer

HEADER_ROOM = 32 << 20  # no tokenizer's tokens and merges take more
OnTensor = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Written:
    """A finished file."""

    sha256: str
    size_bytes: int
    tensors: int


@dataclass(frozen=True, slots=True)
class Source:
    """What a file is made of, open and found to fit together."""

    config: Mapping[str, Any]
    weights: Weights
    adapter: Adapter
    plan: Sequence[Planned]

    @property
    def size_bytes(self) -> int:
        """What the file will take at most."""
        return HEADER_ROOM + sum(each.size + int(GGUF_DEFAULT_ALIGNMENT) for each in self.plan)


def write_gguf(spec: ExportSpec, on_tensor: OnTensor) -> Written:
    """Write `spec.out` by temporary name, fsync and rename. `on_tensor(done, total)` is called after each tensor.

    Raises ModelError where base or adapter cannot be exported, StorageError where the disk has no room.
    """
    reach("file.gguf.before")
    out = Path(spec.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with open_source(spec) as source:
        check_room([(out, source.size_bytes)])
        header = GGUFWriter(None, find_architecture(source.config.get("model_type")).name)
        add_metadata(header, spec, source.config, read_tokenizer(Path(spec.base_dir)))
        pipeline = Pipeline(source.plan, source.weights, source.adapter, usable_cores(spec.threads))
        check_memory(pipeline.memory_bytes)
        temporary = out.with_name(f".{out.name}.tmp")
        written = write_tensors(header, pipeline, temporary, on_tensor)
    put_in_place(temporary, out, "gguf")
    return written


@contextmanager
def open_source(spec: ExportSpec) -> Iterator[Source]:
    """Open base and adapter of a model. Raises ModelError where they cannot be exported, or not together."""
    assert spec.kind != "adapter", "a LoRA is written by thaud.steps.export.lora"
    base = Path(spec.base_dir)
    config = read_json(base / "config.json")
    adapted = open_adapter(Path(spec.adapter_dir)) if spec.adapter_dir else nullcontext(NO_ADAPTER)
    with adapted as adapter, open_weights(base) as weights:
        yield Source(config, weights, adapter, plan_tensors(spec.kind, config, weights, adapter))


def write_tensors(header: GGUFWriter, pipeline: Pipeline, path: Path, on_tensor: OnTensor) -> Written:
    """Write header and tensors into `path`, durably; where anything fails it is gone."""
    with open_sink(path) as sink:
        sink.append(header_bytes(header, pipeline.plan))
        pipeline.run(sink, on_tensor)
    return Written(sink.digest.hexdigest(), sink.size, len(pipeline.plan))


def header_bytes(writer: GGUFWriter, plan: Sequence[Planned]) -> bytes:
    """All that comes before the first tensor, padded to where it begins."""
    for each in plan:
        # The shape is given in items, so the element type that gguf sees must not be bytes.
        writer.add_tensor_info(each.name, each.shape, "float32", each.size, each.kind)
    writer.open_output_file(Path(os.devnull))
    writer.close()
    memory = BytesIO()
    writer.fout = [memory]
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    size = memory.tell()
    return memory.getvalue() + bytes(-size % GGUF_DEFAULT_ALIGNMENT)
