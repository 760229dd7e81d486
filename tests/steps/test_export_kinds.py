"""Types of weights: our bytes are those of llama.cpp's converter (gguf.quants) and of its llama_model_quantize."""

from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Type
from gguf.quants import quantize

from tests.steps.exporting import export, tensors_of, values_of
from tests.testkit.tiny_models import write_tiny_adapter, write_tiny_base
from thaud.domain import ModelKind
from thaud.errors import ModelError
from thaud.steps.export.convert import convert, size_of
from thaud.steps.llama import library

WIDE = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 9}
MIXTURES: Sequence[ModelKind] = ("q6_k", "q5_k_m", "q4_k_m")
FILE_TYPES: dict[str, int] = {"f16": 1, "bf16": 32, "q8_0": 7, "q6_k": 18, "q5_k_m": 17, "q4_k_m": 15}


def hard_values() -> torch.Tensor:
    """Ties of every rounding, subnormals, zeros of both signs, whole blocks of zeros, values of every size."""
    torch.manual_seed(0)
    halves = torch.arange(-2048, 2048, dtype=torch.float32) / 254 * 127  # k + 1/2 steps of a Q8_0 block
    bits = torch.randint(0, 0x477FE000, (4096,), dtype=torch.int32).view(torch.float32)  # up to F16's largest
    ties = (torch.arange(0x3F800000, 0x3F800000 + 4096 * 2048, 2048, dtype=torch.int32)).view(torch.float32)
    tiny = torch.randn(4096) * 3e-8
    plain = torch.randn(1 << 16) * torch.logspace(-6, 3, 1 << 16)
    zeros = torch.tensor([0.0, -0.0]).repeat(2048)
    return torch.cat([halves, bits, -bits, ties, tiny, plain, zeros]).view(-1, 4096)


@pytest.mark.parametrize("kind", [Type.F32, Type.F16, Type.BF16, Type.Q8_0])
def test_plain_types_are_rounded_as_the_converter_rounds(kind: Type) -> None:
    """F16, BF16 and Q8_0 are bit for bit what gguf.quants, which llama.cpp's converter calls, makes of any value."""
    values = hard_values()
    made = torch.zeros(size_of(tuple(values.shape), kind) + 32, dtype=torch.uint8)
    size = convert("x", values, kind, made)
    wanted = quantize(values.numpy(), kind)
    np.testing.assert_array_equal(made[:size].numpy(), np.frombuffer(wanted.tobytes(), dtype=np.uint8))
    assert not made[size:].any(), "it wrote beyond its place"


@pytest.mark.parametrize("kind", [Type.F16, Type.Q5_1, Type.Q8_0, Type.Q4_K])
def test_values_that_a_type_cannot_hold_are_refused(kind: Type) -> None:
    """The error names the tensor, its value and the type, and the remedy is one that helps: BF16 holds it."""
    values = torch.zeros(1, 256)
    values[0, 3] = -3e7
    memory = torch.zeros(4096, dtype=torch.uint8)
    with pytest.raises(ModelError, match=rf"some\.weight holds 3e\+07, beyond .* {kind.name} .* bf16"):
        convert("some.weight", values, kind, memory)
    assert convert("some.weight", values, Type.BF16, memory) == 512
    values[0, 3] = float("nan")
    with pytest.raises(ModelError, match="no finite numbers"):
        convert("some.weight", values, Type.BF16, memory)


def quantised_by_llama_cpp(source: Path, out: Path, kind: ModelKind) -> dict[str, gguf.ReaderTensor]:
    """What llama_model_quantize makes of a file."""
    lib = library()
    params = lib.llama_model_quantize_default_params()
    params.ftype, params.nthread = FILE_TYPES[kind], 1
    assert lib.llama_model_quantize(bytes(source), bytes(out), params) == 0
    return tensors_of(out)


def check_same(ours: dict[str, gguf.ReaderTensor], theirs: dict[str, gguf.ReaderTensor]) -> set[Type]:
    """Assert that both have the same tensors, types and bytes; the types of the matrices."""
    assert list(ours) == list(theirs)
    for name, tensor in theirs.items():
        assert ours[name].tensor_type == tensor.tensor_type, name
        np.testing.assert_array_equal(ours[name].data, tensor.data, name)
    return {Type(tensor.tensor_type) for tensor in ours.values() if len(tensor.shape) > 1}


@pytest.mark.parametrize("kind", MIXTURES)
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_mixtures_are_those_of_llama_cpp(tmp_path: Path, kind: ModelKind, *, tied: bool) -> None:
    """Each tensor of a K-quant has the type and the bytes that llama_model_quantize gives it, made of the same values
    in one go: nine layers, so that first, last and every third differ.
    """
    base = write_tiny_base(tmp_path / "base", tied=tied, init_std=0.2, **WIDE)
    export(base, None, tmp_path / "bf16.gguf", "bf16")  # exact: the base is stored so
    export(base, None, tmp_path / "ours.gguf", kind)
    theirs = quantised_by_llama_cpp(tmp_path / "bf16.gguf", tmp_path / "theirs.gguf", kind)
    found = check_same(tensors_of(tmp_path / "ours.gguf"), theirs)
    assert found == {"q6_k": {Type.Q6_K}, "q5_k_m": {Type.Q5_K, Type.Q6_K}, "q4_k_m": {Type.Q4_K, Type.Q6_K}}[kind]
    assert values_of(tmp_path / "ours.gguf") == values_of(tmp_path / "theirs.gguf")


@pytest.mark.parametrize("kind", MIXTURES)
@pytest.mark.parametrize(("width", "inner"), [(64, 96), (72, 256), (256, 320)])
def test_rows_of_other_lengths_get_the_types_llama_cpp_falls_back_to(
    tmp_path: Path, kind: ModelKind, width: int, inner: int
) -> None:
    """Where a row is no multiple of 256 a tensor has blocks of 32, and of 32 neither, F16: as llama_model_quantize."""
    shape = {"hidden_size": width, "intermediate_size": inner, "num_hidden_layers": 3}
    base = write_tiny_base(tmp_path / "base", init_std=0.2, **shape)
    export(base, None, tmp_path / "bf16.gguf", "bf16")
    export(base, None, tmp_path / "ours.gguf", kind)
    theirs = quantised_by_llama_cpp(tmp_path / "bf16.gguf", tmp_path / "theirs.gguf", kind)
    found = check_same(tensors_of(tmp_path / "ours.gguf"), theirs)
    assert found - {Type.Q4_K, Type.Q5_K, Type.Q6_K}, "no type was fallen back to, so nothing was shown"


def test_mixture_of_a_merge_is_rounded_from_float32(tmp_path: Path) -> None:
    """With an adapter the K-quant is made of the float32 merge, not of a file that was rounded before."""
    base = write_tiny_base(tmp_path / "base", init_std=0.2, **WIDE)
    adapter = write_tiny_adapter(tmp_path / "adapter", base)
    export(base, adapter, tmp_path / "ours.gguf", "q4_k_m")
    whole = tmp_path / "f32.gguf"
    write_f32(base, adapter, whole)
    theirs = quantised_by_llama_cpp(whole, tmp_path / "theirs.gguf", "q4_k_m")
    check_same(tensors_of(tmp_path / "ours.gguf"), theirs)


def write_f32(base: Path, adapter: Path, out: Path) -> None:
    """An F32 GGUF of a merge that transformers and peft made, with the metadata of our F16 one."""
    from tests.testkit.merged import merged_model  # noqa: PLC0415
    from thaud.steps.export.architectures import ARCHITECTURES  # noqa: PLC0415

    export(base, adapter, out.with_name("f16.gguf"), "f16")
    merged = merged_model(base, adapter).state_dict()
    names = ARCHITECTURES["qwen2"].tensors(WIDE["num_hidden_layers"], tied=True)
    writer = gguf.GGUFWriter(out, "qwen2")
    for name, field in gguf.GGUFReader(out.with_name("f16.gguf")).fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            inner = field.types[1] if len(field.types) > 1 else None
            writer.add_key_value(name, field.contents(), field.types[0], inner)
    for source, name in names.items():
        writer.add_tensor(name, merged[source].numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("kind", list(FILE_TYPES))
def test_file_says_its_type_and_loads(base: Path, adapter: Path, tmp_path: Path, kind: ModelKind) -> None:
    """general.file_type is llama.cpp's number of the kind, and llama.cpp generates from the file."""
    from thaud.steps.llama import LlamaModel  # noqa: PLC0415

    export(base, adapter, tmp_path / "model.gguf", kind)
    assert values_of(tmp_path / "model.gguf")["general.file_type"] == FILE_TYPES[kind]
    with LlamaModel(tmp_path / "model.gguf", 128, threads=1) as model:
        assert list(model.generate([1, 2, 3], 4))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "key_heads", "least"),
    [("qwen2", 4, Type.Q5_K), ("llama", 2, Type.Q5_K), ("llama", 4, Type.Q4_K), ("qwen3", 2, Type.Q4_K)],
)
def test_values_of_70b_models_get_more_bits(tmp_path: Path, model: str, key_heads: int, least: Type) -> None:
    """What llama.cpp takes for a model of 70B has no value projection below Q5_K; the rest is as of any other."""
    shape = {"hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 80, "num_key_value_heads": key_heads}
    base = write_tiny_base(tmp_path / "base", kind=model, **shape)
    export(base, None, tmp_path / "bf16.gguf", "bf16")
    export(base, None, tmp_path / "ours.gguf", "q4_k_m")
    ours = tensors_of(tmp_path / "ours.gguf")
    check_same(ours, quantised_by_llama_cpp(tmp_path / "bf16.gguf", tmp_path / "theirs.gguf", "q4_k_m"))
    assert {each.tensor_type for name, each in ours.items() if name.endswith("attn_v.weight")} == {least, Type.Q6_K}
