"""Training speed and memory: the train step's own loop beside the loop that one writes first.

usage: python -m tests.bench.bench_train [nano] [mid]

The peer is plain transformers and peft: batches padded to their longest example, logits of every position, cross
entropy over them. Both train the same LoRA from the same weights on the same examples in the same order, each time in
a process of its own, in turns; the last losses are printed because they must agree. Prints medians and the ratio.
"""

import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from thaud.steps.contract import usable_cores, wait_passively
from thaud.steps.train.data import Lesson
from thaud.steps.train.packing import batches

WARM_UP = 16  # examples of one batch, trained before the clock starts: the first products allocate
RATE, SEED, BATCH, RANK, ALPHA = 2e-4, 0, 16, 32, 64


class Shape(NamedTuple):
    """A model's shape, and how much of it is trained how often."""

    config: dict[str, int]
    examples: int
    rounds: int


SHAPES = {
    "nano": Shape(
        {
            "hidden_size": 256,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 768,
            "vocab_size": 4099,
        },
        examples=192,
        rounds=3,
    ),
    "mid": Shape(
        {
            "hidden_size": 512,
            "num_hidden_layers": 8,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "intermediate_size": 1536,
            "vocab_size": 16384,
        },
        examples=48,
        rounds=3,
    ),
}


def lessons_of(count: int) -> list[Lesson]:
    """Random tokens with the lengths of real instruction sets: log-normal, prompt and answer."""
    rng = random.Random(SEED)
    made = []
    for number in range(count):
        prompt = 12 + min(200, int(rng.lognormvariate(2.8, 0.8)))
        answer = 1 + min(300, int(rng.lognormvariate(3.2, 1.0)))
        ids = tuple(rng.randrange(300) for _ in range(prompt + answer))
        made.append(Lesson(str(number), ids, tuple(range(prompt, prompt + answer))))
    return made


def train_ours(base: Path, lessons: Sequence[Lesson]) -> tuple[float, float]:
    """Seconds and last loss of the train step's loop."""
    import torch  # noqa: PLC0415 - in the child alone

    from thaud.steps.train.loop import Recipe, train  # noqa: PLC0415
    from thaud.steps.train.model import add_adapter, load_base  # noqa: PLC0415

    device = torch.device("cpu")
    torch.set_num_threads(usable_cores(0))
    recipe = Recipe(SEED, RATE, 1, BATCH)
    list(train(add_adapter(load_base(base, device), RANK, ALPHA, SEED), lessons[:WARM_UP], recipe, device))
    model = add_adapter(load_base(base, device), RANK, ALPHA, SEED)
    began = time.perf_counter()
    losses = [step.loss for step in train(model, lessons, recipe, device)]
    return time.perf_counter() - began, losses[-1]


def train_peer(base: Path, lessons: Sequence[Lesson]) -> tuple[float, float]:
    """Seconds and last loss of the plain loop."""
    import torch  # noqa: PLC0415

    torch.set_num_threads(usable_cores(0))
    plain_loop(base, lessons[:WARM_UP])
    return plain_loop(base, lessons)


def plain_loop(base: Path, lessons: Sequence[Lesson]) -> tuple[float, float]:
    """Padded batches, all logits, cross entropy; the learning rate's course is ours, so that the losses agree."""
    import torch  # noqa: PLC0415
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415
    from transformers import AutoModelForCausalLM  # noqa: PLC0415
    from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415

    from thaud.steps.train.loop import CLIP, rate_at  # noqa: PLC0415
    from thaud.steps.train.model import old_names_tolerated  # noqa: PLC0415

    disable_progress_bar()
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    torch.manual_seed(SEED)
    with old_names_tolerated():
        model: Any = get_peft_model(
            plain, LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
        )
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=RATE, weight_decay=0.0)
    plan = batches(len(lessons), BATCH, 1, SEED)
    model.train()
    began = time.perf_counter()
    last = 0.0
    for number, (_, chosen) in enumerate(plan):
        batch = [lessons[index] for index in chosen]
        longest = max(len(each.ids) for each in batch)
        ids = torch.tensor([[*each.ids, *[0] * (longest - len(each.ids))] for each in batch])
        mask = torch.tensor([[1] * len(each.ids) + [0] * (longest - len(each.ids)) for each in batch])
        labels = torch.full_like(ids, -100)
        for row, each in enumerate(batch):
            labels[row, list(each.targets)] = ids[row, list(each.targets)]
        for group in optimiser.param_groups:
            group["lr"] = RATE * rate_at(number, len(plan))
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(weights, CLIP)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        last = float(loss.detach())
    return time.perf_counter() - began, last


def child(side: str, base: Path, count: int) -> None:
    """Train once and print what it took."""
    lessons = lessons_of(count)
    seconds, loss = (train_ours if side == "ours" else train_peer)(base, lessons)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    speed = sum(len(lesson.ids) for lesson in lessons) / seconds
    sys.stdout.write(json.dumps({"tokens_per_s": speed, "peak_mib": peak, "loss": loss}) + "\n")


def measure(side: str, base: Path, count: int) -> dict[str, float]:
    """One child's figures."""
    wait_passively()  # for both: spinning threads measure whatever else runs on this machine
    command = [sys.executable, "-m", "tests.bench.bench_train", "--child", side, str(base), str(count)]
    done = subprocess.run(command, env=os.environ, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def compare(name: str, shape: Shape, folder: Path) -> None:
    """Both sides in turns on one shape, and their medians."""
    from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415 - it and the next load torch

    from tests.testkit.tiny_models import write_tiny_base  # noqa: PLC0415

    disable_progress_bar()
    base = write_tiny_base(folder / name, max_position_embeddings=1024, **shape.config)
    taken: dict[str, list[dict[str, float]]] = {"ours": [], "plain": []}
    for _ in range(shape.rounds):
        for side, rows in taken.items():
            rows.append(measure(side, base, shape.examples))
    middle = {
        side: {key: statistics.median(row[key] for row in rows) for key in rows[0]} for side, rows in taken.items()
    }
    for side, row in middle.items():
        print(
            f"{name:5} {side:6} {row['tokens_per_s']:8.0f} tokens/s {row['peak_mib']:8.0f} MiB peak"
            f"   last loss {row['loss']:.4f}"
        )
    speed, memory = (middle["ours"][key] / middle["plain"][key] for key in ("tokens_per_s", "peak_mib"))
    print(f"{name:5} ratio  {speed:8.2f} x        {memory:8.2f} x", flush=True)


def main() -> None:
    """Compare on the shapes that are named, or on all."""
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
        return
    with tempfile.TemporaryDirectory() as folder:
        for name in sys.argv[1:] or SHAPES:
            compare(name, SHAPES[name], Path(folder))


if __name__ == "__main__":
    main()
