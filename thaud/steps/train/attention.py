"""Attention for packed rows: examples lie end to end in one row and cannot see each other.

Everything but attention works on the row as it is, without padding. Attention takes the row apart: examples of like
length become a batch, padded on the right. Causal attention never looks right, so the padding needs no mask, and
separate batch rows cannot see each other, so neither does the packing; the plain causal kernel does all the work.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from thaud.steps.train.packing import groups

NAME = "thaud_packed"


@dataclass(frozen=True, slots=True)
class Block:
    """A run of `examples` of like length at row positions [start, end).

    `places` is where each of its tokens lies in the padded batch of `examples` x `longest`; None if nothing is padded.
    """

    start: int
    end: int
    examples: int
    longest: int
    places: Tensor | None


def blocks_of(lengths: Sequence[int], device: torch.device) -> list[Block]:
    """How a row of examples with these lengths, in falling order, is taken apart."""
    blocks: list[Block] = []
    first = start = 0
    for size in groups(lengths):
        run = lengths[first : first + size]
        end = start + sum(run)
        places = None
        if run[-1] != run[0]:
            offsets = [torch.arange(length) + number * run[0] for number, length in enumerate(run)]
            places = torch.cat(offsets).to(device)
        blocks.append(Block(start, end, size, run[0], places))
        first, start = first + size, end
    return blocks


def packed_attention(
    module: torch.nn.Module,  # noqa: ARG001 - transformers' attention interface
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001
    *,
    scaling: float,
    blocks: Sequence[Block],
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each example. query: [1, heads, tokens, dim]; returns [1, tokens, heads, dim]."""
    rows = [each[0].transpose(0, 1) for each in (query, key, value)]
    outputs = [_attend([row[block.start : block.end] for row in rows], block, scaling) for block in blocks]
    return (outputs[0] if len(outputs) == 1 else torch.cat(outputs)).unsqueeze(0), None


def _attend(rows: Sequence[Tensor], block: Block, scaling: float) -> Tensor:
    """Query, key and value of one block, [tokens, heads, dim] each -> [tokens, heads, dim]."""
    query, key, value = (_apart(row, block).transpose(1, 2) for row in rows)
    repeats = query.shape[1] // key.shape[1]
    if repeats > 1:
        key, value = (each.repeat_interleave(repeats, dim=1) for each in (key, value))
    seen = scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling).transpose(1, 2)
    flat = seen.reshape(block.examples * block.longest, *seen.shape[2:])
    return flat if block.places is None else flat.index_select(0, block.places)


def _apart(tokens: Tensor, block: Block) -> Tensor:
    """[tokens, heads, dim] -> [examples, longest, heads, dim], padded with zeros."""
    if block.places is not None:
        room = tokens.new_zeros(block.examples * block.longest, *tokens.shape[1:])
        tokens = room.index_copy(0, block.places, tokens)
    return tokens.reshape(block.examples, block.longest, *tokens.shape[1:])
