"""The work of the export's benchmark: a random base in bfloat16 and a random LoRA on all seven projections.

usage: python -m tests.bench.export_shapes SHAPE FOLDER

Owns FOLDER/base and FOLDER/adapter. Every layer has the same random values: right for speed and memory, not for
answers, and quick to write. A file for each layer, so that 7b never lies in memory.
"""

import json
import sys
from pathlib import Path
from typing import Any

from tests.bench.train_shapes import SHAPES as TRAINED
from tests.bench.train_shapes import Shape, bench_tokenizer

RANK, ALPHA = 32, 64
SHAPES = {
    "tiny": TRAINED["tiny"],
    "1.5b": Shape(1536, 28, 12, 2, 8960, 151936, examples=0, held_out=0),
    "7b": Shape(3584, 28, 28, 4, 18944, 152064, examples=0, held_out=0),
}
PROJECTIONS = ("self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o", "mlp.gate", "mlp.up", "mlp.down")


def layer_of(shape: Shape) -> dict[str, Any]:
    """One layer's tensors, by their names in it."""
    import torch  # noqa: PLC0415 - in the child

    tensors = {
        f"{name}_proj.weight": torch.empty(out, into, dtype=torch.bfloat16).normal_(std=0.02)
        for name, (into, out) in zip(PROJECTIONS, shape.products(), strict=True)
    }
    for name in PROJECTIONS[:3]:
        tensors[f"{name}_proj.bias"] = torch.empty(len(tensors[f"{name}_proj.weight"]), dtype=torch.bfloat16).normal_()
    norms = ("input_layernorm.weight", "post_attention_layernorm.weight")
    return tensors | {name: torch.ones(shape.hidden, dtype=torch.bfloat16) for name in norms}


def write_base(shape: Shape, folder: Path) -> None:
    """Config, tokenizer and weights, tied, as published models come."""
    import torch  # noqa: PLC0415
    from safetensors.torch import save_file  # noqa: PLC0415
    from transformers import Qwen2Config  # noqa: PLC0415

    tokenizer = bench_tokenizer()
    tokenizer.save_pretrained(folder)
    sizes = {**shape.config(), "max_position_embeddings": 32768, "rope_theta": 1e6, "tie_word_embeddings": True}
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = Qwen2Config(**sizes, **ends, architectures=["Qwen2ForCausalLM"], dtype="bfloat16")
    config.save_pretrained(folder)
    torch.manual_seed(0)
    embedding = torch.empty(shape.vocabulary, shape.hidden, dtype=torch.bfloat16).normal_(std=0.02)
    norm = torch.ones(shape.hidden, dtype=torch.bfloat16)
    files = {"model-outer.safetensors": {"model.embed_tokens.weight": embedding, "model.norm.weight": norm}}
    layer, places = layer_of(shape), dict[str, str]()
    for number in range(shape.layers):
        files[f"model-{number:03}.safetensors"] = {
            f"model.layers.{number}.{name}": each for name, each in layer.items()
        }
    for name, tensors in files.items():
        save_file(tensors, folder / name, {"format": "pt"})
        places |= dict.fromkeys(tensors, name)
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def write_adapter(shape: Shape, folder: Path) -> None:
    """In float32, as it is trained."""
    import torch  # noqa: PLC0415
    from peft import LoraConfig  # noqa: PLC0415
    from safetensors.torch import save_file  # noqa: PLC0415

    targets = [f"{name.rpartition('.')[2]}_proj" for name in PROJECTIONS]
    LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=targets, task_type="CAUSAL_LM").save_pretrained(folder)
    torch.manual_seed(1)
    tensors = {}
    for number in range(shape.layers):
        for name, (into, out) in zip(PROJECTIONS, shape.products(), strict=True):
            prefix = f"base_model.model.model.layers.{number}.{name}_proj.lora_"
            tensors[f"{prefix}A.weight"] = torch.empty(RANK, into).normal_(std=0.02)
            tensors[f"{prefix}B.weight"] = torch.empty(out, RANK).normal_(std=0.02)
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})


def main() -> None:
    """Write one shape's work."""
    shape, folder = SHAPES[sys.argv[1]], Path(sys.argv[2])
    for name in ("base", "adapter"):
        (folder / name).mkdir(parents=True)
    write_base(shape, folder / "base")
    write_adapter(shape, folder / "adapter")


if __name__ == "__main__":
    main()
