"""The pretraining: its schedule, its batches, and that the shipped base belongs to this corpus."""

from itertools import islice
from pathlib import Path

import pytest
from safetensors import safe_open
from tokenizers import Tokenizer

from thaud.nano import BASE_DIR
from thaud.nano.corpus import documents
from thaud.nano.pretrain import (
    TOKENIZER_DOCUMENTS,
    Schedule,
    Shape,
    batches,
    build,
    encode,
    rate_share,
)
from thaud.nano.tokenizer import write_tokenizer


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return Tokenizer.from_file(str(BASE_DIR / "tokenizer.json"))


def test_the_rate_rises_stays_and_falls() -> None:
    """Warm-up, then the peak, then a straight line down to the final share, never below it."""
    schedule = Schedule(warmup_steps=10, flat_share=0.3, final_share=0.01)
    assert rate_share(0.0, 0, schedule) == pytest.approx(0.1)
    assert rate_share(0.2, 50, schedule) == 1.0
    assert rate_share(0.65, 500, schedule) == pytest.approx(0.505)
    assert rate_share(1.0, 900, schedule) == pytest.approx(0.01)


def test_batches_hold_about_the_tokens_asked_for(bpe: Tokenizer) -> None:
    """The schedule's tokens are spent once, in batches of like length, the same for the same seed."""
    schedule = Schedule(tokens=50_000, batch_tokens=1_000)
    first, second = list(batches(bpe, schedule)), list(batches(bpe, schedule))
    assert first == second
    assert sum(len(document.ids) for batch in first for document in batch) == pytest.approx(50_000, rel=0.01)
    assert max(sum(len(document.ids) for document in batch) for batch in first) < 1_200


def test_pieces_end_where_tokens_end(bpe: Tokenizer) -> None:
    """Encoding a document piece by piece gives the ids of the whole text, as training and serving will see it."""
    for document in islice(documents(3), 500):
        whole = bpe.encode("".join(piece.text for piece in document), add_special_tokens=False).ids
        assert encode(bpe, document).ids == whole


def test_the_shipped_tokenizer_is_learned_from_this_corpus(tmp_path: Path) -> None:
    """Whoever changes a fact or a wording must rebuild the base: its tokenizer would no longer be this one."""
    texts = ("".join(piece.text for piece in document) for document in documents(Schedule().seed + 1))
    write_tokenizer(tmp_path, islice(texts, TOKENIZER_DOCUMENTS))
    for written in tmp_path.iterdir():
        assert written.read_bytes() == (BASE_DIR / written.name).read_bytes(), written.name


@pytest.mark.slow
def test_a_build_is_complete_and_repeats_itself(tmp_path: Path) -> None:
    """One command writes every file of the base, and the same seed gives the same weights."""
    schedule = Schedule(tokens=6_000)
    for name in ("one", "two"):
        build(tmp_path / name, Shape(layers=1), schedule, threads=1)
    shipped = {path.name for path in BASE_DIR.iterdir()} - {"README.md"}
    assert {path.name for path in (tmp_path / "one").iterdir()} == shipped
    weights = [tmp_path / name / "model.safetensors" for name in ("one", "two")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_the_shipped_weights_have_the_shape_of_the_code() -> None:
    """The base in the folder is of the shape that the code would build."""
    shape = Shape()
    with safe_open(BASE_DIR / "model.safetensors", "pt") as found:
        names = list(found.keys())
        gate = found.get_slice("model.layers.0.mlp.gate_proj.weight").get_shape()
    assert sum(name.endswith("gate_proj.weight") for name in names) == shape.layers
    assert gate == [shape.intermediate, shape.hidden]
