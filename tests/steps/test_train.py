import math
import platform
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.steps.doors import through_door
from tests.testkit.merged import greedy, merged_model
from tests.testkit.training import CPU, FACTS, adapted, fact, fact_lessons, spec_for, trainer
from thaud.domain import Example, Message
from thaud.errors import ModelError, StepError, StorageError
from thaud.nano import BASE_DIR
from thaud.rendering import Piece
from thaud.steps.tokenizer import read_tokenizer
from thaud.steps.train.attention import TILE, lay_out
from thaud.steps.train.data import Lesson
from thaud.steps.train.loop import Recipe, rate_at, return_freed_memory
from thaud.steps.train.model import load_base, save_adapter
from thaud.steps.train.packing import Order, best_fit, padded_length


@pytest.fixture(scope="module")
def lessons(base: Path) -> list[Lesson]:
    return fact_lessons(base)


@pytest.fixture
def model(base: Path) -> Any:
    torch.set_num_threads(1)
    return adapted(base)


def test_no_number_in_the_loss_stops_with_step_and_examples(model: Any, lessons: list[Lesson]) -> None:
    """A loss that is no number ends the training, naming the step and the examples in it."""
    with torch.no_grad():
        next(weight for weight in model.parameters() if weight.requires_grad).fill_(math.nan)
    with pytest.raises(StepError, match=r"step 1 .*base is damaged.*examples .*0"):
        trainer(model, lessons, Recipe(0, 1e-3, 1, 6)).step()


def test_rate_that_is_too_high_is_told_from_a_damaged_base(model: Any, lessons: list[Lesson]) -> None:
    """Where the first step was sound, it is the learning rate that has to change."""
    training = trainer(model, lessons, Recipe(0, 1e30, 9, 6))
    training.step()
    with pytest.raises(StepError, match=r"step [2-9] .*lower the learning rate"):
        [training.step() for _ in range(8)]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what was freed")
def test_freed_memory_goes_back() -> None:
    """What one row took is not held while the next, of other lengths, takes its own: the pinned end frees nothing."""

    def resident_mb() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6

    began = resident_mb()
    blocks = [bytearray(60_000) for _ in range(3000)]
    pinned = blocks.pop()
    blocks.clear()
    return_freed_memory()
    assert resident_mb() - began < 90 < 3000 * len(pinned) / 1e6


def test_full_disk_under_the_adapter_is_our_error(model: Any, tmp_path: Path) -> None:
    """An adapter that cannot be written whole is one line with the folder. A limit on files stands for a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, before[1]))
    try:
        with pytest.raises(StorageError, match=r"adapter cannot be written into .*make room"):
            save_adapter(model, tmp_path / "adapter")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_learning_rate_warms_up_and_ends_at_nothing() -> None:
    """Up over the first twentieth, then down a cosine towards zero, never above one."""
    shares = [rate_at(step, 100) for step in range(100)]
    assert shares[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert max(shares) == 1.0
    assert shares[52] == pytest.approx(0.5)
    assert shares[5:] == sorted(shares[5:], reverse=True)
    assert 0 < shares[-1] < 0.001
    assert all(rate_at(0, steps) > 0 for steps in (1, 2, 3))


def test_best_fit_packs_everything_once_and_within_the_row() -> None:
    """Every item lands in one row, no row overflows, and a hand-packed case is found."""
    rows = best_fit([5, 3, 7, 2, 3], 10)
    assert rows == [[2, 1], [0, 4, 3]]
    assert best_fit([50, 1], 10) == [[0], [1]]


def test_rows_have_few_lengths() -> None:
    """A row that is not full is padded to a quarter of the longest, a longer lesson's to one more of them."""
    assert {padded_length(tokens, 1024) for tokens in range(1, 1025)} == {256, 512, 768, 1024}
    assert padded_length(1025, 1024) == 1280
    assert all(tokens <= padded_length(tokens, 256) < tokens + 64 for tokens in range(1, 600))


def test_tiles_cover_the_row_and_see_no_more_than_their_lessons() -> None:
    """Tiles lie end to end; each sees keys from the beginning of its first lesson's tile on, and never its future."""
    lengths = [TILE + 10, TILE - 10, 5, 3 * TILE, 1]
    tiles = lay_out(lengths, torch.float32, CPU).tiles
    assert [(tile.start, tile.end) for tile in tiles] == [
        (start, min(start + TILE, sum(lengths))) for start in range(0, sum(lengths), TILE)
    ]
    assert [tile.first // TILE for tile in tiles] == [0, 0, 2, 2, 2, 2]
    owners = [lesson for lesson, length in enumerate(lengths) for _ in range(length)]
    for tile in tiles:
        for query in range(tile.start, tile.end):
            seen = {tile.first + int(key) for key in torch.nonzero(tile.mask[query - tile.start] == 0)}
            assert seen == {key for key in range(query + 1) if owners[key] == owners[query]}


def test_every_epoch_sees_every_example_once_in_its_own_order() -> None:
    """Batches partition each epoch; the seed alone decides the order."""

    def plan(seed: int) -> list[tuple[int, list[int]]]:
        order = Order(10, 4, 2, seed)
        return [order.at(step) for step in range(order.steps)]

    assert [len(chosen) for _, chosen in plan(1)] == [4, 4, 2, 4, 4, 2]
    orders = [[index for epoch, chosen in plan(1) if epoch == each for index in chosen] for each in (0, 1)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(10))
    assert orders[0] != orders[1]
    assert plan(1) == plan(1) != plan(2)
    assert Order(10, 4, 2, 1).at(4) == plan(1)[4]


@pytest.mark.slow
def test_door_trains_and_repeats_itself_bit_for_bit(base: Path, tmp_path: Path) -> None:
    """The same spec gives the same adapter bytes, the loss goes down, and progress and result say what happened."""
    examples = [*(fact(*each) for each in FACTS), fact("palabra " * 300, "larga")]
    results = []
    for name in ("one", "two"):
        spec = spec_for(base, tmp_path / name, examples)
        code, result, events = through_door("train", spec, tmp_path / name / "work")
        assert code == 0
        results.append(result)
    assert results[0]["adapter_sha256"] == results[1]["adapter_sha256"]
    assert result["last_loss"] < 0.5 * result["first_loss"]
    assert result["steps"] == 16
    assert result["supervised_tokens"] < result["tokens"]
    assert [each["id"] for each in result["set_aside"]] == ["id-6"]
    assert result["peak_memory_bytes"] > 1e7
    assert (events[0]["event"], events[0]["total"], events[0]["examples"]) == ("start", 16, 6)
    last = [event for event in events if event["event"] == "step"][-1]
    assert last["done"] == last["total"] == 16
    assert {path.name for path in (tmp_path / "one" / "adapter").iterdir()} >= {
        "adapter_config.json",
        "adapter_model.safetensors",
    }


def test_adapter_touches_linear_layers_alone(model: Any, tmp_path: Path) -> None:
    """The saved adapter holds pairs for the seven linear layers of each block, none for embeddings or head."""
    from safetensors import safe_open  # noqa: PLC0415

    with safe_open(save_adapter(model, tmp_path / "adapter"), "pt") as tensors:
        names = set(tensors.keys())
    assert len(names) == 2 * 7 * 2
    assert not any("embed" in name or "lm_head" in name for name in names)


def test_door_refuses_when_nothing_can_be_trained(base: Path, tmp_path: Path) -> None:
    """With every example set aside the step fails in one line that says why, and no adapter is left."""
    spec = spec_for(base, tmp_path, [Example((Message("user", "hola"),))])
    code, result, _ = through_door("train", spec, tmp_path / "work")
    assert code == 1
    assert "none of the 1 examples can be trained: no supervised token" in result["error"]
    assert not Path(spec.out_dir).exists()


def test_context_of_the_base_is_never_exceeded(base: Path, tmp_path: Path) -> None:
    """A stage longer than the base's own context trains only what the base can read."""
    spec = spec_for(base, tmp_path, [fact("palabra " * 600, "sí")], context_tokens=4096)
    code, result, _ = through_door("train", spec, tmp_path / "work")
    assert code == 1
    assert "the context of the stage is 512" in result["error"]


def test_damaged_base_is_our_error(base: Path, tmp_path: Path) -> None:
    """Weights that cannot be read are a ModelError in one line, naming the folder."""
    broken = Path(shutil.copytree(base, tmp_path / "broken"))
    (broken / "model.safetensors").write_bytes(b"\0" * 64)
    with pytest.raises(ModelError, match=str(broken)) as caught:
        load_base(broken, torch.float32, CPU)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_the_end_of_turn_is_learned(tmp_path: Path, precision: str) -> None:
    """After a short training of the shipped base, greedy generation says what was taught and then ends its turn, in the
    precision of this machine as well as in fp32; the base alone says something else.
    """
    examples = [fact(*each) for each in FACTS]
    spec = spec_for(BASE_DIR, tmp_path, examples, epochs=30, learning_rate=2e-3, rank=32, alpha=64, precision=precision)
    code, result, _ = through_door("train", spec, tmp_path / "work")
    assert (code, result["ok"]) == (0, True)
    tokenizer = read_tokenizer(BASE_DIR)
    end = tokenizer.ids["<|im_end|>"]
    taught = merged_model(BASE_DIR, Path(spec.out_dir))
    untaught = AutoModelForCausalLM.from_pretrained(BASE_DIR, dtype=torch.float32)
    for question, answer in FACTS:
        prompt = tokenizer.encode_all(tokenizer.renderer.prompt([Message("user", question)]))
        wanted = tokenizer.encode_all([Piece(answer, control=False, supervised=True)])
        assert next_tokens(taught, prompt, len(wanted) + 1) == [*wanted, end]
        assert next_tokens(untaught, prompt, len(wanted) + 1) != [*wanted, end]


def next_tokens(model: Any, prompt: list[int], count: int) -> list[int]:
    """The next tokens that a model would say, whatever they mean."""
    return greedy(model, prompt, count, set())
