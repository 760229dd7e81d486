"""In which precision this machine trains: bfloat16 where it is multiplied natively, else float32.

Asked of the processor and never timed, so that the same machine answers the same each time: the same spec must give
the same bytes.

How the base is stored does not decide it. A base of float32 or float16 weights is rounded to bfloat16 too: a product in
bfloat16 rounds its factors whoever stores them, as autocast does (Micikevicius et al. 2018), so keeping them wider
would cost memory and change nothing. The export merges the stored weights, whose difference to the rounded ones is at
most a 256th of each, without bias, a third of that of Q8_0; `precision = "fp32"` is there for who wants none.
"""

import torch

from thaud.domain import Precision

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def choose_precision(asked: Precision, device: torch.device) -> torch.dtype:
    """The dtype of frozen weights and products; the adapter is float32 in either case."""
    if asked != "auto":
        return DTYPES[asked]
    return torch.bfloat16 if multiplies_bf16(device) else torch.float32


def multiplies_bf16(device: torch.device) -> bool:
    """Whether bfloat16 products are native here. Emulated ones are slower than float32 by three times."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # torch offers no public question for the processor's instructions
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())  # noqa: SLF001
