"""What a config says of its rotary embeddings, as transformers 5 reads it, and what of it llama.cpp computes alike.

Refuses the variants it does not know to be computed alike. Source: transformers' modeling_rope_utils.py; the factors of
Llama 3 are those that llama.cpp's converter writes, computed in float32 in the same order for the same bits.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from thaud.errors import ModelError

DEFAULT_BASE = 10000.0  # transformers' default_theta


class Rotary(NamedTuple):
    """`kind` is transformers' rope_type, `base` its rope_theta; `given` is what else the config says of it."""

    kind: str
    base: float
    given: Mapping[str, Any]


def settings_of(config: Mapping[str, Any]) -> Rotary:
    """Where transformers 5 or earlier ones wrote them, with transformers' precedence."""
    given = config.get("rope_scaling") or config.get("rope_parameters") or {}
    kind = given.get("rope_type") or given.get("type") or "default"
    return Rotary(str(kind), float(given.get("rope_theta") or config.get("rope_theta") or DEFAULT_BASE), given)


def check(config: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Raises ModelError for a kind that is not `known`, or that rotates a part of a head only."""
    rotary = settings_of(config)
    if rotary.kind not in known:
        raise ModelError(
            f"rotary embeddings of type {rotary.kind!r} cannot be exported, only {', '.join(known)}: llama.cpp would "
            f"compute them otherwise than the training did"
        )
    share = rotary.given.get("partial_rotary_factor", config.get("partial_rotary_factor"))
    if share not in (None, 1, 1.0):
        raise ModelError(f"rotary embeddings of a part of each head (partial_rotary_factor {share}) cannot be exported")
    needed = {"linear": ["factor"], "llama3": ["factor", "low_freq_factor", "high_freq_factor"]}.get(rotary.kind, [])
    if silent := [name for name in needed if name not in rotary.given]:
        raise ModelError(f"its rotary embeddings of type {rotary.kind!r} name no {', '.join(silent)}")


def factors(config: Mapping[str, Any]) -> list[float]:
    """What llama.cpp divides Llama 3's frequencies by: rope_freqs.weight, float32 [head_dim / 2]."""
    import torch  # noqa: PLC0415 - this module is read before every run, and weights are not

    rotary, given = settings_of(config), settings_of(config).given
    dim = int(config.get("head_dim") or int(config["hidden_size"]) // int(config["num_attention_heads"]))
    frequencies = 1.0 / (rotary.base ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim))
    low, high, factor = (given[name] for name in ("low_freq_factor", "high_freq_factor", "factor"))
    old = given.get("original_max_position_embeddings") or config["max_position_embeddings"]
    found: list[Any] = []
    for frequency in frequencies:
        length = 2 * math.pi / frequency
        if length < old / high:
            found.append(1)
        elif length > old / low:
            found.append(factor)
        else:
            smooth = (old / length - low) / (high - low)
            found.append(1 / ((1 - smooth) / factor + smooth))
    exact: list[float] = torch.tensor(found, dtype=torch.float32).tolist()
    return exact
