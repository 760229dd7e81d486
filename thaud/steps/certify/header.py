"""Whether the file's header says of the model what the base's own files do: what few prompts would show.

Another epsilon, a longer context or another order of rare merges changes hardly a logit of short texts.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch

from thaud.domain import Message
from thaud.errors import ModelError
from thaud.steps.certify.inside import FACTORS, File, values
from thaud.steps.tokenizer import BaseTokenizer

SAME = 1e-4  # relative; a header has float32


def wrong_settings(file: File, config: Any, frequencies: torch.Tensor) -> Iterator[str]:
    """Where sizes and rotary embeddings are not the base's. `frequencies`: those of transformers' rotary embeddings."""
    arch = file.value("general.architecture")
    for key, wanted in (
        (f"{arch}.context_length", config.max_position_embeddings),
        (f"{arch}.attention.layer_norm_rms_epsilon", config.rms_norm_eps),
    ):
        if not near(found := file.value(key), wanted):
            yield f"{key} is {found}, the base's is {wanted}"
    base = file.value(f"{arch}.rope.freq_base") or 10000.0
    powers = torch.arange(len(frequencies), dtype=torch.float32) / len(frequencies)
    served = float(base) ** -powers / float(file.value(f"{arch}.rope.scaling.factor") or 1.0)
    if FACTORS in file.tensors:
        served = served / values(file.tensors[FACTORS], None)
    if served.shape != frequencies.shape or not torch.allclose(served, frequencies.float(), rtol=SAME, atol=0):
        yield "its rotary embeddings (rope.freq_base, rope.scaling, rope_freqs) turn otherwise than the base's"


def wrong_words(file: File, tokenizer: BaseTokenizer) -> Iterator[str]:
    """Where merges, or the scores in their place, are not the base's, or a server would put tokens around a text."""
    merges = [tuple(each.split(" ", 1) if isinstance(each, str) else each) for each in
              tokenizer.definition["model"]["merges"]]  # fmt: skip
    if file.value("tokenizer.ggml.model") != "llama":
        if file.value("tokenizer.ggml.merges") != [" ".join(pair) for pair in merges]:
            yield "tokenizer.ggml.merges are not the base's merges in their order"
    elif not falling(file, ["".join(pair) for pair in merges]):
        yield "tokenizer.ggml.scores are not in the order of the base's merges"
    if file.value("tokenizer.ggml.add_eos_token"):
        yield "tokenizer.ggml.add_eos_token would end every prompt"
    if file.value("tokenizer.ggml.add_bos_token") and not begins_with_bos(tokenizer):
        yield "tokenizer.ggml.add_bos_token puts a token before prompts that training did not"


def falling(file: File, made: list[str]) -> bool:
    """Whether the scores of tokens, in the order in which the base's merges make them, never rise."""
    tokens, scores = (file.value(f"tokenizer.ggml.{name}") or [] for name in ("tokens", "scores"))
    by_text = dict(zip(tokens, scores, strict=False))
    found = [by_text[text] for text in made if text in by_text]
    return all(before >= after for before, after in pairwise(found))


def begins_with_bos(tokenizer: BaseTokenizer) -> bool:
    """Whether training's prompts begin with BOS."""
    try:
        ids = tokenizer.encode_all(tokenizer.renderer.prompt([Message("user", "1")]))
    except ModelError:
        return False
    return ids[:1] == [tokenizer.ids.get(tokenizer.special("bos") or "")]


def near(found: Any, wanted: float) -> bool:
    """Whether a key is there and is that number, as float32 has it."""
    return isinstance(found, int | float) and abs(found - wanted) <= SAME * abs(wanted)
