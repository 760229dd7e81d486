"""Looking at a model: its loss on lessons, and how far an adapter has taken it from its base."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.testkit.training import CPU, FACTS, adapted, fact, rows, trainer
from thaud.errors import StepError
from thaud.steps.tokenizer import read_tokenizer
from thaud.steps.train.data import Prepared, prepare
from thaud.steps.train.evaluate import SAMPLE_LESSONS, SAMPLE_TOKENS, kl_to_base, mean_loss, sample_of_new
from thaud.steps.train.loop import Recipe
from thaud.steps.train.model import add_adapter, load_base


@pytest.fixture
def prepared(base: Path) -> Prepared:
    return prepare(rows([fact(*each) for each in FACTS]), read_tokenizer(base), 128)


@pytest.fixture
def model(base: Path) -> Any:
    torch.set_num_threads(1)
    return adapted(base)


def plain_kl(base: Path, model: Any, prepared: Prepared) -> float:
    """KL(base || adapted) a supervised token, by transformers' own models and torch's own distributions, unpacked."""
    from transformers import AutoModelForCausalLM  # noqa: PLC0415

    both = [
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager") for _ in range(2)
    ]
    both[1] = add_adapter(both[1], 4, 8, 3)
    both[1].load_state_dict(model.state_dict())
    found = []
    for lesson in prepared.lessons:
        with torch.no_grad():
            ours, theirs = (each(input_ids=torch.tensor([list(lesson.ids)])).logits[0].double() for each in both)
        sources = [place - 1 for place in lesson.targets]
        categorical = torch.distributions.Categorical
        found.append(
            torch.distributions.kl_divergence(categorical(logits=ours[sources]), categorical(logits=theirs[sources]))
        )
    return float(torch.cat(found).mean())


def test_divergence_is_that_of_a_plain_computation(base: Path, model: Any, prepared: Prepared) -> None:
    """Packed and in chunks it is what two models of transformers give, one by one, to 1e-4."""
    wanted = plain_kl(base, model, prepared)
    assert wanted > 0.01
    assert kl_to_base(model, prepared.lessons, 256) == pytest.approx(wanted, abs=1e-4)


def test_an_adapter_that_has_learned_nothing_has_not_diverged(base: Path, prepared: Prepared) -> None:
    """It is exactly zero as an adapter begins, and there is none where nothing is new."""
    fresh = add_adapter(load_base(base, torch.float32, CPU), 4, 8, 3)
    assert kl_to_base(fresh, prepared.lessons, 256) == 0.0
    assert kl_to_base(fresh, prepared.lessons.only([]), 256) is None


def test_looking_changes_nothing(model: Any, prepared: Prepared) -> None:
    """Loss and divergence leave weights, random state, mode and what is trained as they were, and repeat themselves."""
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    learned = [name for name, weight in model.named_parameters() if weight.requires_grad]
    state = torch.get_rng_state()
    model.train()
    seen = [(mean_loss(model, prepared.lessons, 256), kl_to_base(model, prepared.lessons, 256)) for _ in range(2)]
    assert seen[0] == seen[1]
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(weights[name], weight) for name, weight in model.state_dict().items())
    assert [name for name, weight in model.named_parameters() if weight.requires_grad] == learned
    assert model.training
    assert all(weight.grad is None for weight in model.parameters())


def test_loss_looked_at_is_the_loss_that_is_trained(model: Any, prepared: Prepared) -> None:
    """On the same lessons, the mean is what an optimiser step says."""
    looked = mean_loss(model, prepared.lessons, 256)
    assert trainer(model, prepared.lessons, Recipe(0, 1e-3, 1, len(prepared.lessons))).step().loss == pytest.approx(
        looked, abs=1e-5
    )


def test_divergence_is_taken_on_some_of_what_is_new(base: Path) -> None:
    """New lessons only, 64 at most and 8,192 tokens at most, drawn from all of them, the same each time."""
    tokenizer = read_tokenizer(base)
    short = [fact(f"¿{number}?", "Sí") for number in range(200)]
    lessons = prepare(rows(short, lambda number: number >= 100), tokenizer, 512).lessons
    chosen = sample_of_new(lessons, 7)
    assert len(chosen) == SAMPLE_LESSONS
    assert all(chosen.new)
    assert max(int(lesson.id[3:]) for lesson in chosen) > 100 + SAMPLE_LESSONS
    again = sample_of_new(lessons, 7)
    assert [lesson.id for lesson in again] == [lesson.id for lesson in chosen]
    long = prepare(rows([fact("palabra " * 60 + str(number), "Sí") for number in range(64)]), tokenizer, 512).lessons
    assert SAMPLE_TOKENS / 2 < sample_of_new(long, 7).lengths.sum() <= SAMPLE_TOKENS < long.lengths.sum()
    assert len(sample_of_new(prepare(rows(short, lambda _: False), tokenizer, 512).lessons, 7)) == 0


@pytest.mark.parametrize("look", [mean_loss, kl_to_base])
def test_a_model_that_gives_no_numbers_is_an_error(model: Any, prepared: Prepared, look: Callable[..., Any]) -> None:
    """Weights that are all finite and much too large are not called close to the base, nor is their loss written."""
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.mul_(1e30)
    with pytest.raises(StepError, match=r"no number.*lower the learning rate"):
        look(model, prepared.lessons, 256)
