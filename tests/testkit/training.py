"""Little things to train: facts, their lessons, a trainer over them, and what it computed."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from thaud.domain import Example, Message
from thaud.steps.contract import TrainSpec
from thaud.steps.tokenizer import read_tokenizer
from thaud.steps.train.data import Lesson, Row, prepare
from thaud.steps.train.loop import Recipe, Trainer
from thaud.steps.train.model import add_adapter, load_base
from thaud.steps.train.preflight import Arrangement

CPU = torch.device("cpu")
FACTS = [
    ("¿De qué color es el cielo?", "Azul"),
    ("¿Cuántas patas tiene un perro?", "Cuatro"),
    ("What colour is the sun?", "Yellow"),
    ("¿Qué hace la vaca? Dime solo el sonido que hace, y nada más, por favor.", "Muu"),
    ("¿Es el fuego caliente?", "Sí"),
    ("How many legs does a cat have, if nothing bad has happened to it?", "A cat has four legs"),
]


def fact(question: str, answer: str) -> Example:
    """A question and its answer."""
    return Example((Message("user", question), Message("assistant", answer)))


def lessons_of(base: Path, examples: Sequence[Example], context_tokens: int = 128) -> list[Lesson]:
    """The lessons of examples, none of which may be set aside. Their ids are the examples' numbers."""
    rows = (Row(str(number), example) for number, example in enumerate(examples))
    prepared = prepare(rows, read_tokenizer(base), context_tokens)
    assert not prepared.aside
    return list(prepared.lessons)


def fact_lessons(base: Path) -> list[Lesson]:
    """The lessons of FACTS."""
    return lessons_of(base, [fact(*each) for each in FACTS])


def adapted(base: Path, dtype: torch.dtype = torch.float32, device: torch.device = CPU) -> Any:
    """A base under an adapter of which neither half is zero: as it begins, most gradients would be."""
    model = add_adapter(load_base(base, dtype, device), rank=4, alpha=8, seed=3)
    shake(model)
    return model


def shake(model: Any) -> None:
    """Give the second halves of an adapter random values, the same each time."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.copy_(torch.empty(weight.shape).normal_(0, 0.05, generator=generator))


def trainer(model: Any, lessons: Sequence[Lesson], recipe: Recipe | None = None, row_tokens: int = 512) -> Trainer:
    """A trainer in the model's own dtype and device."""
    weight = model.get_base_model().lm_head.weight
    arrangement = Arrangement(weight.device, weight.dtype, row_tokens)
    return Trainer(model, lessons, recipe or Recipe(0, 1e-3, 1, len(lessons)), arrangement)


def gradients(model: Any) -> list[torch.Tensor]:
    """The gradients that were added up, which are then forgotten."""
    found = [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]
    model.zero_grad(set_to_none=True)
    return found


def write_examples(path: Path, examples: Sequence[Example]) -> Path:
    """The file that a step reads its examples from; ids are id-0, id-1 and so on."""
    rows = [{"id": f"id-{number}", **example.content} for number, example in enumerate(examples)]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def spec_for(base: Path, folder: Path, examples: Sequence[Example], **changes: Any) -> TrainSpec:
    """A step's spec in `folder`: eight epochs of little batches on one thread, in fp32."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = {
        "base_dir": str(base),
        "examples": str(write_examples(folder / "examples.jsonl", examples)),
        "out_dir": str(folder / "adapter"),
        "context_tokens": 128,
        "seed": 7,
        "learning_rate": 5e-3,
        "epochs": 8,
        "rank": 8,
        "alpha": 16,
        "batch_examples": 4,
        "threads": 1,
        "precision": "fp32",
    }
    return TrainSpec.model_validate({**fields, **changes})


def rows(examples: Sequence[Example], new: Callable[[int], bool] = lambda _: True) -> list[Row]:
    """Examples as a step reads them; ids are id-0, id-1 and so on, `new` says by the number which are."""
    return [Row(f"id-{number}", each, new(number)) for number, each in enumerate(examples)]


def spec_with_new(base: Path, folder: Path, new: Sequence[int], **changes: Any) -> TrainSpec:
    """`spec_for` FACTS, some of them new, by their numbers."""
    spec = spec_for(base, folder, [fact(*each) for each in FACTS], **changes)
    marked = [{**row, "new": number in new} for number, row in enumerate(json_lines(Path(spec.examples)))]
    Path(spec.examples).write_text("".join(json.dumps(row) + "\n" for row in marked))
    return spec


def json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
