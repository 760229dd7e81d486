"""One merged tensor -> the bytes of its GGUF type, checked: values that the type cannot hold are an error."""

import math
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import quantize
from numpy.typing import NDArray

from thaud.errors import ModelError
from thaud.steps.contract import ExportKind

BLOCK = 32
F16_MAX = 65504.0
Array = NDArray[Any]


def type_of(shape: tuple[int, ...], kind: ExportKind) -> GGMLQuantizationType:
    """F32 for vectors, as llama.cpp wants; F16 where a row cannot be cut into Q8_0's blocks."""
    if len(shape) == 1:
        return GGMLQuantizationType.F32
    if kind == "q8_0" and shape[-1] % BLOCK == 0:
        return GGMLQuantizationType.Q8_0
    return GGMLQuantizationType.F16


def size_of(shape: tuple[int, ...], kind: GGMLQuantizationType) -> int:
    """Bytes of a tensor of this shape and type."""
    items, item_bytes = GGML_QUANT_SIZES[kind]
    return math.prod(shape) // int(items) * int(item_bytes)


def convert(name: str, values: NDArray[np.float32], kind: GGMLQuantizationType) -> Array:
    """Round float32 values to a type. Raises ModelError for values that are no numbers or too large for it."""
    highest = float(np.abs(values).max(initial=0.0))
    limit = {GGMLQuantizationType.F16: F16_MAX, GGMLQuantizationType.Q8_0: F16_MAX * 127}.get(kind, np.inf)
    if not np.isfinite(highest):
        raise ModelError(f"{name} holds values that are no finite numbers: the training or the base is damaged")
    if highest > limit:
        raise ModelError(
            f"{name} holds {highest:.4g}, beyond the {limit:.4g} that {kind.name} can hold: export as q8_0"
        )
    if kind is GGMLQuantizationType.Q8_0:
        blocks: Array = quantize(values, kind)
        return blocks
    return values.astype(np.float16 if kind is GGMLQuantizationType.F16 else np.float32)
