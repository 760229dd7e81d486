"""Each architecture with its own tokenizer, trained, exported and asked: the file says what the merged model says."""

import random
from pathlib import Path

import pytest
import torch

from tests.steps.exporting import export
from tests.testkit.merged import check_same_answers
from tests.testkit.tiny_models import TEXT, write_tiny_base
from tests.testkit.training import CPU, lessons_of, trainer
from thaud.domain import Example, Message
from thaud.steps.export.preflight import check_fit
from thaud.steps.llama import LlamaModel
from thaud.steps.train.loop import Recipe
from thaud.steps.train.model import add_adapter, load_base, save_adapter

pytestmark = pytest.mark.slow

QUESTIONS = [
    f"{opening} {thing}?"
    for opening in ("¿De qué color es", "¿Qué hace", "What is", "¿Cuántas patas tiene")
    for thing in ("el cielo", "la vaca", "a dog", "el árbol 🌳", "2 + 2", "un perro")
]
CASES = [
    ("qwen2", "qwen2"),
    ("qwen3", "qwen2"),
    ("llama", "sentencepiece"),
    ("llama of wide heads", "sentencepiece without its file"),
    ("llama, drawn together", "sentencepiece"),
    ("llama 3", "llama 3"),
    ("llama with biases", "llama 3"),
]


def train(base: Path, folder: Path) -> Path:
    """An adapter that has learned something: a random one leaves the best two tokens nearly tied."""
    rng, words = random.Random(0), TEXT.split()
    examples = [
        Example((Message("user", question), Message("assistant", " ".join(rng.choices(words, k=4)))))
        for question in QUESTIONS
    ]
    model = add_adapter(load_base(base, torch.float32, CPU), rank=32, alpha=64, seed=0)
    training = trainer(model, lessons_of(base, examples), Recipe(0, 5e-3, 30, 10))
    steps = [training.step() for _ in range(training.steps)]
    assert steps[-1].loss < 0.5
    return save_adapter(model, folder).parent


@pytest.mark.parametrize(("kind", "words"), CASES)
def test_the_file_answers_as_the_merged_model(tmp_path: Path, kind: str, words: str) -> None:
    """A base of each architecture passes preflight, is trained and exported, and answers alike, greedily, at F16."""
    torch.set_num_threads(1)
    base = write_tiny_base(tmp_path / "base", kind=kind, words=words, init_std=0.2, shard="64KB")
    check_fit(base)
    adapter = train(base, tmp_path / "adapter")
    export(base, adapter, tmp_path / "model.gguf")
    with LlamaModel(tmp_path / "model.gguf", 512, threads=1) as served:
        assert len(QUESTIONS) == 24
        assert check_same_answers(served, base, adapter, QUESTIONS) > 8, "a model that says one thing proves nothing"
