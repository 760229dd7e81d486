"""The frozen base spread over the processes of a training, for one that does not fit one device (torch's FSDP2).

Each process keeps its part of every matrix; a decoder layer is whole only while it computes, on the way forward and
again on the way back. The adapter stays whole everywhere, so that its gradients have the one way of parallel.py. All
processes have to compute alike: as many passes, forward and back, in the same order. It has run with gloo on a CPU, and
not yet on CUDA.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def shard(model: Any, device: torch.device, processes: int) -> None:
    """Spread the frozen weights of a peft model, which lies in the memory of the host, in place; what is learned moves
    to `device` whole.
    """
    from torch.distributed.device_mesh import init_device_mesh  # noqa: PLC0415 - memory that other runs do without
    from torch.distributed.fsdp import fully_shard  # noqa: PLC0415

    mesh = init_device_mesh(device.type, (processes,))
    causal = model.get_base_model()
    learned = {weight for weight in model.parameters() if weight.requires_grad}
    for weight in learned:
        weight.data = weight.data.to(device)
    embedding, head = causal.get_input_embeddings(), causal.get_output_embeddings()
    tied = head.weight is embedding.weight
    for part in (*causal.model.layers, embedding, *(() if tied else (head,))):
        fully_shard(part, mesh=mesh, reshard_after_forward=True, ignored_params=learned)
    fully_shard(causal.model, mesh=mesh, ignored_params=learned)
    if tied:
        head.weight = None  # it would keep the whole matrix; whole_head finds the embedding
    causal.to(device)


@contextmanager
def whole_head(causal: Any) -> Iterator[Tensor]:
    """The head's matrix [vocabulary, width] of a causal model, whole, as long as it is asked for."""
    head: Any = causal.get_output_embeddings()
    if head.weight is None:
        head = causal.get_input_embeddings()
    if not hasattr(head, "unshard"):  # no FSDPModule
        yield head.weight
        return
    head.unshard()
    try:
        yield head.weight
    finally:
        head.reshard()


def resident_bytes(model: nn.Module) -> int:
    """What the frozen weights take in this process."""
    from torch.distributed.tensor import DTensor  # noqa: PLC0415

    frozen = [weight for weight in model.parameters() if not weight.requires_grad]
    return sum((each.to_local() if isinstance(each, DTensor) else each).untyped_storage().nbytes() for each in frozen)
