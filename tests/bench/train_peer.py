"""The peer of the trainer's benchmark: TRL's SFTTrainer with PEFT, as its documentation has it.

usage: python -m tests.bench.train_peer MODE BASE EXAMPLES OUT SEED AT_ONCE ACCUMULATED

    pad           SFTConfig's own batches, padded to the longest, in float32     pad-bf16   the same under bf16=True
    pack          packing=True, in float32                                      pack-bf16  the same under bf16=True
    pad-default   pad, with SFTConfig's own precision and checkpointing (both on: bf16, activations computed again)

On a GPU all of them are bf16. AT_ONCE: examples (packed: rows) of a forward pass, ACCUMULATED passes make a step.
Equal to ours: LoRA's rank, alpha and layers, the learning rate with warm-up and cosine, one epoch, the longest length,
answers alone are learned. Its own: the order, how it packs, AdamW's settings (the same values), the collator.
Saves the adapter in OUT and prints one line of JSON: tokens, learned tokens, steps, and the seconds of train() alone.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from tests.bench.train_shapes import ALPHA, CONTEXT, RANK, RATE, WARM_UP, read_examples

MODES = ("pad", "pack", "pad-bf16", "pack-bf16", "pad-default")


def settings(mode: str, out: str, seed: int, at_once: int, accumulated: int) -> Any:
    """The trainer's configuration."""
    import torch  # noqa: PLC0415 - in the child alone
    from trl import SFTConfig  # noqa: PLC0415

    on_gpu = torch.cuda.is_available()
    own = {} if mode == "pad-default" else {"bf16": on_gpu or mode.endswith("bf16"), "gradient_checkpointing": False}
    return SFTConfig(
        output_dir=out,
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=accumulated,
        packing=mode.startswith("pack"),
        max_length=CONTEXT,
        num_train_epochs=1,
        learning_rate=RATE,
        lr_scheduler_type="cosine",
        warmup_steps=WARM_UP,
        logging_steps=1000,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=not on_gpu,
        seed=seed,
        **own,
    )


def make_trainer(mode: str, base: str, examples: Path, out: str, numbers: list[int]) -> Any:
    """The trainer with everything loaded and tokenised."""
    import torch  # noqa: PLC0415
    from datasets import Dataset  # noqa: PLC0415
    from peft import LoraConfig  # noqa: PLC0415
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415
    from trl import SFTTrainer  # noqa: PLC0415

    turns = [row["messages"] for row in read_examples(examples)]
    data = Dataset.from_list([{"prompt": each[:-1], "completion": each[-1:]} for each in turns])
    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    return SFTTrainer(
        AutoModelForCausalLM.from_pretrained(base, dtype=dtype),
        args=settings(mode, out, *numbers),
        train_dataset=data,
        processing_class=AutoTokenizer.from_pretrained(base),
        peft_config=LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"),
    )


def train(trainer: Any) -> dict[str, float]:
    """Train and count."""
    import torch  # noqa: PLC0415

    made = list(trainer.train_dataset)
    tokens = sum(len(row["input_ids"]) for row in made)
    learned = sum(label != -100 for row in made for label in row["labels"])
    del made
    began = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - began
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return {
        "tokens": tokens,
        "supervised": learned,
        "steps": trainer.state.global_step,
        "seconds": seconds,
        "device_peak_bytes": peak,
    }


def main() -> None:
    """One run. Where memory runs out, this process is the one to go, and not a neighbour."""
    Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    os.environ["HF_HUB_OFFLINE"] = "1"
    mode, base, examples, out = sys.argv[1:5]
    trainer = make_trainer(mode, base, Path(examples), out, [int(each) for each in sys.argv[5:8]])
    figures = train(trainer)
    trainer.model.save_pretrained(out)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
