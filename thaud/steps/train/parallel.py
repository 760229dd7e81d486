"""Several processes that train one adapter together, started by torchrun; one process where it was not.

    torchrun --standalone --nproc-per-node 2 -m thaud.steps.train WORKDIR

Each process has all lessons in the same order and takes its share of a batch's rows. Gradients are summed in one flat
all-reduce and not by torch's DistributedDataParallel: that averages per process instead of per supervised token, wants
each process to do as many passes through its wrapper as the others, and a batch has as many rows as it has. After the
sum every process holds the same numbers and takes the same step, so whatever is decided from them is decided alike.

A process that fails tells the first one why, which writes it as the step's result, and torchrun ends the others; they
end by themselves where torchrun dies. Refuses to know rows, models and files; does not import torch where it is alone.
"""

import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from thaud.errors import StepError, ThauError
from thaud.steps.contract import LEASH_BROKEN, Emit, Place, conclude, failure_of

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
TIMEOUT = timedelta(minutes=30)  # for one that is alive and does nothing; dead ones are noticed at once
LISTEN_S = 0.2
GRACE_S = 2.0  # for one's own words, or torchrun's signal, before another's end counts as the reason
LAST_WORDS_S = 30.0  # until a process that told its failure ends, whoever heard it
FAILURE = "thau/failure"


@dataclass(frozen=True, slots=True)
class World:
    """Which of how many processes this is."""

    rank: int = 0
    size: int = 1
    local_size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def voice(self, emit: Emit) -> Emit:
        """`emit`, and silence where another speaks."""
        return emit if self.leads else lambda *_, **__: None

    def share(self, rows: Sequence[T], costs: Sequence[float], *, even: bool = False) -> list[tuple[T, float]]:
        """This process's rows of a batch, each with the weight 1: the costliest goes first, to whoever has least.

        even: all processes get as many; what is missing is a row of another's, with the weight 0.
        """
        if self.size == 1:
            return [(row, 1.0) for row in rows]
        shares = balance(costs, self.size)
        mine = [(rows[place], 1.0) for place in shares[self.rank]]
        missing = max(map(len, shares)) - len(mine) if even else 0
        return mine + missing * [(rows[min(range(len(rows)), key=lambda place: costs[place])], 0.0)]

    def add_up(self, tensors: "Sequence[Tensor]") -> None:
        """Sum each tensor over all processes, in place. Raises StepError where one of them died."""
        if self.size == 1:
            return
        import torch  # noqa: PLC0415 - loaded by whoever made the tensors
        from torch import distributed  # noqa: PLC0415

        flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
        with others_needed():
            distributed.all_reduce(flat)
        for tensor, part in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.detach().copy_(part.view(tensor.shape))

    def said_by_first(self, value: T) -> T:
        """The first process's value, in all. Raises StepError where one of them died."""
        if self.size == 1:
            return value
        from torch import distributed  # noqa: PLC0415

        values = [value]
        with others_needed():
            distributed.broadcast_object_list(values, src=0)
        return values[0]

    def any(self, *, flag: bool) -> bool:
        """Whether it holds in any process. Raises StepError where one of them died."""
        if self.size == 1:
            return flag
        import torch  # noqa: PLC0415

        count = torch.tensor([float(flag)])
        self.add_up([count])
        return bool(count)

    def agree(self, what: str, tensors: "Sequence[Tensor]") -> None:
        """Raises StepError where `what`, these tensors, is not the same in all processes, bit for bit."""
        if self.size == 1:
            return
        import torch  # noqa: PLC0415

        digest = hashlib.sha256()
        for tensor in tensors:
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        mine = torch.tensor(list(digest.digest()), dtype=torch.float32)
        table = torch.zeros(self.size, len(mine))
        table[self.rank] = mine
        self.add_up([table])
        if differing := [rank for rank in range(self.size) if not torch.equal(table[rank], table[0])]:
            raise StepError(f"{what} of process {differing[0]} is not that of process 0: do they read the same files?")


ALONE = World()


def balance(costs: Sequence[float], size: int) -> list[list[int]]:
    """Part items into `size` lists of about the same cost, in the order of the items: the costliest first, each to the
    cheapest list (Graham 1969). Pure.
    """
    shares: list[list[int]] = [[] for _ in range(size)]
    sums = [0.0] * size
    for item in sorted(range(len(costs)), key=lambda each: (-costs[each], each)):
        least = min(range(size), key=lambda rank: sums[rank])
        shares[least].append(item)
        sums[least] += costs[item]
    return [sorted(share) for share in shares]


@contextmanager
def others_needed() -> Iterator[None]:
    """Raises StepError where a collective fails, once it is clear that no other has told why."""
    try:
        yield
    except RuntimeError as error:
        time.sleep(GRACE_S)
        raise StepError(
            "another process of this training has died without a word: see its standard error; the kernel ends one"
            " when memory runs out"
        ) from error


def gradient_of(weight: "Tensor") -> "Tensor":
    """The gradient of a weight; zeros, given to it, where this process had no row in the batch."""
    if weight.grad is None:
        import torch  # noqa: PLC0415

        weight.grad = torch.zeros_like(weight)
    return weight.grad


@contextmanager
def joined(place: Place, workdir: Path) -> Iterator[World]:
    """The world that this process is a part of, as long as it trains. What fails in it fails for all."""
    if place.size == 1:
        yield ALONE
        return
    store = join(place)
    over = threading.Lock()
    others = threading.Thread(target=listen, args=(store.clone(), place, workdir, over), daemon=True, name="others")
    others.start()
    try:
        yield World(place.rank, place.size, place.local_size)
    except (ThauError, OSError, MemoryError) as error:
        if place.rank > 0:
            say_last_words(store, place, error)
        raise
    finally:
        over.acquire()  # for ever: whoever holds it writes the result
        others.join()  # a thread that asks the store while Python ends is SIGABRT


def join(place: Place) -> Any:
    """Find the others; returns the store of words that all can read. Collectives of the GPU go over NCCL."""
    import torch  # noqa: PLC0415 - seconds to import
    from torch.distributed import init_process_group  # noqa: PLC0415
    from torch.distributed.rendezvous import rendezvous  # noqa: PLC0415

    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(place.local_rank)
        backend = "cpu:gloo,cuda:nccl"
    store, rank, size = next(iter(rendezvous("env://", timeout=TIMEOUT)))
    init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
    return store.clone()


def say_last_words(store: Any, place: Place, error: ThauError | OSError | MemoryError) -> None:
    """Tell the first process of a failure, if none was told yet, and wait to be ended. Returns where nobody does."""
    failure = failure_of(error)
    failure["error"] = f"process {place.rank} of {place.size}: {failure['error']}"
    store.compare_set(FAILURE, "", json.dumps(failure))
    time.sleep(LAST_WORDS_S)


def listen(store: Any, place: Place, workdir: Path, over: threading.Lock) -> None:
    """End this process when the store is gone, and torchrun with it; in the first, when another tells its failure.
    Returns soon after somebody else took `over`.
    """
    try:
        while not store.check([FAILURE]):
            if over.locked():
                return
            time.sleep(LISTEN_S)
        failure: Mapping[str, Any] = json.loads(store.get(FAILURE))
    except RuntimeError:
        failure = {}
    time.sleep(GRACE_S)
    if (place.rank > 0 and failure) or not over.acquire(blocking=False):
        return
    os._exit(conclude(workdir, failure) if failure else LEASH_BROKEN)


def leave(code: int) -> NoReturn:
    """End this process with an exit code, without waiting for the threads of those collectives."""
    sys.stdout.flush()
    os._exit(code)
