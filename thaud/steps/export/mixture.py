"""Which type each tensor of a file has. Plain kinds as llama.cpp's converter chooses them, mixtures (Q6_K, Q5_K_M,
Q4_K_M) as its llama_model_quantize does: attention values, down projections and the head, which suffer most from
rounding, get more bits in the first and last eighth of the layers and every third between.

Source: llama.cpp, src/llama-quant.cpp, llama_tensor_get_type_impl and tensor_type_fallback.
"""

from collections.abc import Mapping, Sequence

from gguf import GGMLQuantizationType as Type

from thaud.domain import ModelKind
from thaud.steps.export.architectures import Dimensions
from thaud.steps.export.convert import block_of

PLAIN: Mapping[ModelKind, Type] = {"f16": Type.F16, "bf16": Type.BF16, "q8_0": Type.Q8_0}
MIXED: Mapping[ModelKind, Type] = {"q6_k": Type.Q6_K, "q5_k_m": Type.Q5_K, "q4_k_m": Type.Q4_K}
# Where a row is no whole number of blocks of 256.
INSTEAD: Mapping[Type, Type] = {Type.Q6_K: Type.Q8_0, Type.Q5_K: Type.Q5_1, Type.Q4_K: Type.Q5_0}
EMBEDDING, HEAD = "token_embd.weight", "output.weight"
BEST_KEPT = ("attn_v.weight", "ffn_down.weight")
LARGE = 80  # layers of the models of 70B, whose value projections, shared by eight heads, always get more bits


def choose_types(
    kind: ModelKind, tensors: Sequence[tuple[str, tuple[int, ...]]], architecture: str, sizes: Dimensions
) -> dict[str, Type]:
    """llama.cpp's name -> type, of tensors by name and shape (rows first)."""
    tied, large = HEAD not in {name for name, _ in tensors}, is_large(architecture, sizes)
    return {
        name: fitting(shape, first_choice(kind, name, sizes.layers, tied=tied, large=large)) for name, shape in tensors
    }


def is_large(architecture: str, sizes: Dimensions) -> bool:
    """Whether llama.cpp takes a model for one of 70B. A llama whose heads share no keys is one of 65B."""
    shared = sizes.key_heads != sizes.heads
    return sizes.layers == LARGE and (architecture == "qwen2" or (architecture == "llama" and shared))


def first_choice(kind: ModelKind, name: str, layers: int, *, tied: bool, large: bool) -> Type:
    """The type of a matrix whose rows can be cut into any blocks."""
    if kind in PLAIN:
        return PLAIN[kind]
    if name == HEAD or (tied and name == EMBEDDING):
        return Type.Q6_K
    if name.endswith(BEST_KEPT) and gets_more_bits(int(name.split(".")[1]), layers):
        return Type.Q6_K
    if large and kind == "q4_k_m" and name.endswith("attn_v.weight"):
        return Type.Q5_K
    return MIXED[kind]


def gets_more_bits(layer: int, layers: int) -> bool:
    """The first and the last eighth, and every third between."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def fitting(shape: tuple[int, ...], wanted: Type) -> Type:
    """F32 for vectors, as llama.cpp wants; where a row cannot be cut into a type's blocks, one of smaller blocks."""
    if len(shape) == 1:
        return Type.F32
    for each in (wanted, INSTEAD.get(wanted, wanted)):
        if shape[-1] % block_of(each) == 0:
            return each
    return Type.F16
