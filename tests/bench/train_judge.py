"""What the trainer's benchmark asks of torch in processes of their own: held-out losses, and plain matrix products.

usage: python -m tests.bench.train_judge loss BASE HELD_OUT ADAPTER...    or    products SHAPE

`loss` judges all sides alike, with neither side's code: transformers' model in float32, peft's loader, one example at
a time, answers alone. ADAPTER `-` is the base without one. `products` is what this machine reaches on matrices of the
shape's sizes, forward and back, in float32 and bfloat16. Each prints one line of JSON.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench.train_shapes import SHAPES, encode, read_examples

ROWS = 1024  # tokens of a product: about what a packed row holds
HEAD_ROWS = 256
REPEATS, LEAST_S = 5, 0.02


def held_out_loss(base: str, adapter: str, examples: list[Any]) -> float:
    """Mean cross entropy, in nats a token, of the answers and their ends."""
    import torch  # noqa: PLC0415 - in the child alone
    from peft import PeftModel  # noqa: PLC0415
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415
    from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415

    disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if adapter != "-":
        model = PeftModel.from_pretrained(model, adapter)
    model.eval()
    total, count = 0.0, 0
    with torch.inference_mode():
        for row in examples:
            ids, said = encode(tokenizer, row)
            whole = torch.tensor([ids])
            logits = model(input_ids=whole).logits[0, said.start - 1 : said.stop - 1]
            total += float(torch.nn.functional.cross_entropy(logits, whole[0, said.start :], reduction="sum"))
            count += len(said)
    return total / count


def product_rate(shape_name: str, precision: str) -> float:
    """Operations a second over all of a shape's products: their sum by the sum of the median times."""
    import torch  # noqa: PLC0415

    shape = SHAPES[shape_name]
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    work, spent = 0.0, 0.0
    for rows, inputs, outputs, times in [
        *((ROWS, k, n, shape.layers) for k, n in shape.products()),
        (HEAD_ROWS, shape.hidden, shape.vocabulary, 1),
    ]:
        weight = torch.randn(outputs, inputs, device=device).to(dtype)
        given = torch.randn(rows, inputs, device=device).to(dtype)
        back = torch.randn(rows, outputs, device=device).to(dtype)
        took = seconds(lambda x=given, w=weight: x @ w.T) + seconds(lambda x=back, w=weight: x @ w)
        work += times * 4.0 * rows * inputs * outputs
        spent += times * took
    return work / spent


def seconds(product: Callable[[], Any]) -> float:
    """The median time of one product; the first ones, which allocate and compile, are not counted."""
    import torch  # noqa: PLC0415

    wait = torch.cuda.synchronize if torch.cuda.is_available() else int
    taken: list[float] = []
    for number in range(REPEATS + 1):
        calls, began = 0, time.perf_counter()
        while calls < 1 or time.perf_counter() - began < LEAST_S:
            product()
            calls += 1
        wait()
        if number:
            taken.append((time.perf_counter() - began) / calls)
    return statistics.median(taken)


def main() -> None:
    """One question, one line."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    if sys.argv[1] == "loss":
        examples = read_examples(Path(sys.argv[3]))
        found = {adapter: held_out_loss(sys.argv[2], adapter, examples) for adapter in sys.argv[4:]}
    else:
        found = {precision: product_rate(sys.argv[2], precision) for precision in ("fp32", "bf16")}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
