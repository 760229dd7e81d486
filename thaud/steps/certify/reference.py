"""Base and adapter in transformers, float32, a decoder layer at a time: what the file is compared with.

transformers' own layers (Qwen2, Qwen3, Llama) stand on the meta device and are filled from the safetensors one by one,
so that a model takes the memory of a layer. The adapter is applied as training does, W x + scale B A x, by a reader
of its own: nothing of the export's reading or merging is used, for they are what is judged.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thaud.errors import ModelError
from thaud.steps.certify.lora import Lora
from thaud.steps.certify.stored import Stored, open_stored
from thaud.steps.contract import Emit

EMBEDDING, HEAD, NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm."
HELD_BYTES = 2**30  # a head of at most so many bytes in float32 is kept, a larger one read in parts each time
HEAD_ROWS = 16_384  # of the vocabulary at once


@dataclass(frozen=True, slots=True)
class Reference:
    """The last hidden states [positions, width] of base and of base plus adapter, and the head they share."""

    base: Tensor
    adapted: Tensor
    head: "Head"
    weights: Stored

    def logits(self, start: int, end: int) -> tuple[Tensor, Tensor]:
        """Of positions [start, end), by the base and by base plus adapter: [positions, vocabulary] each."""
        return self.head.of(self.base[start:end]), self.head.of(self.adapted[start:end])


class Head:
    """The matrix from hidden states to logits; tied, it is the embedding."""

    def __init__(self, weights: Stored) -> None:
        self._weights = weights
        self._name = HEAD if HEAD in weights.names else EMBEDDING
        self.vocabulary, width = weights.shape(self._name)
        small = self.vocabulary * width * 4 <= HELD_BYTES
        self._held = weights.read(self._name) if small else None

    def of(self, hidden: Tensor) -> Tensor:
        """Logits [positions, vocabulary]."""
        if self._held is not None:
            return hidden @ self._held.T
        parts = []
        for start in range(0, self.vocabulary, HEAD_ROWS):
            rows = self._weights.rows(self._name, start, min(start + HEAD_ROWS, self.vocabulary))
            parts.append(hidden @ rows.T)
        return torch.cat(parts, dim=-1)


class Skeleton:
    """The base's modules without their weights."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoConfig, AutoModel  # noqa: PLC0415 - seconds to import

        try:
            self.config = AutoConfig.from_pretrained(folder, local_files_only=True)
            with torch.device("meta"):
                self.decoder = AutoModel.from_config(self.config, attn_implementation="sdpa", dtype=torch.float32)
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"the base in {folder} is no model of transformers: {error}") from error
        self.decoder.eval()
        self.rotary = type(self.decoder.rotary_emb)(self.config)

    @property
    def parameters(self) -> int:
        """Of the layers; the embedding costs nothing, the head is counted apart."""
        return sum(weight.numel() for weight in self.decoder.layers.parameters())


@contextmanager
def open_reference(
    skeleton: Skeleton, folder: Path, lora: Lora, rows: Sequence[Sequence[int]], say: Emit
) -> Iterator[Reference]:
    """The reference over rows of token ids, end to end; its head reads the base's files for the duration.

    `say` is told of every layer. Raises ModelError where base and adapter do not fit together.
    """
    with open_stored(folder) as weights, torch.inference_mode():
        base, adapted = run_layers(skeleton, weights, lora, rows, say)
        norm = fill(skeleton.decoder.norm, weights, NORM)
        yield Reference(norm(base)[0], norm(adapted)[0], Head(weights), weights)


def run_layers(
    skeleton: Skeleton, weights: Stored, lora: Lora, rows: Sequence[Sequence[int]], say: Emit
) -> tuple[Tensor, Tensor]:
    """Hidden states [1, positions, width] after the last layer, without and with the adapter."""
    base = adapted = embed(weights, [token for row in rows for token in row])
    places = torch.cat([torch.arange(len(row)) for row in rows])[None]
    given = {"attention_mask": apart(rows), "position_embeddings": skeleton.rotary(base, places)}
    layers = skeleton.decoder.layers
    lora.check(weights.names)
    for number in range(len(layers)):
        prefix = f"model.layers.{number}."
        layer = fill(layers[number], weights, prefix)
        base = layer(base, **given)
        with adapted_by(layer, lora, prefix):
            adapted = layer(adapted, **given)
        layers[number] = torch.nn.Identity()  # lets its weights go
        say("check", last=number + 1 == len(layers), what="reference", done=number + 1, total=len(layers))
    return base, adapted


def embed(weights: Stored, ids: Sequence[int]) -> Tensor:
    """The embeddings [1, positions, width] of tokens, each read once."""
    distinct = {token: weights.rows(EMBEDDING, token, token + 1) for token in set(ids)}
    return torch.cat([distinct[token] for token in ids])[None]


def apart(rows: Sequence[Sequence[int]]) -> Tensor:
    """The mask [1, 1, positions, positions] under which a token sees its own row, up to itself."""
    owners = torch.cat([torch.full((len(row),), number) for number, row in enumerate(rows)])
    return ((owners[:, None] == owners[None]) & torch.ones(len(owners), len(owners), dtype=torch.bool).tril())[
        None, None
    ]


def fill(module: Any, weights: Stored, prefix: str) -> Any:
    """Give a module on the meta device its weights, in float32. Raises ModelError where one is missing or misshapen."""
    try:
        state = {}
        for name, wanted in module.state_dict().items():
            if weights.shape(prefix + name) != tuple(wanted.shape):
                raise ModelError(f"the base's {prefix}{name} has another shape than its config.json says")
            state[name] = weights.read(prefix + name)
        module.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise ModelError(f"the base's {prefix}* cannot be used: {str(error).splitlines()[0]}") from error
    return module


@contextmanager
def adapted_by(layer: Any, lora: Lora, prefix: str) -> Iterator[None]:
    """The layer with the adapter's products added to those of its linear modules."""
    with ExitStack() as stack:
        for name, module in layer.named_modules():
            if pair := lora.pairs.get(f"{prefix}{name}"):
                stack.enter_context(module.register_forward_hook(partial(add_product, pair, lora.scale)))
        yield


def add_product(
    pair: tuple[Tensor, Tensor], scale: float, _: Any, inputs: tuple[Tensor, ...], output: Tensor
) -> Tensor:
    """W x + scale B A x."""
    down, up = pair
    return output + (inputs[0] @ down.T @ up.T) * scale
