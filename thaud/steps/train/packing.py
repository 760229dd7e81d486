"""Lessons -> rows without padding: which lessons share a forward pass, and in which order all are seen. Pure."""

import random
from collections.abc import Sequence


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Pack items of these lengths into rows of at most `capacity`: longest first, each into the fullest row it fits.

    Returns the items' indices by row, the longest of a row first. A longer item than the capacity gets a row alone.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for item in sorted(range(len(lengths)), key=lambda each: (-lengths[each], each)):
        fitting = [row for row, left in enumerate(room) if left >= lengths[item]]
        if fitting:
            row = min(fitting, key=lambda each: room[each])
            rows[row].append(item)
            room[row] -= lengths[item]
        else:
            rows.append([item])
            room.append(max(0, capacity - lengths[item]))
    return rows


def batches(count: int, batch_examples: int, epochs: int, seed: int) -> list[tuple[int, list[int]]]:
    """(epoch, example indices) of every optimiser step; each epoch sees every example once, in an order of its own."""
    steps: list[tuple[int, list[int]]] = []
    for epoch in range(epochs):
        order = list(range(count))
        random.Random(f"{seed}:{epoch}").shuffle(order)  # noqa: S311 - repeatable, not secret
        steps += [(epoch, order[at : at + batch_examples]) for at in range(0, count, batch_examples)]
    return steps


def groups(lengths: Sequence[int]) -> list[int]:
    """Sizes of runs of like lengths, for lengths in falling order: within a run none is shorter than half the longest.

    Attention pads a run to its longest, so this bounds the waste.
    """
    sizes: list[int] = []
    longest = 0
    for length in lengths:
        if sizes and 2 * length >= longest:
            sizes[-1] += 1
        else:
            sizes.append(1)
            longest = length
    return sizes
