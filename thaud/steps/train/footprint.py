"""How much memory a training step takes, from the shape of the model: an estimate, made before anything is loaded.

It counts what model.py, layers.py, attention.py and loss.py really keep, and changes when they do; the constants were
measured. tests/steps/test_preflight.py compares it with what steps took. Refuses to choose: that is preflight's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from thaud.errors import ModelError
from thaud.steps.train.attention import TILE
from thaud.steps.train.loss import CHUNK_LOGITS, positions_at_once

MIB = 1 << 20
LIBRARIES = {"cpu": 360 * MIB, "cuda": 600 * MIB}  # the process with torch loaded and its kernels; CUDA's context
OPTIMISED = 16  # bytes of an adapter's parameter: itself, its gradient and AdamW's two moments, in float32
NF4 = 4.127 / 8  # bytes of a quantised weight, its scales quantised too (Dettmers et al. 2023)
WIDE = 4  # bytes of float32
HEAP, FRUGAL_HEAP = 1.45, 1.15  # what rows really took of what they had in use: holes, and blocks glibc keeps (heap.py)


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides how large a model is, and what its layers keep. `stored`: bytes of a weight in its files."""

    layers: int
    hidden: int
    inner: int
    vocabulary: int
    heads: int
    key_heads: int
    head_width: int
    tied: bool
    normed_heads: bool
    stored: int

    @property
    def projections(self) -> list[tuple[int, int]]:
        """(in, out) of a layer's linear maps: query, key, value, output, gate, up, down."""
        queries, keys = self.heads * self.head_width, self.key_heads * self.head_width
        attention = [(self.hidden, queries), (self.hidden, keys), (self.hidden, keys), (queries, self.hidden)]
        return [*attention, (self.hidden, self.inner), (self.hidden, self.inner), (self.inner, self.hidden)]

    @property
    def linear(self) -> int:
        """Weights of all layers' linear maps."""
        return self.layers * sum(wide * tall for wide, tall in self.projections)

    @property
    def embedded(self) -> int:
        """Weights of the embedding, and of the head where it has its own."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    def adapter(self, rank: int) -> int:
        """Weights of a LoRA adapter on every linear map but the head."""
        return self.layers * rank * sum(wide + tall for wide, tall in self.projections)

    def kept(self, rank: int) -> int:
        """Values that a layer keeps of a token for the way back: what goes into each norm and comes out of it, query,
        key, value and what attention saw, gate, up and their product, and seven low-rank products.
        """
        queries, keys = self.heads * self.head_width, self.key_heads * self.head_width
        before_norms = queries + keys if self.normed_heads else 0
        return 4 * self.hidden + 2 * queries + 2 * keys + before_norms + 3 * self.inner + 7 * rank


def shape_of(config: Mapping[str, Any]) -> Shape:
    """The shape that a config.json describes. Raises ModelError where it does not say how large the model is."""
    try:
        hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        return Shape(
            layers=int(config["num_hidden_layers"]),
            hidden=hidden,
            inner=int(config["intermediate_size"]),
            vocabulary=int(config["vocab_size"]),
            heads=heads,
            key_heads=int(config.get("num_key_value_heads") or heads),
            head_width=int(config.get("head_dim") or hidden // heads),
            tied=bool(config.get("tie_word_embeddings")),
            normed_heads=str(config.get("model_type")).startswith("qwen3"),
            stored=WIDE if (config.get("dtype") or config.get("torch_dtype")) in {None, "float32"} else 2,
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ModelError(
            f"the base's config.json does not say how large it is: {type(error).__name__} {error}"
        ) from error


@dataclass(frozen=True, slots=True)
class Plan:
    """What of a computation decides its memory. `item`: bytes of a value in its precision; `row`: tokens of the longest
    row, `longest` those of the longest lesson; `parts`: over how many processes the base is spread.
    """

    device: str
    item: int
    row: int
    longest: int
    rank: int
    recompute: bool = False
    four_bit: bool = False
    parts: int = 1


def weights_bytes(shape: Shape, plan: Plan) -> int:
    """The frozen base; of one that is spread a part, with one layer, the embedding and the head whole in turn."""
    if plan.parts > 1:
        whole = max(2 * shape.linear // shape.layers, shape.vocabulary * shape.hidden)
        return ((shape.linear + shape.embedded) // plan.parts + whole) * plan.item
    linear = shape.linear * (NF4 if plan.four_bit else plan.item)
    return int(linear) + shape.embedded * plan.item


def kept_bytes(shape: Shape, plan: Plan) -> int:
    """What a row's forward pass keeps. Recomputed: each layer's input, and all of the one that is being computed."""
    whole = shape.kept(plan.rank) * plan.item + 2 * WIDE
    each = shape.layers * shape.hidden * plan.item + whole if plan.recompute else shape.layers * whole
    return plan.row * each


def passing_bytes(shape: Shape, plan: Plan) -> int:
    """What lives for a moment at the height of a row: the way back through one feed-forward, through one tile of
    attention, or the head over one chunk.
    """
    feed_forward = plan.row * max(5 * shape.inner * plan.item, 2 * shape.inner * plan.item + 5 * shape.hidden * WIDE)
    seen = max(plan.longest, TILE)
    scores = 4 * shape.heads * TILE * seen * plan.item + 2 * plan.row * shape.key_heads * shape.head_width * WIDE
    positions = min(plan.row, positions_at_once(shape.vocabulary, CHUNK_LOGITS[plan.device]))
    chunk = positions * shape.vocabulary * (plan.item + 2 * WIDE)
    head = chunk + 2 * plan.row * shape.hidden * plan.item
    unpacked = 2 * shape.hidden * shape.inner if plan.four_bit else 0
    return max(feed_forward, scores, head) + unpacked


def mask_bytes(plan: Plan) -> int:
    """The masks of a row's tiles, of which the longest lesson's are half of a square."""
    return (plan.longest + TILE) * plan.row * plan.item // 2


def step_bytes(shape: Shape, plan: Plan) -> int:
    """The most that training takes at a time."""
    row = kept_bytes(shape, plan) + passing_bytes(shape, plan) + mask_bytes(plan)
    heap = FRUGAL_HEAP if plan.recompute or plan.device == "cuda" else HEAP
    fixed = LIBRARIES[plan.device] + weights_bytes(shape, plan) + OPTIMISED * shape.adapter(plan.rank)
    return fixed + int(row * heap)


def loading_bytes(shape: Shape, plan: Plan) -> int:
    """The most that loading takes: where the weights are converted, their files are mapped beside them. Those pages are
    page cache, which the kernel takes back where it needs them, so they are resident and yet not needed.
    """
    stored = (shape.linear + shape.embedded) * shape.stored if plan.item != shape.stored else 0
    return LIBRARIES[plan.device] + weights_bytes(shape, plan) + stored
