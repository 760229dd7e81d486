"""The peer's first step: PEFT's merge in bfloat16, written as a checkpoint.

usage: python -m tests.bench.export_peer BASE ADAPTER OUT

Its second is llama.cpp's own converter on that, its third sha256sum: what people run today.
"""

import sys


def main() -> None:
    """Merge and write."""
    import torch  # noqa: PLC0415
    from peft import PeftModel  # noqa: PLC0415
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    base, adapter, out = sys.argv[1:]
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    PeftModel.from_pretrained(model, adapter).merge_and_unload().save_pretrained(out)
    AutoTokenizer.from_pretrained(base).save_pretrained(out)


if __name__ == "__main__":
    main()
