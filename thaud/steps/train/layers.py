"""The parts of a decoder layer where training a frozen base under LoRA can do with less than autograd would.

transformers' model runs as it is; `make_lean` puts these in place of three of its parts. Each keeps for the way back
only what cannot be had again for next to nothing, and computes no gradient that nobody asks for: none for a frozen
weight, none for the input of the first layer. Refuses nothing: a part it does not know stays as it was.
"""

from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear, silu


class _LoraLinear(torch.autograd.Function):
    """x W' + b + scale * x A' B' (Hu et al. 2021) with W and b frozen. Kept: x, and x A', as narrow as the rank.

    Products are in the dtype of x; A and B, and what is returned for them, are in their own.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float
    ) -> Tensor:
        """x: [tokens, in]; weight: [out, in]; down: [rank, in]; up: [out, rank]. Returns [tokens, out]."""
        narrow = x @ down.to(x.dtype).T
        result = linear(x, weight, bias).addmm_(narrow, (up * scale).to(x.dtype).T)
        ctx.save_for_backward(x, weight, down, up, narrow)
        ctx.scale = scale
        return result

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, None, None, Tensor, Tensor, None]:
        """Gradients of x, where it needs one, and of both halves of the adapter."""
        (gradient,) = outer
        x, weight, down, up, narrow = ctx.saved_tensors
        inner = gradient @ (up * ctx.scale).to(x.dtype)
        for_up = (gradient.T @ narrow).to(up.dtype).mul_(ctx.scale)
        for_down = (x.T @ inner).T.to(down.dtype, memory_format=torch.contiguous_format)  # quicker than inner.T @ x
        for_x = (gradient @ weight).addmm_(inner, down.to(x.dtype)) if ctx.needs_input_grad[0] else None
        return for_x, None, None, for_down, for_up, None


class _RmsNorm(torch.autograd.Function):
    """x / rms(x) * weight over the last dimension (Zhang and Sennrich 2019), in float32. Kept: x, and 1 / rms(x)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """x: [..., width]; weight: [width], frozen. Returns the shape and dtype of x."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        inverse = torch.rsqrt((wide * wide).mean(-1, keepdim=True).add_(epsilon))
        ctx.save_for_backward(x, weight, inverse)
        return (wide * inverse).mul_(weight).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None]:
        """(g - y * mean(g * y)) / rms(x), where y = x / rms(x) and g is weighted."""
        x, weight, inverse = ctx.saved_tensors
        weighted = outer[0].to(inverse.dtype) * weight
        unit = x.to(inverse.dtype) * inverse
        share = (weighted * unit).mean(-1, keepdim=True)
        return weighted.sub_(unit.mul_(share)).mul_(inverse).to(x.dtype), None, None


class _SwiGlu(torch.autograd.Function):
    """silu(gate) * up (Shazeer 2020). Kept: the two products, and no activation."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        """Both [..., inner]."""
        ctx.save_for_backward(gate, up)
        return silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of both."""
        gate, up = ctx.saved_tensors
        return torch.ops.aten.silu_backward(outer[0] * up, gate), silu(gate).mul_(outer[0])


def lora_linear(x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float) -> Tensor:
    """x W' + b + scale * x A' B'. x: [tokens, in]; weight: [out, in]; down: [rank, in]; up: [out, rank]."""
    result: Tensor = _LoraLinear.apply(x, weight, bias, down, up, scale)  # type: ignore[no-untyped-call]
    return result


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """x / rms(x) * weight over the last dimension, the weight being frozen."""
    result: Tensor = _RmsNorm.apply(x, weight, epsilon)  # type: ignore[no-untyped-call]
    return result


def gated(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up."""
    result: Tensor = _SwiGlu.apply(gate, up)  # type: ignore[no-untyped-call]
    return result


def make_lean(model: Any) -> None:
    """Have a peft model's LoRA layers, RMS norms and gated feed-forwards compute as above, in place."""
    from peft.tuners.lora import Linear  # noqa: PLC0415 - seconds to import

    for module in model.modules():
        kind = type(module).__name__
        if type(module) is Linear and type(module.base_layer) is torch.nn.Linear:
            module.forward = MethodType(_lora_forward, module)
        elif kind.endswith("RMSNorm") and hasattr(module, "variance_epsilon"):
            module.forward = MethodType(_norm_forward, module)
        elif kind.endswith("MLP") and type(getattr(module, "act_fn", None)).__name__ in {"SiLU", "SiLUActivation"}:
            module.forward = MethodType(_feed_forward, module)


def _lora_forward(module: Any, x: Tensor) -> Tensor:
    base = module.base_layer
    if module.disable_adapters:
        return linear(x, base.weight, base.bias)
    down, up = module.lora_A["default"].weight, module.lora_B["default"].weight
    flat = x.reshape(-1, x.shape[-1])
    result = lora_linear(flat, base.weight, base.bias, down, up, module.scaling["default"])
    return result.view(*x.shape[:-1], result.shape[-1])


def _norm_forward(module: Any, x: Tensor) -> Tensor:
    return rms_norm(x, module.weight, module.variance_epsilon)


def _feed_forward(module: Any, x: Tensor) -> Tensor:
    result: Tensor = module.down_proj(gated(module.gate_proj(x), module.up_proj(x)))
    return result
