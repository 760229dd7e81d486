"""Lessons -> batches and rows: in which order all are seen, and which share a forward pass. Pure."""

import random
from collections.abc import Sequence
from functools import cached_property

ROW_PARTS = 4  # a row's length is a multiple of a quarter of the longest, or of the tile


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


def padded_length(tokens: int, capacity: int) -> int:
    """The length of a row for so many tokens. Few lengths recur, for each costs a compiled kernel a product."""
    part = max(1, capacity // ROW_PARTS)
    return -(-tokens // part) * part


class Order:
    """The fixed order of a training: `batch_examples` indices for each optimiser step, every example once an epoch, in
    an order of the epoch's own that the seed decides.
    """

    def __init__(self, count: int, batch_examples: int, epochs: int, seed: int) -> None:
        self.count, self.batch_examples, self.epochs, self.seed = count, batch_examples, epochs, seed
        self._epoch = -1

    @cached_property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch; the last may be smaller."""
        return -(-self.count // self.batch_examples)

    @property
    def steps(self) -> int:
        """All optimiser steps."""
        return self.epochs * self.steps_per_epoch

    def at(self, step: int) -> tuple[int, list[int]]:
        """(epoch, indices) of one step, both from 0."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._shuffled = epoch, list(range(self.count))
            random.Random(f"{self.seed}:{epoch}").shuffle(self._shuffled)  # noqa: S311 - repeatable, not secret
        start = batch * self.batch_examples
        return epoch, self._shuffled[start : start + self.batch_examples]
