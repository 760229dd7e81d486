"""Merged values -> the bytes of their GGUF type, checked: values that the type cannot hold are an error.

Owns what a type is rounded by: torch where it rounds as llama.cpp's converter does (tests/steps/test_export_kinds.py
shows it, bit for bit), ggml's own quantiser, which lets go of the interpreter's lock, for what is searched for block by
block.
"""

import ctypes
import math
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from torch import Tensor

from thaud.errors import ModelError

F16_MAX = 65504.0
BLOCK, SCALE_BYTES = 32, 2  # of Q8_0
PIECE_VALUES = 1 << 17
BELOW_HALF = torch.tensor(0.49999997)  # the float below a half: with a half itself, it would be rounded up to one
PLAIN: Mapping[GGMLQuantizationType, torch.dtype] = {
    GGMLQuantizationType.F32: torch.float32,
    GGMLQuantizationType.F16: torch.float16,
    GGMLQuantizationType.BF16: torch.bfloat16,
}
# What fits: scales and minima of blocks are F16; a scale is the largest value by at least so much.
LIMITS: Mapping[GGMLQuantizationType, float] = {
    GGMLQuantizationType.F16: F16_MAX,
    GGMLQuantizationType.Q8_0: F16_MAX * 127,
    GGMLQuantizationType.Q5_0: F16_MAX * 15,
    GGMLQuantizationType.Q5_1: F16_MAX,
    GGMLQuantizationType.Q4_K: F16_MAX * 15,
    GGMLQuantizationType.Q5_K: F16_MAX * 31,
    GGMLQuantizationType.Q6_K: F16_MAX * 31,
}


def block_of(kind: GGMLQuantizationType) -> int:
    """How many values make a block of a type; a row is a whole number of them."""
    return int(GGML_QUANT_SIZES[kind][0])


def size_of(shape: tuple[int, ...], kind: GGMLQuantizationType) -> int:
    """Bytes of a tensor of this shape and type."""
    items, item_bytes = GGML_QUANT_SIZES[kind]
    return math.prod(shape) // int(items) * int(item_bytes)


def convert(name: str, values: Tensor, kind: GGMLQuantizationType, into: Tensor) -> int:
    """Round float32 rows to a type, into bytes. Returns how many. Raises ModelError for what the type cannot hold."""
    check_values(name, values, kind)
    size = size_of(tuple(values.shape), kind)
    if kind in PLAIN:
        into[:size].view(PLAIN[kind]).view(values.shape).copy_(values)
        return size
    if kind is GGMLQuantizationType.Q8_0:
        round_to_q8_0(values, into[:size])
        return size
    width = values.shape[-1]
    made = quantiser()(kind, values.data_ptr(), into.data_ptr(), 0, values.numel() // width, width, None)
    assert made == size, f"{name}: ggml made {made} bytes of {kind.name}, not {size}"
    return size


def round_to_q8_0(values: Tensor, into: Tensor) -> None:
    """Blocks of a scale (F16) and 32 numbers, halves away from zero: in a third of the time that ggml's takes.

    A piece at a time, which stays in a core's cache between the passes over it.
    """
    pieces = torch.split(values.view(-1), PIECE_VALUES)
    targets = torch.split(into, size_of((PIECE_VALUES,), GGMLQuantizationType.Q8_0))
    for rows, blocks in zip(pieces, targets, strict=True):
        rows, blocks = rows.view(-1, BLOCK), blocks.view(-1, BLOCK + SCALE_BYTES)  # noqa: PLW2901 - the same, in rows
        work = rows.abs()
        scales = work.amax(1, keepdim=True).div_(127)
        torch.mul(rows, scales.reciprocal().masked_fill_(scales == 0, 0.0), out=work)
        work.add_(torch.copysign(BELOW_HALF, work))  # and what is behind the point goes with the cast
        blocks[:, :SCALE_BYTES].view(torch.float16).copy_(scales)
        blocks[:, SCALE_BYTES:].view(torch.int8).copy_(work)


def check_values(name: str, values: Tensor, kind: GGMLQuantizationType) -> None:
    """Raises ModelError for values that are no numbers or too large for the type."""
    lowest, highest = (float(each) for each in torch.aminmax(values))
    most = max(-lowest, highest)
    if not math.isfinite(lowest) or not math.isfinite(highest):
        raise ModelError(f"{name} holds values that are no finite numbers: the base is damaged; fetch it again")
    if most > LIMITS.get(kind, math.inf):
        raise ModelError(
            f"{name} holds {most:.4g}, beyond the {LIMITS[kind]:.4g} that {kind.name} can hold: the base has such "
            "values; set export.kind (export.base_kind for adapters) to bf16"
        )


@cache
def quantiser() -> Any:
    """ggml_quantize_chunk(type, source, target, start, rows, width, importance) of the library that serves models."""
    package = find_spec("llama_cpp")
    folder = Path(package.submodule_search_locations[0]) if package and package.submodule_search_locations else Path()
    found = next((each for end in ("so", "dylib") for each in (folder / "lib").glob(f"libggml-base.{end}")), None)
    if found is None:
        raise ModelError(f"no ggml library in {folder}: install llama-cpp-python again")
    function = ctypes.CDLL(str(found)).ggml_quantize_chunk
    function.restype = ctypes.c_size_t
    size, pointer = ctypes.c_int64, ctypes.c_void_p
    function.argtypes = [ctypes.c_int, pointer, pointer, size, size, size, pointer]
    return function
