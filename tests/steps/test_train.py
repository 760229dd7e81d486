import json
import math
import platform
import resource
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen2Config

from tests.steps.doors import through_door
from thaud.domain import Example, Message, ToolCall
from thaud.errors import ModelError, StepError, StorageError
from thaud.steps.contract import TrainSpec
from thaud.steps.tokenizer import read_tokenizer
from thaud.steps.train.attention import blocks_of
from thaud.steps.train.data import Lesson, prepare
from thaud.steps.train.loop import Recipe, accumulate, rate_at, return_freed_memory, row_tokens, train
from thaud.steps.train.loss import frozen_head_loss
from thaud.steps.train.model import add_adapter, load_base, make_row, row_loss, save_adapter
from thaud.steps.train.packing import batches, best_fit, groups

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
    return Example((Message("user", question), Message("assistant", answer)))


def write_examples(path: Path, examples: Sequence[Example]) -> Path:
    rows = [{"id": f"id-{number}", **example.content} for number, example in enumerate(examples)]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def lessons(base: Path) -> list[Lesson]:
    made, aside = prepare(((str(n), fact(*each)) for n, each in enumerate(FACTS)), read_tokenizer(base), 128)
    assert not aside
    return made


@pytest.fixture
def model(base: Path) -> Any:
    torch.set_num_threads(1)
    adapted = add_adapter(load_base(base, CPU), rank=4, alpha=8, seed=3)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:  # zero at first, which would hide most gradients
                weight.normal_(0, 0.05, generator=generator)
    return adapted


def gradients(model: Any) -> list[torch.Tensor]:
    found = [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]
    model.zero_grad(set_to_none=True)
    return found


def test_packed_and_one_by_one_agree(model: Any, lessons: list[Lesson]) -> None:
    """Loss and every gradient are the same whether examples share rows or have one each: none sees another."""
    packed = accumulate(model, lessons, 10_000, CPU)
    together = gradients(model)
    alone = accumulate(model, lessons, 1, CPU)
    apart = gradients(model)
    assert packed == pytest.approx(alone, rel=1e-5)
    assert len(together) == len(apart) > 0
    for ours, theirs in zip(together, apart, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


def test_loss_and_gradients_are_transformers_own(model: Any, base: Path, lessons: list[Lesson]) -> None:
    """One unpacked example has the loss that transformers computes with labels, to 1e-5, and its gradients."""
    from transformers import AutoModelForCausalLM  # noqa: PLC0415

    for lesson in lessons[:3]:
        ours = accumulate(model, [lesson], 1, CPU)
        mine = gradients(model)
        plain = add_adapter(
            AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager"), 4, 8, 3
        )
        plain.load_state_dict(model.state_dict())
        labels = torch.full((1, len(lesson.ids)), -100)
        labels[0, list(lesson.targets)] = torch.tensor(lesson.ids)[list(lesson.targets)]
        theirs = plain(input_ids=torch.tensor([lesson.ids]), labels=labels).loss
        torch.autograd.backward(theirs)
        assert ours == pytest.approx(theirs.item(), abs=1e-5)
        for left, right in zip(mine, gradients(plain), strict=True):
            torch.testing.assert_close(left, right, rtol=1e-3, atol=1e-6)


def test_hand_computed_masked_loss() -> None:
    """Two positions, three words, by hand: logits (0, ln 2, 0) and (ln 3, 0, 0), targets 1 and 2."""
    hidden = torch.tensor([[0.0, math.log(2), 0.0], [math.log(3), 0.0, 0.0]], requires_grad=True)
    loss = frozen_head_loss(hidden, torch.eye(3), torch.tensor([1, 2]))
    assert loss.item() == pytest.approx(math.log(4 / 2) + math.log(5 / 1))
    torch.autograd.backward(loss)
    wanted = torch.tensor([[1 / 4, 2 / 4 - 1, 1 / 4], [3 / 5, 1 / 5, 1 / 5 - 1]])
    assert hidden.grad is not None
    torch.testing.assert_close(hidden.grad, wanted)


def test_chunked_loss_is_the_whole_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few logits fit at a time, loss and gradient are those of plain cross-entropy."""
    from thaud.steps.train import loss as module  # noqa: PLC0415

    monkeypatch.setattr(module, "CHUNK_LOGITS", 64)
    torch.manual_seed(0)
    head, targets = torch.randn(31, 8), torch.randint(31, (10,))
    hidden = torch.randn(10, 8, requires_grad=True)
    plain = hidden.detach().clone().requires_grad_()
    ours = frozen_head_loss(hidden, head, targets)
    theirs = torch.nn.functional.cross_entropy(plain @ head.T, targets, reduction="sum")
    torch.autograd.backward([ours * 0.5, theirs * 0.5])
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(hidden.grad, plain.grad)


def test_a_change_in_one_example_leaves_its_neighbours_loss_alone(model: Any, lessons: list[Lesson]) -> None:
    """In one row, an example's loss does not depend on what lies beside it."""

    def loss_of_first(neighbour: Lesson) -> float:
        first = lessons[3]
        silent = Lesson(neighbour.id, neighbour.ids, ())
        with torch.no_grad():
            return row_loss(model, make_row([first, silent], CPU)).item()

    swapped = Lesson("x", tuple(reversed(lessons[0].ids)), ())
    assert loss_of_first(lessons[0]) == loss_of_first(swapped)


def test_supervised_tokens_are_the_assistants_and_its_end_of_turn(base: Path) -> None:
    """Targets decode to exactly what each assistant turn says, the end token included, tool calls too."""
    from tests.testkit.tiny_models import tiny_tokenizer  # noqa: PLC0415

    call = Message("assistant", "", (ToolCall("calculator", {"expression": "2 + 2"}),))
    example = Example((Message("user", "¿2 + 2?"), call, Message("tool", "4"), Message("assistant", "Cuatro")))
    (lesson,), _ = prepare([("a", example)], read_tokenizer(base), 512)
    said = tiny_tokenizer().decode([lesson.ids[place] for place in lesson.targets])
    wanted = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "2 + 2"}}\n</tool_call>'
    assert said == wanted + "<|im_end|>Cuatro<|im_end|>"


def test_examples_that_cannot_be_trained_are_set_aside_with_a_reason(base: Path) -> None:
    """Too long, without an assistant turn, or refused by the template: aside, each with its own reason."""
    examples = [
        ("good", fact("¿2?", "2")),
        ("long", fact("palabra " * 200, "sí")),
        ("mute", Example((Message("user", "hola"),))),
        ("empty", Example(())),
    ]
    made, aside = prepare(examples, read_tokenizer(base), 64)
    assert [lesson.id for lesson in made] == ["good"]
    reasons = {each.id: each.reason for each in aside}
    assert "context of the stage is 64" in reasons["long"]
    assert "no supervised token" in reasons["mute"]
    assert "template refuses" in reasons["empty"]


def test_no_number_in_the_loss_stops_with_step_and_examples(model: Any, lessons: list[Lesson]) -> None:
    """A loss that is no number ends the training, naming the step and the examples in it."""
    with torch.no_grad():
        next(weight for weight in model.parameters() if weight.requires_grad).fill_(math.nan)
    with pytest.raises(StepError, match=r"step 1 .*base is damaged.*examples .*0"):
        list(train(model, lessons, Recipe(0, 1e-3, 1, 6), CPU))


def test_rate_that_is_too_high_is_told_from_a_damaged_base(model: Any, lessons: list[Lesson]) -> None:
    """Where the first step was sound, it is the learning rate that has to change."""
    with pytest.raises(StepError, match=r"step [2-9] .*lower the learning rate"):
        list(train(model, lessons, Recipe(0, 1e30, 9, 6), CPU))


@pytest.mark.parametrize(
    ("layers", "width", "inner", "tokens"), [(4, 256, 768, 2048), (24, 896, 4864, 482), (28, 3584, 18944, 256)]
)
def test_rows_of_large_models_are_short(layers: int, width: int, inner: int, tokens: int) -> None:
    """What a row's activations take is bounded on a CPU: nano has the longest rows, 7b the shortest that are fast."""
    config = Qwen2Config(num_hidden_layers=layers, hidden_size=width, intermediate_size=inner)
    assert row_tokens(config, CPU) == tokens
    assert row_tokens(config, torch.device("cuda")) == 2048


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


def test_frozen_weights_have_no_gradients(model: Any, lessons: list[Lesson]) -> None:
    """Only the adapter learns: no base weight, embedding or head gets a gradient."""
    accumulate(model, lessons[:2], 512, CPU)
    learned = {name for name, weight in model.named_parameters() if weight.grad is not None}
    assert learned
    assert all("lora_" in name for name in learned)
    assert not any("embed" in name or "lm_head" in name for name in learned)
    assert len(learned) == 2 * 7 * 2


def test_learning_rate_warms_up_and_ends_at_nothing() -> None:
    """Up over the first twentieth, then straight down towards zero, never above one."""
    shares = [rate_at(step, 100) for step in range(100)]
    assert shares[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert max(shares) == 1.0
    assert shares[-1] == pytest.approx(1 / 95)
    assert all(rate_at(0, steps) > 0 for steps in (1, 2, 3))


def test_best_fit_packs_everything_once_and_within_the_row() -> None:
    """Every item lands in one row, no row overflows, and a hand-packed case is found."""
    rows = best_fit([5, 3, 7, 2, 3], 10)
    assert rows == [[2, 1], [0, 4, 3]]
    assert best_fit([50, 1], 10) == [[0], [1]]


def test_groups_bound_the_padding() -> None:
    """Within a run of lengths none is shorter than half the longest."""
    assert groups([100, 60, 50, 49, 30, 10]) == [3, 2, 1]
    assert groups([]) == []


def test_blocks_cover_the_row_without_gaps() -> None:
    """Blocks lie end to end; padded places never collide."""
    blocks = blocks_of([9, 7, 5, 2, 2], CPU)
    assert [(block.start, block.end, block.examples, block.longest) for block in blocks] == [
        (0, 21, 3, 9),
        (21, 25, 2, 2),
    ]
    assert blocks[0].places is not None
    assert len(set(blocks[0].places.tolist())) == 21
    assert blocks[1].places is None


def test_every_epoch_sees_every_example_once_in_its_own_order() -> None:
    """Batches partition each epoch; the seed alone decides the order."""
    plan = batches(10, 4, 2, seed=1)
    assert [len(chosen) for _, chosen in plan] == [4, 4, 2, 4, 4, 2]
    orders = [[index for epoch, chosen in plan if epoch == each for index in chosen] for each in (0, 1)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(10))
    assert orders[0] != orders[1]
    assert plan == batches(10, 4, 2, seed=1) != batches(10, 4, 2, seed=2)


def spec_for(base: Path, folder: Path, examples: Sequence[Example], **changes: Any) -> TrainSpec:
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
    }
    return TrainSpec(**{**fields, **changes})


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
    assert events[-1]["event"] == "step"
    assert events[-1]["done"] == events[-1]["total"] == 16
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
        load_base(broken, CPU)
    assert "\n" not in str(caught.value)
