"""Cross-entropy through a frozen head, at the supervised positions alone and without keeping their logits."""

from typing import Any

import torch
from torch import Tensor

CHUNK_LOGITS = {"cpu": 1 << 20, "cuda": 1 << 26}  # 4 MiB of float32, which stay in a CPU's cache; 256 MiB
POSITIONS = 64  # of a chunk, at least, for each reads the whole head; a row's come in multiples of this
NO_TARGET = -1


class _FrozenHeadLoss(torch.autograd.Function):
    """Sum of -log p(target) over positions. The head is frozen, so the gradient of the hidden states is known on the
    way forward, chunk by chunk, and logits are never kept: a vocabulary of 150k costs no memory.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor, chunk: int) -> Tensor:
        """hidden: [positions, width]; head: [vocabulary, width]; targets: [positions]. Returns a scalar."""
        wide = torch.promote_types(hidden.dtype, torch.float32)
        total = torch.zeros((), dtype=wide, device=hidden.device)
        gradient = torch.empty_like(hidden)
        step = positions_at_once(head.shape[0], chunk)
        for start in range(0, len(hidden), step):
            part = slice(start, start + step)
            known = (targets[part] != NO_TARGET)[:, None]
            wanted = targets[part].clamp(min=0)[:, None]
            logarithms = torch.log_softmax(hidden[part] @ head.T, dim=-1, dtype=wide)
            total -= (logarithms.gather(1, wanted) * known).sum()
            shares = logarithms.exp_()
            shares.scatter_add_(1, wanted, -torch.ones_like(wanted, dtype=shares.dtype))
            gradient[part] = shares.mul_(known).to(head.dtype) @ head
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None, None]:
        """The chain rule's last factor."""
        (gradient,) = ctx.saved_tensors
        return gradient * outer[0].to(gradient.dtype), None, None, None


def positions_at_once(vocabulary: int, chunk: int) -> int:
    """How many positions have their logits at the same time, where `chunk` logits are wanted at most."""
    return max(1, chunk // vocabulary // POSITIONS) * POSITIONS


def frozen_head_loss(hidden: Tensor, head: Tensor, targets: Tensor, chunk: int = 0) -> Tensor:
    """Summed cross-entropy, in nats and float32, of `targets` [n] under softmax(hidden [n, width] @ head.T);
    differentiable in `hidden` alone. Where a target is NO_TARGET, the position counts nothing. `chunk`: how many logits
    there are at a time, save that there are always those of POSITIONS; 0: what suits the device.
    """
    wanted = chunk or CHUNK_LOGITS[hidden.device.type]
    result: Tensor = _FrozenHeadLoss.apply(hidden, head, targets, wanted)  # type: ignore[no-untyped-call]
    return result
