"""Write a real GGUF again with something changed: what a certificate must notice."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

NOTHING: Mapping[str, Any] = MappingProxyType({})
Tensors = Mapping[str, Callable[[NDArray[Any]], NDArray[Any]]]


def write_changed(source: Path, out: Path, metadata: Mapping[str, Any] = NOTHING, tensors: Tensors = NOTHING) -> Path:
    """`source` with other values of keys (None: without the key), and with tensors passed through functions."""
    reader = gguf.GGUFReader(source)
    fields = {name: field for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    assert set(metadata) <= set(fields), "a key that is not there cannot be changed"
    assert set(tensors) <= {tensor.name for tensor in reader.tensors}
    writer = gguf.GGUFWriter(out, str(fields["general.architecture"].contents()))
    for name, field in fields.items():
        value = metadata.get(name, field.contents())
        if value is not None and name != "general.architecture":
            sub_type = field.types[-1] if field.types[0] is gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, value, field.types[0], sub_type)
    for tensor in reader.tensors:
        data = np.array(tensor.data)
        writer.add_tensor(tensor.name, tensors.get(tensor.name, as_it_is)(data), raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


def as_it_is(data: NDArray[Any]) -> NDArray[Any]:
    return data


def values_of(path: Path) -> dict[str, Any]:
    """A GGUF's metadata."""
    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}


def permuted(heads: int) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """The rows of each head in the order in which llama.cpp keeps Llama's: halves in turn."""

    def change(data: NDArray[Any]) -> NDArray[Any]:
        halves = data.reshape(heads, 2, -1, *data.shape[1:])
        return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(data.shape))

    return change
