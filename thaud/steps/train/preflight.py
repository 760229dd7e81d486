"""How the computation is arranged, so that it fits: decided before anything is loaded, from model and machine.

Row lengths decide the last bits of the result, so they follow from the spec and the size of the machine alone, never
from what is free at the moment. Activations that are computed again are the same bits, so that may also be chosen for
want of free memory. Refuses, with the figures, what would not fit in any arrangement.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import torch

from thaud.errors import StepError
from thaud.steps.contract import TrainSpec
from thaud.steps.train.capacity import Capacity, capacity
from thaud.steps.train.footprint import Plan, Shape, loading_bytes, shape_of, step_bytes
from thaud.steps.train.packing import padded_length
from thaud.steps.train.precision import DTYPES, choose_precision

ROW_TOKENS = range(256, 1024 + 1, 256)  # from where a product is fast, to where longer rows gain nothing more
ROW_BYTES = 640 << 20  # what a row may keep on a CPU if it can choose: longer rows of large models gain nothing either
SHARES = {"cpu": 0.8, "cuda": 0.92}  # of the memory, where no limit is given: the rest is the system's, or the driver's
GIB = 1 << 30
NAMES = {dtype: name for name, dtype in DTYPES.items()}
QUANTISER = "bitsandbytes"


@dataclass(frozen=True, slots=True)
class Arrangement:
    """Where and how to compute. `row_tokens`: how many tokens share a row, beyond which an example has one alone;
    `recompute`: activations are computed again on the way back; `four_bit`: the base is quantised (CUDA only); `shard`:
    it is spread over the processes (sharding). `needed` of `budget` bytes are the estimate, 0 where none was made.
    `warning` is for people.
    """

    device: torch.device
    dtype: torch.dtype
    row_tokens: int
    recompute: bool = False
    four_bit: bool = False
    shard: bool = False
    needed: int = 0
    budget: int = 0
    warning: str = ""

    @property
    def precision(self) -> str:
        """The dtype's name in specs: "bf16" or "fp32"."""
        return NAMES[self.dtype]

    def words(self) -> str:
        """What was chosen, in one line."""
        parts = [self.precision]
        if self.four_bit:
            parts.append("base in 4 bits")
        parts.append(f"rows of {self.row_tokens} tokens")
        if self.recompute:
            parts.append("activations computed again")
        if self.shard:
            parts.append("base spread over the processes")
        if self.needed:
            parts.append(f"about {self.needed / GIB:.1f} of {self.budget / GIB:.1f} GiB")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Case:
    """What is to fit, and into what. `longest`: tokens of the longest lesson; `there`: this process's part of the
    memory; `limit`: what the spec allows it, 0 where it says nothing; `world`: processes that train together;
    `quantiser`: whether bitsandbytes is installed.
    """

    shape: Shape
    rank: int
    longest: int
    there: Capacity
    limit: int = 0
    world: int = 1
    quantiser: bool = False

    def plan(self, arrangement: Arrangement) -> Plan:
        """What of an arrangement decides the memory: an example that is longer than the rows has one of its own."""
        return Plan(
            device=arrangement.device.type,
            item=arrangement.dtype.itemsize,
            row=max(arrangement.row_tokens, padded_length(self.longest, arrangement.row_tokens)),
            longest=self.longest,
            rank=self.rank,
            recompute=arrangement.recompute,
            four_bit=arrangement.four_bit,
            parts=self.world if arrangement.shard else 1,
        )

    def estimated(self, arrangement: Arrangement) -> Arrangement:
        """The same, with what it needs."""
        return replace(arrangement, needed=step_bytes(self.shape, self.plan(arrangement)))

    def peak_bytes(self, arrangement: Arrangement) -> int:
        """The most that is resident, estimated: more than is needed where loading converts the weights."""
        plan = self.plan(arrangement)
        return max(step_bytes(self.shape, plan), loading_bytes(self.shape, plan))

    def budget(self, device: torch.device) -> int:
        """What may be taken: the spec's limit, else a share of all that there is."""
        return self.limit or int(self.there.total * SHARES[device.type])


def arrange(
    spec: TrainSpec, config: Mapping[str, Any], longest: int = 0, processes: int = 1, world: int = 1
) -> Arrangement:
    """Choose for a base with this config.json and lessons of at most `longest` tokens (0: the context's). `processes`
    of the `world` that train together share this machine's memory, a limit in the spec too.

    Raises StepError where nothing fits, ModelError where config.json does not say how large the base is.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sharing = processes if device.type == "cpu" else 1
    there = capacity(device)
    case = Case(
        shape=shape_of(config),
        rank=spec.rank,
        longest=longest or spec.context_tokens,
        there=Capacity(there.total // sharing, there.free // sharing),
        limit=max(0, spec.max_memory_bytes) // sharing,
        world=world,
        quantiser=find_spec(QUANTISER) is not None,
    )
    return choose(case, device, choose_precision(spec.precision, device))


def choose(case: Case, device: torch.device, dtype: torch.dtype) -> Arrangement:
    """The quickest arrangement that fits. Pure. Raises StepError where none does."""
    tried = [case.estimated(option) for option in options(case, device, dtype)]
    for option in tried:
        if option.needed <= option.budget:
            return with_free_memory(case, option)
    raise StepError(refusal(case, min(tried, key=lambda option: option.needed)))


def options(case: Case, device: torch.device, dtype: torch.dtype) -> Iterator[Arrangement]:
    """Arrangements from the quickest to the smallest: shorter rows, activations computed again, the base spread over
    the processes, the base in 4 bits.
    """
    preferred = row_tokens(case, dtype, device)
    first = Arrangement(device, dtype, preferred, budget=case.budget(device))
    kinds = [first, replace(first, recompute=True)]
    if case.world > 1:
        kinds.append(replace(first, recompute=True, shard=True))
    if device.type == "cuda" and case.quantiser:
        kinds.append(replace(first, recompute=True, four_bit=True))
    for kind in kinds:
        yield from (replace(kind, row_tokens=row) for row in reversed(ROW_TOKENS) if row <= preferred)


def row_tokens(case: Case, dtype: torch.dtype, device: torch.device) -> int:
    """How many tokens share a row where memory does not matter: on a CPU as many as keep ROW_BYTES."""
    fitting = ROW_BYTES // (case.shape.layers * case.shape.kept(case.rank) * dtype.itemsize)
    wanted = fitting if device.type == "cpu" else ROW_TOKENS[-1]
    return max(ROW_TOKENS[0], min(wanted, ROW_TOKENS[-1]) // ROW_TOKENS.step * ROW_TOKENS.step)


def with_free_memory(case: Case, chosen: Arrangement) -> Arrangement:
    """The same rows with activations computed again, where less is free than `chosen` needs; and a warning, where that
    does not fit either.
    """
    free = case.there.free
    if chosen.needed <= free:
        return chosen
    least = min(chosen, case.estimated(replace(chosen, recompute=True)), key=lambda each: each.needed)
    if least.needed <= free:
        return least
    said = (
        f"only {free / GIB:.1f} GiB of memory are free and training takes about {least.needed / GIB:.1f}: "
        "close other programs, or it may be slow or be ended by the system"
    )
    return replace(least, warning=said)


def refusal(case: Case, least: Arrangement) -> str:
    """Why nothing fits, and what would help. `least`: the smallest arrangement that there is."""
    weights = millions(case.shape.linear + case.shape.embedded)
    where = "this GPU" if least.device.type == "cuda" else "this machine"
    allowing = "training.max_memory_gib allows" if case.limit else f"{where} leaves for it"
    remedies = [
        "a smaller size",
        f"a shorter context (stages.N.context_tokens; the longest example has {case.longest} tokens)",
        *other_means(case, least),
    ]
    return (
        f"training does not fit: a base of {weights} weights and examples of up to {case.longest} tokens "
        f"need about {least.needed / GIB:.1f} GiB ({least.words().partition(', about')[0]}), {allowing} "
        f"{gib(least.budget)} GiB, and {where} has {case.there.total / GIB:.1f} GiB. What would help: "
        f"{'; '.join(remedies)}"
    )


def millions(weights: int) -> str:
    """How many weights, to two digits: "7.6 billion", "17 million"."""
    return f"{weights / 1e9:.2g} billion" if weights >= 1e9 else f"{weights / 1e6:.2g} million"


def gib(size: int) -> str:
    """Bytes in GiB, so that a tiny limit is not said to be nought."""
    return f"{size / GIB:.1f}" if size >= GIB else f"{size / GIB:.2f}"


def other_means(case: Case, least: Arrangement) -> Iterator[str]:
    """What would make it fit and is not done unasked."""
    half = case.estimated(replace(least, dtype=torch.bfloat16))
    if least.dtype == torch.float32 and half.needed <= least.budget:
        yield 'training.precision = "bf16" (slow where the processor has no such products)'
    if least.device.type == "cuda" and not case.quantiser:
        yield f"{QUANTISER}, for a base in 4 bits: pip install 'thau[gpu]'"
    if least.needed < case.there.total:
        yield f"training.max_memory_gib of {least.needed / GIB + 0.1:.1f} or more"
