"""Attention for packed rows: lessons lie end to end in one row and cannot see each other.

A row is cut into tiles of queries. A tile sees the keys from the beginning of its first lesson to its own end, under a
mask that is made once for the row: short lessons cost what their neighbourhood costs, a long one half of its square,
and nothing is moved or padded. Scores are not kept; the way back computes them again (Dao et al. 2022). On CUDA in half
precision, torch's FlashAttention for lengths that vary does the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from inspect import signature
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from thaud.errors import ModelError

NAME = "thaud_packed"
FLASH_WIDTH, FLASH_FROM = 256, (8, 0)  # of a head, at most; compute capability (Dao 2023)
TILE = 128  # queries, and the measure of where keys begin: few shapes, for each is a kernel that oneDNN compiles


@dataclass(frozen=True, slots=True)
class Tile:
    """Queries [start, end) of a row, which see keys [first, end). `mask` is added to their scores: 0 or -inf."""

    first: int
    start: int
    end: int
    mask: Tensor


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the lessons of a row lie: `bounds` are their beginnings and the row's end, int32."""

    tiles: Sequence[Tile]
    bounds: Tensor
    longest: int


def lay_out(lengths: Sequence[int], dtype: torch.dtype, device: torch.device) -> Layout:
    """The layout of a row whose lessons have these lengths, in order; scores are of `dtype`."""
    ends = list(accumulate(lengths))
    begins = torch.repeat_interleave(
        torch.tensor([end - length for end, length in zip(ends, lengths, strict=True)]), torch.tensor(lengths)
    )
    places = torch.arange(ends[-1])
    tiles = []
    for start in range(0, ends[-1], TILE):
        end = min(start + TILE, ends[-1])
        first = int(begins[start]) // TILE * TILE
        queries, keys = places[start:end, None], places[None, first:end]
        hidden = (keys > queries) | (keys < begins[start:end, None])
        mask = torch.zeros(hidden.shape, dtype=dtype).masked_fill_(hidden, -torch.inf)
        tiles.append(Tile(first, start, end, mask.to(device)))
    return Layout(tiles, torch.tensor([0, *ends], dtype=torch.int32, device=device), max(lengths))


def packed_attention(
    module: torch.nn.Module,  # noqa: ARG001 - transformers' attention interface
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001
    *,
    scaling: float,
    layout: Layout,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each lesson. query: [1, heads, tokens, dim], key and value have as many or fewer heads;
    returns [1, tokens, heads, dim]. A base's attention dropout is left out: nothing of a training is random once it has
    begun. Raises ModelError for a base with a sliding window, with its first row and not with the first long lesson.
    """
    if sliding_window is not None:
        raise ModelError(
            f"the base looks back {sliding_window} tokens only: sliding windows are not supported, choose another base"
        )
    query, key, value = query[0], key[0], value[0]
    if can_flash(query):
        return flash_attention(query, key, value, layout, scaling).unsqueeze(0), None
    return tiled_attention(query, key, value, layout, scaling).transpose(0, 1).unsqueeze(0), None


def tiled_attention(query: Tensor, key: Tensor, value: Tensor, layout: Layout, scaling: float) -> Tensor:
    """The same by tiles, on any device. query: [heads, tokens, dim], key and value have as many or fewer heads; returns
    the shape of query.
    """
    whole = (each.contiguous() for each in (query, key, value))
    seen: Tensor = _TiledAttention.apply(*whole, layout, scaling)  # type: ignore[no-untyped-call]
    return seen


def can_flash(query: Tensor) -> bool:
    """Whether torch's FlashAttention takes lessons of other lengths, with these heads, on their device."""
    return (
        query.is_cuda
        and query.dtype in {torch.bfloat16, torch.float16}
        and query.shape[-1] % 8 == 0
        and query.shape[-1] <= FLASH_WIDTH
        and torch.cuda.get_device_capability(query.device) >= FLASH_FROM
        and varying_attention() is not None
    )


@cache
def varying_attention() -> Callable[..., Any] | None:
    """torch's attention for lengths that vary; None where this torch has none, or one that cannot do as we ask."""
    try:
        from torch.nn.attention.varlen import varlen_attn  # noqa: PLC0415 - newer than the oldest torch we take
    except ImportError:
        return None
    return varlen_attn if {"scale", "window_size", "enable_gqa"} <= set(signature(varlen_attn).parameters) else None


def flash_attention(query: Tensor, key: Tensor, value: Tensor, layout: Layout, scaling: float) -> Tensor:
    """The same by FlashAttention (CUDA); returns [tokens, heads, dim]. Its way back adds up in no fixed order."""
    attend = varying_attention()
    assert attend is not None
    rows = [each.transpose(0, 1) for each in (query, key, value)]
    bounds, longest, shared = layout.bounds, layout.longest, len(query) != len(key)
    seen: Tensor = attend(
        *rows, bounds, bounds, longest, longest, scale=scaling, window_size=(-1, 0), enable_gqa=shared
    )
    return seen


class _TiledAttention(torch.autograd.Function):
    """Query heads that share a key head are one batch of its products: [key heads, sharers * tile, dim]."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, layout: Layout, scaling: float) -> Tensor:
        """query: [heads, tokens, dim]; returns the same."""
        shared = _share(query, len(key))
        result = torch.empty_like(shared)
        for tile in layout.tiles:
            shares = _shares(_queries(shared, tile).mul(scaling), key, tile)
            _put(result, tile, shares @ value[:, tile.first : tile.end])
        ctx.save_for_backward(query, key, value)
        ctx.layout, ctx.scaling = layout, scaling
        return result.view(query.shape)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """Gradients of query, key and value; those of keys are summed over tiles in float32."""
        query, key, value = ctx.saved_tensors
        shared, gradient = _share(query, len(key)), _share(outer[0], len(key))
        for_query = torch.empty_like(shared)
        wide = torch.promote_types(key.dtype, torch.float32)
        for_key, for_value = (torch.zeros_like(each, dtype=wide) for each in (key, value))
        for tile in ctx.layout.tiles:
            seen = slice(tile.first, tile.end)
            asked, wanted = _queries(shared, tile).mul(ctx.scaling), _queries(gradient, tile)
            shares = _shares(asked, key, tile)
            for_value[:, seen] += shares.transpose(1, 2) @ wanted
            changes = wanted @ value[:, seen].transpose(1, 2)
            scores = torch._softmax_backward_data(changes, shares, -1, shares.dtype)  # noqa: SLF001 - as torch itself
            _put(for_query, tile, (scores @ key[:, seen]).mul_(ctx.scaling))
            for_key[:, seen] += scores.transpose(1, 2) @ asked
        return for_query.view(query.shape), for_key.to(key.dtype), for_value.to(value.dtype), None, None


def _share(heads: Tensor, keys: int) -> Tensor:
    """[heads, tokens, dim] -> [key heads, sharers, tokens, dim]."""
    return heads.reshape(keys, len(heads) // keys, *heads.shape[1:])


def _queries(shared: Tensor, tile: Tile) -> Tensor:
    """[key heads, sharers, tokens, dim] -> [key heads, sharers * tile, dim]."""
    return shared[:, :, tile.start : tile.end].reshape(len(shared), -1, shared.shape[-1])


def _put(shared: Tensor, tile: Tile, rows: Tensor) -> None:
    """The other way round."""
    shared[:, :, tile.start : tile.end] = rows.view(len(shared), shared.shape[1], -1, shared.shape[-1])


def _shares(queries: Tensor, key: Tensor, tile: Tile) -> Tensor:
    """How much each query, scaled, takes of each key it sees: [key heads, sharers * tile, keys], each row summing to
    one.
    """
    scores = queries @ key[:, tile.first : tile.end].transpose(1, 2)
    apart = scores.view(len(key), -1, *tile.mask.shape).add_(tile.mask)
    return torch.softmax(apart, -1).view(scores.shape)
