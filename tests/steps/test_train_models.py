"""Each architecture under our layers, against transformers and peft as they are."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM

from tests.steps.test_train_layers import Products
from tests.testkit.tiny_models import KINDS, write_tiny_base
from tests.testkit.training import CPU, FACTS, adapted, fact, fact_lessons, gradients, spec_for, trainer
from thaud.errors import ModelError
from thaud.steps.contract import ALONE
from thaud.steps.tokenizer import read_tokenizer
from thaud.steps.train.__main__ import work
from thaud.steps.train.attention import TILE, can_flash, flash_attention, lay_out, tiled_attention
from thaud.steps.train.data import Lesson
from thaud.steps.train.loop import Recipe
from thaud.steps.train.model import make_row, old_names_tolerated, row_loss

BASES = [*((kind, True) for kind in KINDS), *((kind, False) for kind in ("qwen2", "qwen3", "llama"))]
LENGTHS = {
    "short ones": [17, 2, 40, 9, 2],
    "of two tokens": [3, *[2] * 11],
    "on the borders of tiles": [TILE, 2 * TILE, TILE],
    "just off them": [TILE + 1, TILE - 1, 2 * TILE + 1],
    "straddling": [TILE - 30, 90, 70],
    "longer than a row": [3 * TILE + 5, 20, 11],
}


@pytest.fixture(scope="module", params=BASES, ids=lambda each: f"{each[0]}{'' if each[1] else ', untied'}")
def kind_base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base of each kind whose logits are spread."""
    kind, tied = request.param
    return write_tiny_base(tmp_path_factory.mktemp("base"), kind=kind, tied=tied, init_std=0.2)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def lesson(length: int, seed: int) -> Lesson:
    """Random tokens, of which some are learned: the last one, and others but the first."""
    dice = random.Random(seed)
    targets = sorted({length - 1, *dice.sample(range(1, length), length // 3)})
    return Lesson(f"{length}-{seed}", [dice.randrange(300) for _ in range(length)], targets)


def plain(base: Path, model: Any) -> Any:
    """transformers' and peft's own model with the adapter of ours."""
    own = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager")
    settings = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    with old_names_tolerated():
        peft = get_peft_model(own, settings)
    peft.load_state_dict(model.state_dict())
    return peft


def labelled(one: Lesson) -> dict[str, Tensor]:
    """A lesson as transformers takes it: labels are -100 but where something is learned."""
    ids, places = torch.tensor([list(map(int, one.ids))]), list(map(int, one.targets))
    labels = torch.full(ids.shape, -100)
    labels[0, places] = ids[0, places]
    return {"input_ids": ids, "labels": labels}


def check_close(ours: list[Tensor], theirs: list[Tensor]) -> None:
    """Gradients are equal but for the order in which float32 sums were taken, and none is nothing."""
    assert len(ours) == len(theirs) > 0
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.abs().max() > 0
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=2e-6)


def test_loss_and_gradients_are_transformers_own(kind_base: Path) -> None:
    """A lesson alone has the loss that transformers computes with labels and eager attention, to 1e-5, and its
    gradients: with short lessons, and with one that is longer than a tile.
    """
    model = adapted(kind_base)
    reference = plain(kind_base, model)
    for one in [*fact_lessons(kind_base)[:2], lesson(TILE + 40, 1)]:
        ours = trainer(model, [one]).accumulate([one])
        mine = gradients(model)
        theirs = reference(**labelled(one)).loss
        torch.autograd.backward(theirs)
        assert ours == pytest.approx(theirs.item(), rel=1e-5, abs=1e-5)
        check_close(mine, gradients(reference))


def test_packed_and_one_by_one_agree(kind_base: Path) -> None:
    """Loss and every gradient are the same whether examples share rows or have one each: none sees another."""
    model, lessons = adapted(kind_base), fact_lessons(kind_base)
    packed = trainer(model, lessons, row_tokens=512).accumulate(lessons)
    together = gradients(model)
    alone = trainer(model, lessons, row_tokens=1).accumulate(lessons)
    assert packed == pytest.approx(alone, rel=1e-5)
    check_close(together, gradients(model))


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_packed_and_one_by_one_agree_wherever_lessons_lie(base: Path, lengths: list[int]) -> None:
    """So they are for lessons that are tiny, straddle tiles, end on their borders, or are longer than a row."""
    model = adapted(base)
    lessons = [lesson(length, seed) for seed, length in enumerate(lengths)]
    row = TILE if lengths == LENGTHS["longer than a row"] else 512
    packed = trainer(model, lessons, row_tokens=row).accumulate(lessons)
    together = gradients(model)
    alone = trainer(model, lessons, row_tokens=1).accumulate(lessons)
    assert packed == pytest.approx(alone, rel=1e-5)
    check_close(together, gradients(model))


def check_agreement_in_bf16(kind_base: Path, device: torch.device) -> None:
    """Packed and one by one agree in bfloat16, and with float32 on the CPU, as far as its rounding goes."""
    lessons = [*fact_lessons(kind_base), lesson(TILE + 40, 1)]
    model = adapted(kind_base, torch.bfloat16, device)
    packed = trainer(model, lessons).accumulate(lessons)
    together = [each.cpu() for each in gradients(model)]
    assert all(each.dtype == torch.float32 for each in together)
    alone = trainer(model, lessons, row_tokens=1).accumulate(lessons)
    apart = [each.cpu() for each in gradients(model)]
    exact = adapted(kind_base)
    assert packed == pytest.approx(alone, rel=1e-2)
    assert packed == pytest.approx(trainer(exact, lessons).accumulate(lessons), rel=1e-2)
    mine, others, true = (torch.cat([each.flatten() for each in some]) for some in (together, apart, gradients(exact)))
    assert (mine - others).norm() < 0.05 * true.norm()
    assert (mine - true).norm() < 0.1 * true.norm()


def test_packed_and_one_by_one_agree_in_bf16(kind_base: Path) -> None:
    """In bfloat16, and beside float32, they agree as far as its rounding goes."""
    check_agreement_in_bf16(kind_base, torch.device("cpu"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="NOT SHOWN: no CUDA device")
def test_packed_and_one_by_one_agree_under_cuda(kind_base: Path) -> None:
    """On a GPU in bfloat16 (FlashAttention where torch and the device have it, else tiles) they agree likewise, and
    with float32 on the CPU.
    """
    check_agreement_in_bf16(kind_base, torch.device("cuda"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="NOT SHOWN: no CUDA device")
@pytest.mark.parametrize(("heads", "keys"), [(4, 2), (3, 3)])
def test_flash_attention_and_tiles_agree(heads: int, keys: int) -> None:
    """Values and gradients of both are the same as far as bfloat16 goes, with heads that share keys and without."""
    lengths = [TILE - 20, 60, 1, 30]
    layout = lay_out(lengths, torch.bfloat16, torch.device("cuda"))
    dice = torch.Generator().manual_seed(0)
    shapes = [(count, sum(lengths), 64) for count in (heads, keys, keys)]
    drawn = [torch.randn(shape, generator=dice).bfloat16().cuda() for shape in shapes]
    if not can_flash(drawn[0]):
        pytest.skip("NOT SHOWN: this torch or device has no FlashAttention for lengths that vary")
    outcomes = []
    for attend in (lambda *given: flash_attention(*given).transpose(0, 1), tiled_attention):
        given = [each.clone().requires_grad_() for each in drawn]
        seen = attend(*given, layout, 0.125)
        torch.autograd.backward(seen, torch.ones_like(seen) * drawn[0])
        outcomes.append([seen.detach(), *(each.grad for each in given)])
    for one, other in zip(*outcomes, strict=True):
        assert (one.float() - other.float()).norm() < 0.02 * other.float().norm()


def test_a_change_in_one_example_leaves_its_neighbours_loss_alone(base: Path) -> None:
    """In one row, a lesson's loss is bit for bit the same whatever lies before and after it, padding included."""
    model, middle = adapted(base), lesson(50, 0)

    def loss_among(seed: int) -> float:
        others = [Lesson("other", lesson(length, seed).ids, ()) for length in (TILE - 20, 49)]
        with torch.no_grad():
            return row_loss(model, make_row([others[0], middle, others[1]], 256, torch.float32, CPU)).item()

    assert len({loss_among(seed) for seed in (1, 2, 3)}) == 1


def test_base_with_a_sliding_window_is_refused_with_its_first_row(tmp_path: Path) -> None:
    """Short lessons would fit into the window, a long one hours later would not: the first row says so."""
    base = write_tiny_base(tmp_path, use_sliding_window=True, sliding_window=64, max_window_layers=1)
    with pytest.raises(ModelError, match=r"looks back 64 tokens only: sliding windows are not supported"):
        row_loss(adapted(base), make_row([lesson(5, 0)], 16, torch.float32, CPU))


def test_dropout_of_attention_is_left_out(tmp_path: Path) -> None:
    """A base that asks for it is trained as the same base without: what is random could not be resumed."""
    base, one = write_tiny_base(tmp_path, init_std=0.2, attention_dropout=0.5), lesson(40, 0)
    model = adapted(base)
    ours = trainer(model, [one]).accumulate([one])
    assert ours == pytest.approx(plain(base, model).eval()(**labelled(one)).loss.item(), rel=1e-5)


def test_positions_restart_with_each_lesson() -> None:
    """A row has its lessons longest first, each counted from nothing, and so has the padding: rotary embeddings would
    hide it, for they see differences alone, until a row is longer than the base's context.
    """
    row = make_row([lesson(3, 0), lesson(5, 1)], 12, torch.float32, CPU)
    assert row.positions.tolist() == [[*range(5), *range(3), *range(4)]]
    assert row.ids[0, :8].tolist() == [*lesson(5, 1).ids, *lesson(3, 0).ids]


@pytest.mark.parametrize("length", [256, 300, 640])
def test_padding_teaches_nothing(base: Path, length: int) -> None:
    """However long the padding behind a row's lessons is, their loss and its gradients are the same."""
    model, lessons = adapted(base), [lesson(90, 0), lesson(60, 1)]

    def outcome(tokens: int) -> tuple[float, list[Tensor]]:
        loss = row_loss(model, make_row(lessons, tokens, torch.float32, CPU))
        torch.autograd.backward(loss)
        return loss.item(), gradients(model)

    (bare, without), (padded, behind) = outcome(150), outcome(length)
    assert padded == pytest.approx(bare, rel=1e-6)
    check_close(behind, without)


def test_frozen_weights_have_neither_gradients_nor_optimiser_state(kind_base: Path) -> None:
    """Only the adapter learns: no base weight, embedding or head gets a gradient or a moment, or moves."""
    model, lessons = adapted(kind_base), fact_lessons(kind_base)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    training = trainer(model, lessons, Recipe(0, 1e-3, 2, len(lessons)))
    training.accumulate(lessons)
    learned = {name for name, weight in model.named_parameters() if weight.grad is not None}
    assert all("lora_" in name for name in learned)
    assert not any("embed" in name or "lm_head" in name for name in learned)
    assert len(learned) == 2 * 7 * 2
    model.zero_grad(set_to_none=True)
    assert training.step().supervised > 0
    assert set(training.optimiser.state) == {weight for name, weight in model.named_parameters() if "lora_" in name}
    moved = {name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])}
    assert len(moved) == len(learned)
    assert all("lora_" in name for name in moved)


def test_nothing_is_computed_for_the_first_layers_input(kind_base: Path) -> None:
    """The way back has three products for each adapter and two for its input's gradient, save for the three of the
    first layer that read the embedding: nobody asks for theirs.
    """
    model, lessons = adapted(kind_base), fact_lessons(kind_base)
    loss = row_loss(model, make_row(lessons, 384, torch.float32, CPU))
    with Products() as products:
        torch.autograd.backward(loss)
    assert len(products.made) == 5 * 2 * 7 - 2 * 3


def test_every_kind_learns_and_says_so_in_peft(kind_base: Path, tmp_path: Path) -> None:
    """Each kind's loss goes down; the adapter loads into plain peft and gives transformers the loss that the training
    ended with.
    """
    examples = [fact(*each) for each in FACTS]
    result = work(tmp_path, ALONE, spec_for(kind_base, tmp_path, examples, epochs=12, batch_examples=len(examples)))
    assert result.supervised_tokens > 0
    assert result.last_loss < 0.5 * result.first_loss
    own = AutoModelForCausalLM.from_pretrained(kind_base, dtype=torch.float32)
    with old_names_tolerated():
        model = PeftModel.from_pretrained(own, result.adapter_dir)
    losses, counts = [], []
    with torch.no_grad():
        for one in fact_lessons(kind_base):
            counts.append(len(one.targets))
            losses.append(model(**labelled(one)).loss.item() * counts[-1])
    # The last step's loss is that before its change, which the end of the cosine makes all but nothing.
    assert sum(losses) / sum(counts) == pytest.approx(result.last_loss, rel=0.05, abs=1e-3)
    assert read_tokenizer(kind_base).special("eos")
