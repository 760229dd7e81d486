"""Tensors -> bytes on disk, in threads: parts are read, merged and rounded by some, hashed by one, written by one.

Owns the order, which is that of the plan, and a few buffers of bounded size that go round. What fails in a thread is
raised where the buffer is to be used again. Refuses to know what a GGUF is beside tensors one after another.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from gguf.constants import GGUF_DEFAULT_ALIGNMENT
from torch import Tensor

from thaud.steps.export.adapter import Adapter
from thaud.steps.export.convert import convert, size_of
from thaud.steps.export.plan import Part, Planned, arrange
from thaud.steps.export.sink import Sink
from thaud.steps.export.weights import Weights

SLOTS = 6  # buffers beside one for each thread
AHEAD = 24  # tensors that the disk is asked for before they are read: two layers
PRODUCTS = 2  # of adapters: one in use, one being made


@dataclass(slots=True)
class Slot:
    """Memory that is used again as soon as its users are done with it."""

    memory: Tensor
    users: list[Future[Any]] = field(default_factory=list)

    def free(self) -> Tensor:
        """Wait for the users; raises what failed in them."""
        for user in self.users:
            user.result()
        self.users = []
        return self.memory


class Ring:
    """Slots in turn."""

    def __init__(self, count: int, size: int, dtype: torch.dtype) -> None:
        self.slots = deque(Slot(torch.empty(size, dtype=dtype)) for _ in range(count))

    def take(self) -> Slot:
        """The slot that was taken longest ago, free again."""
        self.slots.rotate(-1)
        self.slots[-1].free()
        return self.slots[-1]


class Scratch(threading.local):
    """Of each thread: a part as it is stored, and as float32."""

    def __init__(self, values: int) -> None:
        self.stored = torch.empty(values * 4, dtype=torch.uint8)
        self.values = torch.empty(values, dtype=torch.float32)


@dataclass(frozen=True, slots=True)
class Growth:
    """What the adapter adds to a weight, as soon as it is made."""

    slot: Slot
    made: Future[Tensor]


def pass_to(take: Callable[[memoryview], None], made: Future[memoryview]) -> None:
    """Wait for a part, and hand it over."""
    take(made.result())


class Pipeline:
    """One file's way. `threads` work beside the two that hash and write."""

    def __init__(self, plan: Sequence[Planned], weights: Weights, adapter: Adapter, threads: int) -> None:
        self.plan, self.weights, self.adapter, self.threads = plan, weights, adapter, threads
        self.adapted = [each for each in plan if each.source in adapter.halves]
        parts = [part for each in plan for part in each.parts()]
        self.part_values = max(part.values for part in parts)
        self.part_bytes = max(size_of(part.shape, part.of.kind) for part in parts) + GGUF_DEFAULT_ALIGNMENT
        self.product_values = max((each.values for each in self.adapted), default=0)
        self.read_ahead(*range(AHEAD))

    @property
    def memory_bytes(self) -> int:
        """What goes round."""
        products = PRODUCTS * self.product_values * 4
        return int(products + (SLOTS + self.threads) * self.part_bytes + self.threads * self.part_values * 8)

    def run(self, sink: Sink, on_tensor: Callable[[int, int], None]) -> None:
        """Write all tensors. `on_tensor(done, total)` is called after each. Raises ModelError and OSError."""
        self.sink = sink
        self.scratch = Scratch(self.part_values)
        self.ring = Ring(SLOTS + self.threads, self.part_bytes, torch.uint8)
        self.products = Ring(PRODUCTS, self.product_values, torch.float32)
        with ExitStack() as stack:
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            one_each = (torch.set_num_threads, (1,))  # it is the parts that are made side by side
            self.workers = stack.enter_context(ThreadPoolExecutor(self.threads, "round", *one_each))
            self.hasher = stack.enter_context(ThreadPoolExecutor(1, "hash"))
            self.writer = stack.enter_context(ThreadPoolExecutor(1, "write"))
            self.pass_all(on_tensor)

    def pass_all(self, on_tensor: Callable[[int, int], None]) -> None:
        """Hand every part to the threads, in order, and tell of the tensors that are written."""
        growths = self.growths()
        under_way: deque[Future[None]] = deque()
        for number, each in enumerate(self.plan):
            self.read_ahead(number + AHEAD)
            under_way.append(self.pass_on(each, next(growths) if each.source in self.adapter.halves else None))
            while under_way and (under_way[0].done() or number == len(self.plan) - 1):
                under_way.popleft().result()
                on_tensor(number + 1 - len(under_way), len(self.plan))
        for slot in self.ring.slots:
            slot.free()

    def read_ahead(self, *numbers: int) -> None:
        """Have the disk begin with these tensors of the plan."""
        for each in (self.plan[number] for number in numbers if number < len(self.plan)):
            if each.source is not None:
                self.weights.expect(each.source)

    def growths(self) -> Iterator[Growth]:
        """What the adapter adds to each adapted weight, the next one begun while one is in use."""
        ahead: deque[Growth] = deque()
        for each in self.adapted:
            slot = self.products.take()
            ahead.append(Growth(slot, self.workers.submit(self.adapter.product, str(each.source), slot.memory)))
            if len(ahead) == PRODUCTS:
                yield ahead.popleft()
        yield from ahead

    def pass_on(self, planned: Planned, growth: Growth | None) -> Future[None]:
        """Hand on a tensor's parts. Returns when the last is written."""
        written: Future[None]
        for part in planned.parts():
            slot = self.ring.take()
            made = self.workers.submit(self.make, part, growth, slot.memory)
            hashed = self.hasher.submit(pass_to, self.sink.take_in, made)
            written = self.writer.submit(pass_to, self.sink.write, made)
            slot.users = [hashed, written]
            if growth is not None:
                growth.slot.users.append(made)
        return written

    def make(self, part: Part, growth: Growth | None, into: Tensor) -> memoryview:
        """Read, merge and round one part; with the padding behind its tensor where it is the last."""
        values = self.scratch.values[: part.values].view(part.shape)
        target = arrange(values, part.heads, back=True)
        if part.of.source is None:
            assert part.of.given is not None
            target.copy_(arrange(part.of.given[part.start : part.end], part.heads))
        else:
            stored = self.weights.read(part.of.source, part.start, part.end, self.scratch.stored)
            target.copy_(arrange(stored, part.heads))
        if growth is not None:
            target.add_(arrange(growth.made.result()[part.start : part.end], part.heads))
        size = convert(part.of.name, values, part.of.kind, into)
        padded = size + (-part.of.size % GGUF_DEFAULT_ALIGNMENT if part.last else 0)
        into[size:padded] = 0
        return into.numpy().data[:padded]
