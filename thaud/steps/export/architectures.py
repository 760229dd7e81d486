"""Which model architectures can be exported, and what llama.cpp calls their tensors. A new one is a new entry."""

from collections.abc import Mapping
from dataclasses import dataclass
from operator import itemgetter

from thaud.errors import ModelError

FLOATS = frozenset(["F32", "F16", "BF16"])  # a base's weights, as safetensors calls their types
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
OUTER = {EMBEDDING: "token_embd.weight", "model.norm.weight": "output_norm.weight", HEAD: "output.weight"}
DECODER = {
    "input_layernorm.weight": "attn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
}
QKV_BIASES = {f"self_attn.{letter}_proj.bias": f"attn_{letter}.bias" for letter in "qkv"}


@dataclass(frozen=True, slots=True)
class Architecture:
    """`name` is llama.cpp's; `layer` maps a layer's tensors from transformers' names to llama.cpp's."""

    name: str
    layer: Mapping[str, str]

    def tensors(self, layers: int, *, tied: bool) -> dict[str, str]:
        """transformers' name -> llama.cpp's for a whole model, in the file's order: outer tensors, then the layers, by
        name. So does llama.cpp's own COPY, which Ollama makes of every upload; the file stays as it is.
        """
        outer = {name: to for name, to in OUTER.items() if not (tied and name == HEAD)}
        names = sorted(outer.items(), key=itemgetter(1))
        for number in range(layers):
            for name, to in sorted(self.layer.items(), key=itemgetter(1)):
                names.append((f"model.layers.{number}.{name}", f"blk.{number}.{to}"))
        return dict(names)


ARCHITECTURES: Mapping[str, Architecture] = {"qwen2": Architecture("qwen2", {**DECODER, **QKV_BIASES})}


def find_architecture(model_type: str | None) -> Architecture:
    """Raises ModelError with the architectures there are."""
    if model_type is None or model_type not in ARCHITECTURES:
        raise ModelError(f"architecture {model_type!r} cannot be exported, only {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[model_type]
