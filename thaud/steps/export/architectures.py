"""Which model architectures can be exported, and what llama.cpp calls their tensors. A new one is a new entry.

Owns names, shapes, order and which rows are permuted: `plan_of(config)` is the whole file's table of tensors, in order.
Refuses, before anything is read, a configuration that llama.cpp would compute otherwise than transformers does.

A row of that table with `source` None is no tensor of the base, its values are `rotary.factors(config)`; the merged
rows of one with `heads` change places within each head before they are rounded (plan.arrange).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any

from thaud.errors import ModelError
from thaud.steps.export import rotary

FLOATS = frozenset(["F32", "F16", "BF16"])  # a base's weights, as safetensors calls their types
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
OUTER = {EMBEDDING: "token_embd.weight", "model.norm.weight": "output_norm.weight", HEAD: "output.weight"}
ROPE_FACTORS = "rope_freqs.weight"
ATTENTION = {f"self_attn.{letter}_proj": f"attn_{letter}" for letter in "qkv"}
OUTPUT = {"self_attn.o_proj": "attn_output"}
MLP = {f"mlp.{part}_proj": f"ffn_{part}" for part in ("gate", "up", "down")}
QWEN3_HEAD_DIM = 128  # transformers' default where config.json names none


def ending(names: Mapping[str, str], kind: str) -> dict[str, str]:
    """The weights, or the biases, of these modules."""
    return {f"{name}.{kind}": f"{to}.{kind}" for name, to in names.items()}


DECODER = {
    "input_layernorm.weight": "attn_norm.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    **ending(ATTENTION | OUTPUT | MLP, "weight"),
}
HEAD_NORMS = {f"self_attn.{letter}_norm.weight": f"attn_{letter}_norm.weight" for letter in "qk"}


@dataclass(frozen=True, slots=True)
class Dimensions:
    """What a config says of the sizes. `inner` is that of the feed-forward part; heads and their size are attention's,
    `key_heads` those of keys and values.
    """

    vocabulary: int
    layers: int
    width: int
    inner: int
    heads: int
    key_heads: int
    head_dim: int

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor by transformers' name, rows first."""
        if name in {EMBEDDING, HEAD}:
            return (self.vocabulary, self.width)
        queries, keys = self.heads * self.head_dim, self.key_heads * self.head_dim
        part, _, kind = name.rpartition(".")
        out, into = {
            "q_proj": (queries, self.width),
            "k_proj": (keys, self.width),
            "v_proj": (keys, self.width),
            "o_proj": (self.width, queries),
            "gate_proj": (self.inner, self.width),
            "up_proj": (self.inner, self.width),
            "down_proj": (self.width, self.inner),
            "q_norm": (self.head_dim, 0),
            "k_norm": (self.head_dim, 0),
        }.get(part.rpartition(".")[2], (self.width, 0))
        return (out, into) if into and kind == "weight" else (out,)


@dataclass(frozen=True, slots=True)
class Named:
    """One tensor of a GGUF: transformers' name (None: computed), llama.cpp's, its shape (rows first), and in how many
    heads its rows are permuted (0: not at all).
    """

    source: str | None
    name: str
    shape: tuple[int, ...]
    heads: int = 0


@dataclass(frozen=True, slots=True)
class Architecture:
    """`name` is llama.cpp's; `layer` maps a layer's tensors from transformers' names to llama.cpp's; `switched` adds to
    it where a setting of config.json is on (None: llama.cpp knows no such tensors). `interleaved`: llama.cpp rotates
    neighbouring rows of a head, so that q and k are permuted. `rope_types`: the rotary embeddings it computes as
    transformers does.
    """

    name: str
    layer: Mapping[str, str]
    switched: Mapping[str, Mapping[str, str] | None] = field(default_factory=dict)
    interleaved: bool = False
    rope_types: tuple[str, ...] = ("default", "linear")

    def tensors(self, layers: int, *, tied: bool, computed: tuple[str, ...] = ()) -> dict[str, str]:
        """transformers' name -> llama.cpp's for a whole model, in the file's order: outer tensors, then the layers, by
        name. So does llama.cpp's own COPY, which Ollama makes of every upload; the file stays as it is. `computed`
        have the same name on both sides.
        """
        outer = {name: to for name, to in OUTER.items() if not (tied and name == HEAD)}
        names = sorted({**outer, **{name: name for name in computed}}.items(), key=itemgetter(1))
        for number in range(layers):
            for name, to in sorted(self.layer.items(), key=itemgetter(1)):
                names.append((f"model.layers.{number}.{name}", f"blk.{number}.{to}"))
        return dict(names)

    def switched_by(self, config: Mapping[str, Any]) -> "Architecture":
        """This, with the tensors that a config's settings add. Raises ModelError for those that llama.cpp refuses."""
        layer = dict(self.layer)
        for setting, names in self.switched.items():
            if not config.get(setting):
                continue
            if names is None:
                raise ModelError(f"{self.name} with {setting} cannot be exported: llama.cpp knows no such tensors")
            layer |= names
        return replace(self, layer=layer)


ARCHITECTURES: Mapping[str, Architecture] = {
    "qwen2": Architecture("qwen2", {**DECODER, **ending(ATTENTION, "bias")}),
    "qwen3": Architecture("qwen3", {**DECODER, **HEAD_NORMS}, switched={"attention_bias": None}),
    "llama": Architecture(
        "llama",
        DECODER,
        switched={"attention_bias": ending(ATTENTION | OUTPUT, "bias"), "mlp_bias": ending(MLP, "bias")},
        interleaved=True,
        rope_types=("default", "linear", "llama3"),
    ),
}


def find_architecture(model_type: str | None) -> Architecture:
    """Raises ModelError with the architectures there are."""
    if model_type is None or model_type not in ARCHITECTURES:
        raise ModelError(f"architecture {model_type!r} cannot be exported, only {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[model_type]


def dimensions_of(config: Mapping[str, Any]) -> Dimensions:
    """A config's sizes, with transformers' defaults where it is silent."""
    width, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    silent = QWEN3_HEAD_DIM if config.get("model_type") == "qwen3" else width // heads
    return Dimensions(
        vocabulary=int(config["vocab_size"]),
        layers=int(config["num_hidden_layers"]),
        width=width,
        inner=int(config["intermediate_size"]),
        heads=heads,
        key_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=int(config.get("head_dim") or silent),
    )


def check_config(config: Mapping[str, Any]) -> Architecture:
    """The architecture of a config, with the tensors it switches on. Raises ModelError where it cannot be exported."""
    architecture = find_architecture(config.get("model_type")).switched_by(config)
    if config.get("use_sliding_window") or "sliding_attention" in (config.get("layer_types") or ()):
        raise ModelError("models with a sliding window (use_sliding_window) cannot be exported")
    if config.get("hidden_act", "silu") != "silu":
        raise ModelError(f"hidden_act {config['hidden_act']!r} cannot be exported: llama.cpp computes silu")
    rotary.check(config, architecture.rope_types)
    return architecture


def plan_of(config: Mapping[str, Any]) -> list[Named]:
    """Every tensor of a model's GGUF, in the file's order. Raises ModelError as check_config."""
    architecture, sizes = check_config(config), dimensions_of(config)
    tied = bool(config.get("tie_word_embeddings"))
    computed = (ROPE_FACTORS,) if rotary.settings_of(config).kind == "llama3" else ()
    permuted = {"q_proj": sizes.heads, "k_proj": sizes.key_heads} if architecture.interleaved else {}
    rows = []
    for source, name in architecture.tensors(sizes.layers, tied=tied, computed=computed).items():
        if source in computed:
            rows.append(Named(None, name, (sizes.head_dim // 2,)))
        else:
            rows.append(Named(source, name, sizes.shape(source), permuted.get(source.split(".")[-2], 0)))
    return rows
