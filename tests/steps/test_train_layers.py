import math
from typing import Any, Self

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from tests.testkit.training import CPU
from thaud.steps.train.attention import TILE, lay_out, tiled_attention
from thaud.steps.train.layers import gated, lora_linear, rms_norm
from thaud.steps.train.loss import NO_TARGET, POSITIONS, frozen_head_loss

LAYOUTS = {
    "one": [40],
    "one of a token": [1],
    "of a token each": [1] * 9,
    "just a tile": [TILE],
    "ends on tiles": [2 * TILE, TILE, TILE],
    "one over": [TILE + 1, 1],
    "one straddles": [TILE - 20, 60, 30],
    "long before short": [3 * TILE + 7, 50, 3],
}


@pytest.fixture
def dice() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def some(*shape: int, dice: torch.Generator, learned: bool = True) -> Tensor:
    """Normal values in double precision."""
    return torch.randn(*shape, dtype=torch.float64, generator=dice).requires_grad_(learned)


def in_dtype(values: tuple[Tensor, ...], dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Copies in another precision, which are learned as their originals are."""
    return tuple(each.detach().to(dtype).requires_grad_(each.requires_grad) for each in values)


def outcome(result: Tensor, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """The result, and the gradient of a fixed weighting of it, of each learned input."""
    weights = torch.linspace(-1, 1, result.numel(), dtype=torch.float64).view(result.shape).to(result.dtype)
    torch.autograd.backward(result, weights)
    return [result.detach(), *(each.grad for each in inputs if each.grad is not None)]


def check_bf16(ours: list[Tensor], exact: list[Tensor]) -> None:
    """No result may be farther from the exact one than bfloat16's rounding makes it: some hundredths of its norm."""
    assert len(ours) == len(exact)
    for mine, true in zip(ours, exact, strict=True):
        assert (mine.double() - true).norm() <= 0.02 * true.norm()


def plain_lora(x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor) -> Tensor:
    return functional.linear(x, weight, bias) + 2.0 * (x @ down.T @ up.T)


@pytest.mark.parametrize("biased", [True, False])
def test_lora_linear_has_the_gradients_of_its_formula(dice: torch.Generator, *, biased: bool) -> None:
    """Value and gradients of input and adapter are those of W x + b + scale B A x, in float64 and about so in bf16."""
    x, down, up = some(7, 6, dice=dice), some(3, 6, dice=dice), some(5, 3, dice=dice)
    weight = some(5, 6, dice=dice, learned=False)
    bias = some(5, dice=dice, learned=False) if biased else None
    assert torch.autograd.gradcheck(lambda *given: lora_linear(given[0], weight, bias, *given[1:], 2.0), (x, down, up))
    torch.testing.assert_close(lora_linear(x, weight, bias, down, up, 2.0), plain_lora(x, weight, bias, down, up))
    exact = outcome(plain_lora(x, weight, bias, down, up), (x, down, up))
    short, wide = in_dtype((x,), torch.bfloat16), in_dtype((down, up), torch.float32)
    frozen = (weight.bfloat16(), bias.bfloat16() if bias is not None else None)
    ours = outcome(lora_linear(*short, *frozen, *wide, 2.0), (*short, *wide))
    assert [each.dtype for each in ours] == [torch.bfloat16, torch.bfloat16, torch.float32, torch.float32]
    check_bf16(ours, exact)


def test_norm_has_the_gradients_of_its_formula(dice: torch.Generator) -> None:
    """Value and gradient are those of torch's own RMS norm, in float64 and about so in bf16."""
    x, weight = some(3, 5, 8, dice=dice), some(8, dice=dice, learned=False)
    assert torch.autograd.gradcheck(lambda given: rms_norm(given, weight, 1e-6), (x,))
    plain = functional.rms_norm(x, (8,), weight, 1e-6)
    torch.testing.assert_close(rms_norm(x, weight, 1e-6), plain)
    (short,) = in_dtype((x,), torch.bfloat16)
    check_bf16(outcome(rms_norm(short, weight.bfloat16(), 1e-6), (short,)), outcome(plain, (x,)))


def test_gated_product_has_the_gradients_of_its_formula(dice: torch.Generator) -> None:
    """Value and gradients are those of silu(gate) * up, in float64 and about so in bf16."""
    both = some(4, 9, dice=dice), some(4, 9, dice=dice)
    assert torch.autograd.gradcheck(gated, both)
    plain = functional.silu(both[0]) * both[1]
    torch.testing.assert_close(gated(*both), plain)
    short = in_dtype(both, torch.bfloat16)
    check_bf16(outcome(gated(*short), short), outcome(plain, both))


def dense(query: Tensor, key: Tensor, value: Tensor, lengths: list[int], scaling: float) -> Tensor:
    """Attention as its definition has it, lesson by lesson, with all scores at once."""
    sharers = len(query) // len(key)
    said, start = [], 0
    for length in lengths:
        part = slice(start, start + length)
        keys, values = (each[:, part].repeat_interleave(sharers, 0) for each in (key, value))
        future = torch.ones(length, length, dtype=torch.bool).triu(1)
        scores = (query[:, part] @ keys.transpose(1, 2) * scaling).masked_fill(future, -math.inf)
        said.append(torch.softmax(scores, -1) @ values)
        start += length
    return torch.cat(said, 1)


@pytest.mark.parametrize("lengths", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize(("heads", "keys"), [(4, 2), (3, 3), (2, 1)])
def test_tiled_attention_is_attention_within_each_lesson(
    dice: torch.Generator, lengths: list[int], heads: int, keys: int
) -> None:
    """Value and gradients are those of the definition, wherever lessons lie, in float64 and about so in bf16."""
    tokens = sum(lengths)
    given = tuple(some(count, tokens, 4, dice=dice) for count in (heads, keys, keys))
    exact = outcome(dense(*given, lengths, 0.7), given)
    again = in_dtype(given, torch.float64)
    ours = outcome(tiled_attention(*again, lay_out(lengths, torch.float64, CPU), 0.7), again)
    for mine, true in zip(ours, exact, strict=True):
        torch.testing.assert_close(mine, true)
    short = in_dtype(given, torch.bfloat16)
    check_bf16(outcome(tiled_attention(*short, lay_out(lengths, torch.bfloat16, CPU), 0.7), short), exact)


def test_tiled_attention_passes_gradcheck(dice: torch.Generator) -> None:
    """Its gradients are those of its values, across a tile's border."""
    lengths = [TILE - 3, 9]
    layout = lay_out(lengths, torch.float64, CPU)
    given = tuple(some(count, sum(lengths), 2, dice=dice) for count in (2, 1, 1))
    assert torch.autograd.gradcheck(lambda *each: tiled_attention(*each, layout, 0.7), given, fast_mode=True)


def test_hand_computed_masked_loss() -> None:
    """By hand, over three words: logits (0, ln 2, 0) and (ln 3, 0, 0), targets 1 and 2; a third position has none."""
    hidden = torch.tensor([[0.0, math.log(2), 0.0], [math.log(3), 0.0, 0.0], [7.0, 8.0, 9.0]], requires_grad=True)
    loss = frozen_head_loss(hidden, torch.eye(3), torch.tensor([1, 2, NO_TARGET]))
    assert loss.item() == pytest.approx(math.log(4 / 2) + math.log(5 / 1))
    torch.autograd.backward(loss)
    wanted = torch.tensor([[1 / 4, 2 / 4 - 1, 1 / 4], [3 / 5, 1 / 5, 1 / 5 - 1], [0.0, 0.0, 0.0]])
    assert hidden.grad is not None
    torch.testing.assert_close(hidden.grad, wanted)


@pytest.mark.parametrize("chunk", [1, 31 * 2 * POSITIONS, 1 << 23])
def test_chunked_loss_is_the_whole_loss(dice: torch.Generator, chunk: int) -> None:
    """However few logits fit at a time, loss and gradient are those of plain cross-entropy, scaled as it is."""
    head = some(31, 8, dice=dice, learned=False)
    targets = torch.randint(31, (3 * POSITIONS + 5,), generator=dice)
    targets[3] = NO_TARGET
    hidden = some(len(targets), 8, dice=dice)

    def half(given: Tensor) -> Tensor:
        return 0.5 * frozen_head_loss(given, head, targets, chunk)

    assert torch.autograd.gradcheck(half, (hidden,), fast_mode=True)
    plain = functional.cross_entropy(hidden @ head.T, targets, reduction="sum", ignore_index=NO_TARGET)
    torch.testing.assert_close(frozen_head_loss(hidden, head, targets, chunk), plain)
    (short,) = in_dtype((hidden,), torch.bfloat16)
    loss = frozen_head_loss(short, head.bfloat16(), targets, chunk)
    assert loss.dtype == torch.float32
    check_bf16(outcome(loss, (short,)), outcome(plain, (hidden,)))


class Products(TorchDispatchMode):
    """Counts matrix products, by the number of rows that they give."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple[int, ...]] = []

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in {torch.ops.aten.mm.default, torch.ops.aten.addmm.default, torch.ops.aten.addmm_.default}:
            self.made.append(tuple(result.shape))
        return result


@pytest.mark.parametrize("asked", [True, False])
def test_gradient_of_an_input_is_computed_only_where_it_is_asked_for(dice: torch.Generator, *, asked: bool) -> None:
    """The way back of a linear layer gives the input's gradient two products, or none, and the frozen weight none."""
    x, down, up = some(7, 6, dice=dice, learned=asked), some(3, 6, dice=dice), some(5, 3, dice=dice)
    result = lora_linear(x, some(5, 6, dice=dice, learned=False), None, down, up, 2.0)
    with Products() as products:
        torch.autograd.backward(result.sum())
    adapters = [(7, 3), (5, 3), (6, 3)]
    assert products.made == adapters + [(7, 6)] * 2 * asked
