"""Cross-entropy through a frozen head, at the supervised positions alone and without keeping their logits."""

from typing import Any

import torch
from torch import Tensor

CHUNK_LOGITS = 1 << 25  # 128 MiB of float32


class _FrozenHeadLoss(torch.autograd.Function):
    """Sum of -log p(target) over positions. The head is frozen, so the gradient of the hidden states is known on the
    way forward, chunk by chunk, and logits are never kept: a vocabulary of 150k costs no memory.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
        """hidden: [positions, width]; head: [vocabulary, width]; targets: [positions]. Returns a float32 scalar."""
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        gradient = torch.empty_like(hidden)
        step = max(1, CHUNK_LOGITS // head.shape[0])
        for start in range(0, len(hidden), step):
            part = slice(start, start + step)
            logits = (hidden[part] @ head.T).float()
            logarithm = torch.logsumexp(logits, dim=-1, keepdim=True)
            total += (logarithm - logits.gather(1, targets[part, None])).sum()
            shares = torch.exp(logits - logarithm)
            shares[torch.arange(len(shares)), targets[part]] -= 1
            gradient[part] = shares.to(head.dtype) @ head
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None]:
        """The chain rule's last factor."""
        (gradient,) = ctx.saved_tensors
        return gradient * outer[0].to(gradient.dtype), None, None


def frozen_head_loss(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """Summed cross-entropy, in nats, of `targets` [n] under softmax(hidden [n, width] @ head.T); differentiable in
    `hidden` alone.
    """
    result: Tensor = _FrozenHeadLoss.apply(hidden, head, targets)  # type: ignore[no-untyped-call]
    return result
